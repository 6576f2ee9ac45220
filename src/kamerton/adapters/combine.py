"""Combining adapters of one method and one base: settings, and what any method may use.

Each method declares its ways (`Method.combine`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor

from kamerton.adapters.adapter_files import read_json, read_tensors, tensor_bytes
from kamerton.core.errors import AdapterError
from kamerton.core.settings import Settings

__all__ = [
    "Combination",
    "Combine",
    "CombineSettings",
    "How",
    "average",
    "ensure_no_rank",
    "normalised",
]

How = Literal["sum", "average", "ties", "dare", "cat", "stack"]

_DENSITY = {"ties": 0.2, "dare": 0.5}
_UNLIKE = 0.2


class CombineSettings(Settings):
    """The way that updates become one."""

    how: How = "cat"
    """sum, average, ties, dare, or cat (the exact sum, with the ranks added up); of bottlenecks
    average or stack."""
    weights: tuple[float, ...] = ()
    """Factor of each update, in ties its share beside the others; empty means 1 each."""
    density: float | None = Field(default=None, gt=0, le=1)
    """Share of each update that ties and dare keep; by default 0.2 for ties and 0.5 for dare."""
    rank: int | None = Field(default=None, ge=1, le=1024)
    """Rank of the result; by default the largest (sum, average) or the sum (ties, dare)."""
    seed: int = 0
    """The seed of the weights that dare drops."""

    @property
    def kept_share(self) -> float:
        """Share of each update that is kept, 0 to 1, where `how` leaves some out."""
        return self.density or _DENSITY[self.how]

    @model_validator(mode="after")
    def _nothing_is_ignored(self) -> Self:
        if self.density and self.how not in _DENSITY:
            raise ValueError(f"density is for {' and '.join(_DENSITY)}, not for {self.how}")
        if self.rank and self.how == "cat":
            raise ValueError("rank is not for cat, which adds the ranks up; take sum")
        return self


@dataclass(frozen=True, slots=True)
class Combination:
    """A combined adapter.

    Attributes:
        files: The files in the method's own format.
        facts: Numbers for the record.
        notes: Notes about what combining may have broken.
    """

    files: dict[str, bytes]
    facts: dict[str, float]
    notes: list[str]


Combine = Callable[[Sequence[Mapping[str, bytes]], CombineSettings], Combination]
"""Combines stored adapters, each given as its files by name, in one way; raises AdapterError."""


def normalised(settings: CombineSettings, count: int) -> tuple[float, ...]:
    """Give the factor of each parent.

    Args:
        settings: The settings with the weights asked for.
        count: Number of parents.

    Returns:
        One per parent; those of an average add up to 1.

    Raises:
        AdapterError: If there are other than `count`, or they cannot be used.
    """
    weights = settings.weights or (1.0,) * count
    if len(weights) != count or not all(abs(w) < float("inf") and w for w in weights):
        raise AdapterError(
            f"combine: weights must be {count} finite numbers other than 0, one per variant, got "
            + (", ".join(map(str, weights)) or "none")
        )
    if settings.how == "average":
        if sum(weights) == 0:
            raise AdapterError("combine: the weights of an average must not add up to 0")
        weights = tuple(weight / sum(weights) for weight in weights)
    return weights


def ensure_no_rank(settings: CombineSettings) -> None:
    """Refuse a rank where there is none.

    Args:
        settings: The settings asked for.

    Raises:
        AdapterError: If they name one.
    """
    if settings.rank:
        raise AdapterError("combine: rank is for LoRA")


@torch.no_grad()
def average(parents: Sequence[Mapping[str, bytes]], settings: CombineSettings) -> Combination:
    """Average tensors of equal names and shapes; everything else must be the same.

    As in AdapterSoup (arXiv 2302.07027). It only means something for adapters that began from the
    same values.

    Args:
        parents: The files of at least two, by name.
        settings: The settings with the weights asked for.

    Returns:
        The mean.

    Raises:
        AdapterError: If settings or shapes differ, or a rank is asked for.
    """
    ensure_no_rank(settings)
    weights = normalised(settings, len(parents))
    first = parents[0]
    files: dict[str, bytes] = {}
    dot, squares = 0.0, [0.0, 0.0]
    for name in first:
        if name.endswith(".json"):
            if any(read_json(other, name) != read_json(first, name) for other in parents[1:]):
                raise AdapterError(
                    f"combine: averaging needs adapters of equal settings, {name} differs",
                    hint="train them with the same [adapter]",
                )
            files[name] = first[name]
            continue
        stored = [read_tensors(other, name) for other in parents]
        if any(_shapes(other) != _shapes(stored[0]) for other in stored[1:]):
            raise AdapterError(f"combine: averaging needs tensors of equal shapes, {name} differs")
        mean = {}
        for key, tensor in stored[0].items():
            parts = [other[key].double() for other in stored]
            mean[key] = sum(
                (w * p for w, p in zip(weights, parts, strict=True)), torch.zeros_like(parts[0])
            ).to(tensor.dtype)
            dot += float((parts[0] * parts[1]).sum())
            squares = [s + float(p.square().sum()) for s, p in zip(squares, parts, strict=False)]
        files[name] = tensor_bytes(mean)
    cosine = dot / max((squares[0] * squares[1]) ** 0.5, 1e-300)
    note = f"the tensors of the first two have a cosine of {cosine:.2f}"
    if cosine < _UNLIKE:
        note += ": they share no beginning, and their mean may do neither's task"
    return Combination(files, {"cosine": float(f"{cosine:.3g}")}, [note])


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
