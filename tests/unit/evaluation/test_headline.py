"""One sentence for each way in which a comparison can come out, in both languages."""

import dataclasses
import re
from collections.abc import Sequence

import pytest

from kamerton.core.language import speaking
from kamerton.evaluation.headline import headline, in_words
from kamerton.evaluation.results import Comparison, Cost, Difference, Kind, Measured, Unit
from kamerton.evaluation.verdicts import best_opponent, in_short, judged_variant

NAMES = ("zero-shot", "4-shot", "lora")


def found(
    kind: Kind,
    *metrics: tuple[str, Unit, str, Sequence[float], float],
    num: int = 24,
    against: tuple[str, ...] = NAMES[:2],
    names: tuple[str, ...] = NAMES,
) -> Comparison:
    """A comparison of metrics as name, unit, better direction, values by variant, and p."""
    measured = [
        Measured(name, variant, value, None, None, num)
        for name, _, _, values, _ in metrics
        for variant, value in zip(names, values, strict=True)
    ]
    value_of = {(one.metric, one.variant): one.value for one in measured}
    differences = [
        Difference(name, variant, other, change, change - 0.1, change + 0.1, p, p, "permutation")
        for name, _, _, _, p in metrics
        for variant in names
        for other in against
        if names.index(other) < names.index(variant)
        for change in [value_of[name, variant] - value_of[name, other]]
    ]
    return Comparison(
        variants=names,
        against=against,
        metrics=tuple(name for name, *_ in metrics),
        better=tuple(better for _, _, better, _, _ in metrics),
        units=tuple(unit for _, unit, *_ in metrics),
        kind=kind,
        num_items=num,
        num_groups=num,
        confidence_level=0.95,
        resamples=100,
        measured=tuple(measured),
        differences=tuple(differences),
        costs=tuple(Cost(name, 0, 0, 0, 0, 0, None, None, 0) for name in names),
    )


def labels(own: float, other: float, p: float, num: int = 24) -> Comparison:
    return found("labels", ("accuracy", "share", "higher", (0.1, other, own), p), num=num)


def texts(own: float, p: float, *, chrf: tuple[float, float] = (0.5, 1), long: float = 1.0):
    """Losses beside 2.6 of 4-shot; chrF beside 0.3, with its p; lengths."""
    return found(
        "texts",
        ("loss", "nats", "lower", (3.0, 2.6, own), p),
        ("chrF", "score", "higher", (0.1, 0.3, chrf[0]), chrf[1]),
        ("length", "ratio", "neither", (4.0, 4.0, long), 0.001),
    )


def check(own: float, other: float, p: float, better: str = "higher") -> Comparison:
    return found("checks", ("polite", "share", better, (0.1, other, own), p))


def checks(polite: float, p: float, loss: float, p_loss: float) -> Comparison:
    """A check beside 40 % of 4-shot, and losses beside 2.6."""
    return found(
        "checks",
        ("polite", "share", "higher", (0.1, 0.4, polite), p),
        ("loss", "nats", "lower", (3.0, 2.6, loss), p_loss),
    )


def cut_off(comparison: Comparison, share: float) -> Comparison:
    costs = (dataclasses.replace(cost, cut_off=share) for cost in comparison.costs)
    return dataclasses.replace(comparison, costs=tuple(costs))


def without_differences(comparison: Comparison) -> Comparison:
    return dataclasses.replace(comparison, differences=())


def alone(comparison: Comparison) -> Comparison:
    return dataclasses.replace(comparison, differences=(), against=())


SHOT = "a prompt with examples (4-shot)"
READ = "read the pairs below before you switch it on."
SENTENCES = [
    (
        labels(0.96, 0.12, 0.001),
        f"lora answers 96 % of 24 questions right, {SHOT} 12 %: switch it on.",
    ),
    (
        labels(0.12, 0.96, 0.001),
        f"lora answers 12 % of 24 questions right, {SHOT} 96 %: do not switch it on.",
    ),
    (
        labels(0.6, 0.5, 0.3),
        f"lora answers 60 % of 24 questions right, {SHOT} 50 %: the two cannot be told apart.",
    ),
    (
        without_differences(labels(1, 0, 0, num=1)),
        "lora answers 100 % of 1 question right, a prompt without examples (zero-shot) 10 %: too "
        "few for a verdict.",
    ),
    (
        alone(labels(0.6, 0.5, 1)),
        "lora has accuracy 60 % on 24 questions, and there is nothing to compare it with.",
    ),
    (
        texts(1.2, 0.001),
        f"lora is closer to your texts than {SHOT}: loss 1.20 against 2.60, and its answers are "
        f"about as long as yours; {READ}",
    ),
    (
        texts(1.2, 0.001, long=3),
        f"lora is closer to your texts than {SHOT}: loss 1.20 against 2.60, but its answers have "
        f"300 % of the length of yours; {READ}",
    ),
    (
        cut_off(texts(1.2, 0.001, long=3), 0.28),
        f"lora is closer to your texts than {SHOT}: loss 1.20 against 2.60, but 28 % of its "
        f"answers break off at the length limit; {READ}",
    ),
    (
        texts(2.8, 0.001),
        f"lora is further from your texts than {SHOT}: loss 2.80 against 2.60; do not switch it "
        "on.",
    ),
    (
        texts(2.5, 0.4),
        f"lora cannot be told apart from {SHOT} on 24 questions: loss 2.50 against 2.60; read the "
        "pairs below.",
    ),
    # What the loss cannot tell apart, chrF may.
    (
        texts(2.5, 0.4, chrf=(0.5, 0.001)),
        f"lora is closer to your texts than {SHOT}: chrF 50.0 against 30.0, and its answers are "
        f"about as long as yours; {READ}",
    ),
    (
        texts(1.2, 0.001, chrf=(0.1, 0.001)),
        f"lora and {SHOT} differ, but not in one direction: loss 1.20 against 2.60, and chrF 10.0 "
        "against 30.0; read the pairs below before you decide.",
    ),
    (
        without_differences(texts(1.2, 1)),
        f"lora against {SHOT}: loss 1.20 against 2.60 on 24 questions, too few for a verdict; read "
        "the pairs below.",
    ),
    (
        alone(texts(1.2, 1)),
        "lora has loss 1.20 on 24 questions, and there is nothing to compare it with.",
    ),
    (
        check(0.9, 0.4, 0.001),
        f'lora reaches 90 % in "polite" on 24 questions, {SHOT} 40 %: {READ}',
    ),
    (
        check(0.9, 0.4, 0.001, "neither"),
        f'lora reaches 90 % in "polite" on 24 questions, {SHOT} 40 %: only you can say whether '
        "that is better; read the pairs below.",
    ),
    # A check that cannot tell them apart leaves it to what comes after it.
    (
        checks(0.45, 0.6, 1.2, 0.001),
        f"lora is closer to your texts than {SHOT}: loss 1.20 against 2.60; {READ}",
    ),
    (
        found(
            "checks",
            ("all", "share", "higher", (0, 0, 0.04), 1),
            ("town", "share", "higher", (0, 0.02, 0.9), 0.001),
        ),
        f'lora reaches 90 % in "town" on 24 questions, {SHOT} 2 %; in "all" the two cannot be told '
        "apart (4 % against 0 %): read the pairs below before you decide.",
    ),
    (
        checks(0.9, 0.001, 3.0, 0.001),
        f"lora and {SHOT} differ, but not in one direction: polite 90 % against 40 %, and loss "
        "3.00 against 2.60; read the pairs below before you decide.",
    ),
    (
        checks(0.45, 0.6, 2.5, 0.6),
        f'lora reaches 45 % in "polite" on 24 questions, {SHOT} 40 %: the two cannot be told '
        "apart.",
    ),
]


@pytest.mark.parametrize(("comparison", "sentence"), SENTENCES)
def test_each_way_to_come_out_has_its_sentence(comparison: Comparison, sentence: str) -> None:
    assert headline(comparison) == sentence


@pytest.mark.parametrize("comparison", [comparison for comparison, _ in SENTENCES])
def test_each_sentence_is_russian_too(comparison: Comparison) -> None:
    english = headline(comparison)
    with speaking("ru"):
        russian = headline(comparison)
    names = r"lora|zero-shot|4-shot|accuracy|loss|chrF|polite|town|all|kamerton chat"
    assert not re.search("[a-zA-Z]", re.sub(names, "", russian)), russian
    # Neither language knows a number that the other does not.
    assert sorted(re.findall(r"\d+", english)) == sorted(re.findall(r"\d+", russian))
    assert "wrong" not in english


def test_pairs_and_verdicts_are_talked_to_first() -> None:
    for kind in ("pairs", "verdicts"):
        sentence = headline(found(kind, ("m", "share", "higher", (0.1, 0.5, 0.9), 0.001)))
        assert sentence.endswith("(kamerton chat) before you switch it on.")


def test_the_opponent_is_the_best_baseline_and_not_the_last() -> None:
    comparison = found("labels", ("accuracy", "share", "higher", (0.7, 0.5, 0.6), 0.001))
    assert best_opponent(comparison, "lora") == "zero-shot"
    assert headline(comparison).endswith("do not switch it on.")
    assert in_short(comparison)["against"] == "zero-shot"
    # Of losses the lowest is the best, and of equals the later one.
    assert best_opponent(texts(1.2, 0.001), "lora") == "4-shot"
    level = found("labels", ("accuracy", "share", "higher", (0.5, 0.5, 0.6), 0.001))
    assert best_opponent(level, "lora") == "4-shot"


def test_the_best_of_several_variants_is_spoken_of() -> None:
    names = ("zero-shot", "good", "bad")
    values = ("accuracy", "share", "higher", (0.1, 0.9, 0.5), 0.001)
    comparison = found("labels", values, against=names[:1], names=names)  # type: ignore[arg-type]
    assert judged_variant(comparison) == "good"
    assert headline(comparison).startswith("good answers 90 %")


def test_names_of_variants_stay_as_they_are() -> None:
    assert in_words("desk-dpo") == "desk-dpo"
    assert in_words("16-shot") == "a prompt with examples (16-shot)"
