"""Measuring a base as it stands, adapter and all: held-out loss, and what it forgot."""

import json
from collections.abc import Iterator, Sequence
from importlib.resources import files

import torch

from kamerton.data.examples import Place, TextExample
from kamerton.data.rendering import Rendered, Renderer
from kamerton.models.base import Base
from kamerton.models.heads import token_logprobs
from kamerton.training.rows import make_rows, num_labelled

__all__ = ["measure_general_loss", "measure_loss"]

_GENERAL_TEXTS = "general_texts.jsonl"
_TOKENS_PER_ROW = 4096


@torch.no_grad()
def measure_loss(base: Base, rows: Sequence[Rendered]) -> float:
    """Compute a loss with whatever adapter is attached.

    Args:
        base: The base.
        rows: At least one.

    Returns:
        Mean over labelled tokens of the negative natural-log probability.
    """
    total = 0.0
    for row in make_rows(rows, _TOKENS_PER_ROW, base.device):
        hidden = base.hidden(row.ids, row.layout)
        total -= float(token_logprobs(hidden[row.at], row.targets, base.head).sum())
    return total / num_labelled(rows)


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
    return measure_loss(base, rows) if rows else None


def _general_texts() -> Iterator[TextExample]:
    path = files("kamerton.evaluation") / _GENERAL_TEXTS
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        yield TextExample(Place(_GENERAL_TEXTS, number), json.loads(line)["text"])
