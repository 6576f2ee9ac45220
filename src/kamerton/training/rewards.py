"""Rewards: what an answer is worth, from a reward variant, a function, a check or a judge."""

import re
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from kamerton.adapters.adapter_files import read_tensors
from kamerton.adapters.catalogue import load
from kamerton.adapters.switcher import AdapterSwitcher
from kamerton.adapters.with_score_head import SCORE_HEAD_FILE
from kamerton.core.errors import ModelError, SettingsError, TrainingError, VariantError
from kamerton.data.rendering.renderer import Renderer
from kamerton.data.rendering.tokenized import RenderSettings
from kamerton.evaluation.checks import worth_of
from kamerton.evaluation.items import Item
from kamerton.evaluation.settings import Check
from kamerton.inference.engine import EmbeddedEngine
from kamerton.inference.reward_engine import RewardEngine
from kamerton.models.base import Base
from kamerton.objectives.catalogue import ObjectiveSettings
from kamerton.objectives.drpo import DrpoSettings
from kamerton.objectives.online import (
    CheckReward,
    FunctionReward,
    JudgeReward,
    OnlineSettings,
    VariantReward,
)
from kamerton.store.variants import Variant, find_variant
from kamerton.training.reward_functions import function_reward
from kamerton.training.rollouts import AdapterContext, AnsweredPrompt, RewardFunction
from kamerton.variants.load import ensure_same_base, with_template_of
from kamerton.variants.opening import ensure_writes, prompt_of, renderer_for
from kamerton.variants.rendering import renderer_of

__all__ = ["make_reward", "read_reward_variants"]

_SLOT = re.compile(r"\{(prompt|answer)\}")


def read_reward_variants(objective: ObjectiveSettings, folder: Path) -> list[Variant]:
    """Read the variants that judge what a model writes.

    Args:
        objective: Names them in `objective.rewards`, if it has any.
        folder: The folder of all variants.

    Returns:
        The variants in order; none where no variant judges.

    Raises:
        VariantError: If one is missing, damaged, or cannot judge.
        SettingsError: If a general preference model stands where rewards are needed, or is weighed.
    """
    if not isinstance(objective, OnlineSettings):
        return []
    found = []
    for source in objective.rewards:
        if isinstance(source, VariantReward):
            variant = find_variant(source.variant, folder, key="objective.rewards")
            _ensure_judges(variant, objective, source.weight)
            found.append(variant)
        elif isinstance(source, JudgeReward) and source.variant:
            variant = find_variant(source.variant, folder, key="objective.rewards")
            ensure_writes(variant, "asked a question")
            found.append(variant)
    return found


def make_reward(
    settings: OnlineSettings,
    variants: Sequence[Variant],
    base: Base,
    residents: AdapterSwitcher,
    folder: Path,
    render: RenderSettings | None = None,
) -> RewardFunction:
    """Put the sources of rewards together.

    Args:
        settings: The settings that name rewards and their weights.
        variants: The variants that `read_reward_variants` gave.
        base: The base with the policy attached.
        residents: The switcher that takes in the adapters of variants.
        folder: The folder that paths are relative to.
        render: The rendering of what the bare base is asked where it judges.

    Returns:
        A reward: the weighted sum of all sources.

    Raises:
        SettingsError: If a function cannot be found, or a general preference model is not alone.
        VariantError: If a variant was made for another base.
    """
    waiting = iter(variants)
    sources: list[tuple[float, RewardFunction]] = []
    for source in settings.rewards:
        match source:
            case VariantReward():
                made = _of_variant(next(waiting), base, residents)
            case FunctionReward():
                made = function_reward(source, folder)
            case CheckReward():
                made = partial(_of_check, source.check)
            case JudgeReward():
                judge = next(waiting) if source.variant else None
                made = _of_judge(source, judge, base, residents, render or RenderSettings())
        sources.append((source.weight, made))
    if len(sources) == 1 and sources[0][0] == 1.0:
        return sources[0][1]

    def total(answered: Sequence[AnsweredPrompt]) -> Tensor:
        parts = [weight * reward(answered) for weight, reward in sources]
        return torch.stack(parts).sum(0)

    return total


def _ensure_judges(variant: Variant, objective: OnlineSettings, weight: float) -> None:
    """Refuse what is no reward model, and a general preference model but for DRPO."""
    made = variant.manifest.objective
    if made != "reward":
        raise VariantError(
            f"objective.rewards: '{variant.name}' learned with objective.kind = '{made}', it "
            "is no reward model",
            hint='train one with objective.kind = "reward", or ask it with kind = "judge"',
        )
    alone = isinstance(objective, DrpoSettings) and len(objective.rewards) == 1
    compares_pairs = _num_scores(variant) > 1
    if compares_pairs and not alone:
        raise SettingsError(
            f"objective.rewards: '{variant.name}' is a general preference model, which compares "
            'pairs: it can only be the one source of objective.kind = "drpo"',
            hint='train a reward model with objective.model = "bradley-terry"',
        )
    if compares_pairs and weight != 1.0:
        # Its numbers are scaled to length 1, so that a factor would change nothing.
        raise SettingsError(
            f"objective.rewards: '{variant.name}' is a general preference model, whose weight must "
            f"be 1, got {weight}"
        )


def _num_scores(variant: Variant) -> int:
    """Count the numbers that a reward model gives an answer: its head has a bias for each."""
    head = {SCORE_HEAD_FILE: (variant.folder / SCORE_HEAD_FILE).read_bytes()}
    return len(read_tensors(head, SCORE_HEAD_FILE)["score_head.bias"])


def _admitted(
    variant: Variant, base: Base, residents: AdapterSwitcher
) -> tuple[Renderer, AdapterContext]:
    """Load a variant beside the policy: how it reads, and what has it on for a while."""
    ensure_same_base(variant, base)
    adapter = residents.admit(lambda: load(base, variant.manifest.method, variant.files()))
    renderer = renderer_for(variant, with_template_of(variant, base))
    return renderer, partial(residents.using, adapter)


def _of_variant(variant: Variant, base: Base, residents: AdapterSwitcher) -> RewardFunction:
    renderer, on = _admitted(variant, base, residents)
    engine = RewardEngine(base, renderer, prompt_of(variant))

    def reward(answered: Sequence[AnsweredPrompt]) -> Tensor:
        with on():
            judged = engine.rewards([one.messages for one in answered], [a.texts for a in answered])
        return torch.cat(judged).cpu()

    return reward


def _of_check(check: Check, answered: Sequence[AnsweredPrompt]) -> Tensor:
    items = [
        Item(id="", chat=one.messages, reference=one.reference, extra=one.extra)
        for one in answered
        for _ in one.texts
    ]
    values = worth_of(check, items, [text for one in answered for text in one.texts])
    # An answer to a question that a check does not count is worth nothing.
    return torch.from_numpy(values).float().nan_to_num(nan=0.0)[:, None]


def _of_judge(
    source: JudgeReward,
    variant: Variant | None,
    base: Base,
    residents: AdapterSwitcher,
    render: RenderSettings,
) -> RewardFunction:
    on: AdapterContext
    if variant is None:
        engine, on = EmbeddedEngine(base, renderer_of(base, render)), residents.bare
    else:
        renderer, on = _admitted(variant, base, residents)
        engine = EmbeddedEngine(base, renderer, prompt_of(variant))

    def reward(answered: Sequence[AnsweredPrompt]) -> Tensor:
        chats = [_question(source.question, one, text) for one in answered for text in one.texts]
        try:
            with on():
                scores = engine.score(chats, [(source.yes, source.no)] * len(chats))
        except ModelError as error:
            raise TrainingError(
                f"objective.rewards: the judge cannot be asked about an answer: {error.message}",
                hint="lower objective.max_tokens, or shorten the judge's question",
            ) from error
        logits = torch.tensor([[score.logprob for score in row] for row in scores])
        return logits.softmax(1)[:, :1]

    return reward


def _question(template: str, answered: AnsweredPrompt, text: str) -> list[dict[str, str]]:
    asked = str(answered.messages[-1].get("content", ""))
    filled = _SLOT.sub(lambda slot: {"prompt": asked, "answer": text}[slot[1]], template)
    return [{"role": "user", "content": filled}]
