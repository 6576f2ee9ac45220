"""Full and partial fine-tuning: the base's own weights learn, all of them or parts.

All of them are the ceiling that light methods are held to; norms and biases alone are what BitFit
trains (arXiv 2106.10199, there biases only: most decoders have hardly any). It is an adapter like
any other, so that one loop, one evaluation and one variant format serve it. The weights are
trained in fp32, whatever the base is in; the base's own are kept, so that it can be taken off.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Literal

import torch
from pydantic import Field, field_validator
from safetensors.torch import save
from torch import Tensor, nn

from kamerton.adapters.adapter import Capabilities, load_tensors
from kamerton.adapters.adapter_files import check_tensors, metadata_of, read_tensors
from kamerton.adapters.method import AdapterSettings, Method, Rate
from kamerton.core.errors import AdapterError
from kamerton.models.base import Base
from kamerton.models.blocks import decoder_blocks

__all__ = ["METHOD", "Full", "FullSettings", "attach_full", "load_full"]

WEIGHTS_FILE = "model.safetensors"

_ALL = ("all",)
_DESCRIBED = "full"
_PART = re.compile(r"all|last-[1-9]\d*|norms-and-biases|embeddings|head")


class FullSettings(AdapterSettings):
    """Full and partial fine-tuning: the base's own weights."""

    kind: Literal["full"] = "full"
    """Weights of the base itself: about 20 bytes of memory per trained parameter."""
    parts: tuple[str, ...] = Field(default=_ALL, min_length=1)
    """The weights that learn: "all", "last-2" (the last two decoder blocks, any number),
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
    """A base whose own weights learn: fp32 copies stand in their place, in the base's dtype.

    The base's tensors stay where and as they are; a module that is asked for its weight finds ours
    first. In fewer bits than 32 that is a rounded copy, made anew when ours has changed.
    """

    capabilities = Capabilities(
        mergeable=True, identity_at_start=True, quantised_base=False, trains_base=True
    )

    def __init__(self, base: Base, parts: Sequence[str] = _ALL) -> None:
        if base.identity.quantise != "none":
            raise AdapterError(
                f"adapter.kind 'full' needs dense weights, the base holds {base.identity.quantise}",
                hint='set base.quantise = "none", or take a light method',
            )
        self._frozen = _select(base, parts)
        described = {"architecture": base.identity.architecture, "parts": list(parts)}
        # One key: safetensors writes several in any order, and equal weights are equal bytes.
        self._metadata = {_DESCRIBED: json.dumps(described)}
        self._parameters = {
            name: nn.Parameter(p.detach().to(torch.float32, copy=True))
            for name, p in self._frozen.items()
        }
        names = {parameter: name for name, parameter in self._frozen.items()}
        self._places = [
            (module, leaf, names[parameter])
            for module in base.model.modules()
            for leaf, parameter in module.named_parameters(recurse=False)
            if parameter in names
        ]
        self._rounded: dict[str, tuple[int, Tensor]] = {}
        self._originals: dict[str, Tensor] = {}
        self._base = base
        base.before_head = self._put
        self._hook = base.backbone.register_forward_pre_hook(lambda *_: self._put())
        self._enabled = True
        self._put()

    def parameters(self) -> dict[str, nn.Parameter]:
        """List the trained weights.

        Returns:
            The weights in fp32 by their names in the model; tied ones once.
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
            `model.safetensors`, in fp32.
        """
        tensors = {name: p.detach().cpu().contiguous() for name, p in self._parameters.items()}
        return {WEIGHTS_FILE: save(tensors, self._metadata)}

    @torch.no_grad()
    def merge(self) -> None:
        """Write the trained weights into the base's, rounding once to its dtype."""
        assert not self._originals, "already merged"
        for name, frozen in self._frozen.items():
            self._originals[name] = frozen.clone()
            frozen.copy_(self._parameters[name])
        self._take_off()

    def as_plain_model(self) -> AbstractContextManager[None]:
        """Show the base's own tensors for a while, merged if merged.

        Returns:
            The context.
        """
        return self.disabled()

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Answer with the base's own tensors for a while.

        Yields:
            Nothing.
        """
        before = self._enabled
        self._take_off()
        try:
            yield
        finally:
            self._enabled = before
            self._put()

    @torch.no_grad()
    def detach(self) -> None:
        """Take the trained weights off; the base is as it was."""
        self._hook.remove()
        self._base.before_head = None
        self._take_off()
        for name, original in self._originals.items():
            self._frozen[name].copy_(original)
        self._originals = {}

    def _put(self) -> None:
        """Let every module find the trained weights in the place of its own."""
        if self._enabled:
            for module, leaf, name in self._places:
                # Python finds an object's own attributes before its registered parameters.
                module.__dict__[leaf] = self._current(name)

    def _take_off(self) -> None:
        self._enabled = False
        for module, leaf, _ in self._places:
            module.__dict__.pop(leaf, None)

    def _current(self, name: str) -> Tensor:
        """A trained weight in the base's dtype."""
        own, dtype = self._parameters[name], self._frozen[name].dtype
        if own.dtype == dtype:
            return own
        version, rounded = self._rounded.get(name, (-1, own))
        if version != own._version or rounded.requires_grad != torch.is_grad_enabled():
            rounded = own.to(dtype)
            self._rounded[name] = (own._version, rounded)
        return rounded


def attach_full(base: Base, settings: FullSettings | None = None) -> Full:
    """Let weights of a base learn.

    Args:
        base: The base; its weights are not touched.
        settings: The weights that learn; all when None.

    Returns:
        The adapter.

    Raises:
        AdapterError: If the base is quantised, or has no such part.
    """
    return Full(base, settings.parts if settings else _ALL)


def load_full(base: Base, files: Mapping[str, bytes]) -> Full:
    """Put stored weights into a base.

    Args:
        base: A base of the same shape.
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
    load_tensors(full, tensors)
    return full


def _described(content: bytes) -> tuple[tuple[str, ...], str]:
    """Parts and architecture from the file's metadata; files without are of all weights."""
    metadata = metadata_of(content)
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


def _rate(settings: FullSettings) -> Rate:
    """AdamW's rate falls with the width (arXiv 2203.03466); norms have no width to follow."""
    # That of norms and biases was not searched for.
    return Rate(1e-2) if settings.parts == ("norms-and-biases",) else Rate(1e-4, "width")


METHOD = Method(
    FullSettings,
    attach=lambda base, settings, _: attach_full(base, settings),
    load=load_full,
    # An update of a whole weight needs less than one of its factors.
    rate=_rate,
)
