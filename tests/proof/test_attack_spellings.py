"""No spelling of a forbidden host leads to a connection: it is refused when a webhook is saved, or at delivery.

Nothing here can reach an address, even if the guard is broken: the event loop records connections and opens none.
"""

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from ringback.jobs.http.request import OutgoingRequest, make_request_template
from ringback.jobs.http.sender import Sender
from ringback.jobs.outcomes import Outcome, RenderFailed
from ringback.models.security.address_policy import AddressPolicy
from ringback.models.security.inbox_addresses import InboxAddresses
from ringback.models.security.url_rules import check_url, parse_target
from ringback.models.services.url_check import UrlCheck
from ringback.models.templates.scope import EventFacts, build_scope
from ringback.models.templates.template import compile_template
from tests.support.http_server import NO_AUTHORITIES
from tests.support.spellings import forbidden_hosts, written_by_constants
from tests.support.unhurried import unhurried

EXAMPLES = 600
_EVENT = EventFacts(id="evt_1", model="lead", action="created", changed_fields=(), created_at="2026-01-01T00:00:00Z")
_PORTS = st.sampled_from(["", ":", ":80", ":8080", ":{{ item.port }}"])


class _Loop(asyncio.SelectorEventLoop):
    """An event loop that opens no connection. `reached` lists the addresses that it was asked to reach."""

    def __init__(self) -> None:
        super().__init__()
        self.reached: list[Any] = []

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        self.reached.append(address)
        raise ConnectionRefusedError


class _Names:
    """A resolver that leads every name to this machine."""

    async def addresses(self, name: str) -> Sequence[str]:
        return ["127.0.0.1", "::1", "10.0.0.5"]

    async def close(self) -> None:
        pass


async def _save(url: str) -> list[str]:
    return await UrlCheck(AddressPolicy(), InboxAddresses("https://ringback.example")).find_problems(url)


async def _deliver(template: str, host: str) -> Outcome:
    """Render a URL for an item that holds a host, and send a request to it as a delivery does."""
    item = {"name": host, "port": 8_080}
    url = compile_template(template).render(build_scope(item, _EVENT)).strip()
    problems = check_url(url)
    if problems:
        return RenderFailed(problems[0])
    request = OutgoingRequest(make_request_template("GET", parse_target(url), ()), ())
    async with Sender(AddressPolicy(), lookup=_Names(), tls=NO_AUTHORITIES) as sender:
        sent = await sender.send(request, timeout_seconds=10, accepts=lambda status: status == 200)
    return sent.outcome


def _run(template: str, host: str) -> tuple[list[str], Outcome, list[Any]]:
    """Return the problems when the URL is saved, the outcome of a delivery, and the addresses that were reached."""
    loop = _Loop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        problems = runner.run(_save(template))
        outcome = runner.run(_deliver(template, host))
    return problems, outcome, loop.reached


@settings(unhurried, max_examples=EXAMPLES)
@given(st.data(), forbidden_hosts(), _PORTS)
def test_a_constant_host_is_refused_when_it_is_saved(data: st.DataObject, host: str, port: str) -> None:
    written = data.draw(st.one_of(st.just(host), written_by_constants(host)))

    problems, outcome, reached = _run(f"http://{written}{port}/{{{{ item.port }}}}", host)

    assert problems
    assert outcome.name in ("BLOCKED", "RENDER_FAILED")
    assert reached == []


@settings(unhurried, max_examples=EXAMPLES)
@given(forbidden_hosts(), _PORTS)
def test_a_host_from_data_is_never_reached(host: str, port: str) -> None:
    problems, outcome, reached = _run(f"http://{{{{ item.name }}}}{port}/", host)

    assert problems == []
    assert outcome.name in ("BLOCKED", "RENDER_FAILED")
    assert reached == []


def test_a_public_address_is_reached() -> None:
    problems, outcome, reached = _run("http://{{ item.name }}:{{ item.port }}/", "93.184.215.14")

    assert (problems, outcome.name) == ([], "UNREACHABLE")
    assert reached == [("93.184.215.14", 8_080)]
