"""Measuring what a base forgot: its loss on general text."""

import json
from collections.abc import Iterator
from importlib.resources import files

from kamerton.data.examples import Place, TextExample
from kamerton.data.rendering.renderer import Renderer
from kamerton.models.base import Base
from kamerton.training.measure import mean_loss

__all__ = ["measure_general_loss"]

_GENERAL_TEXTS = "general_texts.jsonl"


def measure_general_loss(base: Base, renderer: Renderer) -> float | None:
    """Compute the loss on general text: what it has risen by over the base's was forgotten.

    The texts are 32 sentences in English and Russian about everyday matters: enough to see a base
    being overwritten, too few for a fine comparison.

    Args:
        base: The base, with or without an adapter.
        renderer: Of the base.

    Returns:
        Mean over tokens, no prompt before the texts. None when the base cannot take them.
    """
    rows, _ = renderer.render_all(_general_texts())
    return mean_loss(base, rows) if rows else None


def _general_texts() -> Iterator[TextExample]:
    path = files("kamerton.evaluation") / _GENERAL_TEXTS
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        yield TextExample(Place(_GENERAL_TEXTS, number), json.loads(line)["text"])
