"""Verdicts on metrics and what to do with an arm."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from kamerton.experiments.effects import compare
from kamerton.experiments.grouped import GroupSequential
from kamerton.experiments.guardrails import (
    Guardrail,
    GuardrailReading,
    GuardrailVerdict,
    judge_guardrails,
)
from kamerton.experiments.outcomes import ArmOutcomes
from kamerton.experiments.sequential import ConfidenceSequence
from kamerton.experiments.verdict import (
    ENDLESS,
    Aspect,
    Measure,
    MetricReading,
    Verdict,
    correct_segments,
    decide,
    read_metric,
)

RATING = Measure("rating", primary=True, smallest_effect=0.05, bounds=(0, 1))
COST = Measure("cost", "cost", better="down")


def arm(name: str, values: Sequence[float], units: int = 300) -> ArmOutcomes:
    sums = np.resize(np.asarray(values, np.float64), units)
    return ArmOutcomes(name, sums, np.ones(units), None, units)


def two_errors(effect: object) -> float:
    return 2.0


@pytest.mark.parametrize(
    ("values", "word"),
    [
        ([1, 1, 1, 1], "better"),
        ([1, 0, 0, 0], "worse"),
        ([1, 1, 1, 0], "undecided"),  # the same, within about 7 points
    ],
)
def test_a_metric_gets_a_word(values: Sequence[float], word: str) -> None:
    reading = read_metric(RATING, arm("a", [1, 1, 1, 0]), arm("b", values), two_errors)
    assert reading.verdict == word


def test_a_surely_small_difference_is_about_the_same() -> None:
    control, same = arm("a", [1, 1, 1, 0], 4000), arm("b", [1, 1, 1, 0], 4000)
    assert read_metric(RATING, control, same, two_errors).verdict == "about the same"
    assert read_metric(Measure("rating"), control, same, two_errors).verdict == "undecided"


@pytest.mark.parametrize(
    ("price", "word", "difference"),
    [(0.1, "better", -0.2), (0.3, "about the same", 0.0), (0.5, "worse", 0.2)],
)
def test_a_cost_that_every_unit_has_is_an_exact_difference(price, word, difference) -> None:
    # Sums of three and seven such costs differ by rounding.
    counts = np.resize([3, 7, 1], 60).astype(np.float64)
    control = ArmOutcomes("a", np.array([sum([0.3] * int(n)) for n in counts]), counts, None, 220)
    arm = ArmOutcomes("b", np.array([sum([price] * int(n)) for n in counts]), counts, None, 220)
    sequence, grouped = ConfidenceSequence(400), GroupSequential()
    reading = read_metric(COST, control, arm, sequence.multiplier)
    assert reading.verdict == word
    assert reading.interval.low == reading.interval.high == pytest.approx(difference)
    assert reading.relative_interval is not None
    assert reading.relative_interval.low == pytest.approx(difference / 0.3)
    wide = grouped.multiplier([reading.effect], [1.0])
    assert read_metric(COST, control, arm, lambda effect: wide).verdict == word
    # Chance may have made them the same: latency, ratings and whatever else is no cost.
    assert read_metric(Measure("latency"), control, arm, sequence.multiplier).interval == ENDLESS
    few = ConfidenceSequence(400, fewest_units=61)
    assert read_metric(COST, control, arm, few.multiplier).verdict == "undecided"
    assert reading.effect is not None
    assert few.p_value(reading.effect) == few.one_sided_p_value(reading.effect, -1.0) == 1.0
    assert sequence.p_value(reading.effect) == (1.0 if difference == 0 else 1e-300)


def test_a_guardrail_on_an_exact_cost_is_harmed_or_fine_at_once() -> None:
    control, same, dear = arm("a", [0.3], 30), arm("b", [0.3], 30), arm("b", [0.5], 30)
    sequence = ConfidenceSequence(400, fewest_units=25)
    guardrails = [Guardrail("cost", 0.1), Guardrail("cost", 0.1, relative=True)]
    for treated, word in ((same, "fine"), (dear, "harmed")):
        effects = {"cost": compare(control, treated, determined=True)}
        found = judge_guardrails(guardrails, effects, sequence)
        assert [one.verdict for one in found] == [word, word]


def test_cheaper_is_better_and_relative() -> None:
    reading = read_metric(COST, arm("a", [2, 2.1, 1.9]), arm("b", [1.18, 1.2, 1.16]), two_errors)
    assert reading.verdict == "better"
    assert reading.relative == pytest.approx(-0.41)
    assert reading.relative_interval is not None
    assert reading.relative_interval.high < -0.4


def test_one_unit_decides_nothing() -> None:
    reading = read_metric(RATING, arm("a", [1], 1), arm("b", [0, 1]), two_errors)
    assert (reading.verdict, reading.effect, reading.interval.high) == ("undecided", None, math.inf)


def metrics(quality: Verdict, cost: Verdict = "undecided") -> list[MetricReading]:
    """Quality, cost, and a segment that is always far better."""
    aspects: list[tuple[Aspect, Verdict, bool, str | None]] = [
        ("cost", cost, False, None),
        ("quality", "better", True, "night"),
        ("quality", quality, True, None),
    ]
    return [
        MetricReading(Measure(aspect, aspect, primary=primary), "b", word, segment=segment)
        for aspect, word, primary, segment in aspects
    ]


def rail(word: GuardrailVerdict) -> GuardrailReading:
    return GuardrailReading(Guardrail("refusals", 0.02), word, 0.0, 1.0, 1.0)


def test_what_to_do() -> None:
    fine, open_yet, harmed = [rail("fine")], [rail("undecided")], [rail("fine"), rail("harmed")]
    assert decide(metrics("better"), fine) == "promote"
    assert decide(metrics("better"), open_yet) == "go on"
    assert decide(metrics("better"), harmed) == "roll back"
    assert decide(metrics("better"), harmed, comparable=False) == "roll back"
    assert decide(metrics("better"), fine, comparable=False) == "investigate"
    assert decide(metrics("worse"), fine) == "keep the control"
    assert decide(metrics("about the same", "better"), fine) == "promote"
    assert decide(metrics("about the same", "worse"), fine) == "go on"
    # A segment alone decides nothing, and neither does cost before the end.
    assert decide(metrics("undecided"), fine) == "go on"
    assert decide(metrics("undecided", "better"), fine) == "go on"
    assert decide(metrics("undecided", "better"), fine, ended=True) == "choose"
    assert decide(metrics("undecided"), fine, ended=True) == "keep the control"


def test_many_segments_are_corrected() -> None:
    """A segment that alone would be called better is not, when twelve were looked at."""
    sequence = ConfidenceSequence(600, 0.05)
    good = arm("b", [1, 1, 1, 1, 1, 1, 1, 1, 0, 0])
    one = read_metric(RATING, arm("a", [1, 1, 0]), good, sequence.multiplier)
    flat = read_metric(RATING, arm("a", [1, 0]), arm("b", [1, 0]), sequence.multiplier)
    assert one.verdict == "better"
    assert one.effect is not None
    p_value = sequence.p_value(one.effect)
    assert 0.005 < p_value < 0.05
    alone = correct_segments([one], sequence.p_value, 0.05)
    assert (alone[0].verdict, alone[0].p_corrected) == ("better", p_value)
    many = correct_segments([one, *[flat] * 11], sequence.p_value, 0.05)
    assert many[0].verdict == "undecided"
    assert many[0].p_corrected == pytest.approx(min(1, 12 * p_value))
