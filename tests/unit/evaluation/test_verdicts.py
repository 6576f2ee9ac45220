"""Measuring judged answers: whether liked ones stand above disliked ones, or what is written."""

import dataclasses

import numpy as np
import pytest

from kamerton.core.errors import EvaluationError
from kamerton.data.examples import FeedbackExample, SourceLocation
from kamerton.evaluation.checks import check_all, check_verdicts
from kamerton.evaluation.comparison import compare
from kamerton.evaluation.items import Item, make_items, run_items
from kamerton.evaluation.metrics import placements
from kamerton.evaluation.settings import EvaluationSettings, ExactCheck, Rule, RulesCheck
from kamerton.testing import FakeEngine

SETTINGS = EvaluationSettings(resamples=200)


def judged(number: int, text: str, good: bool) -> FeedbackExample:
    asked, answer = {"role": "user", "content": f"q{number}"}, {"role": "assistant"}
    return FeedbackExample(
        SourceLocation("a", number), (asked,), ({**answer, "content": text},), good
    )


EXAMPLES = [judged(n, "yes indeed" if n % 2 else "no", bool(n % 2)) for n in range(10)]


def test_placements_are_the_area_under_the_curve() -> None:
    worths, good = np.array([3.0, 1.0, 2.0, 1.0, 0.0]), np.array([1, 1, 0, 0, 0], dtype=bool)
    placed = placements(worths, good)
    assert placed.tolist() == [1.0, 0.5, 0.5, 0.75, 1.0]
    # Of six pairs four are right and one is a tie.
    assert placed[good].mean() == pytest.approx(4.5 / 6)
    assert placed[~good].mean() == pytest.approx(4.5 / 6)


def test_answers_are_scored_by_the_mean_over_their_tokens() -> None:
    items = make_items(EXAMPLES)
    assert items[1].labels == ("yes indeed",)
    # The fake gives 0 to what it would say, and -10 to anything else: a token of "no" -10, of
    # "yes indeed" -5.
    shy = run_items(FakeEngine(lambda chat: "maybe"), "shy", items, SETTINGS)
    assert shy.worths[:2] == (-10.0, -5.0)
    sour = run_items(FakeEngine(lambda chat: "no"), "sour", items, SETTINGS)
    comparison = compare(items, [shy, sour], SETTINGS, against=["shy"])
    assert comparison.metrics == ("liked above disliked",)
    assert comparison.measure("liked above disliked", "shy").value == 1.0
    assert comparison.measure("liked above disliked", "sour").value == 0.0
    # Of five answers a side no resample differs: that is no certainty.
    assert comparison.measure("liked above disliked", "shy").low < 0.8
    found = comparison.difference("liked above disliked", "sour", "shy")
    assert found is not None
    assert (found.value, found.test) == (-1.0, "permutation")


def test_one_verdict_cannot_be_measured() -> None:
    items = make_items([example for example in EXAMPLES if example.is_desirable])
    with pytest.raises(EvaluationError, match="found only liked ones among 5") as caught:
        check_verdicts(items, [0.0] * 5)
    assert "evaluate.checks" in str(caught.value.hint)


def test_a_disliked_answer_is_no_right_one() -> None:
    items = make_items(EXAMPLES[:2], asked=True)
    assert [item.labels for item in items] == [(), ()]
    answers = run_items(FakeEngine(lambda chat: "no"), "v", items, SETTINGS)
    (exact,) = check_all([ExactCheck()], items, answers)
    assert np.isnan(exact.values[0])
    assert exact.values[1] == 0
    rules = RulesCheck(rules=(Rule(name="short", pattern="^no$"),))
    assert check_all([rules], items, answers)[0].values.tolist() == [1, 1]
    with pytest.raises(EvaluationError, match="found only answers that users disliked"):
        check_all([ExactCheck()], items[:1], dataclasses.replace(answers, texts=("no",)))


def test_items_without_a_verdict_stay_as_they_were() -> None:
    assert Item("1", (), "yes").is_desirable is None
