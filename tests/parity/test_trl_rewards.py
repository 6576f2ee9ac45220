"""Our reward model, RLOO and GRPO beside TRL's own code, and where they are meant to differ.

As in `test_trl.py`, methods of TRL's trainers are called with a stand-in, so that TRL's arithmetic
runs without a model: it is told what was written, what that is worth and how probable it is. TRL
has no PPO any more.
"""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from kamerton.objectives.grpo import Grpo, GrpoSettings
from kamerton.objectives.objective import Experience, LossInputs, Written
from kamerton.objectives.reward import Reward, RewardSettings
from kamerton.objectives.rloo import Rloo, RlooSettings
from tests.parity.test_trl import stand_in

NUM_PROMPTS, NUM_SAMPLES, LONGEST, PROMPT = 3, 4, 6, 2
COUNT = NUM_PROMPTS * NUM_SAMPLES
BETA, CLIP = 0.3, 0.2
REWARDS: Any = ({"kind": "check", "check": {"kind": "json"}},)
"""Never asked for here."""


@pytest.mark.parametrize("centre", [0.0, 0.01])
@pytest.mark.parametrize("with_margins", [False, True])
def test_reward_models(centre: float, with_margins: bool) -> None:
    """Their `center_rewards_coefficient` is our `center_rewards`; only the default differs."""
    from trl import RewardTrainer

    torch.manual_seed(0)
    scores, margins = torch.randn(10, 1), torch.rand(5) if with_margins else None
    theirs = torch.cat([scores[0::2], scores[1::2]]).requires_grad_()
    trainer = stand_in(args=SimpleNamespace(center_rewards_coefficient=centre or None))
    inputs = {"attention_mask": torch.ones(10, 1)} | ({"margin": margins} if with_margins else {})
    expected = RewardTrainer.compute_loss(
        trainer, lambda **inputs: SimpleNamespace(logits=theirs), inputs
    )
    ours = scores.requires_grad_()
    batch = LossInputs(torch.zeros(0), torch.arange(10), 10, scores=ours, margins=margins)
    found = Reward(RewardSettings(center_rewards=centre)).loss(batch, 5).value
    torch.testing.assert_close(found, expected)
    (slope,), (their_slope,) = (
        torch.autograd.grad(found, ours),
        torch.autograd.grad(expected, theirs),
    )
    torch.testing.assert_close(torch.cat([slope[0::2], slope[1::2]]), their_slope)


class Batch:
    """Answers to several prompts, what they are worth, and the model before and after a step."""

    def __init__(self, equally_long: bool = False) -> None:
        torch.manual_seed(0)
        self.lengths = torch.randint(1, LONGEST + 1, (COUNT,))
        self.lengths[0] = LONGEST
        if equally_long:
            self.lengths[:] = LONGEST
        self.mask = torch.arange(LONGEST) < self.lengths[:, None]
        self.old_logprobs = -torch.rand(COUNT, LONGEST) * 2
        self.reference = self.old_logprobs + 0.3 * torch.randn(COUNT, LONGEST)
        self.now = self.old_logprobs + 0.2 * torch.randn(COUNT, LONGEST)
        self.worth = torch.randn(COUNT)
        self.worth[:NUM_SAMPLES] = 0.5

    def written(self) -> list[Written]:
        prompts = []
        for rows in torch.arange(COUNT).split(NUM_SAMPLES):
            mask = self.mask[rows]
            prompts.append(
                Written(
                    self.old_logprobs[rows][mask], self.reference[rows][mask], mask.nonzero()[:, 0],
                    self.worth[rows, None],
                )
            )  # fmt: skip
        return prompts

    def scored(self, experiences: list[Experience]) -> LossInputs:
        parts = [torch.cat([getattr(one, name) for one in experiences])
                 for name in ("old_logprobs", "reference", "advantages")]  # fmt: skip
        logprobs = self.now[self.mask].requires_grad_()
        return LossInputs(logprobs, self.mask.nonzero()[:, 0], COUNT, experience=Experience(*parts))


def told(batch: Batch, now: Tensor, **settings: Any) -> SimpleNamespace:
    """A trainer that wrote the batch, and finds it as probable as `now` says."""
    trainer = stand_in(
        args=SimpleNamespace(
            per_device_train_batch_size=COUNT, gradient_checkpointing_kwargs=None, delta=None,
            steps_per_generation=1, gradient_accumulation_steps=1, use_bias_correction_kl=False,
        ),
        ref_model="reference", _tokenizer=SimpleNamespace(pad_token_id=0), pad_to_multiple_of=None,
        mask_truncated_completions=False, normalize_advantages=False, reward_clip_range=None,
        _logs=defaultdict(list, rewards=defaultdict(list), extra=defaultdict(list)),
        _pending_extra_logs={}, _pending_metrics={}, log_multimodal=False,
        reward_func_names=["worth"], reward_weights=torch.ones(1), num_generations=NUM_SAMPLES,
        epsilon_low=CLIP, epsilon_high=CLIP, num_iterations=2, use_vllm=False, tools=None,
        environments=None, environment_factories=None, top_entropy_quantile=1.0,
        off_policy_mask_threshold=None, importance_sampling_level="token",
        multi_objective_aggregation="sum_then_normalize", current_gradient_accumulation_steps=1,
        max_completion_length=LONGEST, _entropy_bonus_enabled=False, **settings,
    )  # fmt: skip
    trainer.beta = BETA
    trainer.model = SimpleNamespace(training=True, is_gradient_checkpointing=False)
    trainer.accelerator.reduce = lambda x, reduction: x
    trainer.accelerator.process_index, trainer.accelerator.num_processes = 0, 1
    trainer._calculate_rewards = lambda *_: batch.worth[:, None]
    trainer._get_per_token_logps_and_entropies = lambda model, *_, **__: (
        batch.reference if model == "reference" else now, torch.zeros_like(now), None
    )  # fmt: skip
    return trainer


def theirs(kind: Any, batch: Batch, **settings: Any) -> tuple[Tensor, Tensor, Tensor]:
    """TRL's advantages, its loss and the loss's slope, all but the loss per token."""
    now = batch.now.clone().requires_grad_()
    before, after = told(batch, batch.old_logprobs, **settings), told(batch, now, **settings)
    prompts, answers = [[1] * PROMPT] * COUNT, [[1] * int(length) for length in batch.lengths]
    texts = [""] * COUNT
    before._generate = lambda _: (
        (prompts, answers, None, texts, None, {}, None, None)
        if kind.__name__ == "GRPOTrainer"
        else (prompts, answers, texts)
    )
    inputs = kind._generate_and_score_completions(before, [{"prompt": "a"}] * COUNT)
    loss = kind._compute_loss(after, after.model, inputs)
    (slope,) = torch.autograd.grad(loss, now)
    advantages = inputs["advantages"][:, None].expand(COUNT, LONGEST)
    return advantages[batch.mask], loss.detach(), slope[batch.mask]


def ours(objective: Rloo | Grpo, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """The same of ours."""
    experiences = objective.learn_from(batch.written())
    scored = batch.scored(experiences)
    num_units = NUM_PROMPTS if objective.unit == "example" else int(batch.lengths.sum())
    loss = objective.loss(scored, num_units)
    assert 0 < loss.metrics["clipped"] < 1
    (slope,) = torch.autograd.grad(loss.value, scored.logprobs)
    return torch.cat([one.advantages for one in experiences]), loss.value.detach(), slope


def assert_same(found: Any, expected: Any) -> None:
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_rloo() -> None:
    from trl import RLOOTrainer

    batch, settings = (
        Batch(),
        RlooSettings(rewards=REWARDS, num_generations=4, beta=BETA, clip_epsilon=CLIP),
    )
    assert_same(ours(Rloo(settings), batch), theirs(RLOOTrainer, batch))


@pytest.mark.parametrize(("scale", "their_scale"), [(True, "group"), (False, "none")])
def test_grpo_is_their_dapo(scale: bool, their_scale: str) -> None:
    """Their default, too: "dapo", which is a mean over the tokens of the step."""
    from trl import GRPOTrainer

    batch = Batch()
    settings = GrpoSettings(
        rewards=REWARDS, num_generations=4, beta=BETA, clip_epsilon=CLIP, scale_rewards=scale
    )
    expected = theirs(GRPOTrainer, batch, loss_type="dapo", scale_rewards=their_scale)
    assert_same(ours(Grpo(settings), batch), expected)


def test_their_other_means_teach_long_answers_less() -> None:
    """Where answers are equally long all means are one; elsewhere "grpo" takes one per answer, and
    "dr_grpo" divides by the longest that an answer may be."""
    from trl import GRPOTrainer

    settings = GrpoSettings(rewards=REWARDS, num_generations=4, beta=BETA, clip_epsilon=CLIP)
    batch = Batch(equally_long=True)
    for form in ("grpo", "dr_grpo"):
        expected = theirs(GRPOTrainer, batch, loss_type=form, scale_rewards="group")
        assert_same(ours(Grpo(settings), batch), expected)
    batch = Batch()
    _, found, slope = ours(Grpo(settings), batch)
    _, other, other_slope = theirs(GRPOTrainer, batch, loss_type="grpo", scale_rewards="group")
    assert float(found) != pytest.approx(float(other), rel=1e-2)
    per_token = (batch.lengths * COUNT)[batch.mask.nonzero()[:, 0]] / batch.lengths.sum()
    torch.testing.assert_close(slope, other_slope * per_token, rtol=1e-4, atol=1e-6)
    _, other, other_slope = theirs(GRPOTrainer, batch, loss_type="dr_grpo", scale_rewards="group")
    share = COUNT * LONGEST / batch.lengths.sum()
    assert_same((found, slope), (other * share, other_slope * share))


def test_their_clip_gives_no_number_after_a_huge_change() -> None:
    """exp is infinite, and times the 0 of the cut side not a number; ours is cut and finite."""
    from trl import RLOOTrainer

    batch = Batch()
    batch.now = batch.old_logprobs + 100
    batch.reference = batch.old_logprobs
    settings = RlooSettings(rewards=REWARDS, num_generations=4, beta=BETA, clip_epsilon=CLIP)
    *_, their_slope = theirs(RLOOTrainer, batch)
    *_, slope = ours(Rloo(settings), batch)
    assert their_slope.isnan().any()
    assert slope.isfinite().all()
