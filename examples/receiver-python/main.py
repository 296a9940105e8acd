"""A receiver of webhooks: it verifies the signature of each request, and handles each event once.

Run it with `WEBHOOK_SECRET=whsec_... python main.py [PORT]`.
"""

import os
import sqlite3
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

#: Bytes of the longest body that is read.
MAX_BODY = 1_000_000

secret = os.environ.get("WEBHOOK_SECRET") or sys.exit("Set WEBHOOK_SECRET to the webhook's signingSecret.")
webhook = Webhook(secret)
events = sqlite3.connect("events.db", isolation_level=None)
events.execute("CREATE TABLE IF NOT EXISTS event (id TEXT PRIMARY KEY)")


def handle(event_id: str, action: str, body: bytes) -> None:
    """Do what your program does with an event. An exception leads to a 500, and so to the next attempt."""
    print(f"{event_id} {action}: {body.decode()}", flush=True)


class Receiver(BaseHTTPRequestHandler):
    """Answers 200 within 3 seconds once an event is handled, and 200 at once to each repetition."""

    def do_POST(self) -> None:
        """Verify, look for the event's id among those handled, handle."""
        length = int(self.headers["Content-Length"] or 0)
        if length > MAX_BODY:
            self.answer(413)
            return
        body = self.rfile.read(length)
        try:
            webhook.verify(body, dict(self.headers), json_parse=False)  # a template may print anything
        except (WebhookVerificationError, ValueError) as error:
            print(f"refused: {error}", flush=True)
            self.answer(401)
            return
        self.answer(self.handle_once(self.headers["webhook-id"], self.headers["Ringback-Event"], body))

    def handle_once(self, event_id: str, action: str, body: bytes) -> int:
        """Handle the event unless its id is stored, and store it in the same transaction; return the status."""
        events.execute("BEGIN IMMEDIATE")
        try:
            if events.execute("INSERT OR IGNORE INTO event VALUES (?)", (event_id,)).rowcount == 0:
                print(f"{event_id} is a duplicate", flush=True)
            else:
                handle(event_id, action, body)
            events.execute("COMMIT")
        except Exception as error:
            events.execute("ROLLBACK")
            print(f"{event_id} failed: {error!r}", flush=True)
            return 500
        return 200

    def answer(self, status: int) -> None:
        """Answer without a body."""
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *arguments: object) -> None:
        """Print no line for each request."""


if __name__ == "__main__":
    server = HTTPServer(("127.0.0.1", int(sys.argv[1]) if len(sys.argv) > 1 else 8080), Receiver)
    print(f"receiving on http://127.0.0.1:{server.server_port}/", flush=True)
    server.serve_forever()
