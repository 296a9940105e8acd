"""Conditions of one call: they share a budget, of which cheap ones always get their part."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from ringback.models import Settings
from ringback.models.delivery_log import LogEntry
from ringback.models.enums import Action
from ringback.models.event import Event
from ringback.models.services.change_checks import Publication
from ringback.models.services.declared_models import declare_model
from ringback.models.services.leads import request_callback
from ringback.models.services.publishing import EARLY_CHANGES, publish_changes
from ringback.models.services.site_settings import update_site_settings
from ringback.models.services.slow_checks import Caller
from ringback.models.templates.budget import Meter
from ringback.models.templates.decimal_fields import NO_DECIMALS
from ringback.models.tracking import conditions
from ringback.models.tracking.conditions import Check, Verdict, evaluate
from ringback.models.tracking.outbox import NewChange, NewEvent
from tests.support.recorded import watch
from tests.support.shop import Branch
from tests.support.unsaved import AT, KEY

#: Takes about 10 ms.
SLOW = " or ".join(["(1..9999) contains item.town"] * 40)


@pytest.fixture(autouse=True)
def _remember_nothing() -> Iterator[None]:
    conditions._needed_seconds.clear()
    conditions._slow_models.clear()
    yield
    conditions._needed_seconds.clear()
    conditions._slow_models.clear()


def slow(number: int) -> str:
    return f"{SLOW} or item.staff == {number}"


def check(condition: str, **options: Any) -> Check:
    item = {"town": "Riga", "staff": -1}
    change = NewChange(
        id=KEY, model="branch", action=Action.CREATED, object_id="1", item=item, changed_fields=[], created_at=AT
    )
    event = NewEvent(
        id=KEY,
        webhook_id=KEY,
        change_id=KEY,
        model="branch",
        action=Action.CREATED,
        object_id="1",
        max_attempts=1,
        next_attempt_at=AT,
        created_at=AT,
    )
    return Check(condition, item, change, event, NO_DECIMALS, **options)


async def test_verdicts_are_in_the_order_of_the_checks() -> None:
    texts = ["item.staff == -1", "item.staff == 5", "item.town > 3", "item.town | no_filter", "event.id != nil"]

    verdicts = await evaluate([check(text) for text in texts])

    assert verdicts == [Verdict.PASSED, Verdict.REFUSED, Verdict.PASSED, Verdict.PASSED, Verdict.PASSED]
    assert await evaluate([]) == []


@pytest.mark.measures_cpu
async def test_slow_conditions_are_pending_and_cheap_ones_are_not() -> None:
    checks = [check(slow(number)) for number in range(100)]
    checks.insert(50, check("item.staff == 5"))
    checks += [check("item.town == 'Riga'")]

    verdicts = await evaluate(checks)

    assert (verdicts[50], verdicts[-1]) == (Verdict.REFUSED, Verdict.PASSED)
    assert verdicts.count(Verdict.PENDING) >= 95


@pytest.mark.measures_cpu
async def test_one_slow_condition_gets_what_the_others_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions, "OPERATION_SECONDS", 1.0)
    checks = [check(slow(1)), *[check(f"item.staff == {number}") for number in range(500)]]

    assert await evaluate(checks) == [Verdict.REFUSED] * 501


@pytest.mark.measures_cpu
async def test_the_calls_of_an_operation_share_a_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conditions, "OPERATION_SECONDS", 0.3)
    # A busy machine takes longer than the 20 µs that an evaluation adds.
    monkeypatch.setattr(conditions, "EVALUATION_SECONDS", 0.001)

    with Caller(None):
        first = await evaluate([check(slow(number)) for number in range(200)])
        second = await evaluate([check(slow(200)), check("item.staff == 5")])
        third = await evaluate([check(slow(201))])
    alone = await evaluate([check(slow(202))])

    assert Verdict.PENDING in first
    assert (second, third) == ([Verdict.PENDING, Verdict.REFUSED], [Verdict.PENDING])
    assert alone == [Verdict.REFUSED]


async def test_one_garbage_collection_does_not_use_up_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    def decide(check: Check, meter: Meter) -> Verdict:
        verdict = decide_quickly(check, meter)
        end = time.thread_time() + pauses.pop(check.condition, 0.0)
        while time.thread_time() < end:
            pass
        return verdict

    decide_quickly = conditions._decide
    pauses = {"item.staff == 1": 0.1}
    monkeypatch.setattr(conditions, "_decide", decide)

    assert await evaluate([check(f"item.staff == {number}") for number in range(9)]) == [Verdict.REFUSED] * 9


async def test_a_condition_on_the_event_itself_is_not_evaluated_early() -> None:
    texts = ["event.id != nil", "event.created_at != nil", "event[item.town] != nil", "event.action == 'created'"]

    verdicts = await evaluate([check(text, is_early=True) for text in texts])

    assert verdicts == [Verdict.UNKNOWN] * 3 + [Verdict.PASSED]


async def test_open_transactions_overtake_early_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    def take_turn(evaluation: conditions._Evaluation) -> None:
        early_turns.append(evaluation._checks[0].is_early)
        take(evaluation)

    early_turns: list[bool] = []
    take = conditions._Evaluation.take_turn
    monkeypatch.setattr(conditions._Evaluation, "take_turn", take_turn)
    early = [asyncio.create_task(evaluate([check(slow(number), is_early=True)])) for number in range(6)]
    await asyncio.sleep(0)

    assert await evaluate([check("item.staff == 5")]) == [Verdict.REFUSED]

    assert len(await asyncio.gather(*early)) == 6
    assert early_turns[:2] == [True, False]
    assert early_turns.count(True) >= 6


@pytest.fixture
def no_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave nothing for conditions."""
    for name in ("OPERATION_SECONDS", "EVALUATION_SECONDS", "MAX_PARSE_SECONDS"):
        monkeypatch.setattr(conditions, name, 0.0)


@pytest.mark.every_database
@pytest.mark.usefixtures("no_budget")
async def test_an_event_whose_condition_is_pending_is_recorded_and_marked(shop: Settings) -> None:
    pending = await watch("branch", condition="item.staff > 5")
    plain = await watch("branch")

    await Branch.create(town="Riga", staff=4)

    events = await Event.all().order_by("webhook_id")
    assert [(e.webhook_id, e.condition_pending) for e in events] == [(pending.id, True), (plain.id, False)]
    messages = [entry.message for entry in await LogEntry.all().order_by("webhook_id")]
    assert [message.partition("; attempts ")[2] for message in messages] == [
        "evaluate the condition, because the conditions of this call took too long",
        "",
    ]


@pytest.mark.every_database
async def test_many_published_changes_are_evaluated_before_the_transaction(
    database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    early: list[list[bool]] = []
    monkeypatch.setattr(conditions, "evaluate", watch_evaluations(early))
    await declare_model("part", "Part", None, {"type": "object"}, {})
    matching = await watch("part", condition="item.n > 9")
    on_event = await watch("part", condition="event.created_at != nil and item.n > 10")

    await publish_changes([Publication("part", Action.CREATED, str(n), {"n": n}) for n in range(12)])
    few = await Event.all().count()
    await Event.all().delete()
    await publish_changes([Publication("part", Action.CREATED, str(n), {"n": n}) for n in range(EARLY_CHANGES)])

    assert few == 2 + 1
    webhook_ids = [event.webhook_id for event in await Event.all()]
    assert (webhook_ids.count(matching.id), webhook_ids.count(on_event.id)) == (10, 9)
    assert early == [[False] * 24, [True] * 40, [False] * 20]


@pytest.mark.every_database
async def test_slow_conditions_are_evaluated_before_the_transaction(
    database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    early: list[list[bool]] = []
    monkeypatch.setattr(conditions, "evaluate", watch_evaluations(early))
    monkeypatch.setattr(conditions, "SLOW_SECONDS", 0.0)
    await update_site_settings({"track_leads": True})
    await watch("lead", condition="item.name == 'Ada'")

    for name in ("Ada", "Eve", "Ada"):
        await request_callback(name, "+1 555 0100")

    assert await Event.all().count() == 2
    assert early == [[False], [True], [], [True], []]


def watch_evaluations(early: list[list[bool]]) -> Any:
    """Return `evaluate`, which notes for each call which of its checks were early."""

    async def watched(checks: Sequence[Check]) -> list[Verdict]:
        early.append([check.is_early for check in checks])
        return await evaluate(checks)

    return watched
