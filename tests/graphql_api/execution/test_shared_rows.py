"""Rows that subscriptions to the same entries share."""

import asyncio
from collections.abc import Sequence

import pytest

from ringback.graphql_api.execution.byte_budget import MAX_BATCH_BYTES, ResponseTooLarge
from ringback.graphql_api.execution.shared_rows import SharedRows
from ringback.models.database.byte_budget import SizedRows, current_budget


class Source:
    """A load function that returns its keys in capitals, and records them. It fails with `error` if there is one."""

    def __init__(self) -> None:
        self.loaded: list[list[str]] = []
        self.error: Exception | None = None
        self.row_bytes = 1

    async def load(self, keys: list[str]) -> Sequence[str]:
        self.loaded.append(keys)
        if self.error is not None:
            raise self.error
        budget = current_budget.get()
        assert budget is not None
        return await budget.read(lambda _: self._read(keys))

    async def _read(self, keys: list[str]) -> SizedRows:
        return SizedRows([key.upper() for key in keys], self.row_bytes * len(keys))


async def test_a_row_is_read_once_and_again_for_a_new_item() -> None:
    rows, source = SharedRows(), Source()

    values = await asyncio.gather(*(rows.loaders_for(["first"])[source.load].load("a") for _ in range(3)))
    again = await rows.loaders_for(["first"])[source.load].load_many(["a", "b"])
    await rows.loaders_for(["second"])[source.load].load("a")
    await rows.loaders_for(["first"])[source.load].load("a")

    assert (values, again) == (["A"] * 3, ["A", "B"])
    assert source.loaded == [["a"], ["b"], ["a"]]


async def test_cancelling_one_caller_does_not_cancel_the_others() -> None:
    loader = SharedRows().loaders_for(["item"])[Source().load]
    cancelled, other = (asyncio.ensure_future(loader.load("a")) for _ in range(2))
    await asyncio.sleep(0)

    cancelled.cancel()

    assert await other == "A"
    assert cancelled.cancelled()


async def test_a_failure_is_not_shared_later() -> None:
    source = Source()
    loader = SharedRows().loaders_for(["item"])[source.load]
    source.error = OSError("away")

    with pytest.raises(OSError, match="away"):
        await loader.load("a")
    source.error = None

    assert await loader.load("a") == "A"


async def test_rows_that_are_too_large_are_read_once() -> None:
    source = Source()
    source.row_bytes = MAX_BATCH_BYTES + 1
    loader = SharedRows().loaders_for(["item"])[source.load]

    for _ in range(2):
        with pytest.raises(ResponseTooLarge):
            await loader.load("a")

    assert source.loaded == [["a"]]
