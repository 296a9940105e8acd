"""A client of the API with one kept-alive connection. It is fast, so that the server is measured."""

import http.client
import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from bench.load import WrongResult
from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import Program


class Client:
    """A connection to a program's API: `with Client(program) as client:`."""

    def __init__(self, program: Program) -> None:
        url = urlsplit(program.url)
        self._connection = http.client.HTTPConnection(url.hostname or "", url.port, timeout=PATIENCE_SECONDS)
        self._headers = {"Content-Type": "application/json", "Authorization": f"Bearer {program.token}"}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.close()

    def query(self, document: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the data of an operation. Raises WrongResult on any error, those of payloads included."""
        body = json.dumps({"query": document, "variables": variables or {}})
        self._connection.request("POST", "/graphql", body, self._headers)
        answer = json.loads(self._connection.getresponse().read())
        if "errors" in answer:
            raise WrongResult(f"{answer['errors']}")
        data: dict[str, Any] = answer["data"]
        for payload in data.values():
            if payload.get("errors"):
                raise WrongResult(f"{payload['errors']}")
        return data
