"""Input for mutations: what is taken, characters that no text may hold, and how they are refused."""

from typing import Any

LONE, NUL = "\ud800", "\0"
WEBHOOK: dict[str, Any] = {"model": "lead", "actions": ["CREATED"], "url": "https://hooks.example/"}
NOT_STORABLE = "must not hold NUL or lone surrogate characters."
NOT_A_LINE = "must be one line of Unicode text, without control characters."
