"""So many items would show a difference: checked by drawing them."""

import numpy as np
import pytest

from kamerton.evaluation.comparison import compare
from kamerton.evaluation.results import Comparison
from kamerton.evaluation.sample_size import POWER, items_needed
from kamerton.evaluation.settings import EvaluationSettings
from kamerton.evaluation.statistics import mcnemar
from tests.unit.evaluation.compared import answered, guess, labelled

SETTINGS = EvaluationSettings(resamples=100)


def disagreeing(num: int, only_a: int, only_b: int) -> Comparison:
    """Two variants that disagree on the first items, and both answer the others rightly."""
    items = labelled(num)
    answers = [
        answered(items, guess(lambda n: n >= only_a), "4-shot"),
        answered(items, guess(lambda n: not only_a <= n < only_a + only_b), "lora"),
    ]
    return compare(items, answers, SETTINGS, against=["4-shot"])


@pytest.mark.parametrize(("only_a", "only_b"), [(24, 16), (60, 48), (14, 2)])
def test_so_many_items_show_the_difference_in_four_of_five_cases(only_a: int, only_b: int) -> None:
    comparison = disagreeing(212, only_a, only_b)
    found = comparison.difference("accuracy", "lora", "4-shot")
    assert found is not None
    real = (only_a - only_b) / 212
    assert found.value == pytest.approx(real)
    needed = items_needed(comparison, found, real)
    # Here two metrics are tested: that of the accuracy must pass half the level, or the whole one.
    others = sum(one.p_value >= found.p_value for one in comparison.differences)
    rng = np.random.default_rng(3)
    shown = 0
    for _ in range(1000):
        drawn = rng.random(needed)
        a = drawn < only_a / 212
        b = (drawn >= only_a / 212) & (drawn < (only_a + only_b) / 212)
        shown += mcnemar(a, b).p_value * others < 0.05
    # The item that the interval imagines on each side makes it a little careful.
    assert POWER - 0.05 < shown / 1000 < POWER + 0.1


def test_a_smaller_difference_needs_more_items_and_numbers_are_round() -> None:
    comparison = disagreeing(212, 24, 16)
    found = comparison.difference("accuracy", "lora", "4-shot")
    assert found is not None
    needed = [items_needed(comparison, found, real) for real in (0.2, 0.05, 0.02)]
    assert needed == sorted(needed)
    assert needed[2] / needed[1] == pytest.approx(6.25, rel=0.1)
    assert all(number == float(f"{number:.1e}") for number in needed)
