"""Metrics of live traffic: those that are built in, and those that a TOML file declares."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from kamerton.core.errors import SettingsError
from kamerton.core.settings import Settings, read_toml
from kamerton.evaluation.settings import Check, JsonCheck, RefusalCheck, RulesCheck

__all__ = ["BUILT_IN", "LiveMetric", "MetricsFile", "Price", "metric_problem", "read_metrics"]

Better = Literal["up", "down", "neither"]


class LiveMetric(Settings):
    """A metric of live traffic."""

    name: str = Field(pattern="^[a-z][a-z0-9_]{0,63}$")
    """How feedback and tables name it: small Latin letters, digits and "_"."""
    type: Literal["boolean", "number", "label"]
    """What its values are."""
    level: Literal["request", "conversation", "unit"] = "request"
    """What one value is about: a conversation or a unit counts once, however often it asks. Of
    several numbers it takes the mean, of several truths whether one is true."""
    better: Better = "up"
    """Which direction is better; "neither" where none is."""
    from_: Literal["feedback", "check", "record"] = Field(default="feedback", alias="from")
    """Where values come from: "feedback" that people and programs send, a "check" of the answer,
    or the "record" of the request, as built-in ones do."""
    least: float | None = None
    """Smallest number that is taken."""
    most: float | None = None
    """Largest number that is taken."""
    labels: tuple[str, ...] = ()
    """Words that are taken; any where none is given."""
    check: Check | None = None
    """The check, where values come from one: "json", "rules" or "refusal", which need no right
    answer. Corrections must pass a "json" check too."""
    variants: tuple[str, ...] = ()
    """Served models whose answers are checked; all where none is given."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.variants and self.check is None:
            raise ValueError("variants are for metrics with a check")
        if (self.from_ == "check") != (self.check is not None):
            raise ValueError('check must be given with from = "check" and only then')
        if self.check is not None and not isinstance(
            self.check, JsonCheck | RulesCheck | RefusalCheck
        ):
            raise ValueError(
                f'check must need no right answer ("json", "rules" or "refusal"), got '
                f"'{self.check.kind}'"
            )
        if self.from_ == "check" and self.type != "boolean":
            raise ValueError(f"a check gives a boolean, got type '{self.type}'")
        if self.type != "number" and (self.least is not None or self.most is not None):
            raise ValueError(f"least and most are for numbers, got type '{self.type}'")
        if self.type != "label" and self.labels:
            raise ValueError(f"labels are for the type 'label', got '{self.type}'")
        if self.type == "label" and self.better != "neither":
            # "up" is the default, which says nothing of words.
            object.__setattr__(self, "better", "neither")
        return self


class Price(Settings):
    """What the answers of a variant cost, in your currency."""

    variant: str = ""
    """Name of the served model; empty fits all."""
    per_million_prompt_tokens: float = Field(default=0.0, ge=0)
    """Price of what is read."""
    per_million_answer_tokens: float = Field(default=0.0, ge=0)
    """Price of what is written."""


class MetricsFile(Settings):
    """A file that declares metrics."""

    metric: tuple[LiveMetric, ...] = ()
    """One table `[[metric]]` for each."""
    price: tuple[Price, ...] = ()
    """What answers cost, one table `[[price]]` for each variant or for all; the first that fits
    counts, and without any there is no cost."""

    @property
    def metrics(self) -> dict[str, LiveMetric]:
        """Built-in and declared ones by name."""
        return {**BUILT_IN, **{metric.name: metric for metric in self.metric}}

    def cost(self, variant: str, prompt_tokens: int, answer_tokens: int) -> float | None:
        """Price an answer.

        Args:
            variant: Who answered.
            prompt_tokens: What it read.
            answer_tokens: What it wrote.

        Returns:
            In your currency; None where no price is known.
        """
        for price in self.price:
            if price.variant in ("", variant):
                read = prompt_tokens * price.per_million_prompt_tokens
                return (read + answer_tokens * price.per_million_answer_tokens) / 1e6
        return None


def _built_in(
    name: str,
    kind: Literal["boolean", "number", "label"],
    better: Better,
    source: Literal["feedback", "record"],
    level: Literal["request", "conversation"] = "request",
    **bounds: float,
) -> LiveMetric:
    values = {"name": name, "type": kind, "better": better, "from": source, "level": level}
    return LiveMetric.parse({**values, **bounds})


BUILT_IN: Mapping[str, LiveMetric] = {
    metric.name: metric
    for metric in (
        _built_in("refusal", "boolean", "down", "record"),
        _built_in("accuracy", "boolean", "up", "record"),
        _built_in("invalid_format", "boolean", "down", "record"),
        _built_in("error", "boolean", "down", "record"),
        _built_in("latency", "number", "down", "record"),
        _built_in("time_to_first_token", "number", "down", "record"),
        _built_in("cost", "number", "down", "record"),
        _built_in("asked_again", "boolean", "down", "record"),
        _built_in("edited", "number", "down", "record"),
        _built_in("rating", "number", "up", "feedback", least=1, most=5),
        _built_in("thumbs", "boolean", "up", "feedback"),
        _built_in("escalation", "boolean", "down", "feedback", "conversation"),
    )
}
"""`accuracy`: whether all checks pass. `edited`: the share of the answer that its correction
changed. `asked_again`: whether the same conversation, else the same unit, came again within two
minutes. `thumbs`: up or down."""


def read_metrics(place: Path) -> MetricsFile:
    """Read a file that declares metrics.

    Args:
        place: TOML with a table `[[metric]]` for each.

    Returns:
        What it declares.

    Raises:
        SettingsError: If it cannot be read, is wrong, or has a name twice or a built-in one.
    """
    found = MetricsFile.parse(read_toml(place), source=str(place))
    names = [metric.name for metric in found.metric]
    problems = [
        f"{place}: metric '{name}' must be declared once and not be built in"
        for name in dict.fromkeys(names)
        if names.count(name) > 1 or name in BUILT_IN
    ]
    if problems:
        raise SettingsError(problems, hint=f"built in are {', '.join(BUILT_IN)}")
    return found


def metric_problem(
    metrics: Mapping[str, LiveMetric], name: str, value: float | bool | None, label: str | None
) -> str | None:
    """Say what is wrong with a value that somebody sends.

    Args:
        metrics: The known ones.
        name: Name of the metric.
        value: A number or a truth; None without one.
        label: A word; None without one.

    Returns:
        What must hold and what was found; None where all is well.
    """
    taken = [each for each, metric in metrics.items() if metric.from_ == "feedback"]
    metric = metrics.get(name)
    if metric is None or name not in taken:
        what = "is no metric" if metric is None else "is measured, and not sent as feedback"
        return f"name: '{name[:80]}' {what}; feedback may be: {', '.join(taken)}"
    if metric.type == "label":
        return _label_problem(metric, value, label)
    if label is not None or value is None:
        return f"value: '{name}' takes a {metric.type} as value and no label"
    if metric.type == "boolean" and value not in (0, 1):
        return f"value: '{name}' must be true or false, got {value}"
    if metric.type == "number" and isinstance(value, bool):
        return f"value: '{name}' must be a number, got {str(value).lower()}"
    least, most = metric.least, metric.most
    if (least is not None and value < least) or (most is not None and value > most):
        bounds = [f"at least {least:g}"] if least is not None else []
        bounds += [f"at most {most:g}"] if most is not None else []
        return f"value: '{name}' must be {' and '.join(bounds)}, got {value:g}"
    return None


def _label_problem(metric: LiveMetric, value: float | bool | None, label: str | None) -> str | None:
    if label is None or value is not None:
        return f"label: '{metric.name}' takes a label and no value"
    if metric.labels and label not in metric.labels:
        return f"label: '{metric.name}' takes {_either(metric.labels)}, got '{label[:80]}'"
    return None


def _either(words: Sequence[str]) -> str:
    return ", ".join(words[:-1]) + f" or {words[-1]}" if len(words) > 1 else words[0]
