"""GraphiQL in headless Chromium with the network cut, against the really started program."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright

from ringback.graphql_api.transport import graphiql
from tests.support.firing import fire, webhook_to_inbox
from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import Program

PATIENCE_MS = PATIENCE_SECONDS * 1000
#: No name resolves but the server's address, and the browser asks for nothing by itself.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
TABS = [
    "CreateInbox",
    "CreateWebhook",
    "RequestCallback",
    "TestFireWebhook",
    "DeliveryLog",
    "Event",
    "RedeliverEvent",
]


@dataclass
class Watched:
    """A page, and all that it said and asked for."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    sockets: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda said: self._heard(said.type, said.text))
        self.page.on("pageerror", lambda error: self._heard("error", str(error)))
        self.page.on("requestfailed", lambda request: self._heard("error", f"{request.url}: {request.failure}"))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("websocket", lambda socket: self.sockets.append(socket.url))

    def _heard(self, kind: str, text: str) -> None:
        if kind in ("error", "warning", "assert"):
            self.complaints.append(f"{kind}: {text}")


@pytest.fixture
def watched() -> Iterator[Watched]:
    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is missing: apt-get install chromium")
    if not (graphiql.STATIC / "index.html").is_file():
        pytest.skip("GraphiQL is not built: make web")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": 1400, "height": 900})
        page.set_default_timeout(PATIENCE_MS)
        yield Watched(page)
        browser.close()


def run(page: Page) -> Locator:
    """Run the open tab's operation; where its result appears."""
    page.get_by_role("button", name=re.compile("^Execute query")).click()
    return page.locator(".result-window")


def words(text: str) -> re.Pattern[str]:
    """The text as an editor shows it: its lines are elements, and its spaces may be hard ones."""
    return re.compile(r"\s*".join(map(re.escape, text.split())))


def test_graphiql_with_the_network_cut(program: Program, watched: Watched, tmp_path: Path) -> None:
    expect.set_options(timeout=PATIENCE_MS)
    page = watched.page
    page.goto(f"{program.url}/graphql#token={program.token}")

    # It renders, with its ready tabs, and the token leaves the address bar.
    tabs = page.get_by_role("tab")
    expect(tabs).to_have_text([f"{name}close icon" for name in TABS])  # an icon's title is text too
    expect(page).to_have_url(f"{program.url}/graphql")
    expect(page.locator(".graphiql-query-editor")).to_contain_text(words("mutation CreateInbox"))

    # A query runs.
    result = run(page)
    expect(result).to_contain_text(words('"name": "My first inbox"'))
    expect(result).to_contain_text(words('"errors": []'))
    made = program.query("{ inboxes { nodes { name } } }")["inboxes"]["nodes"]
    assert made == [{"name": "My first inbox"}]

    # A subscription streams the live log while a test-fire happens.
    webhook_id = webhook_to_inbox(program)
    tabs.filter(has_text="DeliveryLog").click()
    expect(page.locator(".graphiql-query-editor")).to_contain_text(words("subscription DeliveryLog"))
    result = run(page)
    expect(result).to_contain_text(words('"live": "Listening"'))
    event_id = fire(program, webhook_id)
    expect(result).to_contain_text(words('"live": "3 received, newest first"'))
    expect(result).to_contain_text("EVENT_SUCCEEDED")
    expect(result).to_contain_text(event_id)
    page.screenshot(path=tmp_path / "live-log.png")
    page.get_by_role("button", name=re.compile("^Stop query")).click()
    expect(result).to_contain_text(words("Stopped"))

    # It came from the server alone, and the token was in no address.
    assert watched.complaints == []
    assert watched.sockets == [program.url.replace("http", "ws", 1) + "/graphql"]
    assert [url for url in watched.requests if not url.startswith((f"{program.url}/", "data:", "blob:"))] == []
    assert [url for url in watched.requests if program.token in url] == []
    assert program.token not in program.log()


def test_the_network_is_cut(watched: Watched) -> None:
    """Else the test above would prove nothing."""
    with pytest.raises(Exception, match="ERR_NAME_NOT_RESOLVED"):
        watched.page.goto("http://localhost/")


def test_a_wrong_token_leads_to_the_form_and_the_right_one_in(program: Program, watched: Watched) -> None:
    expect.set_options(timeout=PATIENCE_MS)
    page = watched.page
    page.goto(f"{program.url}/graphql#token=rbk_wrong")
    expect(page.get_by_role("alert")).to_contain_text("Ringback does not know this token.")
    page.get_by_label("Your API token").fill(program.token)
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("tab")).to_have_count(len(TABS))
