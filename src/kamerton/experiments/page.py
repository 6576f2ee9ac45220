"""The report as a page that people forward: one HTML file, without scripts and without a network.

All words come from `words`, and where the sample ratio's alarm went off, no effect stands anywhere.
"""

import re
from collections.abc import Collection
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from kamerton.core.files import write_atomically
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
from kamerton.experiments.words import WORDS, Language, metric_name, word

__all__ = ["write_page"]

_TONES = {"better": "good", "fine": "good", "worse": "bad", "harmed": "bad"}
_DATES = {"en": "%Y-%m-%d %H:%M", "ru": "%d.%m.%Y %H:%M"}


def write_page(
    path: Path,
    experiment: RegisteredExperiment,
    reading: ExperimentReading,
    *,
    language: Language = "en",
    stopped: Collection[str] = (),
    segments: str = "",
    made: datetime,
) -> None:
    """Write what is known of an experiment as one self-contained HTML file.

    Args:
        path: The file; its folder is made.
        experiment: As it was registered.
        reading: What is known.
        language: English or Russian.
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
    page = _Page(experiment, reading, language)
    path.parent.mkdir(parents=True, exist_ok=True)
    content = environment.get_template("experiment.html.j2").render(
        page.content(stopped, segments, made), word=page.word, language=language
    )
    write_atomically(path, content)


def _typeset(text: str) -> str:
    """Keep numbers whole at the ends of lines, with a minus that is as long as the plus."""
    text = re.sub(r"(?<![\w-])-(?=\d)", "\N{MINUS SIGN}", text)
    return re.sub(r"(?<=\d) (?=%|points|s\b|п\. п\.|с\b)", "\N{NO-BREAK SPACE}", text).replace(
        "п. п.", "п.\N{NO-BREAK SPACE}п."
    )


class _Page:
    """The content of a page in one language."""

    def __init__(
        self, experiment: RegisteredExperiment, reading: ExperimentReading, language: Language
    ) -> None:
        self._experiment, self._reading, self._language = experiment, reading, language
        self._arms = experiment.settings.arms
        self._names = (reading.control, *(arm.arm for arm in reading.arms))
        self._units = self.word(f"unit.{experiment.settings.unit}")

    def word(self, key: str, **values: object) -> str:
        return word(self._language, key, **values)

    def content(self, stopped: Collection[str], segments: str, made: datetime) -> dict[str, Any]:
        experiment, reading = self._experiment, self._reading
        settings = experiment.settings
        return {
            "title": self.word("title", name=settings.name),
            "units": self._units,
            "headlines": [
                headline(experiment, arm, self._language, stopped=arm.arm in stopped)
                for arm in reading.arms
            ],
            "facts": self._facts(made),
            "arms": [self._arm(arm) for arm in reading.arms],
            "traffic": self._traffic(),
            "sample_ratio": self._sample_ratio(),
            "fired": reading.sample_ratio.fired,
            "in_two_arms": self.word(
                "in two arms", count=self._count(reading.num_in_two_arms), units=self._units
            )
            if reading.num_in_two_arms
            else "",
            "has_guardrails": bool(settings.guardrails),
            "primary": self._metric(settings.primary.metric),
            "segments_note": self.word(
                "segments note",
                metric=self._metric(settings.primary.metric),
                by=self.word(f"by.{segments}"),
            )
            if segments
            else "",
            "history": self._history(),
            "reading_text": self.word(
                "reading text",
                confidence=f"{100 * (1 - settings.alpha):.3g}",
                primary=self.word("primary"),
            ),
        }

    def _facts(self, made: datetime) -> list[tuple[str, list[str]]]:
        experiment, settings = self._experiment, self._experiment.settings
        total = sum(settings.weights.values())
        arms = []
        for name in self._names:
            share = percent_text(settings.weights[name] / total, self._language)
            line = self.word(
                "arm line", variant=self._arms[name].variant, share=share, units=self._units
            )
            mark = f" ({self.word('control')})" if name == settings.control else ""
            arms.append(f"{name}{mark}: {line}")
        facts = [(self.word("arms"), arms)]
        if settings.hypothesis:
            facts.insert(0, (self.word("hypothesis"), [settings.hypothesis]))
        if settings.share < 1:
            share = percent_text(settings.share, self._language, digits=1)
            covered = self.word("taking part line", share=share, units=self._units)
            facts.append((self.word("taking part"), [covered]))
        facts.append((self.word("dates"), [self._dates(made)]))
        facts.append((self.word("analysis"), [self._analysis()]))
        registered = self.word("registered line", hash=experiment.registration)
        facts.append((self.word("registered"), [registered]))
        people = [event.by_whom for event in experiment.history if event.what == "started"]
        if people:
            facts.append((self.word("started by"), people[:1]))
        facts.append((self.word("made"), [f"{self._moment(made)} UTC"]))
        return facts

    def _dates(self, made: datetime) -> str:
        experiment = self._experiment
        end = experiment.ended or made
        days = f"{(end - experiment.started) / timedelta(days=1):.0f}"
        return self.word(
            "dates running" if experiment.is_running else "dates ended",
            started=self._moment(experiment.started),
            ended=self._moment(end),
            days=days,
        )

    def _analysis(self) -> str:
        plan = self._experiment.settings.analysis
        if isinstance(plan, GroupSequentialSettings):
            return self.word("analysis.group-sequential", looks=plan.looks, days=plan.days)
        planned = self._count(self._experiment.planned_units)
        return self.word("analysis.sequential", planned=planned, units=self._units)

    def _arm(self, arm: ArmReading) -> dict[str, Any]:
        names = {
            "variant": self._arms[arm.arm].variant,
            "control": self._arms[self._reading.control].variant,
        }
        measures = {one.measure.name: one.measure for one in arm.metrics}
        return {
            **names,
            "title": self.word("result of", **names),
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
        measure, effect, language = one.measure, one.effect, self._language
        row: dict[str, Any] = {
            "name": self._metric(measure.name),
            "segment": one.segment,
            "better": self.word(measure.better),
            "primary": measure.primary,
            "verdict": self.word(f"verdict.{one.verdict}"),
            "tone": _TONES.get(one.verdict, "open"),
            "effect": None,
        }
        if effect is None:
            row["none"] = "" if one.verdict == "hidden" else self.word("not measured")
            return row
        interval = interval_text(measure, one.interval, language)
        row["effect"] = {
            "control": value_text(measure, effect.control_value, language),
            "arm": value_text(measure, effect.value, language),
            "difference": difference_text(measure, effect.difference, language),
            "interval": interval or self.word("unbounded"),
            "relative": ""
            if one.relative is None
            else percent_text(one.relative, language, signed=True),
            "plot": IntervalPlot.of(effect.difference, one.interval, measure.smallest_effect),
            "cuped": self.word("cuped", percent=percent_text(effect.explained, language))
            if effect.explained >= 0.005
            else "",
        }
        return row

    def _guardrail(self, measure: Measure, one: GuardrailReading) -> dict[str, str]:
        harm = self.word("unknown")
        if one.harm is not None:
            harm = difference_text(measure, abs(one.harm), self._language).removeprefix("+")
            if one.harm < 0:
                harm = self.word("better by", amount=harm)
        margin = difference_text(measure, one.guardrail.margin, self._language)
        return {
            "name": self._metric(measure.name),
            "harm": harm,
            "allowed": margin.removeprefix("+"),
            "verdict": self.word(f"guardrail.{one.verdict}"),
            "tone": _TONES.get(one.verdict, "open"),
        }

    def _missing(self, measure: Measure, one: MissingRatings, names: dict[str, str]) -> list[str]:
        rates = {
            "rate_control": percent_text(one.rate.control_value, self._language, digits=1),
            "rate_arm": percent_text(one.rate.value, self._language, digits=1),
        }
        if min(one.rate.control_value, one.rate.value) >= 1:
            return []
        key = "missing comparable" if one.comparable else "missing not comparable"
        lines = [self.word(key, metric=self._metric(measure.name), **rates, **names)]
        worst = interval_text(measure, one.interval, self._language)
        return [*lines, self.word("missing worst", interval=worst)] if worst else lines

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
        return self.word(
            "sample ratio fired" if ratio.fired else "sample ratio fine",
            counts=" / ".join(self._count(count) for count in ratio.counts),
            expected=" / ".join(self._count(count) for count in ratio.expected),
            p=p_value.replace(".", ",") if self._language == "ru" else p_value,
            units=self._units,
        )

    def _history(self) -> list[dict[str, str]]:
        lines = []
        for event in self._experiment.history:
            arm = str(event.detail.get("arm") or "")
            key = f"event.{event.what}"
            known = key in WORDS[self._language]
            what = self.word(key, arm=arm) if known else event.what
            if event.what == "stopped":
                promoted = str(event.detail.get("promoted") or self._reading.control)
                what = f"{what}, {self.word('promoted to', arm=promoted)}"
            # How large a harm is, is an effect too.
            why = "" if self._reading.sample_ratio.fired else str(event.detail.get("why") or "")
            lines.append(
                {
                    "when": f"{self._moment(event.created)} UTC",
                    "what": what,
                    "who": event.by_whom,
                    "why": self.word("why", why=why) if why else "",
                }
            )
        return lines

    def _metric(self, name: str) -> str:
        return metric_name(self._language, name)

    def _count(self, count: float) -> str:
        return count_text(count, self._language)

    def _moment(self, when: datetime) -> str:
        return f"{when:{_DATES[self._language]}}"
