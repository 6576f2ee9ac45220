"""Effects of live experiments beside tea-tasting's, for one look at the end."""

import numpy as np
import pytest

from kamerton.experiments.effects import compare
from kamerton.experiments.outcomes import ArmOutcomes, Floats, sum_by_unit
from kamerton.experiments.sample_size import units_needed
from kamerton.experiments.variance import observed_variance

tea_tasting = pytest.importorskip("tea_tasting")
pandas = pytest.importorskip("pandas")

Z = 1.959963984540054


@pytest.fixture(scope="module")
def rows() -> dict[str, Floats]:
    """Units with a level of their own, 1 to 9 requests each and a noisy history."""
    rng = np.random.default_rng(11)
    num = 600
    variant = rng.integers(0, 2, num)
    level = rng.beta(6, 3, num)
    requests = rng.integers(1, 10, num)
    good = rng.binomial(requests, np.clip(level + 0.04 * variant, 0, 1))
    before = level + rng.normal(0, 0.1, num)
    return {
        "variant": variant, "requests": requests.astype(np.float64),
        "good": good.astype(np.float64), "before": before,
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["ratio", "mean"])
@pytest.mark.parametrize("with_history", [False, True])
def test_effects_are_tea_tastings(rows: dict[str, Floats], kind: str, with_history: bool) -> None:
    history = "before" if with_history else None
    if kind == "ratio":
        metric = tea_tasting.RatioOfMeans("good", "requests", history, use_t=False)
    else:
        metric = tea_tasting.Mean("good", history, use_t=False)
    expected = tea_tasting.Experiment(metric=metric).analyze(pandas.DataFrame(rows))["metric"]
    # The same units request by request: the first `good` of them are good.
    counts = rows["requests"].astype(int)
    names = np.array([f"u{i:03}" for i in range(len(counts))])
    outcome = np.concatenate([np.arange(n) < g for n, g in zip(counts, rows["good"], strict=True)])
    found = sum_by_unit(
        np.repeat(names, counts), np.repeat(np.array(["a", "b"])[rows["variant"]], counts),
        outcome, ["a", "b"], kind="ratio" if kind == "ratio" else "mean",
        covariates=dict(zip(names.tolist(), rows["before"].tolist(), strict=True))
        if with_history else None,
    )  # fmt: skip
    effect = compare(*found.arms)
    interval, relative = effect.interval(Z), effect.relative_interval(Z)
    assert relative is not None
    assert [effect.control_value, effect.value, effect.difference] == pytest.approx(
        [expected.control, expected.treatment, expected.effect_size], rel=1e-9
    )
    assert [interval.low, interval.high] == pytest.approx(
        [expected.effect_size_ci_lower, expected.effect_size_ci_upper], rel=1e-6
    )
    assert [effect.relative, relative.low, relative.high] == pytest.approx(
        [
            expected.rel_effect_size, expected.rel_effect_size_ci_lower,
            expected.rel_effect_size_ci_upper,
        ], rel=1e-6,
    )  # fmt: skip
    assert (effect.explained > 0.05) == with_history


@pytest.mark.parametrize(("difference", "power"), [(0.05, 0.8), (0.02, 0.95)])
def test_units_are_tea_tastings(rows: dict[str, Floats], difference: float, power: float) -> None:
    metric = tea_tasting.RatioOfMeans(
        "good", "requests", use_t=False, effect_size=difference, alpha=0.05, power=power
    )
    expected = metric.solve_power(pandas.DataFrame(rows), "n_obs")[0].n_obs
    variance = observed_variance(ArmOutcomes("a", rows["good"], rows["requests"]))
    found = units_needed(difference, (variance, variance), "once", 0.05, power)
    assert found == pytest.approx(expected, abs=1)
