"""Requests of every method, for inboxes: uvicorn's quick parser (httptools) knows those that are registered, h11 all.

A connection goes over to h11 when a request with another method begins on it, and stays there.
"""

import asyncio
import re
from functools import lru_cache
from typing import Any

import httptools
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

#: How a request begins (RFC 9112, 3): its method is a token.
_BEGINNING = re.compile(rb"(?:\r?\n)*([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}) ")


class EveryMethodProtocol(HttpToolsProtocol):
    """uvicorn's protocol for HTTP/1.1, for methods of any name."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._within_request = False

    def on_message_begin(self) -> None:
        """A request begins."""
        self._within_request = True
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """The whole request was received."""
        self._within_request = False
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        """Bytes of a request, or of several."""
        if self._is_idle() and (beginning := _BEGINNING.match(data)) and not _is_registered(beginning.group(1)):
            self._go_over(data)
        else:
            super().data_received(data)

    def _is_idle(self) -> bool:
        return not self._within_request and (self.cycle is None or self.cycle.response_complete)

    def _go_over(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        self.connections.discard(self)
        protocol = H11Protocol(config=self.config, server_state=self.server_state, app_state=self.app_state)
        protocol.connection_made(self.transport)
        self.transport.set_protocol(protocol)
        protocol.data_received(data)


@lru_cache(256)
def _is_registered(method: bytes) -> bool:
    try:
        httptools.HttpRequestParser(asyncio.Protocol()).feed_data(method + b" /")
    except httptools.HttpParserError:
        return False
    return True
