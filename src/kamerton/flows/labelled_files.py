"""What `kamerton label` gives: the kept labels, the rows for people, and the summary."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kamerton.core.errors import SettingsError
from kamerton.data.answered_files import TableForm, ensure_writable_form, write_answered
from kamerton.labelling.given_answers import Tokens
from kamerton.labelling.precision import Selection
from kamerton.labelling.teacher import Verdict

__all__ = ["Files", "Judged", "Labelled", "files_of", "write_kept", "write_review"]

_MADE = ("text", "label", "confidence")


@dataclass(frozen=True, slots=True)
class Files:
    """Where things are written.

    Attributes:
        to: What is kept.
        review: What people should look at.
        plot: The curve.
    """

    to: Path
    review: Path
    plot: Path


@dataclass(frozen=True, eq=False, slots=True)
class Judged:
    """A row with what the teacher said of it.

    Attributes:
        text: What was asked.
        verdict: The label, or why there is none.
        place: File and line.
        others: The other columns of the row.
    """

    text: str
    verdict: Verdict
    place: str
    others: Mapping[str, Any]


@dataclass(frozen=True, eq=False, slots=True)
class Labelled:
    """What came of a file.

    Attributes:
        to: The file with the kept labels; None where nothing could be kept.
        review: The file for people; None where no row needs them.
        plot: The plot of the curve.
        selection: The threshold, and all that were looked at.
        num_rows: Rows of the input.
        num_kept: Rows with a label that is kept.
        dropped: Number of rows by what became of them: "unusable", "repeat", "known" (labelled
            already: a gold row, or one that the teacher learned from), "refusal", "format",
            "too long", "not asked", "below", "over cap".
        problems: Rows that could not be asked: place and reason.
        balance: Kept rows by label, the most frequent first.
        gold_balance: Gold rows by label.
        num_gold: Gold rows that chose the threshold.
        paid: Tokens that a teacher over HTTP took for this job, in this run and before.
        cost: The same in money; None where there are no prices.
    """

    to: Path | None
    review: Path | None
    plot: Path
    selection: Selection
    num_rows: int
    num_kept: int
    dropped: Mapping[str, int]
    problems: Sequence[str]
    balance: Mapping[str, int]
    gold_balance: Mapping[str, int]
    num_gold: int
    paid: Tokens | None = None
    cost: float | None = None

    def to_json(self) -> dict[str, Any]:
        """Give the summary as plain values."""
        chosen = self.selection.chosen
        return {
            "to": str(self.to) if self.to else None,
            "review": str(self.review) if self.review else None,
            "plot": str(self.plot),
            "threshold": chosen.threshold if chosen else None,
            "precision": self.selection.precision,
            "confidence_level": self.selection.confidence_level,
            "curve": [asdict(point) for point in self.selection.curve],
            "num_rows": self.num_rows,
            "num_kept": self.num_kept,
            "num_gold": self.num_gold,
            "dropped": dict(self.dropped),
            "balance": dict(self.balance),
            "gold_balance": dict(self.gold_balance),
            "problems": list(self.problems),
            "paid": asdict(self.paid) if self.paid else None,
            "cost": self.cost,
        }


def files_of(to: Path) -> Files:
    """Name the files, and refuse what is there already.

    Args:
        to: The file for what is kept.

    Returns:
        The files.

    Raises:
        SettingsError: If one exists, or the ending says no format.
    """
    ensure_writable_form(to)
    found = Files(to, to.with_name(f"{to.stem}.review.csv"), to.with_name(f"{to.stem}.curve.svg"))
    for path in (found.to, found.review):
        if path.exists():
            raise SettingsError(
                f"--to: {path} exists, and labels never replace a file",
                hint="delete it, or choose another name; the teacher's answers are kept",
            )
    return found


def write_kept(to: Path, rows: Sequence[Judged]) -> None:
    """Write rows that `kamerton train` can learn from.

    Args:
        to: The file; its ending says the format.
        rows: The rows that are kept.
    """
    others = dict.fromkeys(name for row in rows for name in row.others if name not in _MADE)
    write_answered(
        to,
        [
            {"text": row.text, **{k: v for k, v in row.others.items() if k not in _MADE}}
            for row in rows
        ],
        [
            {"label": row.verdict.label, "confidence": round(row.verdict.confidence, 4)}
            for row in rows
        ],
        ["text", *others],
        ["label", "confidence"],
        TableForm(),
    )


def write_review(to: Path, rows: Sequence[Judged]) -> None:
    """Write rows for people, in the order in which they are given.

    The label is left empty: whoever fills it in has gold rows, or rows to learn from.

    Args:
        to: A CSV file.
        rows: The rows.
    """
    new = [
        {
            "label": "",
            "guess": row.verdict.label,
            "confidence": round(row.verdict.confidence, 4),
            "reason": row.verdict.fault or "unsure",
            "said": row.verdict.said,
            "place": row.place,
        }
        for row in rows
    ]
    write_answered(
        to, [{"text": row.text} for row in rows], new, ["text"], list(new[0]), TableForm()
    )
