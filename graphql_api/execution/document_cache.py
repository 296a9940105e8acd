"""A cache of checked documents that no API token can fill at the expense of the others.

Each token has a share: the documents that it was the first to send. When the cache is full, the token with the largest
share loses the document that it has not used for the longest time. So a token that sends ever new documents replaces
its own. Every token can use the documents of all others.
"""

from collections import OrderedDict
from typing import Generic, Protocol, TypeVar
from uuid import UUID


class Weighed(Protocol):
    """A value that knows how many bytes of memory it takes."""

    @property
    def weight(self) -> int:
        """Estimated size in bytes."""


V = TypeVar("V", bound=Weighed)


class _Share(Generic[V]):
    """The documents that one token was the first to send, the least recently used first."""

    def __init__(self, token_id: UUID | None) -> None:
        self.token_id = token_id
        self.documents: OrderedDict[str, V] = OrderedDict()
        self.weight = 0


class DocumentCache(Generic[V]):
    """Checked documents by their text, `max_weight` bytes at most."""

    def __init__(self, max_weight: int) -> None:
        self._max_weight = max_weight
        self._shares: dict[UUID | None, _Share[V]] = {}
        self._share_by_text: dict[str, _Share[V]] = {}
        self.weight = 0

    def __len__(self) -> int:
        return len(self._share_by_text)

    def get(self, text: str) -> V | None:
        """Return a document, or None if it is not cached."""
        share = self._share_by_text.get(text)
        if share is None:
            return None
        share.documents.move_to_end(text)
        return share.documents[text]

    def peek(self, text: str) -> V | None:
        """Return a document, or None if it is not cached. Any thread may call it: it does not count as use."""
        share = self._share_by_text.get(text)
        return None if share is None else share.documents.get(text)

    def put(self, text: str, document: V, token_id: UUID | None) -> None:
        """Cache a document that a token sent, unless another request has cached it meanwhile."""
        if text in self._share_by_text:
            return
        share = self._shares.get(token_id)
        if share is None:
            share = self._shares[token_id] = _Share(token_id)
        share.documents[text] = document
        self._share_by_text[text] = share
        self._add_weight(share, document.weight)
        while self.weight > self._max_weight:
            self._evict()

    def _evict(self) -> None:
        share = max(self._shares.values(), key=lambda share: share.weight)
        text, document = share.documents.popitem(last=False)
        del self._share_by_text[text]
        self._add_weight(share, -document.weight)
        if not share.documents:
            del self._shares[share.token_id]

    def _add_weight(self, share: _Share[V], weight: int) -> None:
        share.weight += weight
        self.weight += weight
