"""The cache of what is made from texts: once for each text, up to so many characters."""

import pytest

from ringback.models.cache import TextCache


def test_it_makes_once_and_forgets_what_was_used_longest_ago() -> None:
    made: list[str] = []

    def make(text: str) -> str:
        made.append(text)
        return text.upper()

    cache = TextCache(make, most=3 * 110)
    texts = [letter * 10 for letter in "abcd"]
    assert [cache(text) for text in texts[:3]] == ["A" * 10, "B" * 10, "C" * 10]
    assert cache(texts[0]) == "A" * 10
    assert made == texts[:3]
    cache(texts[3])
    cache(texts[0])
    assert made == texts
    cache(texts[1])
    assert made == [*texts, texts[1]]


def test_what_cannot_be_made_or_kept() -> None:
    cache: TextCache[int] = TextCache(int, most=150)
    with pytest.raises(ValueError, match="invalid literal"):
        cache("x")
    assert cache("1" * 60) == cache("1" * 60) == int("1" * 60)
