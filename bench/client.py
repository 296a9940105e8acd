"""One client of the API on one kept-alive connection, as an application has it: what it waits for is the server."""

import http.client
import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from bench.load import Wrong
from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import Program


class Client:
    """`with Client(program) as client:` connects; `query` asks."""

    def __init__(self, program: Program) -> None:
        where = urlsplit(program.url)
        self._connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=PATIENCE_SECONDS)
        self._headers = {"Content-Type": "application/json", "Authorization": f"Bearer {program.token}"}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.close()

    def query(self, document: str, variables: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The data of an operation; raises Wrong when there are errors, its payloads' included."""
        body = json.dumps({"query": document, "variables": variables or {}})
        self._connection.request("POST", "/graphql", body, self._headers)
        answer = json.loads(self._connection.getresponse().read())
        if "errors" in answer:
            raise Wrong(f"{answer['errors']}")
        data: dict[str, Any] = answer["data"]
        for payload in data.values():
            if payload.get("errors"):
                raise Wrong(f"{payload['errors']}")
        return data
