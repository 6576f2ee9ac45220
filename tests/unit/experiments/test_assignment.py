"""Arms by keyed hash: balanced, sticky, independent between experiments."""

import math
from collections import Counter
from itertools import product

import pytest

from kamerton.experiments.assignment import Assignment, assign, position, takes_part

UNITS = [f"user-{number}" for number in range(100_000)]
SOME = UNITS[:10_000]
HALVES = {"control": 1.0, "lora": 1.0}
PLACES = (0.27102466445928014, 0.277106402484032, 0.46865969194728635, 0.5165570966827704)
ARMS = ["lora", "lora", "control", "control", "control", "lora", "control", "control"]


def chi_square(found: Counter, expected: dict) -> float:
    return sum((found[key] - each) ** 2 / each for key, each in expected.items())


def test_places_are_known_numbers_that_no_restart_changes():
    # Written down: another hash would move every unit of every running experiment.
    assert position("salt", "user-1") == pytest.approx(PLACES[0], abs=1e-15)
    assert position("salt", "user-1", "share") == pytest.approx(PLACES[1], abs=1e-15)
    assert position("pepper", "user-1") == pytest.approx(PLACES[2], abs=1e-15)
    assert position("соль", "покупатель") == pytest.approx(PLACES[3], abs=1e-15)
    assert [assign(HALVES, "salt", unit).arm for unit in UNITS[:8]] == ARMS


def test_places_are_spread_evenly():
    found = Counter(int(position("first", unit) * 100) for unit in UNITS)
    # 99 degrees of freedom: the 0.1 % point is 148.2.
    assert chi_square(found, dict.fromkeys(range(100), 1000)) < 148.2


@pytest.mark.parametrize(
    ("weights", "limit"),
    [
        (HALVES, 10.83),
        ({"control": 9.0, "lora": 1.0}, 10.83),
        ({"a": 0.5, "b": 0.3, "c": 0.15, "d": 0.05}, 16.27),
    ],
)
def test_arms_get_units_in_proportion_to_their_weights(weights, limit):
    total = sum(weights.values())
    units = UNITS if weights is HALVES else UNITS[:30_000]
    given = [assign(weights, "balance", unit) for unit in units]
    found = Counter(one.arm for one in given)
    assert chi_square(found, {arm: len(units) * w / total for arm, w in weights.items()}) < limit
    assert {one.arm: one.propensity for one in given} == {
        arm: pytest.approx(weight / total) for arm, weight in weights.items()
    }


def test_two_experiments_are_independent_of_each_other():
    # Experiments with names that differ in one character, on units with consecutive numbers:
    # a weak hash with the experiment's name put before the unit gives nearly the same arms.
    arms = ("control", "lora")
    for first, second, units in (("test-1", "test-2", UNITS), ("a", "b", SOME), ("", "0", SOME)):
        found = Counter(
            (assign(HALVES, first, unit).arm, assign(HALVES, second, unit).arm) for unit in units
        )
        assert chi_square(found, dict.fromkeys(product(arms, arms), len(units) / 4)) < 16.27


def test_who_takes_part_says_nothing_about_the_arm():
    found = Counter(
        (takes_part(0.5, "salt", unit), assign(HALVES, "salt", unit).arm) for unit in SOME
    )
    expected = dict.fromkeys(product((True, False), ("control", "lora")), 2500)
    assert chi_square(found, expected) < 16.27


def test_a_growing_share_only_adds_units():
    inside: set[str] = set()
    for share in (0.0, 0.01, 0.1, 0.25, 0.5, 0.99, 1.0):
        now = {unit for unit in SOME if takes_part(share, "ramp", unit)}
        assert inside <= now
        assert len(now) == pytest.approx(share * len(SOME), abs=4 * math.sqrt(len(SOME)) / 2)
        inside = now
    assert inside == set(SOME)


def test_changed_weights_move_units_only_to_arms_that_grew():
    before = {unit: assign({"a": 1, "b": 1, "c": 1}, "w", unit).arm for unit in SOME}
    after = {unit: assign({"a": 2, "b": 1, "c": 1}, "w", unit).arm for unit in SOME}
    moved = [unit for unit in SOME if before[unit] != after[unit]]
    assert {after[unit] for unit in moved} == {"a"}
    # From a third to a half: no more than must.
    assert len(moved) / len(SOME) == pytest.approx(1 / 6, abs=0.015)
    added = {unit: assign({"a": 1, "b": 1, "c": 1, "d": 1}, "w", unit).arm for unit in SOME}
    assert {added[unit] for unit in SOME if added[unit] != before[unit]} == {"d"}


def test_an_arm_without_weight_gets_nobody():
    assert assign({"a": 0.0, "b": 2.0}, "w", "user-1") == Assignment("b", 1.0)


def test_purpose_and_unit_cannot_be_confused():
    assert position("s", "a\0b") != position("s", "b", "a")
