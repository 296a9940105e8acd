"""Deliveries per second, beside the bare loop of the HTTP client, in interleaved pairs of one run."""

import argparse
import asyncio
import datetime as dt
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from ringback.models import clock, db
from ringback.models.event import Change, Event
from ringback.models.ids import new_key
from ringback.models.secrets import secret_box
from ringback.models.settings import Settings
from ringback.models.signing import new_secret
from ringback.models.states import EventStatus
from ringback.models.webhook import Action, Webhook

ITEM = {"id": "lead_1", "name": "Maria", "phone": "+79990000000", "status": "NEW", "comment": "x" * 100, "n": 1}
LIQUID = (
    "id={{ item.id | url_encode }}&name={{ item.name | url_encode }}&phone={{ item.phone | url_encode }}"
    "&status={{ item.status }}&comment={{ item.comment | url_encode }}"
    "{% for field in event.changed_fields %}&changed={{ field }}{% endfor %}"
)


@contextmanager
def process(*command: str, **env: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A process of this project and the first line that it prints."""
    with subprocess.Popen(
        [sys.executable, "-m", *command], stdout=subprocess.PIPE, text=True, env={**os.environ, **env}
    ) as started:
        try:
            assert started.stdout is not None
            yield started, started.stdout.readline().strip()
        finally:
            started.terminate()


def report(sink: str) -> dict[str, Any]:
    """What the sink counted since the last report."""
    with urllib.request.urlopen(sink + "/report") as answer:  # noqa: S310 - the sink's own address
        found: dict[str, Any] = json.load(answer)
    return found


def bare(sink: str, requests: int) -> float:
    """Requests per second of the bare loop."""
    done = subprocess.run(
        [sys.executable, "-m", "bench.bare", sink, str(requests), "200"], capture_output=True, text=True, check=True
    )
    assert report(sink)["requests"] == requests
    return float(json.loads(done.stdout)["rate"])


async def fill(settings: Settings, sink: str, webhooks: int, events: int, template: str) -> None:
    """Make a database with so many due events."""
    await db.migrate(settings)
    async with db.opened(settings):
        now = await clock.now()
        box = secret_box(settings)
        made = [
            Webhook(
                model="lead", actions=["CREATED"], url=f"{sink}/{number}", send_json=not template,
                body_template=template, signing_secret=box.seal(new_secret()), created_at=now, updated_at=now,
            )
            for number in range(webhooks)
        ]  # fmt: skip
        await Webhook.bulk_create(made)
        due = now + dt.timedelta(seconds=0)
        changes, rows = [], []
        for number in range(events):
            change = Change(
                id=new_key(), model="lead", action=Action.UPDATED, object_id=f"lead_{number}", item=ITEM,
                changed_fields=["name", "phone"], created_at=now,
            )  # fmt: skip
            changes.append(change)
            rows.append(
                Event(
                    id=new_key(), webhook_id=made[number % webhooks].id, change_id=change.id, model="lead",
                    action=Action.UPDATED, object_id=change.object_id, max_attempts=3, next_attempt_at=due,
                    due_at=due, created_at=now,
                )
            )  # fmt: skip
        for start in range(0, events, 5_000):
            await Change.bulk_create(changes[start : start + 5_000], batch_size=500)
            await Event.bulk_create(rows[start : start + 5_000], batch_size=500)


async def until_done(settings: Settings) -> float:
    """Wait until all events are delivered; returns when that was, by the monotonic clock."""
    async with db.opened(settings):
        while await Event.filter(status__in=(EventStatus.PENDING, EventStatus.RETRYING)).exists():  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        done = time.monotonic()
        assert not await Event.filter(status__not=EventStatus.SUCCEEDED).exists()
        return done


def ours(sink: str, webhooks: int, events: int, template: str) -> float:
    """Events per second, from the first request to the last one recorded."""
    with tempfile.TemporaryDirectory() as folder:
        env = {
            "RINGBACK_DATA_DIR": folder,
            "RINGBACK_DANGEROUS_ALLOW_NETWORKS": "127.0.0.0/8",
            "RINGBACK_LOG_LEVEL": "WARNING",
        }
        os.environ.update(env)
        settings = Settings()
        asyncio.run(fill(settings, sink, webhooks, events, template))
        with process("ringback.graphql_api", "worker", **env):
            done = asyncio.run(until_done(settings))
        found = report(sink)
        assert found["requests"] == events, found["requests"]
        return float(events / (done - found["first"]))


def main() -> None:
    """Measure pairs and print their ratios."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=5_000)
    parser.add_argument("--webhooks", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--liquid", action="store_true")
    options = parser.parse_args()
    template = LIQUID if options.liquid else ""
    with process("bench.sink") as (_, sink):
        ratios = []
        for number in range(options.rounds):
            first = (
                lambda: bare(sink, options.events),
                lambda: ours(sink, options.webhooks, options.events, template),
            )
            results = [run() for run in (first if number % 2 == 0 else reversed(first))]
            limit, rate = results if number % 2 == 0 else reversed(results)
            ratios.append(rate / limit)
            print(f"bare {limit:,.0f}/s, Ringback {rate:,.0f}/s, ratio {rate / limit:.2f}", flush=True)
        print(f"median ratio {median(ratios):.2f}")


if __name__ == "__main__":
    main()
