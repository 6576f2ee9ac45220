"""Making a variant answer: base, prompt and adapter put together and checked."""

from dataclasses import dataclass
from pathlib import Path

import torch

from kamerton.adapters.adapter import Adapter
from kamerton.adapters.catalogue import load
from kamerton.core.errors import AdapterError, VariantError
from kamerton.core.files import atomic_folder
from kamerton.data.rendering import Renderer
from kamerton.flows.prepare import renderer_of
from kamerton.flows.recipe import Recipe
from kamerton.inference.engine import EmbeddedEngine
from kamerton.models.base import Base
from kamerton.models.codecs import Quantisation
from kamerton.models.layout import Layout
from kamerton.models.load import DType, load_base
from kamerton.prompting.prompt import Prompt
from kamerton.store.variants import Variant, check_base

__all__ = [
    "Merged",
    "Ready",
    "base_of",
    "make_ready",
    "merge_variant",
    "prompt_of",
    "recipe_of",
    "verify_variant",
]

_PROBE = ({"role": "user", "content": "Hello! Здравствуйте! When does my order 4417 arrive?"},)


@dataclass(frozen=True, eq=False)
class Ready:
    """A variant that can answer.

    Attributes:
        engine: Generates and scores with its prompt.
        renderer: For its base.
        prompt: Its prompt.
        adapter: Attached to the base; None for a prompt-only variant.
    """

    engine: EmbeddedEngine
    renderer: Renderer
    prompt: Prompt
    adapter: Adapter | None


def recipe_of(variant: Variant) -> Recipe:
    """Read the recipe a variant was made from.

    Args:
        variant: The variant.

    Returns:
        The recipe.

    Raises:
        SettingsError: If this version does not understand it.
    """
    return Recipe.parse(variant.manifest.recipe, source=f"{variant.name}'s recipe")


def prompt_of(variant: Variant) -> Prompt:
    """Read a variant's prompt.

    Args:
        variant: The variant.

    Returns:
        The prompt.
    """
    return Prompt.model_validate(variant.manifest.prompt)


def base_of(
    variant: Variant, dtype: DType | None = None, quantise: Quantisation | None = None
) -> Base:
    """Load a variant's base and verify that it is the very one.

    Args:
        variant: The variant.
        dtype: Another one than its recipe's.
        quantise: Held in another way than its recipe says.

    Returns:
        The base, without adapter.

    Raises:
        ModelError: If it cannot be loaded.
        VariantError: If it is another one.
    """
    recipe = recipe_of(variant)
    base = load_base(
        recipe.base.id,
        dtype=dtype or recipe.base.dtype,
        device=recipe.base.device,
        quantise=quantise or recipe.base.quantise,
    )
    check_base(
        variant.manifest,
        weight_hash=base.identity.weight_hash,
        tokenizer_hash=base.identity.tokenizer_hash,
        template_hash=base.identity.template_hash,
    )
    return base


def make_ready(variant: Variant, base: Base) -> Ready:
    """Attach a variant to its base.

    Args:
        variant: The variant.
        base: As `base_of` gave it, without adapter.

    Returns:
        What can answer; detach `adapter` before another variant uses the base.

    Raises:
        AdapterError: If the adapter does not fit.
    """
    renderer = renderer_of(base, recipe_of(variant).render)
    prompt = prompt_of(variant)
    files = variant.files()
    adapter = load(base, variant.manifest.method, files) if files else None
    return Ready(EmbeddedEngine(base, renderer, prompt), renderer, prompt, adapter)


@dataclass(frozen=True, slots=True)
class Merged:
    """How a merged model compares with the unmerged variant on a probe.

    Attributes:
        dtype: Of the merged weights.
        largest: Largest difference of a logit.
        same_top: Share of positions with the same likeliest token.
    """

    dtype: str
    largest: float
    same_top: float


@torch.no_grad()
def verify_variant(variant: Variant) -> float:
    """Load a variant with all checks and measure what its adapter changes.

    Args:
        variant: The variant; its files were verified when it was read.

    Returns:
        Largest change of a logit on a probe text; 0 for a prompt-only variant.

    Raises:
        VariantError: If the base is another one.
        AdapterError: If the adapter does not fit or changes nothing.
    """
    base = base_of(variant)
    ready = make_ready(variant, base)
    if ready.adapter is None:
        return 0.0
    adapted = _probe_logits(ready, base)
    with ready.adapter.disabled():
        difference = float((adapted - _probe_logits(ready, base)).abs().max())
    if difference == 0:
        raise AdapterError(
            f"{variant.name} answers exactly like its base: the adapter does nothing",
            hint="train it again; the file may have been written before training",
        )
    return difference


@torch.no_grad()
def merge_variant(variant: Variant, folder: Path) -> Merged:
    """Write a variant merged into its base as a Transformers model.

    Args:
        variant: A variant whose method can be merged.
        folder: Where to write; must not exist.

    Returns:
        How the merged model compares.

    Raises:
        VariantError: If the method cannot be merged or the folder exists.
    """
    if folder.exists():
        raise VariantError(f"{folder} exists already", hint="name a folder that does not exist")
    base = base_of(variant)
    ready = make_ready(variant, base)
    adapter = ready.adapter
    if adapter is None or not adapter.capabilities.mergeable:
        raise VariantError(f"{variant.name} is '{variant.manifest.method}', which cannot be merged")
    before = _probe_logits(ready, base)
    adapter.merge()
    after = _probe_logits(ready, base)
    with atomic_folder(folder) as temporary:
        with adapter.as_plain_model():
            base.model.save_pretrained(temporary)
        base.tokenizer.save_pretrained(temporary)
    same = (before.argmax(-1) == after.argmax(-1)).float().mean()
    dtype = str(base.dtype).removeprefix("torch.")
    return Merged(dtype, float((before - after).abs().max()), float(same))


def _probe_logits(ready: Ready, base: Base) -> torch.Tensor:
    """Logits over a short chat, [T, V]."""
    ids = torch.tensor(ready.renderer.prompt_ids(_PROBE), device=base.device)
    return base.head.logits(base.hidden(ids, Layout.of_lengths([len(ids)])))
