"""What the engine process of `kamerton serve` opens: one base with all variants over it."""

from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import get_args

import torch

from kamerton.adapters.adapter_set import AdapterSet
from kamerton.adapters.catalogue import load
from kamerton.core.errors import AdapterError, VariantError
from kamerton.core.events import Notice
from kamerton.core.generation import GenerationSettings
from kamerton.core.protocols import Generation
from kamerton.core.requests import ServedModel
from kamerton.data.rendering.renderer import Renderer
from kamerton.data.rendering.tokenized import RenderSettings
from kamerton.flows.chat import is_base_name
from kamerton.flows.serve import EngineOptions
from kamerton.flows.workspace import Workspace
from kamerton.inference.continuous_engine import ContinuousEngine, LoadedVariant
from kamerton.models.attention.layout import Layout, Segment
from kamerton.models.base import Base
from kamerton.models.dtype import DType
from kamerton.models.load import load_base
from kamerton.prompting.prompt import Prompt
from kamerton.store.variants import Variant, find_variant, list_variants
from kamerton.variants.load import (
    Opening,
    ensure_same_base,
    load_base_for,
    say_other_template,
    say_unpacking,
    with_template_of,
)
from kamerton.variants.opening import ensure_writes, prompt_of, renderer_for
from kamerton.variants.probe import largest_change, probe_ids
from kamerton.variants.rendering import renderer_of

__all__ = ["open_engine"]

_MOST_OF_BASE = 512
"""Tokens of an answer of the plain base, which has no settings of its own."""


def open_engine(options: EngineOptions, tell: Callable[[Notice], None]) -> ContinuousEngine:
    """Load the base once and every variant over it.

    Args:
        options: What is to be served and how.
        tell: Receives notices.

    Returns:
        The engine.

    Raises:
        VariantError: If a name is unknown, nothing is there, or variants have different bases.
        ModelError: If the base cannot be loaded.
        AdapterError: If an adapter does not fit, changes nothing, or cannot share rows.
    """
    bases = [name for name in options.names if is_base_name(name)]
    variants = _variants(options, with_all=not options.names, tell=tell)
    base = _base(options, bases, variants, tell)
    adapters = AdapterSet(base, fixed=True)
    name = base.identity.id
    plain = ServedModel(
        name, "base", base.identity.weight_hash, name, defaults=Generation(max_tokens=_MOST_OF_BASE)
    )
    loaded = [_loaded(variant, base, adapters, name, tell) for variant in variants]
    loaded.append(LoadedVariant(plain, renderer_of(base, RenderSettings()), Prompt()))
    return ContinuousEngine(
        base,
        loaded,
        num_slots=options.num_slots,
        tokens_per_step=options.tokens_per_step,
        cache_mib=options.cache_mib,
    )


def _variants(
    options: EngineOptions, *, with_all: bool, tell: Callable[[Notice], None]
) -> list[Variant]:
    folder = Workspace(options.project).variants
    if with_all:
        found, damaged = list_variants(folder)
        for problem in damaged:
            tell(Notice(f"not served: {problem}", "warning"))
        judges = [variant.name for variant in found if variant.manifest.objective == "reward"]
        if judges:
            tell(Notice(f"not served, as they only judge answers: {', '.join(judges)}"))
        variants = [variant for variant in found if variant.name not in judges]
        if not variants:
            raise VariantError(
                f"there is no variant in {folder}",
                hint="kamerton train RECIPE makes one; kamerton serve builtin:nano serves a base",
            )
    else:
        names = dict.fromkeys(name for name in options.names if not is_base_name(name))
        variants = [find_variant(name, folder) for name in names]
        for variant in variants:
            ensure_writes(variant, "served")
    weights = {variant.manifest.base.weight_hash: variant for variant in variants}
    if len(weights) > 1:
        groups = "; ".join(
            f"{first.manifest.base.id}: "
            + ", ".join(v.name for v in variants if v.manifest.base.weight_hash == hash_)
            for hash_, first in weights.items()
        )
        raise VariantError(
            f"the variants have different bases, and a server has one: {groups}",
            hint="name those of one base: kamerton serve VARIANT...",
        )
    return variants


def _base(
    options: EngineOptions,
    bases: Sequence[str],
    variants: Sequence[Variant],
    tell: Callable[[Notice], None],
) -> Base:
    if len(bases) > 1:
        raise VariantError(
            f"a server has one base, and these are {len(bases)}: {', '.join(bases)}",
            hint="start a server for each, with --port",
        )
    dtype: DType | None = next((one for one in get_args(DType) if one == options.dtype), None)
    place = options.base or (bases[0] if bases else "")

    def sink(event: object) -> None:
        if isinstance(event, Notice):
            tell(event)

    opening = Opening(place, options.device, dtype, sink)
    if variants:
        return load_base_for(variants[0], opening)
    say_unpacking(place, sink)
    return load_base(place, dtype=dtype or "auto", device=options.device or "auto")


def _loaded(
    variant: Variant,
    base: Base,
    adapters: AdapterSet,
    base_name: str,
    tell: Callable[[Notice], None],
) -> LoadedVariant:
    ensure_same_base(variant, base)

    def sink(event: object) -> None:
        if isinstance(event, Notice):
            tell(event)

    say_other_template(variant, base, sink)
    renderer = renderer_for(variant, with_template_of(variant, base))
    manifest, files = variant.manifest, variant.files()
    number, num_bytes = -1, 0
    if files:
        try:
            number = adapters.add(partial(load, base, manifest.method, files))
        except AdapterError as error:
            raise AdapterError(f"{variant.name}: {error.message}", hint=error.hint) from error
        tensors = adapters[number].parameters().values()
        num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        _ensure_it_changes(variant, base, renderer, number)
    model = ServedModel(
        variant.name,
        manifest.method if files else "prompt only",
        manifest.content_hash,
        base_name,
        num_bytes,
        int(datetime.fromisoformat(manifest.created).timestamp()),
        GenerationSettings.model_validate(manifest.generation).generation(),
    )
    return LoadedVariant(model, renderer, prompt_of(variant), number)


@torch.no_grad()
def _ensure_it_changes(variant: Variant, base: Base, renderer: Renderer, number: int) -> None:
    """Refuse an adapter without effect: its answers would be the base's under another name."""
    ids = torch.tensor(probe_ids(renderer), device=base.device)
    logits = []
    for adapter in (number, -1):
        layout = Layout((Segment(0, len(ids), adapter=adapter),))
        logits.append(base.head_of(adapter).logits(base.hidden(ids, layout)))
    if largest_change(logits[0], logits[1]) == 0:
        raise AdapterError(
            f"{variant.name} answers exactly like its base: the adapter does nothing",
            hint="train it again; the file may have been written before training",
        )
