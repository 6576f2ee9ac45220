"""Advice after an evaluation: pure rules over what was measured.

A variant is judged beside the best prompt, by the first metric that has a direction. A difference
of less than three points, or 0.05 nats a token, counts as none: rules of thumb.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from kamerton.advisor.after_training import FORGOTTEN, TrainCommand, shown_rate
from kamerton.advisor.suggestion import Suggestion
from kamerton.core.language import translated, translated_count
from kamerton.evaluation.amounts import change_text, number_text
from kamerton.evaluation.results import Comparison, Difference
from kamerton.evaluation.sample_size import items_needed
from kamerton.evaluation.verdicts import verdict

__all__ = ["Judged", "LabelCount", "advise_after_evaluation"]

_RELEVANT, _RELEVANT_NATS = 0.03, 0.05
_MANY = 500
_FEW_OF_LABEL = 10
_FEWEST_MISSED = 2
_LABELS_SHOWN = 5
_PROMPT = re.compile(r"zero-shot|\d+-shot")


@dataclass(frozen=True, slots=True)
class LabelCount:
    """How a variant did with the items of one label.

    Attributes:
        asked: Items whose right answer it is.
        missed: Those of them that the variant gave another label.
        learned: Training examples with it.
    """

    asked: int
    missed: int
    learned: int


@dataclass(frozen=True, slots=True)
class Judged:
    """The variant that advice is about.

    Attributes:
        name: Its name.
        recipe: Its recipe's file, as a word of the command line.
        train: Gives the command that trains it anew with other settings.
        in_project: The words that name the project in other commands; may be empty.
        rate: Peak learning rate of its run; 0 where it was not trained.
        num_train: Examples that it learned from.
        limit: Most items that were asked, as the settings say; 0 where all were.
        labels: Its labels, where the task is to choose one.
    """

    name: str
    recipe: str
    train: TrainCommand
    in_project: str = ""
    rate: float = 0.0
    num_train: int = 0
    limit: int = 0
    labels: Mapping[str, LabelCount] = field(default_factory=dict)

    @property
    def is_trained(self) -> bool:
        """Whether there is more to it than a prompt."""
        return self.rate > 0


def advise_after_evaluation(comparison: Comparison, judged: Judged) -> list[Suggestion]:
    """Advise what to do after a comparison, the most pressing first.

    Args:
        comparison: The comparison that was found.
        judged: One of its variants.

    Returns:
        Suggestions; none where nothing follows from the numbers.
    """
    found: list[Suggestion] = []
    difference = _to_best_prompt(comparison, judged.name)
    if difference is not None:
        found += _better_in_part(comparison, difference, judged) or _compared(
            comparison, difference, judged
        )
    return [*found, *_rare_labels(judged), *_forgot(comparison, judged)]


def _to_best_prompt(comparison: Comparison, name: str) -> Difference | None:
    """Find the difference to the best prompt, in the first metric that has a direction.

    Of texts it is the first metric that tells the two apart, and where none does, the first.
    """
    unclear: Difference | None = None
    for metric, better in zip(comparison.metrics, comparison.better, strict=True):
        found = [
            one
            for other in comparison.against
            if _PROMPT.fullmatch(other)
            and (one := comparison.difference(metric, name, other)) is not None
        ]
        if better != "neither" and found:
            # The smaller the lead over a prompt, the better the prompt.
            sign = 1 if better == "higher" else -1
            least = min(found, key=lambda one: sign * one.value)
            if comparison.kind != "texts" or verdict(comparison, least) in ("better", "worse"):
                return least
            unclear = unclear or least
    return unclear


def _better_in_part(comparison: Comparison, first: Difference, judged: Judged) -> list[Suggestion]:
    """Say that a later check is passed more often, where the first one does not tell the two apart.

    Answers that have become JSON while none of them is right are on the way, and of no use yet.
    """
    if comparison.kind != "checks" or verdict(comparison, first) != "no clear difference":
        return []
    for metric in comparison.metrics:
        one = comparison.difference(metric, first.variant, first.against)
        if one is None or comparison.unit_of(metric) == "nats":
            continue
        if verdict(comparison, one) == "better":
            text = translated(
                "{variant} is better than {other} by {points:.1f} points of {metric}, but not in "
                "{first}, where it has {own:.0f} %: add examples, train longer, or take a larger "
                "base",
                variant=first.variant, other=first.against, metric=metric,
                points=100 * abs(one.value), first=first.metric,
                own=100 * comparison.measure(first.metric, first.variant).value,
            )  # fmt: skip
            return [Suggestion(text, f"kamerton advise {judged.recipe}")]
    return []


def _compared(comparison: Comparison, found: Difference, judged: Judged) -> list[Suggestion]:
    """Judge the difference to the best prompt."""
    unit = comparison.unit_of(found.metric)
    is_higher = comparison.better_of(found.metric) == "higher"
    low, high = (found.low, found.high) if is_higher else (-found.high, -found.low)
    lead = found.value if is_higher else -found.value
    relevant = _RELEVANT_NATS if unit == "nats" else _RELEVANT
    values = {"variant": found.variant, "other": found.against}
    word = verdict(comparison, found)
    if word == "better" and comparison.kind == "texts":
        text = translated(
            "{variant} writes closer to your texts than {other}: read the pairs, then use it",
            **values,
        )
        command = f"kamerton predict {judged.name}{judged.in_project} FILE --to OUT"
        return [Suggestion(text, command)]
    if word == "better" and comparison.kind in ("pairs", "verdicts"):
        text = translated(
            "{variant} tells good answers from bad ones better than {other}, by {points:.1f} "
            "points: read what it writes itself, then use it",
            **values, points=100 * lead,
        )  # fmt: skip
        return [Suggestion(text, f"kamerton chat {judged.name}{judged.in_project}")]
    if word == "better":
        text = translated(
            "{variant} is better than {other} by {amount}: use it",
            **values, amount=_amount(comparison, found.metric, lead),
        )  # fmt: skip
        command = f"kamerton predict {judged.name}{judged.in_project} FILE --to OUT"
        return [Suggestion(text, command)]
    if word == "worse":
        if comparison.kind == "texts":
            text = translated(
                "{other} writes closer to your texts than {variant}: take the prompt, add "
                "examples, or take another method",
                **values,
            )
            return [Suggestion(text, f"kamerton advise {judged.recipe}")]
        return [_worse(judged, values, _amount(comparison, found.metric, -lead))]
    if judged.is_trained and high <= relevant:
        text = translated(
            "{other} is as good: training wins at most {amount} over it, so there is no need to "
            "train",
            **values, amount=_amount(comparison, found.metric, max(0.0, high)),
        )  # fmt: skip
        return [Suggestion(text, _prompt_command(judged))]
    real = max(abs(lead), relevant)
    values |= {
        "items": translated_count(comparison.measure(found.metric, found.variant).n, "item"),
        "lead": change_text(lead, unit), "low": change_text(low, unit),
        "high": change_text(high, unit), "metric": found.metric,
        "amount": _amount(comparison, found.metric, real),
        "needed": f"{items_needed(comparison, found, real):,}",
    }  # fmt: skip
    if abs(lead) >= relevant:
        text = translated(
            "{items} cannot tell {variant} and {other} apart ({metric} {lead}, from {low} to "
            "{high}): if {amount} are real, about {needed} would show it",
            **values,
        )
    else:
        text = translated(
            "{items} cannot tell {variant} and {other} apart ({metric} {lead}, from {low} to "
            "{high}): about {needed} would show {amount}, and less hardly matters",
            **values,
        )
    is_limited = judged.limit == comparison.num_items
    more = "--set evaluate.limit=0" if is_limited else "--data MORE_EXAMPLES"
    command = f"kamerton evaluate {judged.name}{judged.in_project} {more}"
    return [Suggestion(text, command)]


def _amount(comparison: Comparison, metric: str, value: float) -> str:
    """Word a difference with its unit and metric."""
    unit = comparison.unit_of(metric)
    number = number_text(value, unit)
    if unit == "nats":
        return translated("{number} nats a token of {metric}", number=number, metric=metric)
    return translated("{number} points of {metric}", number=number, metric=metric)


def _worse(judged: Judged, values: Mapping[str, str], amount: str) -> Suggestion:
    """A prompt wins: say what could change that."""
    if judged.is_trained and judged.num_train < _MANY:
        text = translated(
            "{other} wins by {amount}: {variant} learned from {examples} only; add examples, or "
            "take another method",
            **values, amount=amount,
            examples=translated_count(judged.num_train, "training example"),
        )  # fmt: skip
        return Suggestion(text, f"kamerton advise {judged.recipe}")
    text = translated(
        "{other} wins by {amount}: take the prompt, or another method", **values, amount=amount
    )
    return Suggestion(text, _prompt_command(judged))


def _prompt_command(judged: Judged) -> str:
    """Give the command that makes a variant of a prompt alone."""
    return f"kamerton prompt search {judged.recipe}{judged.in_project}"


def _rare_labels(judged: Judged) -> list[Suggestion]:
    """Name the labels that are missed most, where there are too few examples of them."""
    rare = [
        (one.missed / one.asked, name)
        for name, one in judged.labels.items()
        if one.missed >= min(_FEWEST_MISSED, one.asked)
        and 2 * one.missed >= one.asked > 0
        and one.learned < _FEW_OF_LABEL
    ]
    if not rare or not judged.is_trained:
        return []
    rare.sort(key=lambda one: (-one[0], one[1]))
    shown = ", ".join(f"{name} ({judged.labels[name].learned})" for _, name in rare[:_LABELS_SHOWN])
    text = translated(
        "labels that are missed in half of the cases or more have fewer than {few} training "
        "examples: {labels}. Add some of each to the data, and train again",
        few=_FEW_OF_LABEL, labels=shown,
    )  # fmt: skip
    return [Suggestion(text, judged.train({}))]


def _forgot(comparison: Comparison, judged: Judged) -> list[Suggestion]:
    """General text became much less probable."""
    before = comparison.costs[0].general_loss
    after = comparison.cost(judged.name).general_loss
    if not judged.is_trained or before is None or after is None or after - before < FORGOTTEN:
        return []
    rate = shown_rate(judged.rate / 3)
    values = {"variant": judged.name, "before": before, "after": after, "rate": rate}
    if judged.labels:
        text = translated(
            "the loss of general text rose from {before:.2f} to {after:.2f} with {variant}. While "
            "it only chooses among labels that does no harm; if it is to write as well, take a "
            "smaller rate, {rate}",
            **values,
        )
    else:
        text = translated(
            "the loss of general text rose from {before:.2f} to {after:.2f} with {variant}: it "
            "forgot much of what the base knew; take a smaller rate, {rate}",
            **values,
        )
    return [Suggestion(text, judged.train({"train.learning_rate": rate}))]
