"""Measuring what a base forgot: its loss on general text."""

import json
from collections.abc import Iterator
from importlib.resources import files

from kamerton.core.events import Notice, Sink
from kamerton.core.language import translated, translated_number
from kamerton.data.examples import SourceLocation, TextExample
from kamerton.data.rendering.renderer import Renderer
from kamerton.data.rendering.tokenized import num_tokens
from kamerton.models.base import Base
from kamerton.models.rows.packing import TOKENS_PER_ROW
from kamerton.training.scoring import mean_loss

__all__ = ["measure_general_loss", "num_general_tokens", "say_forgotten"]

_GENERAL_TEXTS = "general_texts.jsonl"

# Nats a token; narrow tasks that are learned well cost a few tenths.
_MUCH = 1.0


def measure_general_loss(
    base: Base, renderer: Renderer, tokens_per_row: int = TOKENS_PER_ROW
) -> float | None:
    """Compute the loss on general text: what it has risen by over the base's was forgotten.

    The texts are 32 sentences in English and Russian about everyday matters: enough to see a base
    being overwritten, too few for a fine comparison.

    Args:
        base: The base, with or without an adapter.
        renderer: The base's renderer.
        tokens_per_row: Tokens computed at once.

    Returns:
        Mean over tokens, no prompt before the texts. None when the base cannot take them.
    """
    rows, _ = renderer.render_all(_general_texts())
    return mean_loss(base, rows, tokens_per_row) if rows else None


def num_general_tokens(renderer: Renderer) -> int:
    """Count what `measure_general_loss` reads.

    Args:
        renderer: The base's renderer.

    Returns:
        Tokens.
    """
    return sum(map(num_tokens, renderer.render_all(_general_texts())[0]))


def say_forgotten(name: str, before: float | None, after: float | None, sink: Sink) -> None:
    """Warn of a variant that has lost much of its base's language.

    Args:
        name: The variant's name.
        before: The base's loss on general text, mean over tokens; None when it was not measured.
        after: The variant's.
        sink: Receives the warning.
    """
    if before is not None and after is not None and not after - before < _MUCH:
        message = translated(
            "{name}: the loss on general text rose from {before} to {after}: it has forgotten much "
            "of what the base knew",
            name=name,
            before=translated_number(f"{before:.2f}"),
            after=translated_number(f"{after:.2f}"),
        )
        sink(Notice(message, "warning"))


def _general_texts() -> Iterator[TextExample]:
    path = files("kamerton.evaluation") / _GENERAL_TEXTS
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        yield TextExample(SourceLocation(_GENERAL_TEXTS, number), json.loads(line)["text"])
