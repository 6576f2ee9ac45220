"""Making a variant answer: base, prompt and adapter put together and checked."""

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from kamerton.adapters.adapter import Adapter
from kamerton.adapters.catalogue import load
from kamerton.core.errors import AdapterError, ModelError, VariantError
from kamerton.core.events import Notice, Sink
from kamerton.core.protocols import Engine
from kamerton.data.rendering.renderer import Renderer
from kamerton.flows.prepare import renderer_of
from kamerton.flows.recipe import Recipe
from kamerton.inference.engine import EmbeddedEngine
from kamerton.inference.reward_engine import RewardEngine
from kamerton.models.attention.layout import Layout
from kamerton.models.base import Base
from kamerton.models.dtype import DType
from kamerton.models.load import all_files_hash, file_to_unpack, load_base
from kamerton.models.quantised.codecs import Quantisation
from kamerton.prompting.prompt import Prompt
from kamerton.store.variants import Variant, check_base

__all__ = [
    "Opening",
    "Ready",
    "engine_of",
    "ensure_same_base",
    "ensure_writes",
    "largest_change",
    "load_base_for",
    "make_ready",
    "own_probe_logits",
    "probe_ids",
    "probe_logits",
    "prompt_of",
    "recipe_of",
    "reopened",
    "say_other_template",
    "say_unpacking",
    "verify_variant",
    "with_template_of",
]

_PROBE = ({"role": "user", "content": "Hello! Здравствуйте! When does my order 4417 arrive?"},)


@dataclass(frozen=True, slots=True)
class Opening:
    """How a variant's base is opened where its recipe is not to decide.

    Attributes:
        base: Where the base is now: a folder or a Hub id; empty for the recipe's.
        device: What it computes on; empty for the recipe's.
        dtype: Of weights and computation; None for the recipe's.
        sink: Receives warnings.
    """

    base: str = ""
    device: str = ""
    dtype: DType | None = None
    sink: Sink = lambda event: None


@dataclass(frozen=True, eq=False)
class Ready:
    """A variant that can answer.

    Attributes:
        engine: Generates and scores with its prompt; of a reward model, only scores.
        renderer: For its base.
        prompt: Its prompt.
        adapter: Attached to the base; None for a prompt-only variant.
    """

    engine: Engine
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
    return Recipe.parse_stored(variant.manifest.recipe, source=f"{variant.name}'s recipe")


def prompt_of(variant: Variant) -> Prompt:
    """Read a variant's prompt.

    Args:
        variant: The variant.

    Returns:
        The prompt.
    """
    return Prompt.model_validate(variant.manifest.prompt)


def reopened(variant: Variant, opening: Opening) -> Variant:
    """Let a variant's recipe, in memory only, say how its base is opened.

    Args:
        variant: The variant.
        opening: What of it is to be otherwise.

    Returns:
        The variant with a changed recipe; its folder stays as it is.
    """
    wanted = {"id": opening.base, "device": opening.device, "dtype": opening.dtype}
    changed = {key: value for key, value in wanted.items() if value}
    manifest = variant.manifest
    recipe = recipe_of(variant).to_plain()
    recipe["base"] |= changed
    # Another place has commits of its own.
    commit = "" if opening.base else manifest.base.commit
    base = manifest.base.model_copy(update={"commit": commit})
    return replace(variant, manifest=manifest.model_copy(update={"recipe": recipe, "base": base}))


def load_base_for(
    variant: Variant,
    opening: Opening | None = None,
    *,
    dtype: DType | None = None,
    quantise: Quantisation | None = None,
) -> Base:
    """Load a variant's base, verify that it is the very one, and give it the variant's template.

    Args:
        variant: The variant.
        opening: Where the base is and how it is opened; as the recipe says when None.
        dtype: Another one than the opening's and the recipe's.
        quantise: Held in another way than its recipe says.

    Returns:
        The base, without adapter.

    Raises:
        ModelError: If it cannot be loaded.
        VariantError: If it is another one.
    """
    opening = opening or Opening()
    variant = reopened(variant, opening)
    settings = recipe_of(variant).base
    place = settings.id
    say_unpacking(place, opening.sink)
    try:
        base = load_base(
            place,
            dtype=dtype or settings.dtype,
            device=settings.device,
            quantise=quantise or settings.quantise,
            commit=variant.manifest.base.commit,
        )
    except ModelError as error:
        if opening.base or place.startswith("builtin:") or Path(place).expanduser().exists():
            raise
        hint = f"{error.hint}; --base PLACE says where the base is now"
        raise ModelError(error.message, hint=hint) from error
    ensure_same_base(variant, base)
    say_other_template(variant, base, opening.sink)
    return with_template_of(variant, base)


def say_unpacking(name: str, sink: Sink) -> None:
    """Say that a GGUF file is unpacked before anything else happens, where it is.

    Args:
        name: Of the base.
        sink: Receives the notice.
    """
    if (file := file_to_unpack(name)) is not None:
        size = file.stat().st_size / 2**20
        sink(
            Notice(f"unpacking {file.name} ({size:,.0f} MiB) once; this can take a minute or more")
        )


def ensure_same_base(variant: Variant, base: Base) -> None:
    """Refuse to use a variant over another base than its own.

    Args:
        variant: The variant.
        base: As it was loaded, in whatever rounding.

    Raises:
        VariantError: If they differ.
    """
    manifest, identity = variant.manifest, base.identity
    weights = identity.weight_hash
    if manifest.format_version == 1 and weights != manifest.base.weight_hash:
        weights = all_files_hash(identity.folder)
    check_base(
        manifest,
        base=identity.id,
        weight_hash=weights,
        tokenizer_hash=identity.tokenizer_hash,
    )


def say_other_template(variant: Variant, base: Base, sink: Sink) -> None:
    """Warn where a base has another chat template than a variant learned with.

    Args:
        variant: The variant.
        base: As it was loaded.
        sink: Receives the warning.
    """
    record = variant.manifest.base
    if record.template_hash != base.identity.template_hash:
        found = (
            f"{base.identity.id} has another chat template than '{variant.name}' was trained with"
        )
        so = (
            "the variant's own is used for it"
            if record.templates
            else "the variant keeps none, so its answers may change: train it again"
        )
        sink(Notice(f"{found}: {so}", "warning"))


def with_template_of(variant: Variant, base: Base) -> Base:
    """Give a base the chat template that a variant learned with.

    Args:
        variant: The variant.
        base: Its base.

    Returns:
        The same base where it has that template already, or where the variant keeps none; else
        one that shares its model and has a tokenizer of its own.
    """
    record = variant.manifest.base
    if not record.templates or record.template_hash == base.identity.template_hash:
        return base
    tokenizer: Any = copy.deepcopy(base.tokenizer)
    only_one = record.templates.keys() == {"default"}
    tokenizer.chat_template = record.templates["default"] if only_one else dict(record.templates)
    identity = replace(base.identity, template_hash=record.template_hash)
    return replace(base, tokenizer=tokenizer, identity=identity)


def make_ready(variant: Variant, base: Base) -> Ready:
    """Attach a variant to its base.

    Args:
        variant: The variant.
        base: As `load_base_for` gave it, without adapter.

    Returns:
        What can answer; detach `adapter` before another variant uses the base.

    Raises:
        AdapterError: If the adapter does not fit.
    """
    recipe = recipe_of(variant)
    renderer = renderer_of(base, recipe.render, recipe.adapter)
    prompt = prompt_of(variant)
    files = variant.files()
    adapter = load(base, variant.manifest.method, files) if files else None
    return Ready(engine_of(base, renderer, prompt), renderer, prompt, adapter)


def engine_of(base: Base, renderer: Renderer, prompt: Prompt | None = None) -> Engine:
    """Make the engine for what is attached to a base.

    Args:
        base: The base; a score head makes it a reward model.
        renderer: For the base.
        prompt: Put before every chat.

    Returns:
        The engine.
    """
    make = EmbeddedEngine if base.score_head is None else RewardEngine
    return make(base, renderer, prompt)


def ensure_writes(variant: Variant, verb: str) -> None:
    """Refuse a reward model where a variant is wanted that writes answers.

    Args:
        variant: The variant.
        verb: What was to be done with it, for the message.

    Raises:
        VariantError: If it is a reward model.
    """
    if variant.manifest.objective == "reward":
        raise VariantError(
            f"'{variant.name}' is a reward model, which judges answers and writes none: "
            f"it cannot be {verb}",
            hint='name it in objective.rewards of a recipe with objective.kind = "rlhf"',
        )


@torch.no_grad()
def verify_variant(variant: Variant, opening: Opening | None = None) -> float:
    """Load a variant with all checks and measure what its adapter changes.

    Args:
        variant: The variant; its files were verified when it was read.
        opening: How its base is opened; as its recipe says when None.

    Returns:
        Largest change of a logit on a probe text; 0 for a prompt-only variant.

    Raises:
        VariantError: If the base is another one.
        AdapterError: If the adapter does not fit or changes nothing.
    """
    base = load_base_for(variant, opening)
    ready = make_ready(variant, base)
    if ready.adapter is None:
        return 0.0
    adapted = probe_logits(ready.renderer, base)
    with ready.adapter.disabled():
        difference = largest_change(adapted, probe_logits(ready.renderer, base))
    if difference == 0:
        raise AdapterError(
            f"{variant.name} answers exactly like its base: the adapter does nothing",
            hint="train it again; the file may have been written before training",
        )
    return difference


def largest_change(logits: torch.Tensor, others: torch.Tensor) -> float:
    """Compare logits of the tokens that both have: an adapter may bring more.

    Args:
        logits: [T, V].
        others: [T, V].

    Returns:
        The largest difference.
    """
    width = min(logits.shape[1], others.shape[1])
    return float((logits[:, :width] - others[:, :width]).abs().max())


def probe_ids(renderer: Renderer) -> list[int]:
    """Give the tokens of a short chat in two languages.

    Args:
        renderer: Of the base.

    Returns:
        Token ids.
    """
    return list(renderer.prompt_ids(_PROBE))


@torch.no_grad()
def probe_logits(renderer: Renderer, base: Base) -> torch.Tensor:
    """Compute logits over the short chat, with whatever is attached to the base.

    Args:
        renderer: Of the base.
        base: The base.

    Returns:
        [T, V] in fp32.
    """
    ids = torch.tensor(probe_ids(renderer), device=base.device)
    return base.head.logits(base.hidden(ids, Layout.of_lengths([len(ids)])))


def own_probe_logits(renderer: Renderer, base: Base) -> torch.Tensor:
    """Compute what `probe_logits` computes through the model's own forward pass.

    Args:
        renderer: Of the base.
        base: The base; nothing of ours computes but the adapter that is attached.

    Returns:
        [T, V] in fp32.
    """
    return base.own_logits(torch.tensor(probe_ids(renderer), device=base.device))
