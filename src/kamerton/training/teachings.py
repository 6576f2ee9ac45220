"""What a teacher says at the labelled tokens of examples: computed once, kept on disk."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kamerton.core.events import Notice, Progress, Sink
from kamerton.core.files import write_atomically
from kamerton.core.language import translated
from kamerton.data.rendering.tokenized import TrainingExample
from kamerton.models.base import Base
from kamerton.models.heads import candidate_logprobs, top_logprobs
from kamerton.models.rows.reading import by_example
from kamerton.models.rows.row import Row, make_rows, num_labelled

__all__ = ["Teaching", "Teachings", "ask_teacher", "cached_teachings", "read_taught", "taught_of"]

_AT_ONCE = 64


@dataclass(frozen=True, eq=False, slots=True)
class Teaching:
    """What the teacher says of one example.

    Attributes:
        ids: [N, K] int32, its most probable tokens at each of N labelled tokens.
        logprobs: [N, K] float16, their natural logs at `temperature`.
        temperature: Divided its logits.
    """

    ids: NDArray[np.int32]
    logprobs: NDArray[np.float16]
    temperature: float


Teachings = Sequence[Teaching]
"""By example."""


def read_taught(base: Base, row: Row, teachings: Teachings) -> Tensor:
    """Run a row for its own log-probabilities and those of the teacher's tokens.

    Args:
        base: The base with whatever adapter is attached.
        row: The row.
        teachings: Of the examples that `row.members` counts.

    Returns:
        [N, 1 + K] natural logs, fp32.
    """
    mine = [teachings[member] for member in row.members]
    ids = torch.from_numpy(np.concatenate([one.ids for one in mine])).long().to(base.device)
    hidden = base.hidden(row.ids, row.layout)[row.at]
    return candidate_logprobs(hidden, row.targets, ids, base.head, mine[0].temperature)


def taught_of(row: Row, teachings: Teachings, device: torch.device) -> Tensor:
    """Give what the teacher says of a row.

    Args:
        row: The row.
        teachings: Of the examples that `row.members` counts.
        device: Where to.

    Returns:
        [N, K] natural logs, fp32.
    """
    own = np.concatenate([teachings[member].logprobs for member in row.members])
    return torch.from_numpy(own).float().to(device)


@torch.no_grad()
def ask_teacher(
    base: Base,
    examples: Sequence[TrainingExample],
    k: int,
    temperature: float,
    tokens_per_row: int,
    sink: Sink,
) -> list[Teaching]:
    """Ask a teacher for its most probable tokens.

    Args:
        base: The teacher's base with its adapter attached.
        examples: Rendered as the teacher is asked.
        k: How many tokens at each place.
        temperature: Divides its logits.
        tokens_per_row: Size of a row.
        sink: Receives progress.

    Returns:
        What it says, in the order of the examples.
    """
    found: list[Teaching] = []
    for first in range(0, len(examples), _AT_ONCE):
        some = examples[first : first + _AT_ONCE]
        rows = make_rows(some, tokens_per_row, base.device)
        counts = [num_labelled([example]) for example in some]

        def read(row: Row) -> Tensor:
            hidden = base.hidden(row.ids, row.layout)[row.at]
            logprobs, ids = top_logprobs(hidden, base.head, k, temperature)
            # Ids below 2^24 are whole numbers in fp32.
            return torch.stack([logprobs, ids.float()], -1).cpu()

        found += [
            Teaching(
                one[..., 1].numpy().astype(np.int32),
                one[..., 0].numpy().astype(np.float16),
                temperature,
            )
            for one in by_example(rows, read, counts)
        ]
        sink(Progress(translated("asking the teacher"), len(found), len(examples), "examples"))
    return found


def cached_teachings(
    path: Path,
    counts: Sequence[int],
    temperature: float,
    ask: Callable[[], list[Teaching]],
    sink: Sink,
) -> list[Teaching]:
    """Read what a teacher said before, or ask it and keep what it says.

    Args:
        path: The file, named by all that the result depends on.
        counts: Labelled tokens of each example.
        temperature: That of the teacher.
        ask: Asks the teacher.
        sink: Is told when it was asked before.

    Returns:
        What it says, by example.
    """
    if (known := _read(path, counts, temperature)) is not None:
        sink(Notice(translated("the teacher was asked before: {name}", name=path.name)))
        return known
    found = ask()
    path.parent.mkdir(parents=True, exist_ok=True)
    file = BytesIO()
    np.savez(file, ids=_joined(t.ids for t in found), logprobs=_joined(t.logprobs for t in found))
    write_atomically(path, file.getvalue())
    return found


def _joined(parts: Iterable[NDArray[np.generic]]) -> NDArray[np.generic]:
    listed = list(parts)
    return np.concatenate(listed) if listed else np.zeros((0, 1), np.float16)


def _read(path: Path, counts: Sequence[int], temperature: float) -> list[Teaching] | None:
    """Read kept results; a damaged file counts as none."""
    try:
        with np.load(path, allow_pickle=False) as file:
            ids, logprobs = file["ids"], file["logprobs"]
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None
    if len(ids) != sum(counts) or ids.shape != logprobs.shape:
        return None
    ends = np.cumsum(counts)[:-1]
    parts = zip(np.split(ids, ends), np.split(logprobs, ends), strict=True)
    return [Teaching(i.astype(np.int32), p.astype(np.float16), temperature) for i, p in parts]
