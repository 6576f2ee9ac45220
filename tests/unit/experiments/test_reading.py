"""A whole experiment at one look, from rows to plain values."""

import json
from dataclasses import replace

import numpy as np
import pytest

from kamerton.experiments.design import Design, Rows
from kamerton.experiments.guardrails import Guardrail
from kamerton.experiments.reading import as_json, read_experiment
from kamerton.experiments.verdict import Measure

DESIGN = Design(
    arms=("prefix", "lora"),
    shares=(0.5, 0.5),
    measures=(
        Measure("rating", primary=True, smallest_effect=0.05, bounds=(0, 1)),
        Measure("cost", "cost", better="down"),
        Measure("refusal", better="down", bounds=(0, 1)),
    ),
    planned_units=1000,
    guardrails=(Guardrail("refusal", 0.05),),
    rated=("rating",),
)


def draw(
    *, units: int = 600, rates: tuple[float, float] = (0.6, 0.6), refusals: float = 0.02,
    lora: float = 0.5, days: int = 10, seed: int = 1,
) -> Rows:  # fmt: skip
    """Three requests a unit on one day, a third of them rated; LoRA costs 41 % less."""
    rng = np.random.default_rng(seed)
    unit = np.repeat(np.arange(units), 3)
    is_lora = (rng.random(units) < lora)[unit]
    rated = rng.random(len(unit)) < 1 / 3
    good = rng.random(len(unit)) < np.where(is_lora, rates[1], rates[0])
    return Rows(
        unit,
        np.where(is_lora, "lora", "prefix"),
        unit * days // units + 20_000,
        {
            "rating": np.where(rated, good, np.nan),
            "cost": np.where(is_lora, 0.59, 1.0) * rng.gamma(4, 0.25, len(unit)),
            "refusal": (rng.random(len(unit)) < np.where(is_lora, refusals, 0.02)).astype(float),
        },
        segments=np.where(unit % 2 == 0, "day", "night"),
    )


def test_quality_undecided_and_41_per_cent_cheaper() -> None:
    found = read_experiment(draw(), DESIGN, ended=True)
    (arm,) = found.arms
    rating, cost, refusal = arm.metrics
    assert (rating.verdict, cost.verdict, refusal.verdict) == ("undecided", "better", "undecided")
    assert cost.relative == pytest.approx(-0.41, abs=0.03)
    assert arm.guardrails[0].verdict == "fine"
    assert arm.decision == "choose"
    assert sum(found.num_units) == 600
    assert arm.missing["rating"].rate.value == pytest.approx(1 / 3, abs=0.03)
    assert [one.segment for one in arm.segments] == ["day", "night"]
    assert all(one.exploratory for one in arm.segments)


def test_the_better_arm_is_promoted_and_the_bad_one_rolled_back() -> None:
    good = read_experiment(draw(rates=(0.5, 0.8)), DESIGN)
    assert good.arms[0].decision == "promote"
    bad = read_experiment(draw(rates=(0.5, 0.8), refusals=0.4), DESIGN)
    assert bad.arms[0].decision == "roll back"


def test_a_wrong_share_of_units_hides_all_effects_but_no_harm() -> None:
    found = read_experiment(draw(rates=(0.5, 0.8), lora=0.35), DESIGN)
    (arm,) = found.arms
    assert found.sample_ratio.fired
    assert arm.decision == "investigate"
    assert {one.verdict for one in (*arm.metrics, *arm.segments)} == {"hidden"}
    assert all(one.effect is None for one in (*arm.metrics, *arm.segments))
    assert arm.guardrails[0].harm is None
    assert not arm.missing
    assert read_experiment(draw(lora=0.35, refusals=0.4), DESIGN).arms[0].decision == "roll back"


def test_units_in_two_arms_are_left_out_everywhere() -> None:
    rows = draw()
    arms = rows.arms.copy()
    arms[:3] = ["lora", "prefix", "lora"]  # one unit
    found = read_experiment(replace(rows, arms=arms), DESIGN)
    assert found.num_in_two_arms == 1
    effect = found.arms[0].metrics[1].effect
    assert effect is not None
    assert sum(effect.units) == 599


def test_a_declared_end_is_read_at_its_looks_only() -> None:
    """Of 10 days with looks after days 5 and 10, day 8 still shows what day 5 showed."""
    design, rows = replace(DESIGN, days=10, looks=2, planned_units=600), draw()
    at_five = read_experiment(rows.part(rows.days < 20_005), design)
    at_eight = read_experiment(rows.part(rows.days < 20_008), design)
    at_end = read_experiment(rows, design)
    assert at_five.arms[0].metrics == at_eight.arms[0].metrics
    assert not at_eight.ended
    assert at_end.ended
    # Whoever stops on day 8 gets no narrower interval for it.
    stopped = read_experiment(rows.part(rows.days < 20_008), design, ended=True)
    assert stopped.arms[0].metrics == at_five.arms[0].metrics
    before = read_experiment(rows, design, elapsed_days=4)
    assert before.arms[0].metrics[1].effect is None
    # Two looks at half and at the end: 2.96 and 1.97 standard errors.
    for reading, wide in ((at_five, 2.96), (at_end, 1.97)):
        cost = reading.arms[0].metrics[1]
        assert cost.effect is not None
        half = (cost.interval.high - cost.interval.low) / 2
        assert half / cost.effect.standard_error == pytest.approx(wide, abs=0.01)


def test_three_arms_share_alpha() -> None:
    rows = draw(units=900)
    arms = np.where((rows.units % 3) == 0, "ia3", rows.arms)
    design = replace(DESIGN, arms=("prefix", "lora", "ia3"), shares=(1 / 3,) * 3)
    found = read_experiment(replace(rows, arms=arms), design)
    assert [arm.arm for arm in found.arms] == ["lora", "ia3"]
    assert design.sequence().alpha == 0.025


def test_a_reading_is_plain_json() -> None:
    few = read_experiment(draw(units=60), DESIGN)
    values = json.loads(json.dumps(as_json(few), allow_nan=False))
    arm = values["arms"][0]
    assert arm["metrics"][0]["interval"] == {"low": None, "high": None}
    assert arm["metrics"][0]["verdict"] == "undecided"
    assert values["sample_ratio"]["counts"] == list(few.num_units)
    assert read_experiment(draw(units=60), DESIGN) == few


def test_sums_per_user_have_no_bounds() -> None:
    """A mean over users of sums is compared as it is, bounds of single requests or not."""
    refusals = Measure("refusal", kind="mean", primary=True, better="down", bounds=(0, 1))
    free = replace(refusals, bounds=None)
    readings = [
        read_experiment(draw(), replace(DESIGN, measures=(one,), guardrails=(), rated=()))
        for one in (refusals, free)
    ]
    assert readings[0].arms[0].metrics[0].interval == readings[1].arms[0].metrics[0].interval


@pytest.mark.parametrize("days", [None, 10])
def test_an_experiment_that_has_just_begun_says_nothing(days: int | None) -> None:
    nothing = draw().part(np.zeros(1800, bool))
    found = read_experiment(nothing, replace(DESIGN, days=days))
    (arm,) = found.arms
    assert (arm.decision, found.num_units, found.ended) == ("go on", (0, 0), False)
    assert {one.verdict for one in arm.metrics} == {"undecided"}
    assert not found.sample_ratio.fired
