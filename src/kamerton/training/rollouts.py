"""Rollouts: the model answers prompts itself, and what the answers are worth becomes experience.

Answers are written by the engine over the very weights that learn. Log-probabilities that are
learned from are computed once more as training computes them, so that the ratio of the first
update is exactly 1 (up to rounding where the head itself learns); so dropout stays off. How far
both ways differ is reported.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Any

import torch
from torch import Tensor

from kamerton.adapters.adapter import Adapter
from kamerton.core.errors import TrainingError
from kamerton.core.protocols import Chat, Generation, Sample
from kamerton.core.seeds import derive_seed
from kamerton.data.rendering.tokenized import TokenizedGroup, TokenizedPrompt, TrainingExample
from kamerton.inference.engine import EmbeddedEngine
from kamerton.models.base import Base
from kamerton.models.context import room_of
from kamerton.models.rows.packing import TOKENS_PER_ROW
from kamerton.objectives.objective import Experience, Objective, Online, Written
from kamerton.objectives.online import OnlineSettings
from kamerton.objectives.preference_model import preference
from kamerton.training.scoring import tokens_of

__all__ = [
    "AdapterContext",
    "AnsweredPrompt",
    "Critic",
    "Distance",
    "RolloutBatch",
    "Rollouts",
    "at_start",
    "tokens_with_answers",
]

_FEW_PROMPTS = 32
AdapterContext = Callable[[], AbstractContextManager[None]]
"""Has another adapter, or none, on the base while it is entered."""


@dataclass(frozen=True, slots=True)
class AnsweredPrompt:
    """A prompt with answers that are to be rewarded.

    Attributes:
        messages: The messages up to the answers.
        extra: The row's other columns.
        reference: The answer that the row brings; empty where there is none.
        texts: The answers.
    """

    messages: Chat
    extra: Mapping[str, Any]
    reference: str
    texts: tuple[str, ...]


RewardFunction = Callable[[Sequence[AnsweredPrompt]], Tensor]
"""Says what each answer of each prompt is worth, in order: [A, D]."""


@dataclass(frozen=True, slots=True)
class Critic:
    """The value model of PPO.

    Attributes:
        objective: The objective that it minimises.
        on: Has it on the base for a while, in the policy's place.
    """

    objective: Objective
    on: AdapterContext


@dataclass(frozen=True, slots=True)
class RolloutBatch:
    """The answers that the model wrote.

    Attributes:
        groups: The answers of each prompt as rows.
        experiences: The experience with each prompt's answers.
        metrics: Numbers by name for the log.
    """

    groups: Sequence[TokenizedGroup]
    experiences: Sequence[Experience]
    metrics: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class _RewardedAnswers:
    groups: list[TokenizedGroup]
    samples: list[list[Sample]]
    rewards: list[Tensor]
    old_logprobs: list[Tensor]
    reference: list[Tensor]


@dataclass(frozen=True, eq=False)
class Rollouts:
    """Lets the model answer prompts.

    Attributes:
        base: The base with the policy attached.
        engine: Writes with it.
        objective: Says how many answers, how long, and what is learned from them.
        reward: Judges them.
        reference: Has the reference on the base for a while.
        critic: PPO's critic.
    """

    base: Base
    engine: EmbeddedEngine
    objective: Online
    reward: RewardFunction
    reference: AdapterContext
    critic: Critic | None = None

    def num_tokens(self, prompt: TrainingExample) -> int:
        """Say how many tokens a prompt may become.

        Args:
            prompt: One of the examples.

        Returns:
            Its own, and those of the longest answers.
        """
        return tokens_with_answers(prompt, self.objective.settings, self.base)

    @torch.no_grad()
    def collect(
        self, prompts: Sequence[TrainingExample], seed: int, tokens_per_row: int = TOKENS_PER_ROW
    ) -> RolloutBatch:
        """Answer prompts and say what is to be learned.

        Args:
            prompts: `TokenizedPrompt`s.
            seed: The seed of the answers.
            tokens_per_row: Size of a row.

        Returns:
            Answers, experience, and numbers for the log.

        Raises:
            TrainingError: If a reward is not finite.
        """
        rewarded = self._answer(
            prompts, self.objective.settings.num_generations, seed, tokens_per_row
        )
        values: Sequence[Tensor | None] = [None] * len(rewarded.groups)
        if self.critic is not None:
            with self.critic.on():
                read = tokens_of(self.base, rewarded.groups, "values", tokens_per_row)
            values = [numbers.squeeze(1) for numbers in read]
        written = [
            Written(old, reference, _owners(group, old.device), rewards, value)
            for group, old, reference, rewards, value in zip(
                rewarded.groups,
                rewarded.old_logprobs,
                rewarded.reference,
                rewarded.rewards,
                values,
                strict=True,
            )
        ]
        experiences = self.objective.learn_from(written)
        return RolloutBatch(rewarded.groups, experiences, self._metrics(rewarded))

    @torch.no_grad()
    def measure(
        self, prompts: Sequence[TrainingExample], tokens_per_row: int = TOKENS_PER_ROW
    ) -> tuple[float, dict[str, float]]:
        """Answer prompts once each, always with the same seed.

        Args:
            prompts: Held-out `TokenizedPrompt`s.
            tokens_per_row: Size of a row.

        Returns:
            The negative of the mean reward less beta times the distance to the reference; and
            numbers for the log.
        """
        metrics = self._metrics(self._answer(prompts, 1, 0, tokens_per_row))
        return self.objective.settings.beta * metrics["kl"] - metrics["reward"], metrics

    def _answer(
        self, prompts: Sequence[TrainingExample], count: int, seed: int, tokens_per_row: int
    ) -> _RewardedAnswers:
        """Write answers, have them rewarded, and read them under model and reference."""
        settings = self.objective.settings
        asked = [prompt for prompt in prompts if isinstance(prompt, TokenizedPrompt)]
        repeated = [prompt.ids.tolist() for prompt in asked for _ in range(count)]
        generation = Generation(
            max_tokens=settings.max_tokens, temperature=1.0, seed=derive_seed(seed, "rollouts")
        )
        flat = self.engine.sample(repeated, generation)
        samples = [flat[first : first + count] for first in range(0, len(flat), count)]
        groups = [
            prompt.answered([sample.ids for sample in own])
            for prompt, own in zip(asked, samples, strict=True)
        ]
        rewards = self._rewards(asked, samples)
        old = tokens_of(self.base, groups, tokens_per_row=tokens_per_row)
        with self.reference():
            reference = tokens_of(self.base, groups, tokens_per_row=tokens_per_row)
        return _RewardedAnswers(groups, samples, rewards, old, reference)

    def _rewards(
        self, asked: Sequence[TokenizedPrompt], samples: Sequence[Sequence[Sample]]
    ) -> list[Tensor]:
        """The rewards of each prompt's answers, [A, D], less the penalty for cut ones."""
        pairs = list(zip(asked, samples, strict=True))
        rewarded = self.reward(
            [
                AnsweredPrompt(
                    p.messages, p.extra, p.reference, (*p.texts, *(sample.text for sample in own))
                )
                for p, own in pairs
            ]
        )
        if not torch.isfinite(rewarded).all():
            raise TrainingError("the reward of an answer is not a finite number")
        # A judge may keep its numbers: penalties go into a copy.
        rewarded = rewarded.to(self.base.device, copy=True)
        rewards = list(rewarded.split([len(p.given) + len(own) for p, own in pairs]))
        if rewarded.shape[1] == 1:
            penalty = self.objective.settings.missing_eos_penalty
            for numbers, (prompt, own) in zip(rewards, pairs, strict=True):
                cut = torch.tensor([not sample.ended for sample in own], device=numbers.device)
                numbers[len(prompt.given) :, 0] -= penalty * cut
        return rewards

    def _metrics(self, rewarded: _RewardedAnswers) -> dict[str, float]:
        """Mean reward, its spread among answers that are compared, distance, length, agreement."""
        worth: list[list[float]] = []
        distances, gaps = [], []
        for own, rewards, old, reference in zip(
            rewarded.samples,
            rewarded.rewards,
            rewarded.old_logprobs,
            rewarded.reference,
            strict=True,
        ):
            given = len(rewards) - len(own)
            if rewards.shape[1] == 1:
                worth.append(rewards[given:, 0].tolist())
            else:
                others = preference(rewards[given:, None], rewards[None, :given])
                worth.append(others.mean(1).tolist())
            # Given answers come first: the model's own tokens are the last.
            tail = sum(len(sample.ids) for sample in own)
            distances.append(float((old - reference)[-tail:].sum()) / len(own))
            told = torch.tensor([x for s in own for x in s.logprobs], device=old.device)
            gaps.append(float((told - old[-tail:]).abs().max()))
        every = [number for numbers in worth for number in numbers]
        # One answer a question is compared with those to others.
        compared = worth if len(worth[0]) > 1 else [every]
        spread = {}
        if len(compared[0]) > 1:
            spread["reward_spread"] = fmean(pstdev(numbers) for numbers in compared)
        flat = [sample for own in rewarded.samples for sample in own]
        return {
            "reward": fmean(every),
            **spread,
            "kl": fmean(distances),
            "length": fmean(len(sample.ids) for sample in flat),
            "ended": fmean(sample.ended for sample in flat),
            "rollout_gap": max(gaps),
        }


@dataclass(frozen=True, eq=False)
class Distance:
    """Says how far a model went from its reference, by answers that it writes.

    Attributes:
        base: The base with the adapter attached.
        engine: Writes with it.
        reference: Has the reference on the base for a while.
        max_tokens: Longest answer.
    """

    base: Base
    engine: EmbeddedEngine
    reference: AdapterContext
    max_tokens: int

    @torch.no_grad()
    def measure(
        self, examples: Sequence[TrainingExample], tokens_per_row: int = TOKENS_PER_ROW
    ) -> float:
        """Answer prompts once each, always with the same seed.

        Args:
            examples: At least one example, each with a prompt; a few are taken, evenly.
            tokens_per_row: Size of a row.

        Returns:
            KL divergence of whole answers, in nats an answer: an estimate of the mean log-ratio of
            model and reference.
        """
        few = examples[:: -(-len(examples) // _FEW_PROMPTS)]
        prompts = [example.answers[0].ids[: example.num_prompt] for example in few]
        generation = Generation(max_tokens=self.max_tokens, temperature=1.0, seed=0)
        samples = self.engine.sample([ids.tolist() for ids in prompts], generation)
        groups = [
            TokenizedPrompt(ids, (), {}, example.location).answered([sample.ids])
            for example, ids, sample in zip(few, prompts, samples, strict=True)
        ]
        ours = torch.cat(tokens_of(self.base, groups, tokens_per_row=tokens_per_row)).sum()
        with self.reference():
            theirs = torch.cat(tokens_of(self.base, groups, tokens_per_row=tokens_per_row)).sum()
        return float(ours - theirs) / len(groups)


def tokens_with_answers(prompt: TrainingExample, settings: OnlineSettings, base: Base) -> int:
    """Say how many tokens a prompt may become.

    Args:
        prompt: The prompt with its given answers, if any.
        settings: The settings for the number and the length of answers.
        base: The base, whose context may cut them.

    Returns:
        Its own, and those of the longest answers.
    """
    given = sum(len(row.ids) - prompt.num_prompt for row in prompt.answers)
    longest = settings.max_tokens
    if (room := room_of(base)) is not None:
        longest = min(longest, room - prompt.num_prompt)
    return prompt.num_prompt + given + settings.num_generations * longest


def _owners(group: TokenizedGroup, device: torch.device) -> Tensor:
    """[N] which answer each labelled token belongs to."""
    counts = torch.tensor([int(row.loss_mask.sum()) for row in group.answers])
    return torch.repeat_interleave(torch.arange(len(counts)), counts).to(device)


def at_start(adapter: Adapter) -> AdapterContext:
    """Remember an adapter's values, to have them back for a while.

    Args:
        adapter: The adapter as it is now.

    Returns:
        A maker of contexts in which the adapter has the values of now.
    """
    kept = {name: p.detach().clone() for name, p in adapter.parameters().items()}
    visits = 0

    @torch.no_grad()
    def exchange() -> None:
        # One tensor after another: no third copy of all.
        for name, parameter in adapter.parameters().items():
            now = parameter.clone()
            parameter.copy_(kept[name])
            kept[name].copy_(now)

    @contextmanager
    def visit() -> Iterator[None]:
        nonlocal visits
        visits += 1
        if visits == 1:
            exchange()
        try:
            yield
        finally:
            visits -= 1
            if not visits:
                exchange()

    return visit
