"""Training of the classifiers behind `kind = "style"` checks, before anything is asked."""

from collections.abc import Sequence
from pathlib import Path

from kamerton.core.events import Notice, Sink
from kamerton.core.language import translated
from kamerton.data.dataset import load_examples
from kamerton.data.examples import (
    ChatExample,
    Example,
    FeedbackExample,
    PreferenceExample,
    TextExample,
)
from kamerton.data.identity import answer_text, normal_text, rejected_text
from kamerton.evaluation.items import spread
from kamerton.evaluation.reliability import LEAST_RELIABLE, reliability_text
from kamerton.evaluation.settings import Check, EvaluationSettings, StyleCheck
from kamerton.evaluation.style import (
    FEWEST_TEXTS,
    FittedStyle,
    Passage,
    fit_style,
    measure_reliability,
    without_frame,
)

__all__ = ["fit_styles"]

_MOST_TEXTS = 2_000


def fit_styles(
    settings: EvaluationSettings, train: Sequence[Example], folder: Path, sink: Sink
) -> tuple[Check | FittedStyle, ...]:
    """Train a classifier for each style check.

    Args:
        settings: Its checks, and the coverage of intervals.
        train: What the variant learned from; nothing of it is measured on.
        folder: The folder that files of checks are relative to.
        sink: Receives which are left out, and why.

    Returns:
        The checks, those of style fitted; without those that cannot be trusted.

    Raises:
        DataError: If a file cannot be read.
    """
    checks: list[Check | FittedStyle] = []
    for check in settings.checks:
        if not isinstance(check, StyleCheck):
            checks.append(check)
            continue
        brand, others = _brand(check, train, folder), _others(check, train, folder)
        if missing := _missing(check, brand, others):
            sink(Notice(missing, "warning"))
            continue
        against = _against(check, train)
        reliability = measure_reliability(
            check.title, against, brand, others, settings.confidence_level, settings.seed
        )
        if not reliability.is_enough:
            sink(
                Notice(
                    translated(
                        "{text}. That may be less than {least} %, so this check is left out; it "
                        "needs more texts, or others that differ more from the brand's",
                        text=reliability_text(reliability),
                        least=f"{100 * LEAST_RELIABLE:.0f}",
                    ),
                    "warning",
                )
            )
            continue
        classifier = fit_style([one.text for one in brand], [one.text for one in others])
        checks.append(FittedStyle(check, classifier, reliability))
    return tuple(checks)


def _brand(check: StyleCheck, train: Sequence[Example], folder: Path) -> list[Passage]:
    if check.texts:
        return _of_file(check.texts, folder)
    return _different(
        [
            (answer_text(one), _group(one, number))
            for number, one in enumerate(train)
            # What users disliked is not what the brand wants to sound like.
            if not (isinstance(one, FeedbackExample) and not one.is_desirable)
        ]
    )


def _others(check: StyleCheck, train: Sequence[Example], folder: Path) -> list[Passage]:
    if check.against:
        return _of_file(check.against, folder)
    groups = [_group(one, number) for number, one in enumerate(train)]
    pairs = [one for one in train if isinstance(one, PreferenceExample)]
    if pairs and len(pairs) == len(train):
        texts = [rejected_text(pair) for pair in pairs]
    else:
        # What every question says is the task's instruction, and nobody's style.
        texts = without_frame(
            [_last_question(one) for one in train], [answer_text(one) for one in train]
        )
    return _different(list(zip(texts, groups, strict=True)))


def _against(check: StyleCheck, train: Sequence[Example]) -> str:
    if check.against:
        return Path(check.against).name
    if train and all(isinstance(one, PreferenceExample) for one in train):
        return translated("the worse answers")
    return translated("the questions")


def _last_question(example: Example) -> str:
    match example:
        case ChatExample():
            turns = example.messages
        case FeedbackExample() | PreferenceExample():
            turns = example.prompt
        case _:
            return ""
    asked = [turn.get("content") for turn in turns if turn.get("role") == "user"]
    return asked[-1] if asked and isinstance(asked[-1], str) else ""


def _of_file(name: str, folder: Path) -> list[Passage]:
    path = folder / name
    examples = load_examples(path if path.exists() else name).examples
    texts = [one.text if isinstance(one, TextExample) else answer_text(one) for one in examples]
    if len(texts) == 1:
        # Without empty lines a text file is read as one text.
        texts = texts[0].splitlines()
    return _different([(text, f"{name}:{number}") for number, text in enumerate(texts)])


def _group(example: Example, number: int) -> str:
    # A text and its rewriting share their facts: a classifier must not know them from the other.
    return example.group or f"\0{number}"


def _different(found: Sequence[tuple[str, str]]) -> list[Passage]:
    """Keep each text once, and not more than a classifier needs."""
    kept: dict[str, Passage] = {}
    for text, group in found:
        if text.strip():
            kept.setdefault(normal_text(text), Passage(text, group))
    return spread(list(kept.values()), _MOST_TEXTS)


def _missing(check: StyleCheck, brand: Sequence[Passage], others: Sequence[Passage]) -> str:
    """Say of what there is too little; nothing where there is enough."""
    if len(brand) < FEWEST_TEXTS:
        return translated(
            "{metric}: this check needs {least} of the brand's texts or more and is left out, as "
            'there are {num}; name a file with more of them: texts = "brand.txt"',
            metric=check.title,
            least=FEWEST_TEXTS,
            num=len(brand),
        )
    if len(others) < FEWEST_TEXTS:
        return translated(
            "{metric}: this check needs {least} texts or more that are not the brand's and is "
            'left out, as there are {num}; name a file with more of them: against = "others.txt"',
            metric=check.title,
            least=FEWEST_TEXTS,
            num=len(others),
        )
    return ""
