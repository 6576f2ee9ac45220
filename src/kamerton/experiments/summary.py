"""A reading in one line that people forward, such as "quality undecided, 41 % cheaper".

`in_short` is the headline of an arm in `kamerton experiment report`, and `headline` the first
sentence of the page; both in English or Russian.
"""

from kamerton.core.language import translated
from kamerton.experiments.amounts import difference_text, percent_text
from kamerton.experiments.reading import ArmReading
from kamerton.experiments.registered import RegisteredExperiment
from kamerton.experiments.verdict import MetricReading
from kamerton.experiments.words import (
    Advice,
    advice_text,
    aspect_text,
    known_text,
    verdict_word,
)

__all__ = ["headline", "in_short"]


def in_short(arm: ArmReading) -> str:
    """Sum up an arm: the primary metric first, then what is known of cost and latency.

    Args:
        arm: What is known about the arm.

    Returns:
        One line without a full stop. The change of latency is that of the time itself: "20 %
        faster" means 20 % less time.
    """
    known = [
        reading
        for reading in arm.metrics
        if not reading.measure.primary
        and reading.measure.aspect != "quality"
        and reading.verdict not in ("undecided", "hidden")
    ]
    return ", ".join(_phrase(reading) for reading in [*_primary(arm), *known])


def headline(
    experiment: RegisteredExperiment,
    arm: ArmReading,
    *,
    stopped: bool = False,
) -> str:
    """Say in one sentence what to do, and what is known of quality, cost and latency.

    Args:
        experiment: As it was registered.
        arm: What is known about one of its arms.
        stopped: Whether the arm was stopped while the experiment ran.

    Returns:
        The sentence. It tells no effect where the arms are not comparable.
    """
    arms = experiment.settings.arms
    names = {
        "variant": arms[arm.arm].variant,
        "control": arms[experiment.settings.control].variant,
    }
    key: Advice = "stopped arm" if stopped else arm.decision
    if not experiment.is_running:
        key = "ended"
    advice = advice_text(key, answering=experiment.answering, **names)
    if any(reading.verdict == "hidden" for reading in arm.metrics):
        if key != "investigate":
            advice = f"{advice}; {_lower(advice_text('investigate', answering='', **names))}"
        return f"{advice}."
    measured = [
        reading
        for reading in arm.metrics
        if not reading.measure.primary
        and reading.measure.name in ("cost", "latency")
        and reading.effect is not None
    ]
    known = ", ".join(_clause(reading) for reading in [*_primary(arm), *measured])
    if any(
        reading.measure.name in arm.missing and not arm.missing[reading.measure.name].comparable
        for reading in _primary(arm)
    ):
        known = translated("{known}, but the arms are not rated equally often", known=known)
    if not experiment.is_running:
        return f"{advice}; {translated('{variant} against {control}', **names)}: {known}."
    return f"{advice}; {known}." if ":" in advice else f"{advice}: {known}."


def _primary(arm: ArmReading) -> list[MetricReading]:
    return [reading for reading in arm.metrics if reading.measure.primary]


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _phrase(reading: MetricReading) -> str:
    if change := _change(reading):
        return change
    verdict = verdict_word(reading.verdict)
    if reading.verdict == "hidden":
        verdict = translated("hidden: the arms are not comparable")
    return aspect_text(reading.measure.aspect, verdict)


def _clause(reading: MetricReading) -> str:
    """Say the same in a whole sentence."""
    if change := _change(reading):
        return change
    difference = reading.effect.difference if reading.effect else 0.0
    said = difference_text(reading.measure, difference)
    return known_text(reading.measure.aspect, reading.verdict, said)


def _change(reading: MetricReading) -> str:
    """Say by how many percent cost or latency has changed; empty where that is not known."""
    aspect = reading.measure.aspect
    changed = reading.verdict in ("better", "worse") and reading.measure.better == "down"
    if aspect == "quality" or not changed or reading.relative is None:
        return ""
    percent = percent_text(abs(reading.relative))
    if aspect == "cost":
        if reading.relative < 0:
            return translated("{percent} cheaper", percent=percent)
        return translated("{percent} dearer", percent=percent)
    if reading.relative < 0:
        return translated("{percent} faster", percent=percent)
    return translated("{percent} slower", percent=percent)
