"""The reference's log-probabilities for a preference objective, computed once, kept on disk."""

import json
from collections.abc import Sequence
from contextlib import nullcontext
from hashlib import sha256
from pathlib import Path

import numpy as np

from kamerton.adapters.adapter import Adapter
from kamerton.core.events import Notice, Progress, Sink
from kamerton.core.files import hash_json, write_atomically
from kamerton.core.language import translated
from kamerton.data.rendering.tokenized import TrainingExample
from kamerton.models.base import Base
from kamerton.training.scoring import References, reference_sums

__all__ = ["cached_references", "digest_of"]

_AT_ONCE = 64


def cached_references(
    base: Base,
    adapter: Adapter,
    examples: Sequence[TrainingExample],
    start: str,
    new_tokens: Sequence[str],
    tokens_per_row: int,
    folder: Path,
    sink: Sink,
) -> References:
    """Compute the reference's log-probabilities, or read them if they were computed before.

    The reference is the starting variant as it is attached, or else the base with the adapter off:
    never a second model. It must be asked before the first step.

    Args:
        base: The base with the adapter attached.
        adapter: The starting variant's adapter, or a fresh one.
        examples: Any number of examples, also none.
        start: Content hash of the starting variant; empty without one.
        new_tokens: New tokens of a fresh adapter, whose texts give the first values of their rows.
        tokens_per_row: Size of a row.
        folder: The folder of results, each under a hash of all that it depends on.
        sink: Receives progress.

    Returns:
        The sums of each example's answers.
    """
    if not examples:
        return []
    identity = base.identity
    made_of = [
        digest_of(examples), identity.weight_hash, identity.quantise, str(base.dtype),
        base.device.type, start, list(new_tokens),
    ]  # fmt: skip
    path = folder / f"{hash_json(made_of)[:32]}.json"
    if (known := _read(path, examples)) is not None:
        sink(
            Notice(
                translated(
                    "the reference's log-probabilities were computed before: {name}", name=path.name
                )
            )
        )
        return known
    found: list[Sequence[float]] = []
    with nullcontext() if start else adapter.disabled():
        for first in range(0, len(examples), _AT_ONCE):
            found += reference_sums(base, examples[first : first + _AT_ONCE], tokens_per_row)
            sink(
                Progress(translated("asking the reference"), len(found), len(examples), "examples")
            )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(found).encode())
    return found


def digest_of(examples: Sequence[TrainingExample]) -> str:
    """Hash token ids and masks; both depend on data, prompt, template, tokenizer and limits.

    Args:
        examples: The examples.

    Returns:
        SHA-256 in hex.
    """
    digest = sha256()
    for example in examples:
        digest.update(f"{example.num_prompt},{len(example.answers)};".encode())
        for row in example.answers:
            digest.update(f"{len(row.ids)}:".encode())
            digest.update(np.ascontiguousarray(row.ids, np.int32).tobytes())
            digest.update(np.ascontiguousarray(row.loss_mask, np.bool_).tobytes())
    return digest.hexdigest()


def _read(path: Path, examples: Sequence[TrainingExample]) -> References | None:
    """Read kept results; a damaged file counts as none."""
    try:
        known = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    wanted = [len(example.answers) for example in examples]
    if not isinstance(known, list) or [len(sums) for sums in known] != wanted:
        return None
    return known
