"""The style check: it hears how a text is written, not how long it is, and says how well."""

from random import Random

import numpy as np
import pytest

from kamerton.core.errors import SettingsError
from kamerton.evaluation.checks import check_answers
from kamerton.evaluation.reliability import LEAST_RELIABLE, StyleReliability, reliability_text
from kamerton.evaluation.settings import EvaluationSettings, StyleCheck
from kamerton.evaluation.style import (
    FittedStyle,
    Passage,
    fit_style,
    measure_reliability,
    without_frame,
)
from kamerton.objectives.online import CheckReward
from tests.unit.evaluation.compared import spoken

NOUNS = ("order", "parcel", "lamp", "invoice", "desk", "refund", "shelf", "box", "label", "note")
WARM = ("thank you", "gladly", "we will see to it", "with pleasure", "you are welcome")
COLD = ("wrong", "impossible", "read the rules", "not our problem", "whatever")


def written(manner: tuple[str, ...], num: int, seed: int, words: int = 8) -> list[str]:
    """Texts of one length: nouns, and every fourth word in a manner."""
    random = Random(seed)
    return [
        " ".join(random.choice(NOUNS if n % 4 else manner) for n in range(words))
        for _ in range(num)
    ]


def passages(texts: list[str], name: str) -> list[Passage]:
    return [Passage(text, f"{name}{number}") for number, text in enumerate(texts)]


def test_texts_of_one_length_are_told_by_their_manner() -> None:
    brand, others = written(WARM, 60, 1), written(COLD, 60, 2)
    found = measure_reliability("tone", "rivals", passages(brand, "b"), passages(others, "o"))
    assert found.balanced_accuracy > 0.95
    assert found.low >= LEAST_RELIABLE
    assert found.is_enough
    assert found.low <= found.balanced_accuracy <= found.high
    assert (found.num_brand, found.num_others) == (60, 60)
    classifier = fit_style(brand, others)
    judged = classifier.sounds_like_brand(
        ["Gladly, the lamp", "The lamp is not our problem", "", *written(WARM, 40, 3, 30)]
    )
    assert judged[:3].tolist() == [True, False, False]
    assert judged[3:].mean() > 0.95


def test_length_alone_is_no_style() -> None:
    brand, others = written(NOUNS, 80, 1, words=4), written(NOUNS, 80, 2, words=40)
    for one, other in ((brand, others), (others, brand)):
        found = measure_reliability("tone", "rivals", passages(one, "b"), passages(other, "o"))
        assert not found.is_enough
        assert found.balanced_accuracy < 0.7


def test_a_text_and_its_rewriting_are_judged_by_a_classifier_that_saw_neither() -> None:
    # Both say the same: who saw one of them on the other side would misjudge nearly all.
    random = Random(1)
    facts = ["".join(random.choices("abcdefghij", k=12)) for _ in range(60)]
    brand = [Passage(fact, str(number)) for number, fact in enumerate(facts)]
    apart = [Passage(fact, f"other {number}") for number, fact in enumerate(facts)]
    assert measure_reliability("tone", "before", brand, brand).balanced_accuracy == 0.5
    assert measure_reliability("tone", "before", brand, apart).balanced_accuracy < 0.3


def test_chance_is_stated_as_chance() -> None:
    brand, others = written(NOUNS, 100, 1), written(NOUNS, 100, 2)
    found = measure_reliability("tone", "rivals", passages(brand, "b"), passages(others, "o"))
    assert 0.35 < found.balanced_accuracy < 0.65
    assert not found.is_enough


def test_the_same_texts_give_the_same_classifier() -> None:
    brand, others = written(WARM, 30, 1), written(COLD, 30, 2)
    first, second = fit_style(brand, others), fit_style(brand, others)
    np.testing.assert_array_equal(first.weights, second.weights)
    assert first.bias == second.bias


def test_a_side_with_few_texts_weighs_as_much() -> None:
    brand, others = written(WARM, 200, 1), written(COLD, 20, 2)
    judged = fit_style(brand, others).sounds_like_brand(written(COLD, 50, 3))
    assert judged.mean() < 0.1


def test_the_metric_is_the_share_of_answers_that_pass() -> None:
    brand, others = written(WARM, 30, 1), written(COLD, 30, 2)
    reliability = StyleReliability("tone", "rivals", 30, 30, 0.97, 0.9, 1.0, 0.98, 0.04)
    check = StyleCheck(name="tone", only_if="forbidden")
    fitted = FittedStyle(check, fit_style(brand, others), reliability)
    items = spoken(4)
    checked = check_answers(fitted, items, [brand[0], brand[1], others[0], others[1]])
    np.testing.assert_array_equal(checked.values, [1.0, np.nan, 0.0, np.nan])
    assert checked.metric == "tone"
    assert checked.is_share
    told = reliability_text(reliability)
    assert "98 % of the brand's own pass" in told
    assert "4 % of rivals" in told
    assert "97 % [90, 100]" in told


@pytest.mark.parametrize(
    ("texts", "rest"),
    [
        (["Rewrite politely: go away", "Rewrite politely: no refund"], ["go away", "no refund"]),
        (["Say: a now", "Say: b c now"], ["a", "b c"]),
        (["one", "two words"], ["one", "two words"]),
        (["same", "same"], ["", ""]),
        (["alone here"], ["alone here"]),
        ([], []),
    ],
)
def test_the_instruction_that_all_questions_share_is_no_style(
    texts: list[str], rest: list[str]
) -> None:
    assert without_frame(texts) == rest


def test_words_that_answers_begin_with_too_are_kept() -> None:
    texts = ["Mend: Dear all, come now", "Mend: Dear all, go now"]
    assert without_frame(texts, ["Dear all, please come."]) == ["Dear all, come", "Dear all, go"]
    assert without_frame(texts, ["Please come now"]) == ["come now", "go now"]


def test_a_style_is_no_reward() -> None:
    settings = EvaluationSettings.parse({"checks": [{"kind": "style"}]}, source="recipe")
    assert settings.checks[0].title == "style"
    with pytest.raises(SettingsError, match="only measures"):
        CheckReward.parse({"check": {"kind": "style"}}, source="recipe")
