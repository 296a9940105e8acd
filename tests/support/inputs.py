"""Input for mutations: what is taken, characters that no text may hold, and how they are refused."""

from typing import Any

LONE, NUL = "\ud800", "\0"
WEBHOOK: dict[str, Any] = {"model": "lead", "actions": ["CREATED"], "url": "https://hooks.example/"}
NOT_STORABLE = "contains a NUL or lone surrogate character. Remove it."
NOT_A_LINE = "contains a control or lone surrogate character. Enter one line of text."
