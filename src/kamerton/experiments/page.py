"""The report as a page that people forward: one HTML file, without scripts and without a network.

It is in the language that is spoken, and where the sample ratio's alarm went off, no effect stands
anywhere.
"""

import re
from collections.abc import Collection
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from kamerton.core.files import write_atomically
from kamerton.core.language import current_language, translated
from kamerton.experiments.amounts import (
    count_text,
    difference_text,
    interval_text,
    percent_text,
    value_text,
)
from kamerton.experiments.guardrails import GuardrailReading
from kamerton.experiments.interval_plot import IntervalPlot
from kamerton.experiments.missing import MissingRatings
from kamerton.experiments.reading import ArmReading, ExperimentReading
from kamerton.experiments.registered import RegisteredExperiment
from kamerton.experiments.settings import GroupSequentialSettings
from kamerton.experiments.summary import headline
from kamerton.experiments.verdict import Measure, MetricReading
from kamerton.experiments.words import (
    event_text,
    guardrail_word,
    metric_name,
    unit_word,
    verdict_word,
)

__all__ = ["write_page"]

_TONES = {"better": "good", "fine": "good", "worse": "bad", "harmed": "bad"}
_DATES = {"en": "%Y-%m-%d %H:%M", "ru": "%d.%m.%Y %H:%M"}


def write_page(
    path: Path,
    experiment: RegisteredExperiment,
    reading: ExperimentReading,
    *,
    stopped: Collection[str] = (),
    segments: str = "",
    made: datetime,
) -> None:
    """Write what is known of an experiment as one self-contained HTML file.

    Args:
        path: The file; its folder is made.
        experiment: As it was registered.
        reading: What is known.
        stopped: Arms that were stopped while the experiment ran.
        segments: By what the reading's segments divide requests; empty without segments.
        made: When the reading was made, UTC without a zone.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("kamerton.experiments"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["number"] = _typeset
    environment.globals["translated"] = translated
    page = _Page(experiment, reading)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = environment.get_template("experiment.html.j2").render(
        page.content(stopped, segments, made), language=current_language()
    )
    write_atomically(path, content)


def _typeset(text: str) -> str:
    """Keep numbers whole at the ends of lines, with a minus that is as long as the plus."""
    text = re.sub(r"(?<![\w-])-(?=\d)", "\N{MINUS SIGN}", text)
    return re.sub(r"(?<=\d) (?=%|points|s\b|п\. п\.|с\b)", "\N{NO-BREAK SPACE}", text).replace(
        "п. п.", "п.\N{NO-BREAK SPACE}п."
    )


class _Page:
    """The content of a page."""

    def __init__(self, experiment: RegisteredExperiment, reading: ExperimentReading) -> None:
        self._experiment, self._reading = experiment, reading
        self._arms = experiment.settings.arms
        self._names = (reading.control, *(arm.arm for arm in reading.arms))
        self._units = unit_word(experiment.settings.unit)

    def content(self, stopped: Collection[str], segments: str, made: datetime) -> dict[str, Any]:
        experiment, reading = self._experiment, self._reading
        settings = experiment.settings
        return {
            "title": translated("Experiment {name}", name=settings.name),
            "units": self._units,
            "headlines": [
                headline(experiment, arm, stopped=arm.arm in stopped) for arm in reading.arms
            ],
            "facts": self._facts(made),
            "arms": [self._arm(arm) for arm in reading.arms],
            "traffic": self._traffic(),
            "sample_ratio": self._sample_ratio(),
            "fired": reading.sample_ratio.fired,
            "in_two_arms": translated(
                "{count} {units} were seen in two arms and are left out.",
                count=self._count(reading.num_in_two_arms),
                units=self._units,
            )
            if reading.num_in_two_arms
            else "",
            "has_guardrails": bool(settings.guardrails),
            "primary": self._metric(settings.primary.metric),
            "segments_note": translated(
                "“{metric}” by {by}. A segment is an idea for the next experiment, never a "
                "reason for a decision; verdicts are corrected for the number of segments.",
                metric=self._metric(settings.primary.metric),
                by=_segments_word(segments),
            )
            if segments
            else "",
            "history": self._history(),
            "reading_text": translated(
                "The interval holds the true difference in {confidence} of 100 experiments, "
                "however often somebody looks, and the point is the best guess. “Better” and "
                "“worse” mean that the whole interval lies on one side of 0; “undecided” means "
                "that more traffic is needed, not that there is no difference. Only the metric "
                "marked “{primary}” decides about quality; guardrails can stop an arm, and "
                "segments decide nothing.",
                confidence=f"{100 * (1 - settings.alpha):.3g}",
                primary=translated("decides"),
            ),
        }

    def _facts(self, made: datetime) -> list[tuple[str, list[str]]]:
        experiment, settings = self._experiment, self._experiment.settings
        total = sum(settings.weights.values())
        arms = []
        for name in self._names:
            share = percent_text(settings.weights[name] / total)
            line = translated(
                "{variant}, {share} of {units}",
                variant=self._arms[name].variant,
                share=share,
                units=self._units,
            )
            mark = f" ({translated('control')})" if name == settings.control else ""
            arms.append(f"{name}{mark}: {line}")
        facts = [(translated("Arms"), arms)]
        if settings.hypothesis:
            facts.insert(0, (translated("Hypothesis"), [settings.hypothesis]))
        if settings.share < 1:
            share = percent_text(settings.share, digits=1)
            covered = translated("{share} of all {units}", share=share, units=self._units)
            facts.append((translated("Taking part"), [covered]))
        facts.append((translated("Dates"), [self._dates(made)]))
        facts.append((translated("Analysis"), [self._analysis()]))
        registered = translated(
            "SHA-256 {hash}, fixed before the first request", hash=experiment.registration
        )
        facts.append((translated("Registered plan"), [registered]))
        people = [event.by_whom for event in experiment.history if event.what == "started"]
        if people:
            facts.append((translated("Started by"), people[:1]))
        facts.append((translated("Report made"), [f"{self._moment(made)} UTC"]))
        return facts

    def _dates(self, made: datetime) -> str:
        experiment = self._experiment
        end = experiment.ended or made
        days = f"{(end - experiment.started) / timedelta(days=1):.0f}"
        started = self._moment(experiment.started)
        if experiment.is_running:
            return translated("since {started} UTC, {days} days so far", started=started, days=days)
        return translated(
            "{started} to {ended} UTC, {days} days",
            started=started,
            ended=self._moment(end),
            days=days,
        )

    def _analysis(self) -> str:
        plan = self._experiment.settings.analysis
        if isinstance(plan, GroupSequentialSettings):
            return translated("{looks} looks in {days} days", looks=plan.looks, days=plan.days)
        planned = self._count(self._experiment.planned_units)
        return translated(
            "may be looked at every day; tightest at {planned} {units} of two arms",
            planned=planned,
            units=self._units,
        )

    def _arm(self, arm: ArmReading) -> dict[str, Any]:
        names = {
            "variant": self._arms[arm.arm].variant,
            "control": self._arms[self._reading.control].variant,
        }
        measures = {one.measure.name: one.measure for one in arm.metrics}
        return {
            **names,
            "title": translated("{variant} against {control}", **names),
            "metrics": [self._row(one) for one in arm.metrics],
            "segments": [self._row(one) for one in arm.segments],
            "guardrails": [
                self._guardrail(measures[one.guardrail.metric], one) for one in arm.guardrails
            ],
            "missing": [
                line
                for metric, one in arm.missing.items()
                for line in self._missing(measures[metric], one, names)
            ],
        }

    def _row(self, one: MetricReading) -> dict[str, Any]:
        measure, effect = one.measure, one.effect
        row: dict[str, Any] = {
            "name": self._metric(measure.name),
            "segment": one.segment,
            "better": translated("more is better")
            if measure.better == "up"
            else translated("less is better"),
            "primary": measure.primary,
            "verdict": verdict_word(one.verdict),
            "tone": _TONES.get(one.verdict, "open"),
            "effect": None,
        }
        if effect is None:
            row["none"] = "" if one.verdict == "hidden" else translated("not measured yet")
            return row
        interval = interval_text(measure, one.interval)
        row["effect"] = {
            "control": value_text(measure, effect.control_value),
            "arm": value_text(measure, effect.value),
            "difference": difference_text(measure, effect.difference),
            "interval": interval or translated("too early for an interval"),
            "relative": "" if one.relative is None else percent_text(one.relative, signed=True),
            "plot": IntervalPlot.of(effect.difference, one.interval, measure.smallest_effect),
            "cuped": translated(
                "{percent} of the variance is explained by what was known before the start (CUPED)",
                percent=percent_text(effect.explained),
            )
            if effect.explained >= 0.005
            else "",
        }
        return row

    def _guardrail(self, measure: Measure, one: GuardrailReading) -> dict[str, str]:
        harm = translated("not known yet")
        if one.harm is not None:
            harm = difference_text(measure, abs(one.harm)).removeprefix("+")
            if one.harm < 0:
                harm = translated("{amount} better", amount=harm)
        margin = difference_text(measure, one.guardrail.margin)
        return {
            "name": self._metric(measure.name),
            "harm": harm,
            "allowed": margin.removeprefix("+"),
            "verdict": guardrail_word(one.verdict),
            "tone": _TONES.get(one.verdict, "open"),
        }

    def _missing(self, measure: Measure, one: MissingRatings, names: dict[str, str]) -> list[str]:
        rates = {
            "rate_control": percent_text(one.rate.control_value, digits=1),
            "rate_arm": percent_text(one.rate.value, digits=1),
        }
        if min(one.rate.control_value, one.rate.value) >= 1:
            return []
        values = {"metric": self._metric(measure.name), **rates, **names}
        if one.comparable:
            line = translated(
                "{rate_control} of the answers of {control} are rated, and {rate_arm} of those of "
                "{variant}; no difference in who rates is seen.",
                **values,
            )
        else:
            line = translated(
                "{rate_control} of the answers of {control} are rated, and {rate_arm} of those of "
                "{variant}: the arms are not rated equally often, so their ratings (“{metric}”) "
                "cannot be compared.",
                **values,
            )
        worst = interval_text(measure, one.interval)
        if not worst:
            return [line]
        bounds = translated(
            "If the missing ratings were as bad as possible in one arm and as good as possible in "
            "the other, the difference would be {interval}.",
            interval=worst,
        )
        return [line, bounds]

    def _traffic(self) -> list[dict[str, str]]:
        reading, rows = self._reading, []
        expected = reading.sample_ratio.expected
        primary = self._experiment.settings.primary.metric
        for place, name in enumerate(self._names):
            # The control's values stand beside those of any arm.
            missing = reading.arms[max(place - 1, 0)].missing.get(primary)
            rated = ""
            if missing is not None:
                rate = missing.rate
                share = rate.value if place else rate.control_value
                rated = self._count(share * rate.requests[min(place, 1)])
            requests = reading.num_requests[place]
            rows.append(
                {
                    "arm": name,
                    "units": self._count(reading.num_units[place]),
                    "expected": self._count(expected[place]),
                    "requests": self._count(requests),
                    "rated": rated,
                }
            )
        return rows

    def _sample_ratio(self) -> str:
        ratio = self._reading.sample_ratio
        p_value = f"= {ratio.p_value:.2g}" if ratio.p_value >= 1e-4 else "< 0.0001"
        values = {
            "counts": " / ".join(self._count(count) for count in ratio.counts),
            "expected": " / ".join(self._count(count) for count in ratio.expected),
            "p": p_value.replace(".", ",") if current_language() == "ru" else p_value,
            "units": self._units,
        }
        if ratio.fired:
            return translated(
                "No: the arms have {counts} {units}, and {expected} were planned (p {p}). "
                "Something loses {units} of one arm. No effect is shown until the reason is found.",
                **values,
            )
        return translated(
            "Yes: the arms have the {units} that the plan foretells, as far as can be seen "
            "(p {p}).",
            **values,
        )

    def _history(self) -> list[dict[str, str]]:
        lines = []
        for event in self._experiment.history:
            arm = str(event.detail.get("arm") or "")
            what = event_text(event.what, arm)
            if event.what == "stopped":
                promoted = str(event.detail.get("promoted") or self._reading.control)
                what = f"{what}, {translated('{arm} promoted', arm=promoted)}"
            # How large a harm is, is an effect too.
            why = "" if self._reading.sample_ratio.fired else str(event.detail.get("why") or "")
            lines.append(
                {
                    "when": f"{self._moment(event.created)} UTC",
                    "what": what,
                    "who": event.by_whom,
                    "why": translated("reason: {why}", why=why) if why else "",
                }
            )
        return lines

    def _metric(self, name: str) -> str:
        return metric_name(name)

    def _count(self, count: float) -> str:
        return count_text(count)

    def _moment(self, when: datetime) -> str:
        return f"{when:{_DATES[current_language()]}}"


def _segments_word(segments: str) -> str:
    """Say by what segments divide requests."""
    return {
        "segment": translated("audience segment"),
        "language": translated("language"),
        "tenant": translated("customer"),
    }[segments]
