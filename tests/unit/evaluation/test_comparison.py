"""Comparisons of variants on the same items."""

import dataclasses
import json
from dataclasses import replace

import numpy as np
import pytest

from kamerton.core.errors import EvaluationError
from kamerton.core.files import canonical_json
from kamerton.core.many_tests import holm
from kamerton.evaluation.comparison import compare
from kamerton.evaluation.items import Item
from kamerton.evaluation.settings import EvaluationSettings
from kamerton.evaluation.statistics import mcnemar, wilson
from kamerton.evaluation.table import markdown_table
from kamerton.evaluation.verdicts import in_short
from tests.unit.evaluation.compared import (
    SETTINGS,
    answered,
    guess,
    labelled,
    spoken,
    three_variants,
)


def test_labels_are_measured_by_accuracy_and_macro_f1() -> None:
    comparison, items, _ = three_variants()
    assert comparison.metrics == ("accuracy", "macro-F1")
    found = comparison.measure("accuracy", "support-lora")
    interval = wilson(81, 90)
    assert (found.value, found.low, found.high, found.n) == (
        pytest.approx(0.9),
        interval.low,
        interval.high,
        len(items),
    )
    macro = comparison.measure("macro-F1", "support-lora")
    # Each label is missed 3 times of 30 and wrongly given 3 times.
    assert macro.value == pytest.approx(0.9)
    assert macro.low < 0.9 < macro.high


def test_every_variant_is_compared_with_every_baseline_before_it() -> None:
    comparison, _, _ = three_variants()
    pairs = {(d.variant, d.against) for d in comparison.differences}
    assert pairs == {
        ("few-shot", "base"),
        ("support-lora", "base"),
        ("support-lora", "few-shot"),
    }
    difference = comparison.difference("accuracy", "support-lora", "few-shot")
    assert difference is not None
    numbers = np.arange(90)
    expected = mcnemar(numbers % 10 != 0, numbers % 2 == 0)
    assert difference.p_value == expected.p_value
    assert difference.value == pytest.approx(0.4)
    assert difference.low < 0.4 < difference.high
    assert comparison.difference("accuracy", "base", "few-shot") is None
    ps = [d.p_value for d in comparison.differences]
    assert [d.p_corrected for d in comparison.differences] == holm(ps)


def test_a_baseline_that_few_have_to_beat_makes_no_test_of_the_others_stricter() -> None:
    _, items, answers = three_variants()
    against, only_for = ["base", "few-shot"], {"few-shot": {"base"}}
    comparison = compare(items, answers, SETTINGS, against=against, only_for=only_for)
    # Nobody but itself would have to beat few-shot.
    pairs = [(d.variant, d.against) for d in comparison.differences]
    assert pairs == [("few-shot", "base"), ("support-lora", "base")] * 2
    found = in_short(comparison)
    assert (found["variant"], found["against"]) == ("support-lora", "base")


def test_where_the_items_come_from_stands_below_the_table() -> None:
    _, items, answers = three_variants()
    comparison = compare(items, answers, SETTINGS, measured_on="the test set")
    assert "90 items of the test set; 95 % intervals" in markdown_table(comparison)
    assert comparison.to_json()["measured_on"] == "the test set"
    one = replace(comparison, num_items=1)
    assert "1 item of the test set" in markdown_table(one)


def test_costs_and_losses() -> None:
    comparison, _, answers = three_variants()
    base, few_shot, lora = comparison.costs
    assert base.perplexity == pytest.approx(np.exp(2.5))
    assert (few_shot.holdout_loss, few_shot.perplexity) == (None, None)
    assert lora.seconds_mean == pytest.approx(np.mean(answers[2].seconds))
    assert lora.seconds_mean <= lora.seconds_p95 or len(set(answers[2].seconds)) == 1
    assert lora.tokens_mean == 3
    assert lora.cut_off == 0


def test_declared_checks_are_the_metrics_in_order() -> None:
    settings = EvaluationSettings.parse(
        {
            "resamples": 200,
            "checks": [
                {"kind": "refusal", "only_if": "forbidden", "expect": True, "name": "refuses"},
                {"kind": "exact"},
            ],
        }
    )
    items = spoken()
    answers = [
        answered(items, lambda n: f"Answer  {n}", "plain", settings),
        answered(items, lambda n: "I can't help with that.", "shy", settings),
    ]
    comparison = compare(items, answers, settings, against=["plain"])
    assert comparison.metrics == ("refuses", "exact")
    assert comparison.measure("refuses", "shy").n == 15
    assert [comparison.measure(m, "shy").value for m in comparison.metrics] == [1, 0]
    assert [comparison.measure(m, "plain").value for m in comparison.metrics] == [0, 1]


def test_without_checks_answers_are_compared_with_the_reference() -> None:
    items = spoken()
    answer = answered(items, lambda n: f"answer {n}" if n < 15 else "", "v")
    comparison = compare(items, [answer], SETTINGS)
    # Two words are short enough to be the same; half of the characters are there.
    assert comparison.metrics == ("chrF", "length", "exact")
    assert comparison.units == ("score", "ratio", "share")
    assert comparison.measure("exact", "v").value == 0.5
    assert comparison.measure("length", "v").value == pytest.approx(0.5, abs=0.03)
    assert comparison.differences == ()


def test_groups_widen_the_interval() -> None:
    # All items of a group are right or wrong together: nine facts, not ninety.
    grouped, single = labelled(groups=9), labelled()
    right = guess(lambda n: n % 9 < 6)
    wrong = guess(lambda n: False)
    results = []
    for items in (grouped, single):
        answers = [answered(items, wrong, "base"), answered(items, right, "v")]
        results.append(compare(items, answers, SETTINGS, against=["base"]))
    by_group, by_item = results
    assert (by_group.num_groups, by_item.num_groups) == (9, 90)
    assert by_group.measure("accuracy", "v").value == by_item.measure("accuracy", "v").value
    wide, narrow = by_group.measure("accuracy", "v"), by_item.measure("accuracy", "v")
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)
    # Nothing right: an interval over nine groups, not the empty one of a bootstrap.
    assert by_group.measure("accuracy", "base").high == pytest.approx(wilson(0, 9).high)
    assert by_group.differences[0].test == "permutation"
    assert by_group.differences[0].p_value > by_item.differences[0].p_value


def alike(groups: int, each: int = 5) -> list[Item]:
    """Groups of five labelled items."""
    items = labelled(groups * each)
    return [replace(item, group=f"g{n // each}") for n, item in enumerate(items)]


@pytest.mark.parametrize("groups", [5, 8, 29, 40])
def test_groups_that_are_all_alike_do_not_make_an_interval_without_width(groups: int) -> None:
    items = alike(groups)
    # Three of five are right in every group: drawing groups anew never changes the value.
    some, fewer = guess(lambda n: n % 5 < 3), guess(lambda n: n % 5 < 2)
    answers = [answered(items, fewer, "base"), answered(items, some, "v")]
    comparison = compare(items, answers, SETTINGS, against=["base"])
    found = comparison.measure("accuracy", "v")
    assert found.value == pytest.approx(0.6)
    alone = wilson(round(0.6 * len(items)), len(items))
    assert found.low is not None
    assert found.high is not None
    # Not narrower than if all items were independent, up to the form of the interval.
    assert found.high - found.low > 0.95 * (alone.high - alone.low)
    difference = comparison.difference("accuracy", "v", "base")
    assert difference is not None
    assert difference.low < 0.2 < difference.high


@pytest.mark.parametrize("groups", [1, 4])
def test_too_few_groups_have_a_value_and_nothing_else(groups: int) -> None:
    items = alike(groups)
    answers = [
        answered(items, guess(lambda n: n % 5 < k), name) for k, name in ((2, "a"), (3, "b"))
    ]
    comparison = compare(items, answers, SETTINGS, against=["a"])
    found = comparison.measure("accuracy", "b")
    assert (found.value, found.low, found.high) == (pytest.approx(0.6), None, None)
    assert comparison.differences == ()
    assert "60.0 [no interval]" in markdown_table(comparison)
    assert f"{5 * groups} items in {groups} group{'s' * (groups > 1)};" in markdown_table(
        comparison
    )
    assert json.loads(canonical_json(comparison.to_json()))["measured"][0]["low"] is None


def test_the_same_seed_gives_the_same_comparison() -> None:
    first, items, answers = three_variants()
    assert three_variants()[0].differences == first.differences
    other = compare(items, answers, SETTINGS.model_copy(update={"seed": 1}), against=first.against)
    assert other.measure("macro-F1", "base") != first.measure("macro-F1", "base")


def test_json_holds_everything() -> None:
    comparison, _, _ = three_variants()
    values = json.loads(canonical_json(comparison.to_json()))
    assert values["variants"] == ["base", "few-shot", "support-lora"]
    assert len(values["measured"]) == 6
    assert len(values["differences"]) == 6
    worst = dataclasses.replace(comparison.costs[0], perplexity=float("inf"))
    assert canonical_json(dataclasses.replace(comparison, costs=(worst,)).to_json())


def test_different_items_cannot_be_compared() -> None:
    items = labelled()
    one, other = (answered(items, guess(lambda n: True), name) for name in "ab")
    fewer = answered(items[:80], guess(lambda n: True), "b")
    with pytest.raises(EvaluationError, match=r"same 90 items .* 'b' answered others"):
        compare(items, [one, fewer], SETTINGS)
    with pytest.raises(EvaluationError, match="different names"):
        compare(items, [one, one], SETTINGS)
    with pytest.raises(EvaluationError, match="found 'c' among a, b"):
        compare(items, [one, other], SETTINGS, against=["c"])
    with pytest.raises(EvaluationError, match="needs items"):
        compare(items, [], SETTINGS)


def test_never_right_is_no_certainty_of_zero() -> None:
    items = labelled(30)
    answers = [answered(items, guess(lambda _n: False), name) for name in ("base", "lora")]
    comparison = compare(items, answers, SETTINGS, against=["base"])
    found = comparison.measure("macro-F1", "lora")
    bound = wilson(0, 30)
    assert (found.value, found.low, found.high) == (0.0, 0.0, bound.high)
    difference = comparison.difference("macro-F1", "lora", "base")
    assert difference is not None
    assert difference.low < 0 < difference.high
    perfect = [answered(items, guess(lambda _n: True), name) for name in ("base", "lora")]
    found = compare(items, perfect, SETTINGS, against=["base"]).measure("macro-F1", "lora")
    assert (found.low, found.high) == (wilson(30, 30).low, 1.0)
