"""Full and partial fine-tuning: the base's own weights learn, all of them or parts.

All of them are the ceiling that light methods are held to; norms and biases alone are what BitFit
trains (arXiv 2106.10199, there biases only: most decoders have hardly any). It is an adapter like
any other, so that one loop, one evaluation and one variant format serve it. The weights are
trained in fp32; a copy of the originals is kept, so that it can be taken off.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Literal

import torch
from pydantic import Field, field_validator
from safetensors.torch import save
from torch import Tensor, nn

from kamerton.adapters.adapter import Capabilities
from kamerton.adapters.stored import check_tensors, read_tensors
from kamerton.core.errors import AdapterError
from kamerton.core.settings import Settings
from kamerton.models.base import Base, decoder_blocks

__all__ = ["Full", "FullSettings", "attach_full", "load_full"]

WEIGHTS_FILE = "model.safetensors"

_ALL = ("all",)
_DESCRIBED = "full"
_PART = re.compile(r"all|last-[1-9]\d*|norms-and-biases|embeddings|head")


class FullSettings(Settings):
    """Full and partial fine-tuning: the base's own weights."""

    kind: Literal["full"] = "full"
    """Weights of the base itself: about 20 bytes of memory per trained parameter, 4 per other."""
    parts: tuple[str, ...] = Field(default=_ALL, min_length=1)
    """Which weights: "all", "last-2" (the last two decoder blocks, any number),
    "norms-and-biases" (BitFit), "embeddings", "head"; several are trained together."""

    @field_validator("parts")
    @classmethod
    def _parts_parse(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for part in value:
            if not _PART.fullmatch(part):
                raise ValueError(
                    'must be "all", "last-<number>", "norms-and-biases", "embeddings" or "head", '
                    f"got {part!r}"
                )
        return value


class Full:
    """A base whose own weights learn."""

    capabilities = Capabilities(
        mergeable=True, identity_at_start=True, float32_only=True, quantised_base=False
    )

    def __init__(self, base: Base, parts: Sequence[str] = _ALL) -> None:
        if base.identity.quantise != "none":
            raise AdapterError(
                f"adapter.kind 'full' needs dense weights, the base holds {base.identity.quantise}",
                hint='set base.quantise = "none", or take a light method',
            )
        self._parameters = _select(base, parts)
        other = {str(p.dtype) for p in self._parameters.values()} - {"torch.float32"}
        if other:
            raise AdapterError(
                f"adapter.kind 'full' trains fp32 weights, the base is in {', '.join(other)}",
                hint='set base.dtype = "float32"',
            )
        described = {"architecture": base.identity.architecture, "parts": list(parts)}
        # One key: safetensors writes several in any order, and equal weights are equal bytes.
        self._metadata = {_DESCRIBED: json.dumps(described)}
        self._originals = {name: p.detach().clone() for name, p in self._parameters.items()}
        for parameter in self._parameters.values():
            parameter.requires_grad_(True)

    def parameters(self) -> dict[str, nn.Parameter]:
        """List the trained weights.

        Returns:
            By their names in the model; tied ones once.
        """
        return self._parameters

    def train(self, mode: bool) -> None:
        """Do nothing: dropout of the base stays off, as with every method.

        Args:
            mode: Ignored.
        """

    def files(self) -> dict[str, bytes]:
        """Write the trained weights, and no others.

        Returns:
            `model.safetensors`.
        """
        tensors = {name: p.detach().cpu().contiguous() for name, p in self._parameters.items()}
        return {WEIGHTS_FILE: save(tensors, self._metadata)}

    def merge(self) -> None:
        """Do nothing: the weights are the base's own."""

    def as_plain_model(self) -> nullcontext[None]:
        """Do nothing: the model has no other modules.

        Returns:
            An empty context.
        """
        return nullcontext()

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Answer with the original weights for a while.

        Yields:
            Nothing.
        """
        trained = {name: p.detach().clone() for name, p in self._parameters.items()}
        self._write(self._originals)
        try:
            yield
        finally:
            self._write(trained)

    def detach(self) -> None:
        """Restore the original weights."""
        self._write(self._originals)
        for parameter in self._parameters.values():
            parameter.requires_grad_(False)
            parameter.grad = None

    @torch.no_grad()
    def _write(self, tensors: Mapping[str, Tensor]) -> None:
        for name, parameter in self._parameters.items():
            parameter.copy_(tensors[name])


def attach_full(base: Base, settings: FullSettings | None = None) -> Full:
    """Let weights of a base learn.

    Args:
        base: In fp32.
        settings: Which weights; all when None.

    Returns:
        The adapter.

    Raises:
        AdapterError: If the base is not in fp32, or quantised, or has no such part.
    """
    return Full(base, settings.parts if settings else _ALL)


def load_full(base: Base, files: Mapping[str, bytes]) -> Full:
    """Put stored weights into a base.

    Args:
        base: Of the same shape, in fp32.
        files: `model.safetensors`.

    Returns:
        The adapter.

    Raises:
        AdapterError: If the weights do not fit.
    """
    tensors = read_tensors(files, WEIGHTS_FILE)
    parts, architecture = _described(files[WEIGHTS_FILE])
    if architecture not in ("", base.identity.architecture):
        raise AdapterError(
            f"adapter: made for {architecture}, the base is {base.identity.architecture}"
        )
    expected = {name: tuple(p.shape) for name, p in _select(base, parts).items()}
    check_tensors(tensors, expected, WEIGHTS_FILE)
    full = Full(base, parts)
    full._write(tensors)
    return full


def _described(content: bytes) -> tuple[tuple[str, ...], str]:
    """Parts and architecture from the file's metadata; files without are of all weights."""
    length = int.from_bytes(content[:8], "little")
    metadata = json.loads(content[8 : 8 + length]).get("__metadata__") or {}
    if _DESCRIBED not in metadata:
        return _ALL, ""
    try:
        described = json.loads(metadata[_DESCRIBED])
        return FullSettings(parts=described["parts"]).parts, str(described["architecture"])
    except (ValueError, TypeError, KeyError) as error:
        raise AdapterError(f"adapter: {WEIGHTS_FILE} names strange parts: {error}") from None


def _select(base: Base, parts: Sequence[str]) -> dict[str, nn.Parameter]:
    """The weights of some parts, in the model's order; tied weights appear once."""
    named = dict(base.model.named_parameters())
    chosen: set[nn.Parameter] = set()
    for part in parts:
        found = set(_part(base, part))
        if not found:
            raise AdapterError(f"adapter.parts: {base.identity.architecture} has no {part}")
        chosen |= found
    return {name: parameter for name, parameter in named.items() if parameter in chosen}


def _part(base: Base, part: str) -> Iterator[nn.Parameter]:
    model: nn.Module = base.model
    if part == "all":
        yield from model.parameters()
    elif part == "norms-and-biases":
        for module in model.modules():
            is_norm = "norm" in type(module).__name__.lower()
            for leaf, parameter in module.named_parameters(recurse=False):
                if is_norm or leaf == "bias" or leaf.endswith("_bias"):
                    yield parameter
    elif part in ("embeddings", "head"):
        ends = base.model.get_input_embeddings, base.model.get_output_embeddings
        yield from ends[part == "head"]().parameters()
    else:
        number, blocks = int(part.removeprefix("last-")), decoder_blocks(model)
        if number > len(blocks):
            raise AdapterError(f"adapter.parts: {part}, but the base has {len(blocks)} blocks")
        for block in blocks[-number:]:
            yield from block.parameters()
