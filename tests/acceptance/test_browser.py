"""GraphiQL of the started program, in headless Chromium without a network."""

import re
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from playwright.sync_api import Locator, Page, ViewportSize, expect, sync_playwright

from ringback.graphql_api.transport import graphiql
from tests.support.firing import fire, webhook_to_inbox
from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import Program

PATIENCE_MS = PATIENCE_SECONDS * 1000
#: A host that no policy can name.
UNNAMEABLE_HOST = "a_b"
#: Only the server's address resolves, and the browser sends no requests of its own.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    f"--host-resolver-rules=MAP {UNNAMEABLE_HOST} 127.0.0.1, MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
TABS = [
    "CreateInbox",
    "CreateWebhook",
    "DeliveryLog",
    "RequestCallback",
    "InboxRequests",
    "Event",
    "Webhooks",
    "WebhookLog",
    "UpdateWebhook",
    "TestFireWebhook",
    "RedeliverEvent",
    "DeleteWebhook",
]
DESKTOP = ViewportSize(width=1280, height=800)
PHONE = ViewportSize(width=360, height=740)
SIZES = [DESKTOP, PHONE]


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
        expect.set_options(timeout=PATIENCE_MS)
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


#: Uses an address in every way in which a page can, and returns the directives of the policy that forbid it.
USE_ADDRESS = """async (address) => {
  const violated = new Set();
  addEventListener("securitypolicyviolation", (event) => violated.add(event.effectiveDirective));
  const load = (name, attributes) => new Promise((resolve) => {
    const element = Object.assign(document.createElement(name), attributes);
    element.onload = element.onerror = resolve;
    document.body.append(element);
  });
  await load("script", { src: address });
  await load("script", { src: address, type: "module" });
  await load("link", { rel: "stylesheet", href: address });
  await load("img", { src: address });
  await import(address).catch(() => null);
  await fetch(address).catch(() => null);
  await new FontFace("f", `url(${address})`).load().catch(() => null);
  try { new Worker(address); } catch {}
  document.body.append(Object.assign(document.createElement("iframe"), { src: address }));
  const end = Date.now() + 3000;
  while (violated.size < 7 && Date.now() < end) await new Promise((resolve) => setTimeout(resolve, 50));
  return [...violated].sort();
}"""


def test_graphiql_takes_nothing_from_an_inbox_of_its_origin(program: Program, watched: Watched) -> None:
    page = watched.page
    inbox = program.query(
        """
        mutation ($body: String!) {
          createInbox(input: {responses: [{contentType: "text/javascript", body: $body}]}) { inbox { id url } }
        }
        """,
        {"body": "globalThis.hasRun = true"},
    )["createInbox"]["inbox"]
    open_graphiql(page, program)
    assert inbox["url"].startswith(program.url)

    violated = page.evaluate(USE_ADDRESS, inbox["url"])

    assert page.evaluate("globalThis.hasRun") is None
    assert violated == [
        "connect-src", "font-src", "frame-src", "img-src", "script-src-elem", "style-src-elem", "worker-src",
    ]  # fmt: skip
    requests = program.query(
        "query ($id: ID!) { inbox(id: $id) { requests(first: 5) { nodes { id } } } }", {"id": inbox["id"]}
    )
    assert requests["inbox"]["requests"]["nodes"] == []


def test_graphiql_runs_no_script_of_an_inbox_at_a_host_that_no_policy_can_name(
    program: Program, watched: Watched
) -> None:
    page = watched.page
    inbox = program.query(
        """
        mutation ($body: String!) {
          createInbox(input: {responses: [{contentType: "text/javascript", body: $body}]}) { inbox { url } }
        }
        """,
        {"body": "globalThis.hasRun = true"},
    )["createInbox"]["inbox"]
    open_graphiql(page, program, UNNAMEABLE_HOST)
    expect(run(page)).to_contain_text(words('"name": "My first inbox"'))

    violated = page.evaluate(USE_ADDRESS, inbox["url"].replace("127.0.0.1", UNNAMEABLE_HOST))

    assert page.evaluate("globalThis.hasRun") is None
    assert "script-src-elem" in violated


def test_a_wrong_token_leads_to_the_token_form(program: Program, watched: Watched) -> None:
    page = watched.page
    page.goto(f"{program.url}/graphql#token=rbk_wrong")
    expect(page.get_by_role("alert")).to_contain_text("Ringback does not know this token.")
    page.get_by_label("Your API token").fill(program.token)
    page.get_by_role("button", name="Open").click()
    expect(page.get_by_role("tab")).to_have_count(len(TABS))


@pytest.mark.parametrize("size", SIZES)
def test_the_open_tab_is_in_view(program: Program, watched: Watched, size: ViewportSize) -> None:
    page = watched.page
    page.set_viewport_size(size)
    open_graphiql(page, program)
    strip = page.locator(".graphiql-tabs")

    for name in (TABS[-1], TABS[0], TABS[6], TABS[7]):
        open_tab(page, name)
        expect_inside(page.get_by_role("tab", selected=True).filter(has_text=name), strip)
    strip.hover()
    page.mouse.wheel(0, -10_000)
    expect_inside(page.get_by_role("tab").first, strip)
    page.get_by_role("button", name="New tab").click()
    expect_inside(page.get_by_role("tab", selected=True).filter(has_text="<untitled>"), strip)


@pytest.mark.parametrize("colors", ["light", "dark"])
def test_a_phone_shows_all_parts(program: Program, watched: Watched, colors: Literal["light", "dark"]) -> None:
    page = watched.page
    page.set_viewport_size(PHONE)
    page.emulate_media(color_scheme=colors)
    page.goto(program.url)
    expect(page).to_have_url(f"{program.url}/graphql")
    expect_no_sideways_scrolling(page)
    page.get_by_label("Your API token").fill(program.token)
    page.get_by_role("button", name="Open").click()
    expect(page.locator(".graphiql-query-editor")).to_contain_text(words("mutation CreateInbox"))

    result = run(page)
    expect(result).to_contain_text(words('"name": "My first inbox"'))

    expect_no_sideways_scrolling(page)
    screen = page.locator("body")
    for part, least_height in (
        (page.get_by_role("button", name=re.compile("^Execute query")), 32),
        (page.get_by_role("tab", selected=True), 24),
        (page.get_by_role("region", name="Operation Editor"), 160),
        (page.get_by_role("region", name="Variables"), 80),
        (result, 150),
        (page.get_by_role("button", name="Change token"), 16),
    ):
        expect_inside(part, screen)
        box = part.bounding_box()
        assert box is not None and box["height"] >= least_height, (part, box)
    assert watched.complaints == []


def test_a_subscription_that_was_left_says_so_and_goes_on(program: Program, watched: Watched) -> None:
    page = watched.page
    open_graphiql(page, program)
    webhook_id = webhook_to_inbox(program)
    open_tab(page, "DeliveryLog")
    result = run(page)
    expect(result).to_contain_text(words('"live": "Listening"'))
    fire(program, webhook_id)
    expect(result).to_contain_text(words('"live": "3 received, newest first"'))

    open_tab(page, "CreateInbox")
    expect(page.get_by_text("Stopped.")).to_have_count(0)
    missed = fire(program, webhook_id)
    program.wait_until(lambda: succeeded(program, missed), "the event's success")
    open_tab(page, "DeliveryLog")
    expect(page.get_by_role("status")).to_contain_text("Stopped. A subscription runs only while its tab is open.")
    expect(result).to_contain_text(words('"live": "3 received, newest first. Stopped"'))

    page.get_by_role("button", name="Run from the cursor").click()
    expect(result).to_contain_text(words('"live": "3 received, newest first"'))
    expect(result).to_contain_text(missed)
    expect(page.get_by_text("Stopped.")).to_have_count(0)
    assert watched.complaints == []


def test_a_subscription_says_that_the_server_is_away(watched: Watched, tmp_path: Path, migrated: Path) -> None:
    page = watched.page
    with Program(tmp_path / "restarted", migrated=migrated) as program:
        open_graphiql(page, program)
        open_tab(page, "DeliveryLog")
        result = run(page)
        expect(result).to_contain_text(words('"live": "Listening"'))

        program.stop()
        expect(page.get_by_role("status")).to_contain_text("The connection to the server is lost. Trying again.")

        program.start()
        expect(page.get_by_role("status")).to_be_empty()
        expect(result).to_contain_text(words('"live": "Listening"'))


def test_a_query_says_that_the_server_does_not_answer(watched: Watched, tmp_path: Path, migrated: Path) -> None:
    page = watched.page
    with Program(tmp_path / "stopped", migrated=migrated) as program:
        open_graphiql(page, program)
        program.stop()

        result = run(page)

        expect(result).to_contain_text(words("Ringback does not answer at http://127.0.0."))  # the editor wraps it
        expect(result).to_contain_text(words("Is it running?"))
        expect(result).not_to_contain_text("Failed to fetch")


def test_without_introspection_graphiql_says_so_and_runs_operations(
    watched: Watched, tmp_path: Path, migrated: Path
) -> None:
    page = watched.page
    closed = {"RINGBACK_API_INTROSPECTION": "false"}
    with Program(tmp_path / "closed", env=closed, migrated=migrated) as program:
        open_graphiql(page, program)
        result = page.locator(".result-window")
        expect(result).to_contain_text(words("Introspection is switched off on this server"))
        expect(result).to_contain_text("RINGBACK_API_INTROSPECTION=true")

        run(page)
        expect(result).to_contain_text(words('"name": "My first inbox"'))


def test_the_token_form_says_where_tokens_come_from_and_stay(program: Program, watched: Watched) -> None:
    page = watched.page
    page.goto(f"{program.url}/graphql")

    form = page.get_by_role("main")
    for text in (".ringback/admin-token", "ringback token create NAME", "session storage of this browser tab"):
        expect(form).to_contain_text(text)
    assert watched.complaints == []


def test_a_wrong_address_leads_to_graphiql(program: Program, watched: Watched) -> None:
    page = watched.page
    page.goto(f"{program.url}/nothing")

    page.get_by_role("link", name="/graphql").click()

    expect(page.get_by_label("Your API token")).to_be_visible()


def open_graphiql(page: Page, program: Program, host: str = "127.0.0.1") -> None:
    url = program.url.replace("127.0.0.1", host)
    page.goto(f"{url}/graphql#token={program.token}")
    expect(page.locator(".graphiql-query-editor")).to_contain_text(words("mutation CreateInbox"))


def open_tab(page: Page, name: str) -> None:
    # Playwright would scroll to the tab before it clicks.
    page.get_by_role("tab").get_by_role("button", name=name, exact=True).dispatch_event("click")
    expect(page.get_by_role("tab", selected=True)).to_contain_text(name)


def expect_inside(part: Locator, whole: Locator) -> None:
    """Wait until the whole of `part` is within the area of `whole`."""
    inside = """(part, whole) => {
      const [a, b] = [part.getBoundingClientRect(), whole.getBoundingClientRect()];
      const sideways = a.left >= b.left - 1 && a.right <= b.right + 1;
      return a.width > 0 && sideways && a.top >= b.top - 1 && a.bottom <= b.bottom + 1;
    }"""
    expect(part).to_have_count(1)
    end = time.monotonic() + PATIENCE_SECONDS
    while not part.evaluate(inside, whole.element_handle()):
        assert time.monotonic() < end, f"{part} is not inside {whole}"
        time.sleep(0.05)


def expect_no_sideways_scrolling(page: Page) -> None:
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")


def succeeded(program: Program, event_id: str) -> bool:
    event = program.query("query ($id: ID!) { event(id: $id) { status } }", {"id": event_id})["event"]
    return bool(event["status"] == "SUCCEEDED")
