"""A reading in one line that people forward, such as "quality undecided, 41 % cheaper".

`in_short` is the headline of an arm in `kamerton experiment report`, and `headline` the first
sentence of the page; both in English or Russian.
"""

from kamerton.experiments.amounts import difference_text, percent_text
from kamerton.experiments.reading import ArmReading
from kamerton.experiments.registered import RegisteredExperiment
from kamerton.experiments.verdict import Aspect, MetricReading
from kamerton.experiments.words import Language, word

__all__ = ["Language", "headline", "in_short"]

_CHANGES: dict[Aspect, tuple[str, str]] = {
    "cost": ("cheaper", "dearer"),
    "latency": ("faster", "slower"),
}


def in_short(arm: ArmReading, language: Language = "en") -> str:
    """Sum up an arm: the primary metric first, then what is known of cost and latency.

    Args:
        arm: What is known about the arm.
        language: English or Russian.

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
    return ", ".join(_phrase(reading, language) for reading in [*_primary(arm), *known])


def headline(
    experiment: RegisteredExperiment,
    arm: ArmReading,
    language: Language = "en",
    *,
    stopped: bool = False,
) -> str:
    """Say in one sentence what to do, and what is known of quality, cost and latency.

    Args:
        experiment: As it was registered.
        arm: What is known about one of its arms.
        language: English or Russian.
        stopped: Whether the arm was stopped while the experiment ran.

    Returns:
        The sentence. It tells no effect where the arms are not comparable.
    """
    arms = experiment.settings.arms
    names = {
        "variant": arms[arm.arm].variant,
        "control": arms[experiment.settings.control].variant,
        "answering": experiment.answering,
    }
    key = "ended" if not experiment.is_running else "stopped arm" if stopped else arm.decision
    advice = word(language, f"advice.{key}", **names)
    if any(reading.verdict == "hidden" for reading in arm.metrics):
        if key != "investigate":
            advice = f"{advice}; {_lower(word(language, 'advice.investigate'))}"
        return f"{advice}."
    measured = [
        reading
        for reading in arm.metrics
        if not reading.measure.primary
        and reading.measure.name in ("cost", "latency")
        and reading.effect is not None
    ]
    known = ", ".join(_clause(reading, language) for reading in [*_primary(arm), *measured])
    if any(
        reading.measure.name in arm.missing and not arm.missing[reading.measure.name].comparable
        for reading in _primary(arm)
    ):
        known = word(language, "unequally rated", known=known)
    if not experiment.is_running:
        return f"{advice}; {word(language, 'result of', **names)}: {known}."
    return f"{advice}; {known}." if ":" in advice else f"{advice}: {known}."


def _primary(arm: ArmReading) -> list[MetricReading]:
    return [reading for reading in arm.metrics if reading.measure.primary]


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _phrase(reading: MetricReading, language: Language) -> str:
    if change := _change(reading, language):
        return change
    aspect = reading.measure.aspect
    key = "hidden" if reading.verdict == "hidden" else f"verdict.{reading.verdict}"
    return word(language, f"aspect.{aspect}") + word(language, "joint") + word(language, key)


def _clause(reading: MetricReading, language: Language) -> str:
    """Say the same in a whole sentence."""
    if change := _change(reading, language):
        return change
    difference = reading.effect.difference if reading.effect else 0.0
    said = difference_text(reading.measure, difference, language)
    key = f"known.{reading.measure.aspect}.{reading.verdict}"
    return word(language, key, difference=said)


def _change(reading: MetricReading, language: Language) -> str:
    """Say by how many percent cost or latency has changed; empty where that is not known."""
    words = _CHANGES.get(reading.measure.aspect)
    changed = reading.verdict in ("better", "worse") and reading.measure.better == "down"
    if not words or not changed or reading.relative is None:
        return ""
    key = words[0] if reading.relative < 0 else words[1]
    return word(language, key, percent=percent_text(abs(reading.relative), language))
