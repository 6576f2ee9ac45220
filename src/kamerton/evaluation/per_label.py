"""Classes one by one: how well each label is found, and which labels are taken for which."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Group
from rich.table import Table
from rich.text import Text

from kamerton.core.language import translated, translated_count
from kamerton.evaluation.items import Answers, Item

__all__ = [
    "FEW_OF_LABEL",
    "Confusion",
    "LabelRow",
    "LabelScore",
    "PerLabel",
    "few_said",
    "per_label",
    "per_label_table",
    "whole_percent",
]

FEW_OF_LABEL = 10
"""Below so many items of a label, one item more or less moves its numbers by 10 points or more."""

_MOST_IN_MATRIX = 15
_CONFUSIONS_SHOWN = 10
_SHOWN_IN_TERMINAL = 5


@dataclass(frozen=True, slots=True)
class LabelScore:
    """How one variant does on one label.

    Attributes:
        precision: Share of its answers with this label that are right; None where it gave none.
        recall: Share of the items of this label that it found; None where there are none.
        f1: Harmonic mean of both; None where the label neither is right nor was answered.
    """

    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True, slots=True)
class LabelRow:
    """One label with the scores of all variants.

    Attributes:
        label: The label.
        num: Items of which it is the right answer.
        scores: One per variant.
    """

    label: str
    num: int
    scores: tuple[LabelScore, ...]

    @property
    def is_sparse(self) -> bool:
        """Whether there are too few items to judge by."""
        return self.num < FEW_OF_LABEL


@dataclass(frozen=True, slots=True)
class Confusion:
    """A label that was said in place of another.

    Attributes:
        said: The answer.
        right: What was right.
        num: How often.
    """

    said: str
    right: str
    num: int


@dataclass(frozen=True, slots=True)
class PerLabel:
    """Labels one by one.

    Attributes:
        variants: Names of the variants.
        judged: The variant whose confusions are listed: the last.
        rows: One per label, by F1 of that variant, the worst first; sparse labels go last.
        confusions: The most frequent first, 10 at most.
        num_wrong: All wrong answers of that variant.
        matrix: Right labels by answered ones, of the labels in alphabetical order; empty where
            they are more than 15.
    """

    variants: tuple[str, ...]
    judged: str
    rows: tuple[LabelRow, ...]
    confusions: tuple[Confusion, ...]
    num_wrong: int
    matrix: tuple[tuple[str, tuple[int, ...]], ...]

    @property
    def has_sparse(self) -> bool:
        """Whether a label has too few items to judge by."""
        return any(row.is_sparse for row in self.rows)


def per_label(items: Sequence[Item], answers: Sequence[Answers]) -> PerLabel | None:
    """Count right and wrong answers by label.

    Args:
        items: The questions.
        answers: One per variant, to these very items.

    Returns:
        The counts; None where no labels were chosen from.
    """
    if not items or not items[0].labels or items[0].pair or items[0].is_desirable is not None:
        return None
    right = [item.reference for item in items]
    last = answers[-1]
    num = Counter(right)
    labels = sorted({*right, *last.texts})
    rows = [
        LabelRow(label, num[label], tuple(_score(label, right, one.texts) for one in answers))
        for label in labels
    ]
    pairs = Counter(zip(right, last.texts, strict=True))
    wrong = {pair: times for pair, times in pairs.items() if pair[0] != pair[1]}
    most = sorted(wrong, key=lambda pair: (-wrong[pair], pair))[:_CONFUSIONS_SHOWN]
    matrix = tuple((one, tuple(pairs[one, other] for other in labels)) for one in labels)
    return PerLabel(
        variants=tuple(one.variant for one in answers),
        judged=last.variant,
        rows=tuple(sorted(rows, key=_worst_first)),
        confusions=tuple(Confusion(said, one, wrong[one, said]) for one, said in most),
        num_wrong=sum(wrong.values()),
        matrix=matrix if len(labels) <= _MOST_IN_MATRIX else (),
    )


def per_label_table(found: PerLabel) -> Group:
    """Make the short tables for a terminal: the worst labels, and what they are taken for.

    Args:
        found: The counts.

    Returns:
        Two tables, five rows each at most, of the last variant.
    """
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column(
        Text(translated("worst labels of {variant}", variant=found.judged)), overflow="fold"
    )
    for head in ("n", translated("precision"), translated("recall"), "F1"):
        table.add_column(head, justify="right", no_wrap=True)
    for row in found.rows[:_SHOWN_IN_TERMINAL]:
        score = row.scores[-1]
        numbers = map(whole_percent, (score.precision, score.recall, score.f1))
        style = "dim" if row.is_sparse else ""
        table.add_row(Text(row.label), f"{row.num:,}", *numbers, style=style)
    parts: list[Table | Text] = [table]
    if found.has_sparse:
        parts.append(Text(few_said(), style="dim"))
    if found.confusions:
        mixed = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False)
        mixed.add_column(translated("said"), overflow="fold")
        mixed.add_column(translated("where this was right"), overflow="fold")
        mixed.add_column(translated("times"), justify="right")
        for one in found.confusions[:_SHOWN_IN_TERMINAL]:
            mixed.add_row(Text(one.said), Text(one.right), f"{one.num:,}")
        parts += [Text(), mixed]
    return Group(*parts)


def few_said() -> str:
    """Say what becomes of labels with too few items.

    Returns:
        A sentence without a full stop.
    """
    return translated(
        "Labels with fewer than {few} go last: too few to judge them by",
        few=translated_count(FEW_OF_LABEL, "item"),
    )


def whole_percent(share: float | None) -> str:
    """Word a share.

    Args:
        share: 0 to 1; None where there is none.

    Returns:
        Whole percent without a sign, or a dash.
    """
    return "-" if share is None else f"{100 * share:.0f}"


def _score(label: str, right: Sequence[str], said: Sequence[str]) -> LabelScore:
    both = sum(one == label == other for one, other in zip(right, said, strict=True))
    num_right, num_said = right.count(label), said.count(label)
    return LabelScore(
        precision=both / num_said if num_said else None,
        recall=both / num_right if num_right else None,
        f1=2 * both / (num_right + num_said) if num_right + num_said else None,
    )


def _worst_first(row: LabelRow) -> tuple[bool, float, int, str]:
    f1 = row.scores[-1].f1
    return (row.is_sparse, 1.0 if f1 is None else f1, -row.num, row.label)
