"""Text that a base cannot read: its tokenizer gives one token for all that it does not know."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kamerton.core.errors import DataError
from kamerton.core.events import Notice, Sink
from kamerton.data.rendering.tokenized import TokenizedPrompt, TrainingExample

__all__ = ["say_unknown", "unknown_share"]

_WARNED = 0.01
_LARGEST = 0.2


def say_unknown(tokenizer: Any, rows: Sequence[TrainingExample], sink: Sink) -> None:
    """Say which share of the tokens is unknown to the base, and refuse data that are mostly so.

    Args:
        tokenizer: Tokenizer of the base.
        rows: To learn from.
        sink: Receives a notice if there are any.

    Raises:
        DataError: If more than a fifth of all tokens, or of those that are learned, is unknown.
    """
    share, what = unknown_share(tokenizer, rows)
    if share > _LARGEST:
        raise DataError(
            f"{what}; at most {100 * _LARGEST:.0f} % can be learned with",
            hint="take a base whose tokenizer knows the script of the data, and look at the "
            "encoding of the file",
        )
    if share:
        sink(Notice(what, "warning" if share >= _WARNED else "info"))


def unknown_share(tokenizer: Any, rows: Sequence[TrainingExample]) -> tuple[float, str]:
    """Count tokens that stand for text which a base does not know.

    Characters that a tokenizer writes as bytes are not unknown.

    Args:
        tokenizer: Tokenizer of the base.
        rows: To learn from.

    Returns:
        Their share, of all tokens or of those that are learned, whichever is larger, from 0 to 1;
        and a sentence about it, empty when there are none.
    """
    unknown = tokenizer.unk_token_id
    if unknown is None or unknown in (tokenizer.eos_token_id, tokenizer.bos_token_id):
        # What also begins or ends texts, as with GPT-2, never stands for characters.
        return 0.0, ""
    # By [all tokens, learned tokens]: how many there are, and how many are unknown.
    counts, found, first = np.zeros(2), np.zeros(2), None
    for row in rows:
        for ids, learned in _parts(row):
            hit = ids == unknown
            counts += len(ids), learned.sum()
            found += hit.sum(), (hit & learned).sum()
            first = first or (row.location if hit.any() else None)
    share = float((found / np.maximum(counts, 1)).max())
    if not share:
        return 0.0, ""
    return share, (
        f"{100 * share:.2g} % of the tokens are {tokenizer.unk_token} (the first in {first}): the "
        "base's tokenizer does not know these characters, and cannot write them"
    )


def _parts(row: TrainingExample) -> list[tuple[Any, Any]]:
    """Token ids of a row's texts, and which of them are learned."""
    parts = [(answer.ids, answer.loss_mask) for answer in row.answers]
    if isinstance(row, TokenizedPrompt):
        parts.append((row.ids, np.zeros(len(row.ids), bool)))
    return parts
