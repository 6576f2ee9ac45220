"""BM25 against its formula, and what it is for."""

from math import log

import pytest

from kamerton.prompting.bm25 import Bm25, words_of

TEXTS = ["The parcel is late", "Where is my money", "The parcel is broken, the parcel!"]


def test_a_score_is_that_of_the_formula() -> None:
    scores = Bm25(TEXTS).scores("parcel late")
    lengths = [4, 4, 6]
    mean = sum(lengths) / 3

    def weight(times: int, length: int) -> float:
        return times * 2.2 / (times + 1.2 * (0.25 + 0.75 * length / mean))

    parcel, late = log(1 + (3 - 2 + 0.5) / 2.5), log(1 + (3 - 1 + 0.5) / 1.5)
    assert scores == pytest.approx(
        [parcel * weight(1, 4) + late * weight(1, 4), 0.0, parcel * weight(2, 6)]
    )


def test_the_nearest_come_first_and_equals_keep_their_order() -> None:
    assert Bm25(TEXTS).nearest("my MONEY", 2) == [1, 0]
    assert Bm25(TEXTS).nearest("nothing of it", 3) == [0, 1, 2]
    assert Bm25([]).nearest("anything", 3) == []


def test_endings_of_russian_words_do_not_matter() -> None:
    assert words_of("Доставка, доставкой") == ["достав", "достав"]
    assert Bm25(["вернуть деньги", "где доставка"]).nearest("о доставке", 1) == [1]
