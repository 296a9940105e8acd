"""The check that a new schema has all fields that webhooks use, which runs before the transaction."""

import asyncio
import threading
from typing import Any

import pytest

from ringback.models import Settings
from ringback.models.errors import InputRejected
from ringback.models.services import lost_fields
from ringback.models.services.declared_models import declare_model
from ringback.models.services.lost_fields import LostFieldsCheck
from ringback.models.services.validation import Problems
from ringback.models.templates import validation
from ringback.models.webhook import Webhook
from tests.support import builders

pytestmark = pytest.mark.every_database

FULL: dict[str, Any] = {"type": "object", "properties": {"price": {"type": "integer"}}}
LESS: dict[str, Any] = {"type": "object", "properties": {"id": {"type": "integer"}}}


async def declare(json_schema: dict[str, Any]) -> list[str]:
    """Declare the model `part`. Return the messages of the problems."""
    try:
        await declare_model("part", "Part", None, json_schema, {})
    except InputRejected as error:
        return [problem.message for problem in error.problems]
    return []


async def make_webhook(body_template: str = "{{ item.price }}") -> Webhook:
    return await builders.webhook(model="part", body_template=body_template)


async def test_a_write_does_not_wait_for_the_check(database: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def wait_and_find(source: str, **options: Any) -> set[str]:
        started.set()
        assert may_end.wait(10), "the test goes on"
        return find(source, **options)

    started, may_end = threading.Event(), threading.Event()
    find = validation.find_unknown_paths
    monkeypatch.setattr(lost_fields, "find_unknown_paths", wait_and_find)
    await declare(FULL)
    await make_webhook()

    declaration = asyncio.create_task(declare(LESS))
    assert await asyncio.to_thread(started.wait, 10)
    await asyncio.wait_for(make_webhook("{{ item.id }}"), 5)
    may_end.set()

    (message,) = await declaration
    assert "uses item.price, which this schema does not have" in message


async def test_a_webhook_that_changes_after_the_check_is_checked(
    database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run_and_change(check: LostFieldsCheck, problems: Problems) -> None:
        await run(check, problems)
        runs.append(check)
        if len(runs) == 1:
            await Webhook.all().update(body_template="{{ item.price }}", updated_at=await builders.later(1))

    runs: list[LostFieldsCheck] = []
    run = LostFieldsCheck.run
    await declare(FULL)
    await make_webhook("{{ event.id }}")
    monkeypatch.setattr(LostFieldsCheck, "run", run_and_change)

    (message,) = await declare(LESS)

    assert "uses item.price, which this schema does not have" in message
    assert len(runs) == 2


async def test_the_check_stops_at_the_maximum_number_of_problems(
    database: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ringback.models.services.validation.MAX_PROBLEMS", 2)
    sources: list[str] = []
    find = validation.find_unknown_paths

    def note_source(source: str, **options: Any) -> set[str]:
        sources.append(source)
        return find(source, **options)

    monkeypatch.setattr(lost_fields, "find_unknown_paths", note_source)
    await declare(FULL)
    for number in range(5):
        await make_webhook(f"{number} {{{{ item.price }}}}")

    assert len(await declare(LESS)) == 2

    bodies = {source for source in sources if "item.price" in source}
    assert bodies == {"0 {{ item.price }}", "1 {{ item.price }}"}
