"""What methods cost over a base at hand: how much they train, how long, with how much memory.

One method is measured by a sample of its steps; the others are scaled from it, by the number of
multiplications of a step and the bytes of what learns. Each of them can be measured, too.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from kamerton.adapters.adapter import trainable_share
from kamerton.adapters.catalogue import attach
from kamerton.advisor.methods import AdapterKind, Advice, Method
from kamerton.core.errors import KamertonError
from kamerton.core.events import Notice, Sink
from kamerton.core.language import translated
from kamerton.flows.forecast import Measured, is_at_hand, measure
from kamerton.flows.recipe import Recipe
from kamerton.models.base import Base, BaseIdentity
from kamerton.models.load import find_base
from kamerton.models.quantised.layer import count_parameters
from kamerton.models.quiet import quieten_transformers

__all__ = ["Cost", "costs_of", "trained_numbers"]

# Gradient and two states of AdamW in fp32 beside each trained number; weights of the base also
# have a copy in fp32.
_BYTES = 16
_BYTES_OF_BASE = 20
_KINDS: tuple[AdapterKind, ...] = ("lora", "prefix", "bottleneck", "full")


@dataclass(frozen=True, slots=True)
class Cost:
    """What a method costs.

    Attributes:
        trained: Numbers that learn.
        share: The same over the base's numbers.
        seconds: From the command to the variant; None where nobody can say.
        peak_bytes: Most memory; None where nobody can say.
        how: "measured" by its own steps, or "scaled" from another method's; empty without times.
    """

    trained: int
    share: float
    seconds: float | None = None
    peak_bytes: int | None = None
    how: Literal["measured", "scaled", ""] = ""


def trained_numbers(base_id: str) -> Mapping[AdapterKind, tuple[int, float]]:
    """Count what learns, by the shapes of a base alone: no weights are read.

    Args:
        base_id: The base's place.

    Returns:
        By kind of adapter with its default settings, the numbers that learn and their share of the
        base's; empty where the base is not at hand.
    """
    if not is_at_hand(base_id):
        return {}
    base = _shapes(base_id)
    found: dict[AdapterKind, tuple[int, float]] = {"none": (0, 0.0)}
    for kind in _KINDS:
        settings = Recipe.parse({"name": "x", "data": {"train": "x"}, "adapter": _adapter(kind)})
        if kind == "prefix":
            # Virtual tokens begin by a forward pass, which shapes cannot make.
            config = base.model.config.get_text_config()
            heads = config.num_attention_heads
            width = getattr(config, "head_dim", None) or config.hidden_size // heads
            groups = getattr(config, "num_key_value_heads", None) or heads
            tokens = int(getattr(settings.adapter, "num_virtual_tokens", 0))
            trained = tokens * config.num_hidden_layers * 2 * groups * width
            found[kind] = (trained, trained / base.identity.num_parameters)
            continue
        adapter = attach(base, settings.adapter, seed=0)
        told = trainable_share(adapter, base.identity.num_parameters)
        found[kind] = (int(told["trainable"]), float(told["share"]))
        adapter.detach()
    return found


def costs_of(
    ranked: Sequence[Advice],
    recipe: Recipe,
    folder: Path,
    sink: Sink,
    measured: Literal["none", "first", "all"],
    take: Callable[[Recipe, Path, Sink], Measured] = measure,
) -> Mapping[str, Cost]:
    """Say what the methods that fit cost over a recipe's base and data.

    Args:
        ranked: The advice, best first.
        recipe: A recipe for the data.
        folder: The folder that its paths are relative to.
        sink: Receives progress, and a notice where something could not be measured.
        measured: Which methods take a sample of their steps; "first" scales the others from it.
        take: Measures a recipe.

    Returns:
        By the method's name; of methods that do not fit, only what they train.
    """
    numbers = trained_numbers(recipe.base.id)
    found = {
        advice.method.name: Cost(*numbers[advice.method.adapter])
        for advice in ranked
        if advice.method.adapter in numbers
    }
    if measured == "none" or not numbers:
        return found
    asked: tuple[Method, Measured] | None = None
    for method in (advice.method for advice in ranked if advice.fits and advice.method.work):
        own = None
        if asked is None or measured == "all":
            own = _measured(method, recipe, folder, sink, take)
        if own is not None:
            asked = asked or (method, own)
            found[method.name] = Cost(
                *numbers[method.adapter], own.seconds, own.peak_bytes, "measured"
            )
        elif asked is not None:
            found[method.name] = _scaled(method, *asked, numbers)
    return found


def _measured(
    method: Method,
    recipe: Recipe,
    folder: Path,
    sink: Sink,
    take: Callable[[Recipe, Path, Sink], Measured],
) -> Measured | None:
    """Measure a method with the recipe's data; None where the recipe cannot be turned into it."""
    plain = recipe.to_plain()
    if plain["adapter"]["kind"] != method.adapter:
        plain["adapter"] = _adapter(method.adapter)
    if plain["objective"]["kind"] != method.objective:
        plain["objective"] = {"kind": method.objective}
    try:
        return take(Recipe.parse(plain), folder, sink)
    except KamertonError as error:
        told = translated("{method} was not measured: {why}", method=method.name, why=error.message)
        sink(Notice(told))
        return None


def _scaled(
    method: Method,
    first: Method,
    measured: Measured,
    numbers: Mapping[AdapterKind, tuple[int, float]],
) -> Cost:
    """Scale a measurement by the work of a step and the bytes of what learns."""
    assert method.work is not None, "only what trains is scaled"
    assert first.work is not None, "only what trains is measured"
    steps = measured.parts["steps"] * (method.work / first.work - 1)
    peak = measured.peak_bytes + _bytes(method, numbers) - _bytes(first, numbers)
    return Cost(*numbers[method.adapter], measured.seconds + steps, peak, "scaled")


def _bytes(method: Method, numbers: Mapping[AdapterKind, tuple[int, float]]) -> int:
    per_number = _BYTES_OF_BASE if method.adapter == "full" else _BYTES
    return per_number * numbers[method.adapter][0]


def _adapter(kind: AdapterKind) -> dict[str, Any]:
    return {"kind": kind, "parts": ["all"]} if kind == "full" else {"kind": kind}


def _shapes(base_id: str) -> Base:
    """Make a base without weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    quieten_transformers()
    folder = find_base(base_id)
    with torch.device("meta"):
        config = AutoConfig.from_pretrained(folder)
        model: Any = AutoModelForCausalLM.from_config(config)
    model.requires_grad_(False)
    size = config.get_text_config().vocab_size
    identity = BaseIdentity(
        base_id, folder, "", "", "", type(model).__name__, count_parameters(model), size
    )
    return Base(model, None, identity, ragged=True)
