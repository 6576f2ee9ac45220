"""A comparison in one sentence that says what to do, for somebody who reads nothing else."""

import re
from typing import Any

from kamerton.core.language import translated, translated_count
from kamerton.evaluation.amounts import number_text
from kamerton.evaluation.commonest import COMMONEST
from kamerton.evaluation.free_text import LENGTH
from kamerton.evaluation.results import Comparison
from kamerton.evaluation.verdicts import Verdict, best_opponent, judged_variant, verdict

__all__ = ["headline", "in_words"]

_MANY_CUT_OFF = 0.1
_AS_LONG = (0.8, 1.25)
"""Lengths, relative to the right answers, that hardly anybody sees a difference in."""


def headline(comparison: Comparison) -> str:
    """Sum up how the best variant did against the best baseline, by the first metric.

    Of written answers the first metric that tells the two apart decides, and where metrics
    contradict each other, none does.

    Args:
        comparison: The comparison that was found.

    Returns:
        One sentence in the current language.
    """
    variant = judged_variant(comparison)
    opponent = best_opponent(comparison, variant)
    metric = comparison.metrics[0]
    if opponent is None:
        return _alone(comparison, metric, variant)
    if comparison.kind == "reading":
        return _of_reading(comparison, variant, opponent)
    if comparison.kind in ("checks", "texts"):
        return _of_written(comparison, variant, opponent)
    claim = _claim(comparison, metric, variant, opponent)
    return _concluded(comparison, claim, _verdict(comparison, metric, variant, opponent))


def in_words(name: str) -> str:
    """Say what a baseline is to whom its name means nothing.

    Args:
        name: The name of a variant.

    Returns:
        `zero-shot` and such with what they are; other names as they are.
    """
    if name == "zero-shot":
        return translated("a prompt without examples (zero-shot)")
    if name == COMMONEST:
        return translated("always answering the commonest label")
    if re.fullmatch(r"\d+-shot", name):
        return translated("a prompt with examples ({name})", name=name)
    return name


def _verdict(comparison: Comparison, metric: str, variant: str, opponent: str) -> Verdict | None:
    """Judge a difference; None where too few items say how certain it is."""
    found = comparison.difference(metric, variant, opponent)
    return None if found is None else verdict(comparison, found)


def _alone(comparison: Comparison, metric: str, variant: str) -> str:
    return translated(
        "{variant} has {metric} {own} on {questions}, and there is nothing to compare it with.",
        variant=variant,
        metric=metric,
        own=_amount(comparison, metric, variant),
        questions=translated_count(comparison.measure(metric, variant).n, "question"),
    )


def _claim(comparison: Comparison, metric: str, variant: str, opponent: str) -> str:
    """Say what was measured of both, without a conclusion."""
    own, other = (comparison.measure(metric, name) for name in (variant, opponent))
    said: dict[str, Any] = {
        "variant": variant,
        "own": f"{100 * own.value:.0f}",
        "questions": translated_count(own.n, "question"),
        "opponent": in_words(opponent),
        "other": f"{100 * other.value:.0f}",
        "metric": metric,
    }
    match comparison.kind:
        case "labels":
            return translated(
                "{variant} answers {own} % of {questions} right, {opponent} {other} %", **said
            )
        case "pairs":
            return translated(
                "{variant} prefers the better of two answers in {own} % of {questions}, "
                "{opponent} in {other} %",
                **said,
            )
        case "verdicts":
            return translated(
                "{variant} puts answers that users liked above those that they disliked in {own} % "
                "of cases, {opponent} in {other} % ({questions})",
                **said,
            )
        case _:
            return translated(
                '{variant} reaches {own} % in "{metric}" on {questions}, {opponent} {other} %',
                **said,
            )


def _concluded(comparison: Comparison, claim: str, found: Verdict | None) -> str:
    """Say what follows from a claim."""
    match found:
        case None:
            return translated("{claim}: too few for a verdict.", claim=claim)
        case "worse":
            return translated("{claim}: do not switch it on.", claim=claim)
        case "different":
            return translated(
                "{claim}: only you can say whether that is better; read the pairs below.",
                claim=claim,
            )
        case "no clear difference":
            return translated("{claim}: the two cannot be told apart.", claim=claim)
    match comparison.kind:
        case "labels":
            return translated("{claim}: switch it on.", claim=claim)
        case "pairs" | "verdicts":
            return translated(
                "{claim}: compare what both write (kamerton chat) before you switch it on.",
                claim=claim,
            )
        case _:
            return translated("{claim}: read the pairs below before you switch it on.", claim=claim)


def _of_written(comparison: Comparison, variant: str, opponent: str) -> str:
    """Sum up written answers by what tells the two apart."""
    clear = {
        metric: found
        for metric in comparison.metrics
        if comparison.better_of(metric) != "neither"
        and (found := _verdict(comparison, metric, variant, opponent)) in ("better", "worse")
    }
    metric = next(iter(clear), comparison.metrics[0])
    against = next((other for other in clear if clear[other] != clear[metric]), None)
    if against is not None:
        return translated(
            "{variant} and {opponent} differ, but not in one direction: {numbers}, and {others}; "
            "read the pairs below before you decide.",
            variant=variant,
            opponent=in_words(opponent),
            numbers=_numbers(comparison, metric, variant, opponent),
            others=_numbers(comparison, against, variant, opponent),
        )
    found = _verdict(comparison, metric, variant, opponent)
    if comparison.unit_of(metric) == "share":
        claim = _claim(comparison, metric, variant, opponent)
        first = comparison.metrics[0]
        if found == "better" and metric != first and comparison.unit_of(first) == "share":
            # All fields together may still be wrong where one of them is right.
            return translated(
                '{claim}; in "{first}" the two cannot be told apart ({own} against {other}): read '
                "the pairs below before you decide.",
                claim=claim,
                first=first,
                own=_amount(comparison, first, variant),
                other=_amount(comparison, first, opponent),
            )
        return _concluded(comparison, claim, found)
    return _of_texts(comparison, metric, found, variant, opponent)


def _of_reading(comparison: Comparison, variant: str, opponent: str) -> str:
    """Sum up how well texts are foreseen that nobody asks for."""
    metric = comparison.metrics[0]
    numbers = _numbers(comparison, metric, variant, opponent)
    said = {"variant": variant, "opponent": in_words(opponent), "numbers": numbers}
    match _verdict(comparison, metric, variant, opponent):
        case "better":
            return translated(
                "{variant} foresees your texts better than {opponent} does: {numbers}.", **said
            )
        case "worse":
            return translated(
                "{variant} foresees your texts worse than {opponent} does: {numbers}; do not "
                "switch it on.",
                **said,
            )
        case _:
            return translated(
                "{variant} and {opponent} foresee your texts equally well, as far as so few can "
                "tell: {numbers}.",
                **said,
            )


def _of_texts(
    comparison: Comparison, metric: str, found: Verdict | None, variant: str, opponent: str
) -> str:
    """Sum up how like the right texts the answers are, by loss or chrF."""
    said: dict[str, Any] = {
        "variant": variant,
        "opponent": in_words(opponent),
        "numbers": _numbers(comparison, metric, variant, opponent),
        "questions": translated_count(comparison.measure(metric, variant).n, "question"),
    }
    if found is None:
        return translated(
            "{variant} against {opponent}: {numbers} on {questions}, too few for a verdict; read "
            "the pairs below.",
            **said,
        )
    if found == "worse":
        return translated(
            "{variant} is further from your texts than {opponent}: {numbers}; do not switch it on.",
            **said,
        )
    if found != "better":
        return translated(
            "{variant} cannot be told apart from {opponent} on {questions}: {numbers}; read the "
            "pairs below.",
            **said,
        )
    if LENGTH not in comparison.metrics:
        return translated(
            "{variant} is closer to your texts than {opponent}: {numbers}; read the pairs below "
            "before you switch it on.",
            **said,
        )
    cut_off = comparison.cost(variant).cut_off
    if cut_off > _MANY_CUT_OFF:
        # Most of these repeat themselves for ever, which no other number shows.
        return translated(
            "{variant} is closer to your texts than {opponent}: {numbers}, but {share} % of its "
            "answers break off at the length limit; read the pairs below before you switch it on.",
            share=f"{100 * cut_off:.0f}",
            **said,
        )
    length = comparison.measure(LENGTH, variant).value
    if _AS_LONG[0] <= length <= _AS_LONG[1]:
        return translated(
            "{variant} is closer to your texts than {opponent}: {numbers}, and its answers are "
            "about as long as yours; read the pairs below before you switch it on.",
            **said,
        )
    return translated(
        "{variant} is closer to your texts than {opponent}: {numbers}, but its answers have "
        "{length} % of the length of yours; read the pairs below before you switch it on.",
        length=f"{100 * length:.0f}",
        **said,
    )


def _numbers(comparison: Comparison, metric: str, variant: str, opponent: str) -> str:
    own, other = (_amount(comparison, metric, name) for name in (variant, opponent))
    return translated("{metric} {own} against {other}", metric=metric, own=own, other=other)


def _amount(comparison: Comparison, metric: str, variant: str) -> str:
    value, unit = comparison.measure(metric, variant).value, comparison.unit_of(metric)
    return f"{100 * value:.0f} %" if unit == "share" else number_text(value, unit)
