"""Guardrails: verdicts, false alarms and the delay of a roll-back."""

import math

import numpy as np
import pytest

from kamerton.experiments.effects import Effect, compare
from kamerton.experiments.guardrails import Guardrail, judge_guardrails, units_to_roll_back
from kamerton.experiments.outcomes import ArmOutcomes
from kamerton.experiments.sequential import ConfidenceSequence

SEQUENCE = ConfidenceSequence(400, 0.05, fewest_units=25)


def effect(control: float, arm: float, error: float, units: int = 500) -> Effect:
    log_error = error / min(control, arm) if min(control, arm) > 0 else None
    return Effect(
        "b", "a", arm, control, arm - control, error, log_error, (units, units), (units, units)
    )


def verdicts(guardrail: Guardrail, *effects: Effect) -> list[str]:
    return [
        judge_guardrails([guardrail], {guardrail.metric: one}, SEQUENCE)[0].verdict
        for one in effects
    ]


def test_harm_is_judged_against_the_margin() -> None:
    refusals = Guardrail("refusals", 0.02)
    found = verdicts(
        refusals,
        effect(0.05, 0.15, 0.015),  # ten points worse
        effect(0.05, 0.08, 0.015),  # three points worse: too near to the margin
        effect(0.05, 0.06, 0.002),  # surely worse, and surely by less than the margin
        effect(0.05, 0.02, 0.010),  # better
        effect(0.05, 0.05, 0.015),
    )
    assert found == ["harmed", "undecided", "fine", "fine", "undecided"]


def test_higher_may_be_better_and_margins_relative() -> None:
    rating = Guardrail("rating", 0.1, better="up")
    assert verdicts(rating, effect(0.8, 0.5, 0.03), effect(0.8, 0.85, 0.03)) == ["harmed", "fine"]
    cost = Guardrail("cost", 0.1, relative=True)
    cheap, dear = effect(2.0, 1.2, 0.1), effect(2.0, 3.1, 0.1)
    assert verdicts(cost, cheap, dear) == ["fine", "harmed"]
    assert judge_guardrails([cost], {"cost": dear}, SEQUENCE)[0].harm == pytest.approx(0.55)
    solved = Guardrail("solved", 0.1, better="up", relative=True)
    reading = judge_guardrails([solved], {"solved": effect(2.0, 1.2, 0.1)}, SEQUENCE)[0]
    assert (reading.verdict, reading.harm) == ("harmed", pytest.approx(0.4))
    # No ratio without two values above 0, and nothing without an effect.
    assert verdicts(cost, effect(0.0, 3.1, 0.1)) == ["undecided"]
    assert judge_guardrails([cost], {}, SEQUENCE)[0].harm is None


def test_several_guardrails_are_corrected() -> None:
    just = effect(0.05, 0.07 + 2.9 * 0.02, 0.02)
    rails = [Guardrail(name, 0.02) for name in ("one", "two", "three", "four")]
    assert verdicts(rails[0], just) == ["harmed"]
    calm = effect(0.05, 0.05, 0.02)
    found = judge_guardrails(
        rails, {"one": just, "two": calm, "three": calm, "four": calm}, SEQUENCE
    )
    assert [reading.verdict for reading in found] == ["undecided"] * 4
    assert found[0].p_harmed > 0.05


def test_a_margin_is_never_zero() -> None:
    with pytest.raises(AssertionError):
        Guardrail("refusals", 0.0)


def stops(harm: float, runs: int, seed: int) -> list[int]:
    """Units of the arm at which a share of 5 % that grows by `harm` is seen; looks every 10."""
    rng = np.random.default_rng(seed)
    guardrail, found = Guardrail("refusals", 0.02), []
    for _ in range(runs):
        control, arm = rng.random(600) < 0.05, rng.random(600) < 0.05 + harm
        stop = 0
        for units in range(30, 601, 10):
            arms = [
                ArmOutcomes(name, values[:units].astype(float), np.ones(units))
                for name, values in (("a", control), ("b", arm))
            ]
            seen = {"refusals": compare(arms[0], arms[1], bounds=(0, 1))}
            if judge_guardrails([guardrail], seen, SEQUENCE)[0].verdict == "harmed":
                stop = units
                break
        found.append(stop)
    return found


def test_an_arm_at_the_margin_is_seldom_stopped() -> None:
    false = sum(stop > 0 for stop in stops(0.02, 150, 7)) / 150
    assert false < 0.05 + 2 * math.sqrt(0.05 * 0.95 / 150)


def test_a_bad_arm_is_stopped_as_soon_as_foretold() -> None:
    foretold = units_to_roll_back(0.25, 0.02, (0.05 * 0.95, 0.3 * 0.7), SEQUENCE)
    assert foretold is not None
    assert 30 < foretold < 150
    found = stops(0.25, 60, 8)
    assert all(found)
    assert np.quantile(found, 0.8) <= foretold + 10
    # More guardrails and a smaller share of the traffic need more.
    spread = (0.05 * 0.95, 0.3 * 0.7)
    many = units_to_roll_back(0.25, 0.02, spread, SEQUENCE, num_guardrails=5)
    assert many is not None
    assert many > foretold
    assert units_to_roll_back(0.02, 0.02, spread, SEQUENCE) is None
