"""A reading in one line that people forward, such as "quality undecided, 41 % cheaper".

`in_short` is the headline of an arm in `kamerton experiment report`, in English or Russian.
"""

from typing import Literal

from kamerton.experiments.reading import ArmReading
from kamerton.experiments.verdict import Aspect, MetricReading

__all__ = ["Language", "in_short"]

Language = Literal["en", "ru"]

_ASPECTS: dict[Language, dict[Aspect, str]] = {
    "en": {"quality": "quality", "cost": "cost", "latency": "latency"},
    "ru": {"quality": "качество", "cost": "цена", "latency": "время ответа"},
}
_WORDS: dict[Language, dict[str, str]] = {
    "en": {
        "better": "better",
        "worse": "worse",
        "about the same": "about the same",
        "undecided": "undecided",
        "hidden": "hidden: the arms are not comparable",
    },
    "ru": {
        "better": "лучше",
        "worse": "хуже",
        "about the same": "почти без разницы",
        "undecided": "пока не ясно",
        "hidden": "скрыто: группы несравнимы",
    },
}
_CHANGES: dict[Language, dict[Aspect, tuple[str, str]]] = {
    "en": {"cost": ("cheaper", "dearer"), "latency": ("faster", "slower")},
    "ru": {"cost": ("дешевле", "дороже"), "latency": ("быстрее", "медленнее")},
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
    primary = [reading for reading in arm.metrics if reading.measure.primary]
    others = [
        reading
        for reading in arm.metrics
        if not reading.measure.primary
        and reading.measure.aspect != "quality"
        and reading.verdict not in ("undecided", "hidden")
    ]
    return ", ".join(_phrase(reading, language) for reading in [*primary, *others])


def _phrase(reading: MetricReading, language: Language) -> str:
    aspect = reading.measure.aspect
    words = _CHANGES[language].get(aspect)
    changed = reading.verdict in ("better", "worse") and reading.measure.better == "down"
    if words and changed and reading.relative is not None:
        percent = f"{abs(reading.relative) * 100:.0f} %"
        word = words[0] if reading.relative < 0 else words[1]
        return f"{percent} {word}" if language == "en" else f"на {percent} {word}"
    joint = " " if language == "en" else ": "
    return f"{_ASPECTS[language][aspect]}{joint}{_WORDS[language][reading.verdict]}"
