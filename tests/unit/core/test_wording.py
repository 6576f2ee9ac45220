"""Counts are words that a reader would say."""

import pytest

from kamerton.core.wording import counted


@pytest.mark.parametrize(
    ("number", "words", "said"),
    [
        (1, ("pair",), "1 pair"),
        (0, ("pair",), "0 pairs"),
        (1200, ("pair",), "1,200 pairs"),
        (1, ("example repeats", "examples repeat"), "1 example repeats"),
        (2, ("example repeats", "examples repeat"), "2 examples repeat"),
    ],
)
def test_one_is_singular(number: int, words: tuple[str, ...], said: str) -> None:
    assert counted(number, *words) == said
