"""Calibrating a variant's confidence in labels on what was held out of its training data."""

from collections.abc import Sequence
from pathlib import Path

from kamerton.core.errors import KamertonError
from kamerton.core.events import Notice, Progress, Sink
from kamerton.core.language import translated
from kamerton.core.protocols import Score
from kamerton.core.wording import counted
from kamerton.data.examples import ClassificationExample
from kamerton.evaluation.calibration import FEWEST_ITEMS, Calibration, fit_calibration
from kamerton.evaluation.items import spread
from kamerton.flows.prepare import read_examples
from kamerton.flows.recipe import recipe_of
from kamerton.models.base import Base
from kamerton.models.context import room_of
from kamerton.store.variants import Variant
from kamerton.variants.opening import Ready

__all__ = ["calibrate"]

_MOST_ITEMS = 400
_LABELS_PER_BATCH = 1024


def calibrate(
    variant: Variant, ready: Ready, base: Base, labels: Sequence[str], sink: Sink
) -> tuple[Calibration, str]:
    """Fit how sure a variant may be of its labels.

    Args:
        variant: The variant.
        ready: The same, attached to its base.
        base: The base.
        labels: The labels to choose from.
        sink: Receives progress, and a warning where nothing could be fitted.

    Returns:
        The calibration, and what it was fitted on or why it was not.
    """
    recipe = recipe_of(variant)
    plain = Calibration(length_normalised=recipe.evaluate.length_normalised)
    held, why = _held_out(variant, labels)
    if not why:
        longest = max(labels, key=len)
        room = room_of(base)
        fitting = [one for one in held if _fits(ready, one, longest, room)]
        held = spread(fitting, _MOST_ITEMS)
        if len(held) < FEWEST_ITEMS:
            why = f"only {counted(len(held), 'held-out example')}, {FEWEST_ITEMS} are needed"
    if why:
        sink(Notice(translated("confidence is not calibrated: {why}", why=why), "warning"))
        return plain, f"not calibrated: {why}"
    scores: list[list[Score]] = []
    size = max(1, _LABELS_PER_BATCH // len(labels))
    for at in range(0, len(held), size):
        sink(Progress(translated("calibrating"), at, len(held), "held-out examples"))
        chats = [[{"role": "user", "content": one.text}] for one in held[at : at + size]]
        scores += ready.engine.score(chats, [labels] * len(chats))
    sink(Progress(translated("calibrating"), len(held), len(held), "held-out examples"))
    right = [list(labels).index(one.label) for one in held]
    found = fit_calibration(scores, right, plain.length_normalised)
    return found, f"{counted(len(held), 'held-out example')} of the variant's training data"


def _held_out(variant: Variant, labels: Sequence[str]) -> tuple[list[ClassificationExample], str]:
    """Give held-out examples of the labels, or say why there are none."""
    recipe, noted = recipe_of(variant), variant.manifest.data
    try:
        prepared = read_examples(recipe, Path(variant.manifest.recipe_folder), lambda event: None)
    except (KamertonError, OSError) as error:
        return [], f"the training data cannot be read: {error}"
    if prepared.loaded.fingerprint != noted.fingerprint:
        # Another split would put what was learned among what is held out.
        return [], f"{noted.place} has changed since the variant was trained"
    held = [*prepared.holdout, *prepared.test]
    return [
        one for one in held if isinstance(one, ClassificationExample) and one.label in labels
    ], ""


def _fits(ready: Ready, one: ClassificationExample, longest: str, room: int | None) -> bool:
    chat = ready.prompt.apply([{"role": "user", "content": one.text}])
    prompt, answers = ready.renderer.answers_ids(chat, [longest])
    return room is None or len(prompt) + len(answers[0]) <= room
