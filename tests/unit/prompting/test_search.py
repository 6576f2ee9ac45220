"""Successive halving."""

from collections.abc import Sequence

import pytest

from kamerton.prompting.search import halving, num_asked


def test_the_best_is_found_and_weak_ones_are_asked_little() -> None:
    asked: list[int] = []

    def measure(candidate: int, places: Sequence[int]) -> list[tuple[float, ...]]:
        asked.extend([candidate] * len(places))
        return [(float(place % 10 < candidate),) for place in places]

    trials = halving(8, 100, measure)
    assert trials[0].candidate == 7
    assert trials[0].score == (pytest.approx(0.7),)
    assert [trial.num_questions for trial in trials] == [100, 100, 32, 32, 16, 16, 16, 16]
    assert len(asked) == num_asked(8, 100) == 8 * 16 + 4 * 16 + 2 * 68
    assert sorted(trial.candidate for trial in trials) == list(range(8))


def test_all_of_a_round_are_asked_the_same_questions() -> None:
    seen: dict[int, list[int]] = {}

    def measure(candidate: int, places: Sequence[int]) -> list[tuple[float, ...]]:
        seen.setdefault(candidate, []).extend(places)
        return [(0.0,)] * len(places)

    halving(5, 60, measure)
    assert all(places == list(range(len(places))) for places in seen.values())


def test_the_second_number_decides_among_equals_and_then_the_first_candidate() -> None:
    by_second = halving(3, 4, lambda one, places: [(1.0, float(one))] * len(places))
    assert [trial.candidate for trial in by_second] == [2, 1, 0]
    equal = halving(3, 4, lambda one, places: [(1.0,)] * len(places))
    assert [trial.candidate for trial in equal] == [0, 1, 2]


def test_one_candidate_is_measured_on_everything() -> None:
    assert halving(1, 7, lambda one, places: [(1.0,)] * len(places))[0].num_questions == 7
