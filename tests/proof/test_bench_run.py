"""The benchmark runs on a tiny scale against the running program, and detects wrong results."""

import datetime as dt
import json
import time
import urllib.request
from collections.abc import Iterator
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from bench import __main__ as bench
from bench.due import Batch, Webhooks, deliver_batch, fill
from bench.figures import Figure, Group, Measured, Result, Scale
from bench.installation import Bench, SinkProcess, start_module
from bench.load import WrongResult
from tests.support import postgres
from tests.support.patience import PATIENCE_SECONDS

needs_postgres = pytest.mark.skipif(postgres.binaries() is None, reason=postgres.HOW)
RATE = Figure("rate", "a rate", "events/s", 1)


@pytest.fixture(scope="module")
def sink() -> Iterator[SinkProcess]:
    with start_module(["bench.sink"], {}) as (_, url):
        yield SinkProcess(url)


def post(url: str, event: str = "evt_1") -> tuple[Message, bytes]:
    request = urllib.request.Request(url, b"12345", {"PS-WEBHOOK_EVENT-ID": event})
    with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:
        assert answer.status == 200
        return answer.headers, answer.read()


def test_the_sink_counts(sink: SinkProcess) -> None:
    before = time.time()
    post(f"{sink.url}/at-once/1")
    post(f"{sink.url}/timed/1", "evt_2")
    sink.until(2, 10)
    received = sink.report()
    assert (received.requests, received.hung, received.body_bytes) == (2, 0, 10)
    assert list(received.arrivals) == ["evt_2"]
    assert before <= received.arrivals["evt_2"] <= time.time()
    assert received.first <= received.last
    assert sink.report().requests == 0


def test_the_sink_never_repeats_a_response(sink: SinkProcess) -> None:
    (first_headers, first), (second_headers, second) = (post(f"{sink.url}/at-once/1") for _ in range(2))
    assert json.loads(first)["received"] + 1 == json.loads(second)["received"]
    assert first_headers["X-Request-Id"] != second_headers["X-Request-Id"]
    dates = [parsedate_to_datetime(headers["Date"]) for headers in (first_headers, second_headers)]
    assert dates[0] <= dates[1] <= dt.datetime.now(dt.UTC)
    sink.report()


def test_the_sink_waits_or_hangs(sink: SinkProcess) -> None:
    began = time.monotonic()
    post(f"{sink.url}/wait/50/1")
    assert time.monotonic() - began >= 0.05
    with pytest.raises(TimeoutError):
        urllib.request.urlopen(f"{sink.url}/hang/1", timeout=0.2)
    with pytest.raises(WrongResult, match=r"1 of 2 requests arrived in 0\.2 s"):
        sink.until(2, 0.2)
    post(f"{sink.url}/at-once/1")
    post(f"{sink.url}/at-once/1")  # the waiting client has disconnected, which does no harm
    assert sink.report().requests == 2


def test_a_missing_event_is_a_wrong_result(sink: SinkProcess) -> None:
    with Bench() as made, made.open_embedded() as installation:
        batch = fill(installation, sink.url, 4, Webhooks(2))
        assert (batch.count, batch.webhooks) == (4, None)
        sink.report()
        more = Batch(batch.first, 5, batch.webhooks)
        with pytest.raises(
            WrongResult, match="of 5 events 4 succeeded at the first attempt; 4 of 4 attempts delivered"
        ):
            deliver_batch(installation, more, installation.serve(), lambda: sink.until(4, 30))
        assert sink.report().requests == 4
        assert len(made.peaks) == 1


def test_a_wrong_result_is_reported() -> None:
    def fails(bench: Bench, scale: Scale) -> Measured:
        raise WrongResult("two events\ncame twice")

    with Bench() as made:
        found, measured = bench.measure(Group("rate", [RATE], fails), made, Scale())
    assert (found, measured) == ([Result(RATE, wrong="two events came twice")], None)


@needs_postgres
def test_figures_of_every_kind_are_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = bench.main(
        ["--only", "first", "commit", "pages", "--scale", "0.001", "--rounds", "1", "--into", str(tmp_path)]
    )
    printed = capsys.readouterr().out
    about: dict[str, Any] = json.loads((tmp_path / "figures.json").read_text())
    found = {one["name"]: one for one in about["figures"]}
    assert list(found) == ["first", "commit-p50", "commit-p99", "events", "attempts", "combinations", "memory"]
    assert [one["wrong"] for one in found.values()] == [""] * len(found)
    assert found["first"]["size"] == "200 events, 20 webhooks, 1 pair"
    parts = about["parts"]["first"]
    ratio = parts["Ringback, events/s"][0] / parts["bare loop, requests/s"][0]
    assert found["first"]["values"] == [pytest.approx(ratio, rel=0.01)]
    assert 0 < found["commit-p50"]["values"][0] <= found["commit-p99"]["values"][0]
    assert 30 < found["memory"]["values"][0] < 1_000
    assert found["events"]["size"] == "1,000 waiting, 5,000 attempts, 10 values each, 1 time"
    assert {name: len(parts) for name, parts in about["parts"].items()} == {"first": 4, "commit": 0, "pages": 17}
    assert about["parts"]["first"]["worker CPU, µs per event"][0] > 0
    assert (tmp_path / "figures.svg").read_text().startswith("<svg ")
    assert code == (1 if "  no  " in printed else 0)
