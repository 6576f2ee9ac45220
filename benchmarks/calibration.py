"""How well the confidence of `kamerton predict` fits, on rows that the variant never saw.

    python benchmarks/calibration.py VARIANT FILE --right COLUMN

FILE holds texts as the variant's training rows, and the right label in COLUMN. Printed are share
right, mean confidence and expected calibration error for the calibrated confidence and for the two
plain ones. FILE takes no part in the calibration.
"""

import argparse
from pathlib import Path

from kamerton.core.events import Event
from kamerton.data.rows import Row
from kamerton.evaluation.calibration import Calibration, calibration_error, probabilities
from kamerton.flows.answer_form import form_of
from kamerton.flows.answering import read_asked
from kamerton.flows.calibrating import calibrate
from kamerton.flows.predict import prediction_settings
from kamerton.store.variants import find_variant
from kamerton.variants.load import load_base_for
from kamerton.variants.opening import make_ready

_BATCH = 16


def quiet(event: Event) -> None:
    """Show nothing."""


def main() -> None:
    """Score every row and print a line per form of confidence."""
    parser = argparse.ArgumentParser()
    parser.add_argument("variant")
    parser.add_argument("file", type=Path)
    parser.add_argument("--right", required=True)
    given = parser.parse_args()
    variant = find_variant(given.variant, Path("variants"))
    form = form_of(variant, quiet)
    asked = read_asked(given.file, form, prediction_settings(variant, ())[0], quiet)
    base = load_base_for(variant)
    ready = make_ready(variant, base)
    fitted, on = calibrate(variant, ready, base, form.labels, quiet)
    numbers = list(asked.questions)
    scores = []
    for at in range(0, len(numbers), _BATCH):
        chats = [asked.questions[number].chat for number in numbers[at : at + _BATCH]]
        scores += ready.engine.score(chats, [form.labels] * len(chats))
    rows = [asked.rows[number] for number in numbers]
    right = [row.fields[given.right] for row in rows if isinstance(row, Row)]
    print(f"{len(right)} rows, {len(form.labels)} labels; fitted on {on}: {fitted}")
    forms = {
        "calibrated": fitted,
        "sum, plain": Calibration(),
        "mean, plain": Calibration(length_normalised=True),
    }
    for name, how in forms.items():
        sure = [probabilities(own, how) for own in scores]
        chosen = [form.labels[int(one.argmax())] for one in sure]
        confidence = [float(one.max()) for one in sure]
        hits = [one == other for one, other in zip(chosen, right, strict=True)]
        error = calibration_error(confidence, hits)
        print(
            f"{name}: {sum(hits) / len(hits):.1%} right, confidence "
            f"{sum(confidence) / len(confidence):.1%}, calibration error {error.value:.3f} "
            f"[{error.low:.3f}, {error.high:.3f}]"
        )


if __name__ == "__main__":
    main()
