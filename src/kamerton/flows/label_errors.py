"""`kamerton check --labels`: rows whose label a variant, which did not learn them, finds wrong."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from kamerton.core.errors import DataError
from kamerton.core.events import Progress, Sink
from kamerton.core.language import translated
from kamerton.data.examples import ClassificationExample, Example
from kamerton.data.identity import question_hash
from kamerton.flows.answer_form import form_of
from kamerton.flows.answering import asked_texts, label_probabilities
from kamerton.flows.calibrating import calibrate
from kamerton.labelling.confident import find_label_errors
from kamerton.store.trained_on import read_trained_on, short_hash
from kamerton.store.variants import Variant
from kamerton.variants.load import Opening, load_base_for
from kamerton.variants.opening import ensure_writes, make_ready

__all__ = ["CheckedLabels", "Suspicion", "check_labels"]


@dataclass(frozen=True, slots=True)
class Suspicion:
    """A row whose label is probably wrong.

    Attributes:
        place: File and line.
        text: Its text.
        label: Its label.
        likely: The label that it probably should have.
        probability: Probability of its own label, 0 to 1.
        likely_probability: Probability of the other one.
    """

    place: str
    text: str
    label: str
    likely: str
    probability: float
    likely_probability: float


@dataclass(frozen=True, eq=False, slots=True)
class CheckedLabels:
    """What a variant makes of given labels.

    Attributes:
        found: Probable errors, the least probable label first.
        num_checked: Rows that were looked at.
        num_learned: Rows left out because the variant learned from them.
        num_unknown: Rows left out because the variant does not know their label.
    """

    found: Sequence[Suspicion]
    num_checked: int
    num_learned: int
    num_unknown: int

    def to_json(self) -> dict[str, Any]:
        """Give the findings as plain values."""
        return {**asdict(self), "found": [asdict(one) for one in self.found]}


def check_labels(
    variant: Variant, examples: Sequence[Example], sink: Sink, *, opening: Opening | None = None
) -> CheckedLabels:
    """Find labels that are probably wrong.

    Args:
        variant: Judges. What it learned from is left out: it would agree with every error there.
        examples: Texts and labels.
        sink: Receives progress and warnings.
        opening: The way the base is opened.

    Returns:
        The findings.

    Raises:
        DataError: If no row can be judged.
    """
    ensure_writes(variant, "asked about labels")
    labels = form_of(variant, sink).labels
    given = [one for one in examples if isinstance(one, ClassificationExample)]
    if not labels or not given:
        raise DataError(
            translated("--labels needs texts with labels, and a variant that learned such"),
        )
    learned = read_trained_on(variant) or frozenset()
    new = [one for one in given if short_hash(question_hash(one)) not in learned]
    rows = [one for one in new if one.label in labels]
    if not rows:
        raise DataError(
            translated(
                "{name} learned from all of these rows or from other labels", name=variant.name
            ),
            hint=translated(
                "train a variant on other rows: with data.holdout = 0.5 it leaves half of them"
            ),
        )
    base = load_base_for(variant, opening or Opening(sink=sink))
    ready = make_ready(variant, base)
    calibration, _ = calibrate(variant, ready, base, labels, sink)
    asked = asked_texts([one.text for one in rows], [one.location for one in rows])
    sure: dict[int, Any] = {}
    numbers = list(range(len(rows)))
    task = translated("looking at labels")
    for done, (number, found) in enumerate(
        label_probabilities(ready, base, asked, numbers, labels, calibration), 1
    ):
        if not isinstance(found, str):
            sure[number] = found
        sink(Progress(task, done, len(rows), "rows"))
    judged = sorted(sure)
    if not judged:
        return CheckedLabels((), 0, len(given) - len(new), len(new) - len(rows))
    place = {name: number for number, name in enumerate(labels)}
    errors = find_label_errors(
        np.stack([sure[number] for number in judged]),
        [place[rows[number].label] for number in judged],
    )
    suspicions = [
        Suspicion(
            str((row := rows[judged[one.row]]).location),
            row.text,
            row.label,
            labels[one.likely],
            one.given_probability,
            one.likely_probability,
        )
        for one in errors
    ]
    return CheckedLabels(suspicions, len(judged), len(given) - len(new), len(new) - len(rows))
