"""Putting together what learns from its own answers: policy, rewards, reference and critic."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from kamerton.adapters.adapter import Adapter
from kamerton.adapters.catalogue import AdapterSettings
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
from kamerton.inference.engine import EmbeddedEngine
from kamerton.models.base import Base
from kamerton.models.context import room_of
from kamerton.objectives.objective import Online
from kamerton.objectives.online import CheckReward, OnlineSettings
from kamerton.objectives.ppo import PpoSettings, PpoValue
from kamerton.store.variants import Variant
from kamerton.training.defaults import MOST_TOKENS
from kamerton.training.rewards import make_reward
from kamerton.training.rollouts import (
    AdapterContext,
    Critic,
    Rollouts,
    at_start,
    tokens_with_answers,
)
from kamerton.training.settings import TrainSettings

__all__ = ["examine_online", "make_rollouts", "reference_of"]


def examine_online(
    settings: OnlineSettings,
    adapter: AdapterSettings,
    train: TrainSettings,
    prompts: Sequence[TrainingExample],
    reward_variants: Sequence[Variant],
    base: Base,
    sink: Sink,
) -> None:
    """Refuse what cannot work, and warn of what will hardly.

    Args:
        settings: The objective's settings.
        adapter: The settings of the policy's adapter.
        train: The loop's settings.
        prompts: The prompts to learn from.
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
    if getattr(adapter, "dropout", 0):
        sink(Notice("adapter.dropout is off: answers are learned as they were drawn"))
    _examine_room(settings, train, prompts, base, sink)


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
    settings: OnlineSettings,
    train: TrainSettings,
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
    batch = train.tokens_per_step
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


def reference_of(adapter: Adapter, *, goes_on: bool) -> AdapterContext:
    """Say what a model is held near: the variant that it goes on from, or the bare base.

    Args:
        adapter: The adapter as it is before the first step.
        goes_on: Whether it is that of a variant.

    Returns:
        A maker of contexts in which the base has the reference.
    """
    return at_start(adapter) if goes_on else adapter.disabled


def make_rollouts(
    objective: Online,
    train: TrainSettings,
    base: Base,
    adapter: Adapter,
    renderer: Renderer,
    reward_variants: Sequence[Variant],
    folder: Path,
    *,
    goes_on: bool,
    new_tokens: tuple[str, ...],
) -> tuple[Rollouts, Adapter]:
    """Let an attached adapter learn from what it writes.

    All adapters share the base: the policy at home, reward variants and the value model beside it.

    Args:
        objective: The objective that learns from answers.
        train: The loop's settings.
        base: The base with the policy attached.
        adapter: The policy: that of the starting variant, or a fresh one.
        renderer: The policy's.
        reward_variants: Variants that give rewards.
        folder: The folder that paths are relative to.
        goes_on: Whether the policy begins as a variant, which is then its reference.
        new_tokens: Words that the policy's adapter adds to the tokenizer.

    Returns:
        The source of answers, and the adapter that the optimiser trains: the policy, under PPO with
        its critic.

    Raises:
        SettingsError: If a source of rewards does not fit.
        VariantError: If a judge was made for another base.
    """
    settings = objective.settings
    residents = AdapterSwitcher(adapter)
    # The bare base's system text beside its question, as far as a judge has it too.
    told = renderer.settings.model_dump(include={"date", "template_arguments"})
    reward = make_reward(
        settings,
        reward_variants,
        base,
        residents,
        folder,
        RenderSettings.parse(told, source="render"),
    )
    reference = reference_of(adapter, goes_on=goes_on)
    critic, trained = None, adapter
    if isinstance(settings, PpoSettings):
        lora = LoraSettings(
            rank=settings.value_rank,
            alpha=2.0 * settings.value_rank,
            new_tokens=new_tokens,  # it reads what the policy wrote
        )
        seed = derive_seed(train.seed, "critic")
        value = residents.admit(lambda: with_head(base, attach_lora(base, lora, seed), 1, seed))
        critic = Critic(PpoValue(settings), partial(residents.using, value))
        trained = ActorCritic(adapter, value)
    rollouts = Rollouts(
        base=base,
        engine=EmbeddedEngine(base, renderer, tokens_per_row=train.tokens_per_row),
        objective=objective,
        reward=reward,
        reference=reference,
        critic=critic,
    )
    return rollouts, trained
