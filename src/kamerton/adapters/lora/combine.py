"""Combining LoRA updates of one base: sum, average, TIES, DARE, concatenation.

What is combined are the updates of the weights, D = s B A, not their factors: the product of summed
factors has cross terms that no parent has. Shapes: D [out, in], up [out, r], down [r, in].
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kamerton.adapters.combine import Combination, CombineSettings, normalised
from kamerton.adapters.formats.peft_lora import (
    PEFT_PREFIX,
    LoraFile,
    factor_names,
    read_lora,
    resolve,
    write_lora,
)
from kamerton.core.errors import AdapterError
from kamerton.core.seeds import derive_seed

__all__ = ["Combined", "combine", "combine_loras"]

# Up to this size all singular values are computed, beyond it only the largest, approximately.
_EXACT_SIZE = 1024
_LARGEST_RANK = 1024
# Rounding leaves at most this share of the squared norms of two updates that cancel out.
_NOTHING = 1e-10
_CLASH = 0.4  # of both updates' signs; half of them differ between unrelated updates


@dataclass(frozen=True, slots=True)
class Combined:
    """A combined update.

    Attributes:
        files: The files in PEFT's format.
        rank: Its largest rank.
        error: Relative Frobenius norm of what the rank leaves out, over all layers.
        cosine: Between the first two updates as vectors, before weighting.
        conflicts: Share of weights, of those both change, that they change in other directions.
    """

    files: dict[str, bytes]
    rank: int
    error: float
    cosine: float
    conflicts: float


@dataclass(frozen=True, slots=True)
class _Update:
    """The update of one layer in factors."""

    up: Tensor
    down: Tensor

    @property
    def rank(self) -> int:
        return len(self.down)

    def matrix(self) -> Tensor:
        return self.up @ self.down


def combine(parents: Sequence[Mapping[str, bytes]], settings: CombineSettings) -> Combination:
    """Combine stored LoRAs, and say what that may have broken, from what was measured.

    Args:
        parents: The files of at least two, by name.
        settings: How the adapters are combined.

    Returns:
        A LoRA of strength 1.

    Raises:
        AdapterError: If one is DoRA, or they cannot be combined with these settings.
    """
    made = combine_loras(parents, settings)
    notes = [
        f"the updates of the first two have a cosine of {made.cosine:.2f} and disagree about the "
        f"sign of {made.conflicts:.0%} of the weights"
        + (": expect each to lose some of what it can" if made.conflicts > _CLASH else "")
    ]
    if made.error > 1e-3:
        notes.append(
            f"rank {made.rank} leaves out {made.error:.0%} of the combined update: "
            "a larger --rank keeps more"
        )
    if settings.how == "dare":
        notes.append("what dare drops is drawn at random: other seeds give other variants")
    facts = {"rank": made.rank, "error": float(f"{made.error:.3g}")}
    return Combination(made.files, facts, notes)


@torch.no_grad()
def combine_loras(parents: Sequence[Mapping[str, bytes]], settings: CombineSettings) -> Combined:
    """Combine stored LoRAs of one base into one.

    Args:
        parents: The files of at least two, by name.
        settings: How the adapters are combined; not by "stack".

    Returns:
        A LoRA of strength 1, and how it differs from what was asked for.

    Raises:
        AdapterError: If one is DoRA, or they cannot be combined with these settings.
    """
    assert settings.how != "stack", "updates of weights add up"
    stored = [read_lora(files) for files in parents]
    weights = normalised(settings, len(stored))
    updates = [_updates(one) for one in stored]
    paths = sorted(set().union(*updates))
    tensors: dict[str, Tensor] = {}
    ranks: dict[str, int] = {}
    lost, total, overlap = 0.0, 0.0, _Overlap()
    for path in paths:
        given = [
            (weight, own[path]) for weight, own in zip(weights, updates, strict=True) if path in own
        ]
        overlap.add([own.get(path) for own in updates[:2]])
        combined, wanted, left = _combine(given, settings, derive_seed(settings.seed, "dare", path))
        ranks[path] = combined.rank
        names = next(_names(one, path) for one, own in zip(stored, updates, strict=True)
                     if path in own)  # fmt: skip
        factors = combined.down.contiguous(), combined.up.contiguous()
        tensors |= dict(zip(names, factors, strict=True))
        lost, total = lost + left, total + wanted
    if total <= _NOTHING * overlap.size * max(abs(weight) for weight in weights) ** 2:
        raise AdapterError("combine: nothing is left: the updates cancel each other out")
    largest = max(ranks.values())
    if largest > _LARGEST_RANK:
        raise AdapterError(
            f"combine: the ranks add up to {largest}, at most {_LARGEST_RANK} can be stored",
            hint="combine by sum, which keeps the rank of the largest",
        )
    other = {path: rank for path, rank in ranks.items() if rank != largest}
    file = LoraFile(
        tensors=tensors,
        rank=largest,
        alpha=float(largest),
        rank_pattern=other,
        alpha_pattern={path: float(rank) for path, rank in other.items()},
        rank_stabilised=False,
        dora=False,
        dropout=0.0,
        base=stored[0].base,
        transposed=stored[0].transposed,
        targets=tuple(paths),
    )
    error = (lost / total) ** 0.5
    return Combined(write_lora(file), largest, error, overlap.cosine, overlap.conflicts)


def _updates(stored: LoraFile) -> dict[str, _Update]:
    """Take the updates of a file, their strength within `up`."""
    if stored.dora:
        raise AdapterError(
            "combine: DoRA rescales weights, and such changes do not add up",
            hint="combine variants without adapter.dora",
        )
    if stored.rounding or stored.principal:
        kind = "LoftQ" if stored.rounding else "PiSSA that is not converted"
        raise AdapterError(
            f"combine: {kind} counts from a start of its own, and such starts do not add up",
            hint='combine variants made with adapter.init = "random" or "pissa"',
        )
    if stored.token_ids:
        raise AdapterError("combine: rows of single tokens (adapter.new_tokens) do not add up")
    paths = sorted(
        {name.removeprefix(PEFT_PREFIX).rsplit(".lora_", 1)[0] for name in stored.tensors}
    )
    ranks, alphas = resolve(stored.rank_pattern, paths), resolve(stored.alpha_pattern, paths)
    found = {}
    for path in paths:
        rank, alpha = ranks.get(path, stored.rank), alphas.get(path, stored.alpha)
        scaling = alpha / (rank**0.5 if stored.rank_stabilised else rank)
        down, up = (stored.tensors[name] for name in _names(stored, path))
        found[path] = _Update(up * scaling, down)
    return found


def _names(stored: LoraFile, path: str) -> tuple[str, str]:
    names = factor_names(path, embedding=True)
    return names if names[0] in stored.tensors else factor_names(path, embedding=False)


def _combine(
    given: Sequence[tuple[float, _Update]], settings: CombineSettings, seed: int
) -> tuple[_Update, float, float]:
    """Combine one layer; give also the squared norms of what was wanted and of what is left out."""
    if len({(len(update.up), update.down.shape[1]) for _, update in given}) > 1:
        raise AdapterError("combine: the updates are of layers of other sizes")
    joined = _Update(
        torch.cat([weight * update.up for weight, update in given], 1),
        torch.cat([update.down for _, update in given]),
    )
    if settings.how == "cat":
        return joined, float(joined.matrix().square().sum()), 0.0
    ranks = [update.rank for _, update in given]
    if settings.how in ("sum", "average"):
        wanted, default = joined.matrix(), max(ranks)
    else:
        mix = _ties if settings.how == "ties" else _dare(seed)
        wanted = mix([(weight, update.matrix()) for weight, update in given], settings.kept_share)
        default = sum(ranks)
    combined = _truncate(wanted, min(settings.rank or default, *wanted.shape))
    left = (wanted - combined.matrix()).square().sum()
    return combined, float(wanted.square().sum()), float(left)


def _ties(given: Sequence[tuple[float, Tensor]], density: float) -> Tensor:
    """TIES (arXiv 2306.01708, section 4): trim, elect the sign, mean of those that agree.

    Trimmed by layer instead of over the whole update; weights count in the vote and in the mean.
    """
    weights = torch.tensor([weight for weight, _ in given])[:, None, None]
    trimmed = torch.stack([_trim(matrix, density) for _, matrix in given])
    sign = (weights * trimmed).sum(0).sign()
    agrees = ((weights * trimmed).sign() == sign) & (trimmed != 0)
    counted = (weights.abs() * agrees).sum(0)
    return (weights * trimmed * agrees).sum(0) / counted.clamp(min=torch.finfo(torch.float32).tiny)


def _trim(matrix: Tensor, density: float) -> Tensor:
    """Keep the largest numbers by size, a share of them; zero the others."""
    size = matrix.abs().flatten()
    num = max(1, round(density * len(size)))
    least = size.kthvalue(len(size) - num + 1).values
    return matrix * (matrix.abs() >= least)


def _dare(seed: int) -> Callable[[Sequence[tuple[float, Tensor]], float], Tensor]:
    """DARE (arXiv 2311.03099, section 3.2): drop numbers at random, rescale the others, add up."""

    def mix(given: Sequence[tuple[float, Tensor]], density: float) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        total = torch.zeros_like(given[0][1])
        for weight, matrix in given:
            kept = torch.rand(matrix.shape, generator=generator) < density
            total += weight * matrix * kept / density
        return total

    return mix


def _truncate(matrix: Tensor, rank: int) -> _Update:
    """The best approximation of a rank (Eckart and Young), its strength shared by both factors."""
    if min(matrix.shape) <= _EXACT_SIZE:
        left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            left, values, columns = torch.svd_lowrank(matrix, q=rank + 8, niter=8)
        right = columns.t()
    root = values[:rank].sqrt()
    return _Update(left[:, :rank] * root, root[:, None] * right[:rank])


class _Overlap:
    """Inner products and conflicts of two updates, added up over layers."""

    def __init__(self) -> None:
        self._dot = self._first = self._second = 0.0
        self._differing = self._both = 0

    def add(self, updates: Sequence[_Update | None]) -> None:
        first, second = (None if update is None else update.matrix() for update in updates)
        self._first += 0.0 if first is None else float(first.square().sum())
        self._second += 0.0 if second is None else float(second.square().sum())
        if first is None or second is None or first.shape != second.shape:
            return
        product = first * second
        self._dot += float(product.sum())
        self._differing += int((product < 0).sum())
        self._both += int((product != 0).sum())

    @property
    def size(self) -> float:
        return self._first + self._second

    @property
    def cosine(self) -> float:
        lengths = math.sqrt(self._first * self._second)
        return self._dot / lengths if lengths else 0.0

    @property
    def conflicts(self) -> float:
        return self._differing / max(self._both, 1)
