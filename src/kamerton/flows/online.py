"""Putting together what learns from its own answers: policy, rewards, reference and critic."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from kamerton.adapters.adapter import Adapter
from kamerton.adapters.headed import with_head
from kamerton.adapters.lora import attach_lora
from kamerton.adapters.lora_settings import LoraSettings
from kamerton.adapters.residents import ActorCritic, Residents
from kamerton.core.seeds import derive_seed
from kamerton.data.rendering import Renderer
from kamerton.flows.recipe import Recipe
from kamerton.flows.rewards import make_reward
from kamerton.inference.engine import EmbeddedEngine
from kamerton.models.base import Base
from kamerton.objectives.objective import Online
from kamerton.objectives.ppo import PpoSettings, PpoValue
from kamerton.store.variants import Variant
from kamerton.training.rollouts import Critic, Rollouts, at_start

__all__ = ["make_rollouts"]


def make_rollouts(
    recipe: Recipe,
    objective: Online,
    base: Base,
    adapter: Adapter,
    renderer: Renderer,
    judges: Sequence[Variant],
    folder: Path,
) -> tuple[Rollouts, Adapter]:
    """Let an attached adapter learn from what it writes.

    All adapters share the base: the policy at home, reward variants and the value model beside it.

    Args:
        recipe: The recipe.
        objective: What is learned from answers.
        base: With the policy attached.
        adapter: The policy: that of the starting variant, or a fresh one.
        renderer: The policy's.
        judges: Variants that give rewards.
        folder: What the recipe's paths are relative to.

    Returns:
        What answers prompts, and what the optimiser trains: the policy, under PPO with its critic.

    Raises:
        SettingsError: If a source of rewards does not fit.
        VariantError: If a judge was made for another base.
    """
    settings = objective.settings
    residents = Residents(adapter)
    reward = make_reward(settings, judges, base, residents, folder)
    reference = at_start(adapter) if recipe.start else adapter.disabled
    critic, trained = None, adapter
    if isinstance(settings, PpoSettings):
        lora = LoraSettings(rank=settings.value_rank, alpha=2.0 * settings.value_rank)
        seed = derive_seed(recipe.train.seed, "critic")
        value = residents.admit(lambda: with_head(base, attach_lora(base, lora, seed), 1, seed))
        critic = Critic(PpoValue(settings), partial(residents.using, value))
        trained = ActorCritic(adapter, value)
    rollouts = Rollouts(
        base=base,
        engine=EmbeddedEngine(base, renderer),
        objective=objective,
        reward=reward,
        reference=reference,
        critic=critic,
        tokens_per_row=recipe.train.tokens_per_row,
    )
    return rollouts, trained
