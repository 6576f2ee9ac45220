"""Combining adapters other than LoRA by their stored tensors.

Virtual tokens stand one after the other (concatenation), bottlenecks too if asked (stack);
bottlenecks and IA3's factors are averaged tensor by tensor (as in AdapterSoup, arXiv 2302.07027),
which only means something for adapters of one shape that began from the same values.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kamerton.adapters.adapter_files import json_bytes, read_json, read_tensors, tensor_bytes
from kamerton.adapters.bottleneck.bottleneck import CONFIG_FILE, BottleneckSettings
from kamerton.adapters.bottleneck.stack import members_of, stacked
from kamerton.adapters.combine import CombineSettings, normalised
from kamerton.adapters.formats import peft_lora
from kamerton.core.errors import AdapterError

__all__ = ["COMBINABLE", "Stored", "combine_stored"]

COMBINABLE = {
    "prefix": ("cat",),
    "prompt": ("cat",),
    "bottleneck": ("average", "stack"),
    "ia3": ("average",),
}
"""The ways in which each method is combined."""

_TOKENS = "prompt_embeddings"
_UNLIKE = 0.2


@dataclass(frozen=True, slots=True)
class Stored:
    """A combined adapter.

    Attributes:
        files: In the method's own format.
        facts: Numbers for the record.
        notes: What combining may have broken.
    """

    files: dict[str, bytes]
    facts: dict[str, float]
    notes: list[str]


@torch.no_grad()
def combine_stored(
    method: str, parents: Sequence[Mapping[str, bytes]], settings: CombineSettings
) -> Stored:
    """Combine stored adapters of one method and one base.

    Args:
        method: One of `COMBINABLE`.
        parents: The files of at least two, by name.
        settings: How; only what the method knows.

    Returns:
        The combined adapter.

    Raises:
        AdapterError: If the method is not combined so, or the parents have other shapes.
    """
    known = COMBINABLE[method]
    if settings.how not in known:
        raise AdapterError(
            f"combine: '{method}' adapters are combined by {' or '.join(known)}, "
            f"got {settings.how}",
            hint=f"--how {known[0]}",
        )
    if settings.rank:
        raise AdapterError(f"combine: rank is for LoRA, not for '{method}'")
    if settings.how == "stack":
        return _stack(parents, normalised(settings, len(parents)))
    if settings.how == "average":
        return _average(parents, normalised(settings, len(parents)))
    if settings.weights:
        raise AdapterError(f"combine: virtual tokens of '{method}' have no weights")
    return _one_after_the_other(parents, method)


def _one_after_the_other(parents: Sequence[Mapping[str, bytes]], method: str) -> Stored:
    """Concatenate [P, W] virtual tokens; networks that computed them are left behind."""
    tokens = [read_tensors(files, peft_lora.WEIGHTS_FILE)[_TOKENS] for files in parents]
    counts = [len(each) for each in tokens]
    config = read_json(parents[0], peft_lora.CONFIG_FILE)
    config["num_virtual_tokens"] = sum(counts)
    if method == "prefix":
        config |= {"prefix_projection": False, "encoder_hidden_size": None}
    moved = {
        "prefix": "keep the positions they learned at, and every answer attends to all of them",
        "prompt": "are read at other positions than they learned at, after the first ones",
    }
    notes = [
        f"{' + '.join(map(str, counts))} virtual tokens stand before every text and take as much "
        "of the base's context",
        f"each was trained to stand at the beginning alone: the later ones {moved[method]}",
    ]
    files = {
        peft_lora.CONFIG_FILE: json_bytes(config),
        peft_lora.WEIGHTS_FILE: tensor_bytes({_TOKENS: torch.cat(tokens)}),
    }
    return Stored(files, {"num_tokens": sum(counts)}, notes)


def _stack(parents: Sequence[Mapping[str, bytes]], weights: Sequence[float]) -> Stored:
    """Let each bottleneck read what the one before made; weights multiply their scales."""
    scaled = []
    for files, weight in zip(parents, weights, strict=True):
        for member in members_of(files):
            config = read_json(member, CONFIG_FILE)
            settings = BottleneckSettings.parse(config["settings"], source=CONFIG_FILE)
            if settings.factor * weight < 0:
                raise AdapterError("combine: the weights of a stack must not be negative")
            config["settings"] = {**config["settings"], "scale": settings.factor * weight}
            scaled.append({**member, CONFIG_FILE: json_bytes(config)})
    note = (
        f"{len(scaled)} bottlenecks stand in a row at every place: the later ones read what the "
        "earlier ones changed, which they never saw while they were trained, and each costs time"
    )
    return Stored(stacked(scaled), {"members": len(scaled)}, [note])


def _average(parents: Sequence[Mapping[str, bytes]], weights: Sequence[float]) -> Stored:
    """Average tensors of equal names and shapes; everything else must be the same."""
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
    return Stored(files, {"cosine": float(f"{cosine:.3g}")}, [note])


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
