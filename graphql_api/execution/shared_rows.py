"""Rows that subscriptions to the same entries share.

One log entry can wake thousands of subscriptions with different documents, most of which select the same rows: the
entry's webhook, event and attempt. They are read once for all.
"""

import asyncio
from collections.abc import Awaitable, Hashable, Iterable, Sequence
from typing import Any

from cachetools import TTLCache
from strawberry.dataloader import DataLoader

from ringback.graphql_api.context.dataloaders import Load, Loaders
from ringback.graphql_api.execution.byte_budget import MAX_BATCH_BYTES, OperationBudget, ResponseTooLarge

#: Seconds for which rows are shared, at most.
SHARED_SECONDS = 1.0
#: Items that are remembered, at most. The rows of a forgotten one are read again.
MAX_ITEMS = 1_024


class SharedRows:
    """The rows that were read since the newest item came, so that they are current for all items."""

    def __init__(self) -> None:
        self._loaders = _SharedLoaders()
        self._items: TTLCache[Hashable, bool] = TTLCache(MAX_ITEMS, SHARED_SECONDS)

    def loaders_for(self, items: Iterable[Hashable]) -> Loaders:
        """Return the DataLoaders that all subscriptions to these items share."""
        new_items = [item for item in items if item not in self._items]
        if new_items:
            self._items.update(dict.fromkeys(new_items, True))
            self._loaders = _SharedLoaders()
        return self._loaders


class _SharedLoaders(Loaders):
    def __missing__(self, load: Load) -> DataLoader[Any, Any]:
        loader = self[load] = _SharedLoader(load)
        return loader


class _SharedLoader(DataLoader[Any, Any]):
    """A DataLoader that caches rows, and that they are too large, but no other failures.

    Cancelling one caller does not cancel the others.
    """

    def __init__(self, load: Load) -> None:
        super().__init__(load_fn=self._load_within_budget, cache=True)
        self._load = load

    def load(self, key: Any) -> Awaitable[Any]:
        """Load a value, or return the one that was loaded before."""
        return asyncio.shield(super().load(key))

    async def _load_within_budget(self, keys: list[Any]) -> Sequence[Any]:
        """Load values within a budget of their own, since no operation waits for them alone."""
        try:
            with OperationBudget(MAX_BATCH_BYTES, None, token_id=None):
                return await self._load(keys)
        except ResponseTooLarge:
            raise
        except Exception:
            self.clear_many(keys)
            raise
