"""Making a variant answer: base, prompt and adapter put together and checked."""

from dataclasses import dataclass

import torch

from kamerton.adapters.adapter import Adapter
from kamerton.adapters.catalogue import load
from kamerton.core.errors import AdapterError, VariantError
from kamerton.core.protocols import Engine
from kamerton.data.rendering.renderer import Renderer
from kamerton.flows.prepare import renderer_of
from kamerton.flows.recipe import Recipe
from kamerton.inference.engine import EmbeddedEngine
from kamerton.inference.reward_engine import RewardEngine
from kamerton.models.base import Base
from kamerton.models.codecs import Quantisation
from kamerton.models.layout import Layout
from kamerton.models.load import DType, load_base
from kamerton.prompting.prompt import Prompt
from kamerton.store.variants import Variant, check_base

__all__ = [
    "Ready",
    "base_of",
    "engine_of",
    "ensure_writes",
    "largest_change",
    "make_ready",
    "own_probe_logits",
    "probe_ids",
    "probe_logits",
    "prompt_of",
    "recipe_of",
    "verify_variant",
]

_PROBE = ({"role": "user", "content": "Hello! Здравствуйте! When does my order 4417 arrive?"},)


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
        base=recipe.base.id,
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


@torch.no_grad()
def own_probe_logits(renderer: Renderer, base: Base) -> torch.Tensor:
    """Compute what `probe_logits` computes through the model's own forward pass.

    Args:
        renderer: Of the base.
        base: The base; nothing of ours computes but the adapter that is attached.

    Returns:
        [T, V] in fp32.
    """
    ids = torch.tensor(probe_ids(renderer), device=base.device)[None]
    past = base.plain_past(1)
    given = {} if past is None else {"past_key_values": past}
    with base.untouched():
        output = base.model(input_ids=ids, **given, use_cache=False)
    logits: torch.Tensor = output.logits[0].float()
    return logits
