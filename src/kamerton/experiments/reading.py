"""A whole experiment read at one look: from rows of requests to what a report renders.

`kamerton experiment report` and `status` call `read_experiment(rows, design)` and render the
`ExperimentReading`; `as_json` gives what `--json` prints. Nothing here is random or remembers
anything: the same rows give the same reading.
"""

import dataclasses
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kamerton.experiments.design import Design, Rows
from kamerton.experiments.effects import Effect, compare
from kamerton.experiments.grouped import GroupSequential
from kamerton.experiments.guardrails import GuardrailReading, GuardrailVerdict, judge_guardrails
from kamerton.experiments.missing import MissingRatings, read_missing
from kamerton.experiments.outcomes import Outcomes, in_one_arm, sum_by_unit
from kamerton.experiments.sample_ratio import (
    SampleRatio,
    check_sample_ratio,
    concentration_for,
    count_new_units,
)
from kamerton.experiments.verdict import (
    Decision,
    Measure,
    MetricReading,
    Multiplier,
    correct_segments,
    decide,
    hide,
    read_metric,
)

__all__ = ["ArmReading", "ExperimentReading", "as_json", "read_experiment"]


@dataclass(frozen=True, slots=True)
class ArmReading:
    """All that is known about an arm.

    Attributes:
        arm: Its name.
        decision: What to do with it.
        metrics: One reading per metric.
        guardrails: One reading per guardrail.
        segments: Exploratory readings of the primary metric.
        missing: For each rated metric, what missing ratings may hide.
    """

    arm: str
    decision: Decision
    metrics: tuple[MetricReading, ...]
    guardrails: tuple[GuardrailReading, ...] = ()
    segments: tuple[MetricReading, ...] = ()
    missing: Mapping[str, MissingRatings] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ExperimentReading:
    """An experiment at one look.

    Attributes:
        control: Name of the control.
        arms: The other arms.
        sample_ratio: Whether the arms got their shares. All effects are hidden where it fired.
        num_units: Units of each arm, the control first.
        num_in_two_arms: Units that were seen in several arms and are left out.
        planned_units: Units of the control and one arm at the planned end.
        ended: Whether the end has come.
        num_requests: Requests of each arm, failed ones and those of units in two arms too.
    """

    control: str
    arms: tuple[ArmReading, ...]
    sample_ratio: SampleRatio
    num_units: tuple[int, ...]
    num_in_two_arms: int
    planned_units: int
    ended: bool
    num_requests: tuple[int, ...] = ()


def read_experiment(
    rows: Rows,
    design: Design,
    *,
    start_day: int | None = None,
    elapsed_days: int | None = None,
    ended: bool = False,
    stopped: Collection[str] = (),
) -> ExperimentReading:
    """Read an experiment.

    Args:
        rows: All requests up to now, failed ones too, without outcomes.
        design: What was fixed before the start.
        start_day: The first day, as rows count days; by default that of the first row.
        elapsed_days: Whole days since then; by default the day of the last row is whole.
            A group-sequential test counts rows up to its last look only.
        ended: Whether the experiment was stopped. A group-sequential one ends by itself.
        stopped: Arms that get no units any more, while the others go on.

    Returns:
        The reading. Harmed guardrails are told even where the sample ratio's alarm went off.
    """
    rows = rows.numbered()
    first, last = (int(rows.days.min()), int(rows.days.max())) if len(rows.days) else (0, -1)
    first = first if start_day is None else start_day
    elapsed = last - first + 1 if elapsed_days is None else elapsed_days
    ended = ended or (design.days is not None and elapsed >= design.days)
    daily = count_new_units(rows.units, rows.arms, rows.days.tolist(), design.arms)
    ratio = check_sample_ratio(
        daily,
        design.shares,
        stopped=[place for place, arm in enumerate(design.arms) if arm in stopped],
        concentration=concentration_for(design.units_per_day),
    )
    alone = in_one_arm(rows.units, rows.arms)
    num_in_two_arms = len(np.unique(rows.units[~alone]))
    clean, looks = rows.part(alone), None
    seen = clean
    if design.days is not None:
        looks = design.look_days(elapsed)
        seen = clean.part(clean.days < first + (looks[-1] if looks else 0))
    whole = _Look(design, clean, seen, first, looks, ended, not ratio.fired)
    arms = tuple(_read_arm(whole, place) for place in range(1, len(design.arms)))
    return ExperimentReading(
        design.arms[0],
        arms,
        ratio,
        ratio.counts,
        num_in_two_arms,
        design.planned_units,
        ended,
        tuple(int((rows.arms == arm).sum()) for arm in design.arms),
    )


def as_json(reading: ExperimentReading) -> dict[str, Any]:
    """Turn a reading into plain values; numbers without an end become null.

    Args:
        reading: The reading.

    Returns:
        What `json.dumps` takes.
    """
    found: dict[str, Any] = _plain(dataclasses.asdict(reading))
    return found


@dataclass(frozen=True, slots=True)
class _Look:
    """One look: all rows, those that the metrics may see, and what is known of the whole."""

    design: Design
    rows: Rows
    seen: Rows
    first_day: int
    looks: list[int] | None
    ended: bool
    comparable: bool

    def outcomes(self, measure: Measure, rows: Rows) -> Outcomes:
        return sum_by_unit(
            rows.units,
            rows.arms,
            rows.outcomes[measure.name],
            self.design.arms,
            kind=measure.kind,
            covariates=rows.covariates.get(measure.name),
        )

    def multiplier(self, measure: Measure, rows: Rows, place: int) -> Multiplier:
        """Say how wide an arm's intervals are."""
        sequence, design = self.design.sequence(), self.design
        if self.looks is None or design.days is None:
            return sequence.multiplier
        effects = [
            self.effect(measure, rows.part(rows.days < self.first_day + day), place)
            for day in self.looks
        ]
        times = [day / design.days for day in self.looks]
        wide = GroupSequential(sequence.alpha, design.fewest_units).multiplier(effects, times)
        return lambda _: wide

    def effect(self, measure: Measure, rows: Rows, place: int) -> Effect | None:
        """Compare an arm with the control; None where one has fewer than two units."""
        arms = self.outcomes(measure, rows).arms
        if min(arms[0].num_units, arms[place].num_units) < 2:
            return None
        return compare(
            arms[0], arms[place], bounds=measure.value_bounds, determined=measure.determined
        )


def _read_arm(look: _Look, place: int) -> ArmReading:
    design, name = look.design, look.design.arms[place]
    metrics = [_read(look, measure, look.seen, place) for measure in design.measures]
    guardrails, segments = _guard(look, place), _segments(look, place)
    if not look.comparable:
        metrics, segments = [hide(one) for one in metrics], [hide(one) for one in segments]
        guardrails = [_hide_guardrail(one) for one in guardrails]
    decision = decide(metrics, guardrails, ended=look.ended, comparable=look.comparable)
    missing = _missing(look, place) if look.comparable else {}
    return ArmReading(name, decision, tuple(metrics), tuple(guardrails), tuple(segments), missing)


def _hide_guardrail(one: GuardrailReading) -> GuardrailReading:
    """Leave only that it is harmed: nobody can be called harmless by groups that differ."""
    verdict: GuardrailVerdict = "harmed" if one.verdict == "harmed" else "undecided"
    return dataclasses.replace(one, verdict=verdict, harm=None)


def _read(look: _Look, measure: Measure, rows: Rows, place: int) -> MetricReading:
    arms = look.outcomes(measure, rows).arms
    return read_metric(measure, arms[0], arms[place], look.multiplier(measure, rows, place))


def _guard(look: _Look, place: int) -> list[GuardrailReading]:
    """Judge the guardrails, by all rows: harm does not wait for the next look."""
    effects: dict[str, Effect] = {}
    guarded = {guardrail.metric for guardrail in look.design.guardrails}
    for measure in look.design.measures:
        found = look.effect(measure, look.rows, place) if measure.name in guarded else None
        if found is not None:
            effects[measure.name] = found
    return judge_guardrails(look.design.guardrails, effects, look.design.guardrail_sequence())


def _segments(look: _Look, place: int) -> list[MetricReading]:
    if look.seen.segments is None:
        return []
    readings = []
    for segment in np.unique(look.seen.segments):
        part = look.seen.part(look.seen.segments == segment)
        reading = _read(look, look.design.primary, part, place)
        readings.append(dataclasses.replace(reading, segment=str(segment)))
    sequence = look.design.sequence()
    return correct_segments(readings, sequence.p_value, sequence.alpha)


def _missing(look: _Look, place: int) -> dict[str, MissingRatings]:
    design, found = look.design, {}
    names = (design.arms[0], design.arms[place])
    pair = look.seen.part(np.isin(look.seen.arms, names))
    for measure in design.measures:
        arms = look.outcomes(measure, pair).arms
        if (
            measure.name in design.rated
            and measure.bounds is not None
            and min(arms[0].num_units, arms[place].num_units) > 1
        ):
            found[measure.name] = read_missing(
                pair.units,
                pair.arms,
                pair.outcomes[measure.name],
                names,
                measure.bounds,
                design.sequence(),
            )
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
