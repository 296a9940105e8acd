"""The examples do what they say: run for real, with receivers on this machine."""

import asyncio
import datetime as dt
import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from tests.support import postgres
from tests.support.deliveries import create_inbox, create_webhook
from tests.support.patience import PATIENCE_SECONDS
from tests.support.program import Program

EXAMPLES = Path(__file__).parents[2] / "examples"
GARAGE = {"RINGBACK_MODELS": "garage", "PYTHONPATH": str(EXAMPLES)}
CATALOG = 'query { webhookModels { name label(locale: "de-AT") description fields { path type description } sample } }'
RECEIVED = "query { inboxes { nodes { requests { nodes { headers { name value } body } } } } }"


def run(*arguments: str, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python as a user would; it must end without a word of complaint."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("RINGBACK_")}
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**clean, **(env or {})},
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done


def received(program: Program, number: int) -> list[dict[str, Any]]:
    """The bodies that the only inbox received, oldest first, once there are so many."""

    def look() -> list[dict[str, Any]] | None:
        requests = program.query(RECEIVED)["inboxes"]["nodes"][0]["requests"]["nodes"]
        return [json.loads(request["body"]) for request in reversed(requests)] if len(requests) >= number else None

    found: list[dict[str, Any]] = program.wait_until(look, f"{number} requests")
    return found


def test_the_garage(tmp_path: Path) -> None:
    with Program(tmp_path / "garage", env=GARAGE) as program:
        models = {model["name"]: model for model in program.query(CATALOG)["webhookModels"]}
        assert sorted(models) == ["car", "customer_order", "lead"]
        car = models["car"]
        assert (car["label"], car["description"]) == ("Auto", "A car with its visits to our garage.")
        assert [(f["path"], f["type"], f["description"]) for f in car["fields"]] == [
            ("item.id", "id", "The object's id, the same as the event's objectId."),
            ("item.plate", "string", "The number plate."),
            ("item.mileage", "integer", "Kilometres on the clock."),
            ("item.sold_at", "datetime", "When it was sold, null while it is ours."),
            ("item.visits", "list", "A visit to our garage; saving one is an update of its car."),
            ("item.visits[].day", "date", "The day of the visit."),
            ("item.visits[].work", "string", "What was done."),
            ("item.visits[].price", "decimal", "What it cost."),
            ("item.spent", "decimal", "The price of all visits."),
        ]
        assert car["sample"]["spent"] == "1.00"
        watch_cars(program)
        env = {**GARAGE, "RINGBACK_DATA_DIR": str(program.data_dir)}
        today = dt.datetime.now(dt.UTC).date()
        run("-m", "garage.visit", "KA 1", "oil change", "49.90", env=env)
        first = {"day": received(program, 1)[0]["visits"][0]["day"], "work": "oil change", "price": "49.90"}
        assert first["day"] in {str(today), str(today + dt.timedelta(days=1))}
        whole = {"id": "1", "plate": "KA 1", "mileage": 0, "sold_at": None}
        assert received(program, 1) == [{**whole, "visits": [first], "spent": "49.90"}]
        run("-m", "garage.visit", "KA 1", "new tyres", "350.1", env=env)
        second = received(program, 2)[1]
        assert [visit["work"] for visit in second["visits"]] == ["oil change", "new tyres"]
        assert second["spent"] == "400.00"
        assert len(received(program, 2)) == 2


def watch_cars(program: Program) -> None:
    """Send cars that are created or updated to a new inbox."""
    create_webhook(
        program,
        create_inbox(program),
        model="car",
        actions=["CREATED", "UPDATED"],
        sendJson=True,
        retryDelaysSeconds=[0],
    )


def save_program(page: str, name: str, folder: Path) -> Path:
    """Save the program of a page that the comment `<!-- NAME -->` precedes, and return its path."""
    program = (EXAMPLES.parent / "docs" / page).read_text().split(f"<!-- {name} -->\n```python\n")[1]
    path = folder / name
    path.write_text(program.split("```")[0])
    return path


def test_the_shop_of_the_page_creates_its_webhook_once(tmp_path: Path) -> None:
    shop = save_program("embedding.md", "shop.py", tmp_path)
    shop.write_text(shop.read_text().replace("https://example.com/hook", "http://127.0.0.1:9/"))
    env = {"RINGBACK_DATA_DIR": str(tmp_path / "data"), "RINGBACK_DANGEROUS_ALLOW_NETWORKS": "127.0.0.1"}

    lines = run(str(shop), env=env).stdout.splitlines() + run(str(shop), env=env).stdout.splitlines()

    assert len([line for line in lines if line.startswith("Give the receiver this secret: whsec_")]) == 1
    assert [line for line in lines if line.startswith("FAILED")] == ["FAILED after 2 attempt(s)"] * 2


def test_the_car_of_the_page(tmp_path: Path) -> None:
    cars = save_program("models.md", "cars.py", tmp_path)
    env = {"RINGBACK_MODELS": "cars", "PYTHONPATH": str(tmp_path)}
    with Program(tmp_path / "cars", env=env) as program:
        watch_cars(program)
        printed = run(str(cars), env={"RINGBACK_DATA_DIR": str(program.data_dir)}).stdout

        assert printed == "KA 1 has 120 km\n"
        mileages = [car["mileage"] for car in received(program, 2)]
        assert sorted(mileages) == [0, 120]


class Receiver(BaseHTTPRequestHandler):
    """Keeps what it gets; the first answer is 500."""

    requests: list[tuple[dict[str, str], bytes]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.requests.append((dict(self.headers), body))
        self.send_response(500 if len(self.requests) == 1 else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


def test_the_embedded_app_alone() -> None:
    lines = run(str(EXAMPLES / "embedded_app.py")).stdout.splitlines()
    ordered = {"id": "1", "guest": "Ann", "cups": 2}
    assert [json.loads(line.removeprefix("received ")) for line in lines if line.startswith("received ")] == [ordered]
    assert [line for line in lines if line.startswith(("Ann", "Bob"))] == [
        "Ann ordered 2",
        "Bob ordered 5, which is too many",
    ]
    assert [line for line in lines if line.startswith("coffee_order")] == [
        "coffee_order 1: SUCCEEDED after 1 attempt(s)"
    ]


def test_the_embedded_app_on_postgres(postgres_server: str) -> None:
    url = asyncio.run(postgres.create(postgres_server))
    try:
        lines = run(str(EXAMPLES / "embedded_app.py"), env={"RINGBACK_DATABASE_URL": url}).stdout.splitlines()
    finally:
        asyncio.run(postgres.drop(postgres_server, url))
    assert [line for line in lines if line.startswith(("Ann", "Bob"))] == [
        "Ann ordered 2",
        "Bob ordered 5, which is too many",
    ]
    assert [line for line in lines if line.startswith("coffee_order")] == [
        "coffee_order 1: SUCCEEDED after 1 attempt(s)"
    ]


def test_the_embedded_app_with_a_receiver_that_fails_once() -> None:
    requests: list[tuple[dict[str, str], bytes]] = []
    handler = type("Handler", (Receiver,), {"requests": requests})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        lines = run(str(EXAMPLES / "embedded_app.py"), f"http://127.0.0.1:{server.server_port}/").stdout.splitlines()
        server.shutdown()
    assert [line for line in lines if line.startswith("coffee_order")] == [
        "coffee_order 1: SUCCEEDED after 2 attempt(s)"
    ]
    (first, body), (second, again) = requests
    assert json.loads(body) == {"id": "1", "guest": "Ann", "cups": 2} == json.loads(again)
    assert first["PS-WEBHOOK_EVENT-ID"] == second["PS-WEBHOOK_EVENT-ID"]
    assert first["Ringback-Event"] == "coffee_order.created"
