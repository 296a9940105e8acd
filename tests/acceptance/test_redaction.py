"""Secrets of webhooks and endpoints: the started program sends them, and neither stores nor logs them."""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from ringback.models.redaction import MASK
from tests.support.deliveries import create_webhook, test_fire, wait_until_ended
from tests.support.program import Program
from tests.support.receiver import ALLOW_LOOPBACK

REQUEST_HEADERS = {
    "Authorization": "Bearer s3cr3t-1",
    "Cookie": "a=s3cr3t-2",
    "X-PAT": "s3cr3t-3",
    "X-Vault-Token": "s3cr3t-4",
    "X-Corp-Id": "s3cr3t-5",
    "X-Callback": "https://me:s3cr3t-6@x.example/?sig=s3cr3t-7",
}
QUERY = "code=s3cr3t-8&sig=s3cr3t-9&apiKey=s3cr3t-10&corp_id=s3cr3t-11"
RESPONSE_HEADERS = {"Set-Cookie": "a=s3cr3t-12", "Location": "/next?token=s3cr3t-13", "X-Api-Key": "s3cr3t-14"}
ATTEMPTS = """
query ($id: ID!) { event(id: $id) { attempts {
  error request { url headers { name value } } response { headers { name value } }
} } }
"""
REDELIVER = "mutation ($id: ID!) { redeliverEvent(id: $id) { event { id } errors { message } } }"


class Endpoint(HTTPServer):
    """An endpoint that remembers path and headers of each request, and answers with secrets of its own."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str]]] = []
        super().__init__(("127.0.0.1", 0), _Handler)


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        """Answer 302."""
        assert isinstance(self.server, Endpoint)
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, dict(self.headers.items())))
        self.send_response(302)
        for name, value in RESPONSE_HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Print nothing."""


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with Endpoint() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def redacting(tmp_path: Path, migrated: Path) -> Iterator[Program]:
    """A program whose operator calls further names secret."""
    env = {"RINGBACK_REDACT_PATTERNS": "^x-corp-, corp_id", "RINGBACK_LOG_LEVEL": "DEBUG", **ALLOW_LOOPBACK}
    with Program(tmp_path / "program", env=env, migrated=migrated) as program:
        yield program


def test_secrets_are_sent_and_neither_stored_nor_logged(redacting: Program, endpoint: Endpoint) -> None:
    url = f"http://127.0.0.1:{endpoint.server_port}/bot5:s3cr3t-15/send?{QUERY}"
    headers = [{"name": name, "value": value} for name, value in REQUEST_HEADERS.items()]
    webhook_id = create_webhook(redacting, url, headers=headers, retryDelaysSeconds=[0])
    event_id = test_fire(redacting, webhook_id)
    assert wait_until_ended(redacting, event_id)["status"] == "FAILED"

    # Redelivery uses the webhook, never the redacted copy of its request.
    assert redacting.query(REDELIVER, {"id": event_id})["redeliverEvent"]["errors"] == []
    redacting.wait_until(lambda: len(endpoint.requests) == 2, "the redelivery")
    assert wait_until_ended(redacting, event_id)["attemptCount"] == 2

    for path, sent in endpoint.requests:
        assert path == f"/bot5:s3cr3t-15/send?{QUERY}"
        assert {name: sent[name] for name in REQUEST_HEADERS} == REQUEST_HEADERS
    attempt, _ = redacting.query(ATTEMPTS, {"id": event_id})["event"]["attempts"]
    masked_query = f"code={MASK}&sig={MASK}&apiKey={MASK}&corp_id={MASK}"
    assert attempt["request"]["url"] == f"http://127.0.0.1:{endpoint.server_port}/bot{MASK}/send?{masked_query}"
    stored = by_name(attempt["request"]["headers"])
    assert {name: stored[name] for name in REQUEST_HEADERS} == {
        "Authorization": f"Bearer {MASK}",
        "Cookie": MASK,
        "X-PAT": MASK,
        "X-Vault-Token": MASK,
        "X-Corp-Id": MASK,
        "X-Callback": f"https://{MASK}@x.example/?sig={MASK}",
    }
    answered = by_name(attempt["response"]["headers"])
    assert {name: answered[name] for name in RESPONSE_HEADERS} == {
        "Set-Cookie": MASK, "Location": f"/next?token={MASK}", "X-Api-Key": MASK,
    }  # fmt: skip
    assert "s3cr3t" not in read_records(redacting)
    assert "s3cr3t" not in redacting.log()


@pytest.mark.parametrize(
    ("url", "quoted"),
    [
        ("https://hooks.slack.com/services/T0ABCDEFG/B0/s3cr3t{{ item.name }}", f"services/{MASK}"),
        ("https://x.example/?sig=s3cr3t{{ item.name }}", f"?sig={MASK}"),
        ("https://{{ item.name }}x.example/?X-Corp-Id=s3cr3t", f"?X-Corp-Id={MASK}"),
        ("https://{{ item.phone }}@x.example/", f"https://{MASK}@x.example/"),
    ],
)
def test_an_error_about_a_url_quotes_no_secret(redacting: Program, url: str, quoted: str) -> None:
    webhook_id = create_webhook(redacting, url.replace("}}@", "}}"), retryDelaysSeconds=[0])
    event_id = test_fire(redacting, webhook_id, name="a b\\c", phone="me:s3cr3t@")

    wait_until_ended(redacting, event_id)
    (attempt,) = redacting.query(ATTEMPTS, {"id": event_id})["event"]["attempts"]

    assert quoted in attempt["error"]
    assert "s3cr3t" not in attempt["error"]
    with closing(sqlite3.connect(redacting.data_dir / "ringback.db")) as db:
        messages = db.execute("SELECT message FROM ringback_log WHERE kind = 'ATTEMPT_FINISHED'").fetchall()
    assert [message for (message,) in messages if quoted not in message] == []
    assert "s3cr3t" not in read_records(redacting) + redacting.log()


def by_name(headers: list[dict[str, str]]) -> dict[str, str]:
    return {header["name"]: header["value"] for header in headers}


def read_records(program: Program) -> str:
    """Return all attempts and all entries of the delivery log, as they are stored."""
    with closing(sqlite3.connect(program.data_dir / "ringback.db")) as db:
        rows = db.execute("SELECT * FROM ringback_attempt").fetchall()
        rows += db.execute("SELECT * FROM ringback_log").fetchall()
    assert len(rows) > 2
    return str(rows)
