"""What the engine process of `kamerton serve` opens: one base with all variants over it."""

from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import get_args

from kamerton.core.errors import KamertonError, VariantError
from kamerton.core.events import Notice, Progress, Sink
from kamerton.core.protocols import Generation
from kamerton.core.requests import ServedModel
from kamerton.data.rendering.tokenized import RenderSettings
from kamerton.flows.chat import is_base_name
from kamerton.flows.serve import EngineOptions
from kamerton.flows.served_variants import ServedVariants, find_version
from kamerton.flows.workspace import Workspace
from kamerton.inference.continuous_engine import ContinuousEngine
from kamerton.inference.held_variants import LoadedVariant
from kamerton.models.base import Base
from kamerton.models.dtype import DType
from kamerton.models.llama_steps import llama_steps
from kamerton.models.load import load_base
from kamerton.models.packed import pack_linears
from kamerton.models.quantised.codecs import Quantisation
from kamerton.prompting.prompt import Prompt
from kamerton.store.variants import Variant, find_variant, list_variants
from kamerton.variants.load import Opening, load_base_for, say_unpacking
from kamerton.variants.opening import ensure_writes
from kamerton.variants.rendering import renderer_of

__all__ = ["open_engine"]

_MOST_OF_BASE = 512
"""Tokens of an answer of the plain base, which has no settings of its own."""


def open_engine(options: EngineOptions, tell: Sink) -> ContinuousEngine:
    """Load the base once and every variant over it.

    Args:
        options: What is to be served and how.
        tell: Receives notices, and how far the loading is.

    Returns:
        The engine.

    Raises:
        VariantError: If a name is unknown, nothing is there, or variants have different bases.
        ModelError: If the base cannot be loaded.
        AdapterError: If an adapter does not fit, changes nothing, or cannot share rows.
    """
    folder = Workspace(options.project).variants
    bases = [name for name in options.names if is_base_name(name)]
    if options.restored is None:
        variants = _variants(options, folder, with_all=not options.names, tell=tell)
    else:
        variants = _restored(options.restored, folder, tell)
        bases = bases or [model.name for model in options.restored if model.kind == "base"]
    # A base that was named alone is opened by its own settings, whatever was loaded later.
    is_alone = bool(options.names) and all(map(is_base_name, options.names))
    base = _base(options, bases, [] if is_alone else variants, tell)
    pack_linears(base)
    base.steps = llama_steps(base.backbone)
    source = ServedVariants(base, folder, tell)
    name = base.identity.id
    plain = ServedModel(
        name, "base", base.identity.weight_hash, name, defaults=Generation(max_tokens=_MOST_OF_BASE)
    )
    base_alone = LoadedVariant(plain, renderer_of(base, RenderSettings()), Prompt())
    return ContinuousEngine(
        base,
        chain(_put_on(source, variants, options, tell), [base_alone]),
        num_slots=options.num_slots,
        tokens_per_step=options.tokens_per_step,
        source=source,
        limit_bytes=options.limit_bytes,
        cache_mib=options.cache_mib,
    )


def _put_on(
    source: ServedVariants,
    variants: Sequence[Variant],
    options: EngineOptions,
    tell: Sink,
) -> Iterator[LoadedVariant]:
    """Put variants on the base, one after another; where none was named, those that can be."""
    for number, variant in enumerate(variants):
        tell(Progress("loading variants", number, len(variants)))
        try:
            yield source.put_on(variant)
        except KamertonError as error:
            if options.names and options.restored is None:
                raise
            tell(_not_served(variant.name, error))
    if variants:
        tell(Progress("loading variants", len(variants), len(variants)))


def _not_served(name: str, error: KamertonError) -> Notice:
    about = "" if error.message.startswith(name) else f"{name}: "
    return Notice(f"not served: {about}{error.message}", "warning")


def _restored(models: Sequence[ServedModel], folder: Path, tell: Sink) -> list[Variant]:
    """Find what an engine held that has crashed: the same versions, whatever is there now."""
    variants = []
    for model in models:
        if model.kind == "base":
            continue
        try:
            variants.append(find_version(Path(model.place), model.content_hash, folder))
        except VariantError as error:
            tell(_not_served(model.name, error))
    return variants


def _variants(options: EngineOptions, folder: Path, *, with_all: bool, tell: Sink) -> list[Variant]:
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
    tell: Sink,
) -> Base:
    if len(bases) > 1:
        raise VariantError(
            f"a server has one base, and these are {len(bases)}: {', '.join(bases)}",
            hint="start a server for each, with --port",
        )
    dtype: DType | None = next((one for one in get_args(DType) if one == options.dtype), None)
    quantise: Quantisation | None = next(
        (one for one in get_args(Quantisation) if one == options.quantise), None
    )
    place = options.base or (bases[0] if bases else "")

    opening = Opening(place, options.device, dtype, tell)
    if variants:
        _ensure_same_form(variants, options.quantise)
        return load_base_for(variants[0], opening, quantise=quantise)
    say_unpacking(place, tell)
    return load_base(
        place,
        dtype=dtype or "auto",
        device=options.device or "auto",
        quantise=quantise or "none",
        sink=tell,
    )


def _ensure_same_form(variants: Sequence[Variant], wanted: str) -> None:
    """Refuse another form of the base's weights than a variant learned to make up for."""
    for variant in variants:
        own = variant.manifest.base.quantise
        if wanted and own not in ("none", wanted):
            raise VariantError(
                f"'{variant.name}' was made over a base held in {own}, and --quantise says "
                f"{wanted}",
                hint=f"leave --quantise out, or say {own}",
            )
