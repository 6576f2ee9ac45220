"""Prefix-tuning: trained keys and values before every text (arXiv 2101.00190, equation 3).

The keys and values are those that attention sees, after rotation, as in PEFT. They may be trained
themselves, or come out of a small network (section 4.3 of the paper) that starts at zero, so that
either way training begins where the settings say. Shapes: L layers, P virtual tokens, K key/value
heads, D head size, W = L * 2 * K * D.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from kamerton.adapters.adapter_files import check_tensors, read_tensors, tensor_bytes
from kamerton.adapters.formats.peft_virtual import read_virtual, write_virtual
from kamerton.adapters.method import AdapterSettings, Method, Rate
from kamerton.adapters.virtual.combine import one_after_the_other
from kamerton.adapters.virtual.tokens import Virtual, check_base, embeddings_of, first_tokens
from kamerton.core.errors import AdapterError
from kamerton.core.seeds import derive_seed
from kamerton.models.attention.prefix import Prefix
from kamerton.models.base import Base
from kamerton.models.prefill import prefill

__all__ = ["METHOD", "PrefixSettings", "attach_prefix", "load_prefix"]

NETWORK_FILE = "prefix_network.safetensors"


class PrefixSettings(AdapterSettings):
    """Prefix-tuning: trained keys and values before every text."""

    renamed_keys: ClassVar[Mapping[str, str]] = {"num_tokens": "num_virtual_tokens"}

    kind: Literal["prefix"] = "prefix"
    """Trained keys and values of virtual tokens, in every layer."""
    num_virtual_tokens: int = Field(default=32, ge=1, le=4096)
    """Virtual tokens; each takes a position of the base's context. 1 to 4096."""
    init: Literal["text", "zero", "random"] = "text"
    """The first keys and values: those of a real text, zero, or standard normal."""
    text: str = ""
    """The text to begin as; empty means the first training example as the base sees it, which
    begins with the recipe's system text and demonstrations. Cut or repeated to
    `num_virtual_tokens`."""
    network: int = Field(default=0, ge=0, le=65536)
    """Width of a network that keys and values are computed by while training; 0 trains them
    themselves. 0 to 65536."""

    @model_validator(mode="after")
    def _text_is_used(self) -> Self:
        if self.text and self.init != "text":
            raise ValueError(f'text is used with init = "text" only, init is "{self.init}"')
        return self


class _Shape:
    """The order of a base's keys and values in one flat tensor [P, W], as in PEFT."""

    def __init__(self, base: Base) -> None:
        with torch.no_grad():
            one = prefill(base, embeddings_of(base, [0]))
        shapes = {(x.shape[0], x.shape[2]) for layer in one.layers for x in layer}
        if len(shapes) > 1:
            raise AdapterError(
                f"adapter: the layers of {base.identity.architecture} have keys and values of "
                "different shapes, which prefix-tuning does not support",
                hint='set adapter.kind = "lora"',
            )
        self.num_layers = len(one.layers)
        self.num_heads, self.head_size = shapes.pop()
        self.width = self.num_layers * 2 * self.num_heads * self.head_size

    def flatten(self, prefix: Prefix) -> Tensor:
        """Put layers side by side."""
        stacked = torch.stack([x for layer in prefix.layers for x in layer])  # [2L, K, P, D]
        return stacked.permute(2, 0, 1, 3).flatten(1)

    def unflatten(self, flat: Tensor) -> Prefix:
        """Take layers apart."""
        parts = flat.unflatten(1, (2 * self.num_layers, self.num_heads, self.head_size))
        keys_values = parts.permute(1, 2, 0, 3).unbind()
        return Prefix(tuple(zip(keys_values[::2], keys_values[1::2], strict=True)))


class _Direct:
    """Keys and values that are trained themselves."""

    def __init__(self, base: Base, shape: _Shape, start: Tensor) -> None:
        self._base, self._shape = base, shape
        layers = shape.unflatten(start.float().to(base.device)).layers
        self._layers = [tuple(nn.Parameter(x.contiguous().clone()) for x in kv) for kv in layers]
        self.num_tokens = len(start)

    def parameters(self) -> dict[str, nn.Parameter]:
        named = {}
        for number, (keys, values) in enumerate(self._layers):
            named[f"layers.{number}.keys"] = keys
            named[f"layers.{number}.values"] = values
        return named

    def compute(self) -> Prefix:
        return Prefix(tuple((keys, values) for keys, values in self._layers))

    def files(self) -> dict[str, bytes]:
        return _peft_files(self._base, self._shape, self.compute(), None)


class _Network:
    """Keys and values = start + tanh(embedding A^T + a) B^T + b, with B and b zero at first."""

    def __init__(self, base: Base, shape: _Shape, start: Tensor, width: int) -> None:
        self._base, self._shape = base, shape
        self._start = start.float().to(base.device).clone()
        self.num_tokens = len(start)
        inner = shape.num_heads * shape.head_size
        sizes = {
            "embedding": (self.num_tokens, inner),
            "hidden.weight": (width, inner),
            "hidden.bias": (width,),
            "output.weight": (shape.width, width),
            "output.bias": (shape.width,),
        }
        self._tensors = {
            name: nn.Parameter(torch.zeros(size, device=base.device))
            for name, size in sizes.items()
        }

    def randomise(self, seed: int) -> None:
        """Draw first values: PEFT's, but for the last layer, which stays zero."""
        generator = torch.Generator().manual_seed(derive_seed(seed, "prefix", "network"))
        embedding, weight = self._tensors["embedding"], self._tensors["hidden.weight"]
        embedding.data.copy_(torch.randn(embedding.shape, generator=generator))
        bound = weight.shape[1] ** -0.5
        weight.data.copy_(torch.rand(weight.shape, generator=generator) * 2 * bound - bound)

    def restore(self, stored: Mapping[str, Tensor]) -> None:
        """Take over stored tensors, which must be exactly the network's and its start."""
        own = {**self._tensors, "start": self._start}
        check_tensors(stored, {name: tuple(x.shape) for name, x in own.items()}, NETWORK_FILE)
        for name, tensor in own.items():
            tensor.data.copy_(stored[name])

    def parameters(self) -> dict[str, nn.Parameter]:
        return self._tensors

    def compute(self) -> Prefix:
        t = self._tensors
        hidden = torch.tanh(t["embedding"] @ t["hidden.weight"].t() + t["hidden.bias"])
        flat = self._start + hidden @ t["output.weight"].t() + t["output.bias"]
        return self._shape.unflatten(flat)

    def files(self) -> dict[str, bytes]:
        # PEFT keeps the keys and values only; what training goes on from is ours.
        raw = tensor_bytes({**self._tensors, "start": self._start})
        with torch.no_grad():
            width = len(self._tensors["hidden.bias"])
            exported = _peft_files(self._base, self._shape, self.compute(), width)
        return {**exported, NETWORK_FILE: raw}


def attach_prefix(
    base: Base, settings: PrefixSettings, seed: int, opening: Sequence[int] = ()
) -> Virtual:
    """Attach a fresh prefix.

    Args:
        base: The base, on packed rows.
        settings: Method settings.
        seed: The seed of random values.
        opening: Token ids that a training text begins with.

    Returns:
        The adapter.

    Raises:
        AdapterError: If the base cannot take a prefix or there is no text to begin as.
    """
    check_base(base)
    shape = _Shape(base)
    count = settings.num_virtual_tokens
    if settings.init == "text":
        ids = first_tokens(base, settings.text, opening, count)
        with torch.no_grad():
            start = shape.flatten(prefill(base, embeddings_of(base, ids)))
    else:
        start = torch.zeros(count, shape.width)
        if settings.init == "random":
            generator = torch.Generator().manual_seed(derive_seed(seed, "prefix", "start"))
            start.normal_(generator=generator)
    if not settings.network:
        return Virtual(base, _Direct(base, shape, start))
    network = _Network(base, shape, start, settings.network)
    network.randomise(seed)
    return Virtual(base, network)


def load_prefix(base: Base, files: Mapping[str, bytes]) -> Virtual:
    """Attach a stored prefix, written by us or by PEFT.

    Args:
        base: The base it was made for.
        files: PEFT's two files, and the network's where there is one; without it, keys and values
            are trained themselves from then on.

    Returns:
        The adapter.

    Raises:
        AdapterError: If the files are damaged or do not fit the base.
    """
    check_base(base)
    shape = _Shape(base)
    flat, config = read_virtual(base, "PREFIX_TUNING", files, shape.width)
    if NETWORK_FILE not in files:
        # PEFT drops the network, we never do.
        if config.get("prefix_projection") and config.get("auto_mapping"):
            raise AdapterError(f"adapter: {NETWORK_FILE} is missing")
        return Virtual(base, _Direct(base, shape, flat))
    raw = read_tensors(files, NETWORK_FILE)
    width = raw["output.weight"].numel() // shape.width if "output.weight" in raw else 0
    network = _Network(base, shape, flat, width)
    network.restore(raw)
    return Virtual(base, network)


def _peft_files(base: Base, shape: _Shape, prefix: Prefix, network: int | None) -> dict[str, bytes]:
    config: dict[str, Any] = {
        "num_layers": shape.num_layers,
        "num_attention_heads": shape.num_heads,
        "token_dim": shape.num_heads * shape.head_size,
        "encoder_hidden_size": network,
        "prefix_projection": network is not None,
    }
    return write_virtual(base, "PREFIX_TUNING", shape.flatten(prefix), config)


METHOD = Method(
    PrefixSettings,
    attach=lambda base, settings, of: attach_prefix(base, settings, of.seed, of.opening),
    load=load_prefix,
    combine={
        "cat": partial(
            one_after_the_other,
            later_ones="keep the positions they learned at, and answers attend to all of them",
            # A network that computed the tokens is left behind.
            changed={"prefix_projection": False, "encoder_hidden_size": None},
        )
    },
    rate=lambda settings: Rate(3e-3 if settings.network else 0.1),
)
