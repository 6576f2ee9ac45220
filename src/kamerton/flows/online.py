"""Putting together what learns from its own answers: policy, rewards, reference and critic."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from kamerton.adapters.adapter import Adapter
from kamerton.adapters.lora.lora import attach_lora
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.adapters.switcher import ActorCritic, AdapterSwitcher
from kamerton.adapters.with_score_head import with_head
from kamerton.core.errors import EvaluationError, SettingsError
from kamerton.core.events import Notice, Sink
from kamerton.core.seeds import derive_seed
from kamerton.data.rendering.renderer import Renderer
from kamerton.data.rendering.tokenized import RenderSettings, TokenizedPrompt, TrainingExample
from kamerton.evaluation.checks import check_answers
from kamerton.evaluation.items import Item
from kamerton.flows.recipe import Recipe
from kamerton.flows.rewards import make_reward
from kamerton.inference.engine import EmbeddedEngine
from kamerton.models.base import Base
from kamerton.models.context import room_of
from kamerton.objectives.objective import Online
from kamerton.objectives.online import CheckReward, OnlineSettings
from kamerton.objectives.ppo import PpoSettings, PpoValue
from kamerton.store.variants import Variant
from kamerton.training.defaults import MOST_TOKENS
from kamerton.training.rollouts import (
    AdapterContext,
    Critic,
    Rollouts,
    at_start,
    tokens_with_answers,
)

__all__ = ["examine_online", "make_rollouts", "reference_of"]


def examine_online(
    recipe: Recipe,
    settings: OnlineSettings,
    prompts: Sequence[TrainingExample],
    reward_variants: Sequence[Variant],
    base: Base,
    sink: Sink,
) -> None:
    """Refuse what cannot work, and warn of what will hardly.

    Args:
        recipe: The recipe.
        settings: Of its objective.
        prompts: To learn from.
        reward_variants: Variants that give rewards.
        base: The base.
        sink: Receives notices.

    Raises:
        SettingsError: If answers do not fit into the base's context, or a check counts no question.
    """
    for source in settings.rewards:
        if isinstance(source, CheckReward):
            _examine_check(source, prompts, sink)
    for variant in reward_variants:
        if (made := variant.manifest.base.quantise) != base.identity.quantise:
            judged = f"'{variant.name}' was made over a base with base.quantise = \"{made}\""
            here = f'and judges over one with "{base.identity.quantise}": measure it there'
            sink(Notice(f"objective.rewards: {judged}, {here}", "warning"))
    if getattr(recipe.adapter, "dropout", 0):
        sink(Notice("adapter.dropout is off: answers are learned as they were drawn"))
    _examine_room(recipe, settings, prompts, base, sink)


def _examine_check(source: CheckReward, prompts: Sequence[TrainingExample], sink: Sink) -> None:
    items = [
        Item(id="", chat=prompt.messages, reference=prompt.reference, extra=prompt.extra)
        for prompt in prompts
        if isinstance(prompt, TokenizedPrompt)
    ]
    try:
        values = check_answers(source.check, items, [""] * len(items)).values
    except EvaluationError as error:
        raise SettingsError(f"objective.rewards: {error.message}", hint=error.hint) from error
    left_out = int(np.isnan(values).sum())
    if left_out:
        sink(
            Notice(
                f"objective.rewards: check '{source.check.title}' does not count {left_out} of "
                f"{len(items)} questions, whose answers are worth 0 by it",
                "warning",
            )
        )


def _examine_room(
    recipe: Recipe,
    settings: OnlineSettings,
    prompts: Sequence[TrainingExample],
    base: Base,
    sink: Sink,
) -> None:
    longest = max(prompt.num_prompt for prompt in prompts)
    room = room_of(base)
    if room is not None and settings.max_tokens >= room:
        raise SettingsError(
            f"objective.max_tokens: answers of {settings.max_tokens:,} tokens do not fit into the "
            f"base's context of {room + base.num_virtual:,}",
            hint="leave room for the questions too",
        )
    if room is not None and longest + settings.max_tokens > room:
        sink(
            Notice(
                f"the longest question of {longest} tokens leaves {room - longest} of the base's "
                f"context: answers are cut before objective.max_tokens = {settings.max_tokens}",
                "warning",
            )
        )
    needed = max(tokens_with_answers(prompt, settings, base) for prompt in prompts)
    batch = recipe.train.tokens_per_step
    batch = MOST_TOKENS if batch == "auto" else batch
    if needed > batch:
        sink(
            Notice(
                f"a question with its answers takes up to {needed:,} tokens, and a step has "
                f"train.tokens_per_step = {batch:,}: one question a step, "
                "which is a noisy step",
                "warning",
            )
        )


def reference_of(recipe: Recipe, adapter: Adapter) -> AdapterContext:
    """Say what a model is held near: the variant that it goes on from, or the bare base.

    Args:
        recipe: Names the start, if there is one.
        adapter: As it is before the first step.

    Returns:
        Has the reference on the base for a while.
    """
    return at_start(adapter) if recipe.start_from else adapter.disabled


def make_rollouts(
    recipe: Recipe,
    objective: Online,
    base: Base,
    adapter: Adapter,
    renderer: Renderer,
    reward_variants: Sequence[Variant],
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
        reward_variants: Variants that give rewards.
        folder: What the recipe's paths are relative to.

    Returns:
        What answers prompts, and what the optimiser trains: the policy, under PPO with its critic.

    Raises:
        SettingsError: If a source of rewards does not fit.
        VariantError: If a judge was made for another base.
    """
    settings = objective.settings
    residents = AdapterSwitcher(adapter)
    # What the bare base is told beside its question, as far as a judge has it too.
    told = recipe.render.model_dump(include={"date", "template_arguments"})
    reward = make_reward(
        settings,
        reward_variants,
        base,
        residents,
        folder,
        RenderSettings.parse(told, source="render"),
    )
    reference = reference_of(recipe, adapter)
    critic, trained = None, adapter
    if isinstance(settings, PpoSettings):
        lora = LoraSettings(
            rank=settings.value_rank,
            alpha=2.0 * settings.value_rank,
            new_tokens=recipe.adapter.added_tokens,  # it reads what the policy wrote
        )
        seed = derive_seed(recipe.train.seed, "critic")
        value = residents.admit(lambda: with_head(base, attach_lora(base, lora, seed), 1, seed))
        critic = Critic(PpoValue(settings), partial(residents.using, value))
        trained = ActorCritic(adapter, value)
    rollouts = Rollouts(
        base=base,
        engine=EmbeddedEngine(base, renderer, tokens_per_row=recipe.train.tokens_per_row),
        objective=objective,
        reward=reward,
        reference=reference,
        critic=critic,
    )
    return rollouts, trained
