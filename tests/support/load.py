"""Steady load through the API: clients that request callbacks and update leads, and keep what was acknowledged."""

import http.client
import json
import random
import threading
from collections import Counter
from dataclasses import dataclass, field

from tests.support.deliveries import REQUEST_CALLBACK, UPDATE_LEAD
from tests.support.program import Program


@dataclass
class Load:
    """`start` some clients against a program, and `stop` them. A request that fails may have been committed."""

    program: Program
    seed: int
    created: set[str] = field(default_factory=set)
    #: The lead of each new name; every name is unique.
    updated: dict[str, str] = field(default_factory=dict)
    failures: Counter[str] = field(default_factory=Counter)
    _over: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self, clients: int) -> None:
        """Start so many clients, each in a thread of its own."""
        self._threads = [threading.Thread(target=self._run, args=(number,)) for number in range(clients)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop them, and wait until they have ended."""
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, client: int) -> None:
        chance = random.Random(self.seed + client)
        mine: list[str] = []
        number = 0
        while not self._over.is_set():
            number += 1
            name = f"client {client} no {number}"
            try:
                if mine and chance.random() < 0.4:
                    lead = chance.choice(mine)
                    self._ask(UPDATE_LEAD, "updateLead", {"id": lead, "name": name})
                    self.updated[name] = lead
                else:
                    lead = self._ask(REQUEST_CALLBACK, "requestCallback", {"name": name, "phone": "+7 900"})
                    mine.append(lead)
                    self.created.add(lead)
            except (OSError, http.client.HTTPException, json.JSONDecodeError) as error:
                self.failures[type(error).__name__] += 1
                self._over.wait(0.1)
            except AssertionError as error:
                self.failures[f"AssertionError: {error}"] += 1
            self._over.wait(chance.uniform(0.0, 0.4))

    def _ask(self, document: str, name: str, given: dict[str, str]) -> str:
        answer = self.program.query(document, {"input": given})[name]
        assert answer["errors"] == []
        return str(answer["lead"]["id"])
