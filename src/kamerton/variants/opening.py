"""A variant that can answer: base, renderer, prompt and adapter put together."""

from dataclasses import dataclass

from kamerton.adapters.adapter import Adapter
from kamerton.adapters.catalogue import load
from kamerton.core.errors import VariantError
from kamerton.core.generation import GenerationSettings
from kamerton.core.protocols import Engine
from kamerton.data.rendering.renderer import Renderer, RenderSettings
from kamerton.inference.engine import EmbeddedEngine
from kamerton.inference.reward_engine import RewardEngine
from kamerton.models.base import Base
from kamerton.prompting.prompt import Prompt
from kamerton.store.variants import Variant
from kamerton.variants.rendering import renderer_of

__all__ = [
    "Ready",
    "engine_of",
    "ensure_writes",
    "generation_of",
    "make_ready",
    "prompt_of",
    "render_of",
    "renderer_for",
]


@dataclass(frozen=True, eq=False)
class Ready:
    """A variant that can answer.

    Attributes:
        engine: Generates and scores with its prompt; of a reward model, only scores.
        renderer: Its base's renderer.
        prompt: Its prompt.
        adapter: Attached to the base; None for a prompt-only variant.
    """

    engine: Engine
    renderer: Renderer
    prompt: Prompt
    adapter: Adapter | None


def prompt_of(variant: Variant) -> Prompt:
    """Read a variant's prompt.

    Args:
        variant: The variant.

    Returns:
        The prompt.
    """
    return Prompt.model_validate(variant.manifest.prompt)


def render_of(variant: Variant) -> RenderSettings:
    """Read how a variant's conversations become tokens.

    Args:
        variant: The variant.

    Returns:
        The settings.
    """
    return RenderSettings.parse(
        variant.manifest.render, source=f"{variant.name}'s manifest: render"
    )


def generation_of(variant: Variant) -> GenerationSettings:
    """Read a variant's generation defaults.

    Args:
        variant: The variant.

    Returns:
        The settings.
    """
    generation = variant.manifest.generation
    return GenerationSettings.parse_stored(
        generation, source=f"{variant.name}'s manifest: generation"
    )


def renderer_for(variant: Variant, base: Base) -> Renderer:
    """Make a variant's renderer, which knows the tokens that its adapter brought.

    Args:
        variant: The variant.
        base: The base with the variant's chat template.

    Returns:
        The renderer.

    Raises:
        RenderingError: If the base's chat template cannot write a chat.
    """
    return renderer_of(base, render_of(variant), variant.manifest.new_tokens)


def make_ready(variant: Variant, base: Base) -> Ready:
    """Attach a variant to its base.

    Args:
        variant: The variant.
        base: The base that `load_base_for` gave, without adapter.

    Returns:
        What can answer; detach `adapter` before another variant uses the base.

    Raises:
        AdapterError: If the adapter does not fit.
    """
    renderer, prompt = renderer_for(variant, base), prompt_of(variant)
    files = variant.files()
    adapter = load(base, variant.manifest.method, files) if files else None
    return Ready(engine_of(base, renderer, prompt), renderer, prompt, adapter)


def engine_of(base: Base, renderer: Renderer, prompt: Prompt | None = None) -> Engine:
    """Make the engine for what is attached to a base.

    Args:
        base: The base; a score head makes it a reward model.
        renderer: The base's renderer.
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
        verb: The verb for the message.

    Raises:
        VariantError: If it is a reward model.
    """
    if variant.manifest.objective == "reward":
        raise VariantError(
            f"'{variant.name}' is a reward model, which judges answers and writes none: "
            f"it cannot be {verb}",
            hint='name it in objective.rewards of a recipe with objective.kind = "rlhf"',
        )
