"""GraphiQL of the started program, in headless Chromium without a network."""

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
#: Only the server's address resolves, and the browser sends no requests of its own.
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
    """A page, with its console messages, requests and WebSockets."""

    page: Page
    complaints: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)
    sockets: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda message: self._on_message(message.type, message.text))
        self.page.on("pageerror", lambda error: self._on_message("error", str(error)))
        self.page.on("requestfailed", lambda request: self._on_message("error", f"{request.url}: {request.failure}"))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("websocket", lambda socket: self.sockets.append(socket.url))

    def _on_message(self, kind: str, text: str) -> None:
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
    """Run the open tab's operation and return the element of its result."""
    page.get_by_role("button", name=re.compile("^Execute query")).click()
    return page.locator(".result-window")


def words(text: str) -> re.Pattern[str]:
    """Return a pattern for a text in an editor, whose lines are elements and whose spaces may be non-breaking."""
    return re.compile(r"\s*".join(map(re.escape, text.split())))


def test_graphiql_without_a_network(program: Program, watched: Watched, tmp_path: Path) -> None:
    expect.set_options(timeout=PATIENCE_MS)
    page = watched.page
    page.goto(f"{program.url}/graphql#token={program.token}")

    # It renders with its default tabs, and removes the token from the address bar.
    tabs = page.get_by_role("tab")
    expect(tabs).to_have_text([f"{name}close icon" for name in TABS])  # the title of an icon counts as text
    expect(page).to_have_url(f"{program.url}/graphql")
    expect(page.locator(".graphiql-query-editor")).to_contain_text(words("mutation CreateInbox"))

    # A query runs.
    result = run(page)
    expect(result).to_contain_text(words('"name": "My first inbox"'))
    expect(result).to_contain_text(words('"errors": []'))
    inboxes = program.query("{ inboxes { nodes { name } } }")["inboxes"]["nodes"]
    assert inboxes == [{"name": "My first inbox"}]

    # A subscription streams the live log during a test-fire.
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

    # All requests went to the server, and no URL contained the token.
    assert watched.complaints == []
    assert watched.sockets == [program.url.replace("http", "ws", 1) + "/graphql"]
    assert [url for url in watched.requests if not url.startswith((f"{program.url}/", "data:", "blob:"))] == []
    assert [url for url in watched.requests if program.token in url] == []
    assert program.token not in program.log()


def test_there_is_no_network(watched: Watched) -> None:
    """Check the premise of the test above."""
    with pytest.raises(Exception, match="ERR_NAME_NOT_RESOLVED"):
        watched.page.goto("http://localhost/")


def test_a_wrong_token_leads_to_the_token_form(program: Program, watched: Watched) -> None:
    expect.set_options(timeout=PATIENCE_MS)
    page = watched.page
    page.goto(f"{program.url}/graphql#token=rbk_wrong")
    expect(page.get_by_role("alert")).to_contain_text("Ringback does not know this token.")
    page.get_by_label("Your API token").fill(program.token)
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("tab")).to_have_count(len(TABS))
