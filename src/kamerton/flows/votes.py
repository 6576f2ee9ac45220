"""Blind votes on the variants of a comparison."""

from collections.abc import Sequence
from pathlib import Path

from kamerton.core.events import Notice, Sink
from kamerton.core.language import translated
from kamerton.evaluation.votes import Votes, read_votes, votes_on
from kamerton.store.variants import Variant

__all__ = ["votes_of"]


def votes_of(path: Path, variants: Sequence[Variant], sink: Sink) -> list[Votes]:
    """Read the votes on variants as they are now, and say which others are left out.

    Args:
        path: The file of votes.
        variants: The variants that are compared.
        sink: Receives notices.

    Returns:
        The votes on each two of the variants.

    Raises:
        EvaluationError: If there are none, or the file is no file of votes.
    """
    hashes = {variant.name: variant.manifest.content_hash for variant in variants}
    voted, others = votes_on(read_votes(path), hashes)
    if others:
        sink(Notice(translated("votes left out: {others}", others="; ".join(others))))
    return voted
