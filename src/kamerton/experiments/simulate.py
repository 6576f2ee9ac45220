"""What the statistics promise, checked by simulation through the code that reads real experiments.

`kamerton experiment simulate` calls `simulate_decisions` with the experiment's own design: how
often it decides what for a supposed difference (0 for an A/A test). The other functions measure the
parts: `simulate_rules` how often looking every day finds a difference and whether the truth is
inside all intervals, beside rules that people write themselves; `simulate_sample_ratio` the alarms;
`simulate_roll_back` how many requests a bad arm answers before it is stopped.
`benchmarks/experiments.py` runs them at length.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from kamerton.core.seeds import derive_seed
from kamerton.experiments.design import Design, Rows
from kamerton.experiments.effects import Effect, compare
from kamerton.experiments.grouped import GroupSequential
from kamerton.experiments.guardrails import Guardrail, judge_guardrails
from kamerton.experiments.outcomes import Floats, sum_by_unit
from kamerton.experiments.reading import read_experiment
from kamerton.experiments.sample_ratio import ALARM, p_values_by_day
from kamerton.experiments.sequential import ConfidenceSequence
from kamerton.experiments.traffic import CONTROL, METRIC, TREATED, Traffic, draw_rows

__all__ = [
    "BY_REQUEST",
    "BY_UNIT",
    "LIKELIHOOD",
    "RULES",
    "Delay",
    "Found",
    "simulate_decisions",
    "simulate_roll_back",
]
__all__ += ["simulate_rules", "simulate_sample_ratio"]

BY_UNIT, BY_REQUEST = "p < 0.05 every day, by unit", "p < 0.05 every day, by request"
LIKELIHOOD = "likelihood ratio, by request"
RULES = ("sequence", "group", BY_UNIT, BY_REQUEST, LIKELIHOOD)
"""Ours, without and with a declared end; 1.96 standard errors at every look; the same with requests
counted as independent; and the rule of a platform that so counts them and stops at a generalised
likelihood ratio above log((1 + log N) / alpha)."""

_ONCE = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Found:
    """What one rule did in all runs.

    Attributes:
        differs: Share of runs in which some look saw a difference.
        covered: Share of runs in which the truth was inside the intervals of all looks.
        days: Median day of the first look that saw one; infinite where less than half did.
    """

    differs: float
    covered: float
    days: float


@dataclass(frozen=True, slots=True)
class Delay:
    """When alarms went off.

    Attributes:
        fired: Share of runs with an alarm.
        median: Median delay of all runs, in days or in requests; infinite where less than half
            had an alarm.
        late: The delay that nine of ten runs stayed below; infinite where fewer had an alarm.
    """

    fired: float
    median: float
    late: float


def simulate_rules(
    traffic: Traffic,
    runs: int,
    *,
    planned_units: int,
    alpha: float = 0.05,
    looks: int = 4,
    seed: int = 0,
    report: Callable[[int], None] = lambda done: None,
) -> dict[str, Found]:
    """Look at made-up experiments every day, with each of `RULES`.

    Args:
        traffic: What comes; a look is taken at the end of each day.
        runs: How many experiments.
        planned_units: Units of both arms at the planned end.
        alpha: Probability of a false difference.
        looks: Looks of the group-sequential test, equally spaced over the days.
        seed: Fixes the draws.
        report: Called with the number of experiments that are done.

    Returns:
        What each rule did.
    """
    first = {rule: np.full(runs, np.inf) for rule in RULES}
    covered = {rule: np.ones(runs, bool) for rule in RULES}
    sequence = ConfidenceSequence(planned_units, alpha)
    group = GroupSequential(alpha)
    group_days = {math.ceil(look * traffic.days / looks) for look in range(1, looks + 1)}
    for run in range(runs):
        rng = np.random.default_rng(derive_seed(seed, "rules", run))
        at_looks: list[Effect] = []
        times: list[float] = []
        for day, effect, independent in _daily(draw_rows(traffic, rng), traffic.days):
            widths = dict.fromkeys(RULES, math.inf)
            widths["sequence"] = sequence.multiplier(effect)
            if min(effect.units) >= sequence.fewest_units:
                widths[BY_UNIT], widths[BY_REQUEST] = _ONCE, _ONCE * independent
            if day in group_days:
                at_looks.append(effect)
                times.append(day / traffic.days)
                widths["group"] = group.multiplier(at_looks, times)
            ratio = math.log((1 + math.log(sum(effect.requests))) / alpha)
            widths[LIKELIHOOD] = math.sqrt(2 * ratio) * independent
            for rule, width in widths.items():
                interval = effect.interval(width)
                covered[rule][run] &= not interval.excludes(traffic.difference)
                if interval.excludes(0.0):
                    first[rule][run] = min(first[rule][run], day)
        report(run + 1)
    return {
        rule: Found(
            float(np.isfinite(first[rule]).mean()),
            float(covered[rule].mean()),
            _quantile(first[rule], 0.5),
        )
        for rule in RULES
    }


def simulate_decisions(
    design: Design, traffic: Traffic, runs: int, *, seed: int = 0
) -> dict[str, int]:
    """Read made-up experiments every day and act on the first decision.

    Args:
        design: The experiment; its metrics are all fed the same outcomes, its first two arms are
            compared.
        traffic: What comes.
        runs: How many experiments.
        seed: Fixes the draws.

    Returns:
        In how many runs each decision was taken; `go on` where none was until the last day.
    """
    taken: Counter[str] = Counter()
    for run in range(runs):
        rng = np.random.default_rng(derive_seed(seed, "decisions", run))
        drawn = draw_rows(traffic, rng)
        rows = Rows(
            drawn.units,
            np.where(drawn.arms == TREATED, design.arms[1], design.arms[0]),
            drawn.days,
            {measure.name: drawn.outcomes[METRIC] for measure in design.measures},
        )
        decision = "go on"
        for day in range(1, traffic.days + 1):
            seen = rows.part(rows.days < day)
            if not len(seen.units):
                continue
            found = read_experiment(seen, design, ended=day == traffic.days)
            decision = found.arms[0].decision
            if decision != "go on":
                break
        taken[decision] += 1
    return dict(taken)


def simulate_sample_ratio(
    units_per_day: float,
    share: float,
    days: int,
    runs: int,
    *,
    concentration: float,
    seed: int = 0,
) -> Delay:
    """Test the shares of two arms that should be equal, every day.

    Args:
        units_per_day: New units a day, on average.
        share: The real share of the first arm.
        days: How long it goes on.
        runs: How many experiments.
        concentration: Of the test's prior.
        seed: Fixes the draws.

    Returns:
        Alarms and their delay in days.
    """
    rng = np.random.default_rng(derive_seed(seed, "sample ratio"))
    units = rng.poisson(units_per_day, (runs, days))
    first = rng.binomial(units, share)
    daily = np.stack([first, units - first], axis=-1).astype(np.float64)
    fired = p_values_by_day(daily, [1, 1], concentration) < ALARM
    delays = np.where(fired.any(axis=1), fired.argmax(axis=1) + 1.0, np.inf)
    return _delay(delays)


def simulate_roll_back(
    traffic: Traffic,
    guardrail: Guardrail,
    runs: int,
    *,
    sequence: ConfidenceSequence,
    every: int = 20,
    seed: int = 0,
) -> Delay:
    """Watch a guardrail on the made-up metric, a look after every few requests.

    Args:
        traffic: What comes; its difference is the harm where the guardrail's metric is better down.
        guardrail: What must not get worse.
        runs: How many experiments.
        sequence: The guardrail's confidence sequence.
        every: Requests of both arms between two looks.
        seed: Fixes the draws.

    Returns:
        Roll-backs, and how many requests the arm answered before.
    """
    delays = np.full(runs, np.inf)
    for run in range(runs):
        rows = draw_rows(traffic, np.random.default_rng(derive_seed(seed, "roll back", run)))
        for end in range(every, len(rows.units) + 1, every):
            effect = _effect(rows, end)
            if effect is None:
                continue
            found = judge_guardrails([guardrail], {guardrail.metric: effect}, sequence)
            if found[0].verdict == "harmed":
                delays[run] = effect.requests[1]
                break
    return _delay(delays)


def _daily(rows: Rows, days: int) -> Iterator[tuple[int, Effect, float]]:
    """Give the effect at the end of each day, and what its standard error must be multiplied with
    when requests are taken for independent.
    """
    for day in range(1, days + 1):
        end = int(np.searchsorted(rows.days, day))
        effect = _effect(rows, end)
        if effect is None:
            continue
        error = 0.0
        for value, requests in zip(
            (effect.control_value, effect.value), effect.requests, strict=True
        ):
            error += value * (1 - value) / requests
        yield day, effect, math.sqrt(error) / effect.standard_error


def _effect(rows: Rows, end: int) -> Effect | None:
    """Compare the arms after a number of requests; None before both have two units."""
    found = sum_by_unit(
        rows.units[:end], rows.arms[:end], rows.outcomes[METRIC][:end], (CONTROL, TREATED)
    )
    if min(arm.num_units for arm in found.arms) < 2:
        return None
    return compare(*found.arms, bounds=(0.0, 1.0))


def _delay(delays: Floats) -> Delay:
    return Delay(float(np.isfinite(delays).mean()), _quantile(delays, 0.5), _quantile(delays, 0.9))


def _quantile(values: Floats, share: float) -> float:
    # Interpolation between numbers without an end would give none.
    return float(np.quantile(values, share, method="higher"))
