"""RLOO, GRPO, PPO and DRPO against formulas written down by hand, in fp64."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor

from kamerton.objectives.drpo import Drpo, DrpoSettings
from kamerton.objectives.grpo import Grpo, GrpoSettings
from kamerton.objectives.objective import Experience, LossInputs, Written
from kamerton.objectives.policy_gradient import clipped, k3, leave_one_out
from kamerton.objectives.ppo import Ppo, PpoSettings, PpoValue, generalised_advantages
from kamerton.objectives.preference_model import TEMPERATURE
from kamerton.objectives.rloo import Rloo, RlooSettings

REWARDS: Any = ({"kind": "check", "check": {"kind": "json"}},)
"""Never asked for here."""
LENGTHS = (2, 3, 4, 1)


def written(rewards: Sequence[Sequence[float]], lengths: Sequence[int] = LENGTHS) -> Written:
    torch.manual_seed(0)
    count = sum(lengths)
    old = -torch.rand(count, dtype=torch.float64) * 2
    reference, values = old + torch.randn(2, count, dtype=torch.float64) * 0.3
    answers = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    worth = torch.tensor(rewards, dtype=torch.float64)
    return Written(old, reference, answers, worth, values)


def scored(one: Written, experience: Experience, moved: float = 0.0) -> LossInputs:
    """The answers after the model moved by about so much."""
    torch.manual_seed(1)
    logprobs = one.old_logprobs + moved * torch.randn(len(one.old_logprobs), dtype=torch.float64)
    return LossInputs(
        logprobs.requires_grad_(), one.answers, int(one.answers[-1]) + 1, experience=experience
    )


def per_answer(one: Written, numbers: Tensor) -> list[float]:
    return [float(numbers[one.answers == a].sum()) for a in range(int(one.answers[-1]) + 1)]


def slope(objective: Any, batch: LossInputs, num_units: int) -> Tensor:
    fresh = replace(batch, logprobs=batch.logprobs.detach().requires_grad_())
    (found,) = torch.autograd.grad(objective.loss(fresh, num_units).value, fresh.logprobs)
    return found


FOUR = [[1.0], [0.0], [0.5], [-2.0]]


def expected_slope(objective: Any, rewards: Tensor, given: Sequence[int] = ()) -> Tensor:
    """The slope at a model's logits, over every two answers of one token that it might write.

    Before them stand the answers that are given.
    """
    total = torch.zeros_like(LOGITS)
    for own in product(range(len(LOGITS)), repeat=2):
        logits = LOGITS.clone().requires_grad_()
        logprobs = logits.log_softmax(0)[[*given, *own]]
        old, answers = logprobs.detach(), torch.arange(len(logprobs))
        reference = REFERENCE.log_softmax(0)[[*given, *own]]
        chosen = rewards[[*given, *own]][:, None]
        (experience,) = objective.learn_from([Written(old, reference, answers, chosen)])
        batch = LossInputs(logprobs, answers, len(answers), experience=experience)
        (found,) = torch.autograd.grad(objective.loss(batch, 1).value, logits)
        total += float(old[-2:].sum().exp()) * found
    return total


LOGITS = torch.tensor([0.3, -1.0, 0.8, 0.0], dtype=torch.float64)
REFERENCE = torch.tensor([0.0, 0.5, -0.3, 0.2], dtype=torch.float64)
WORTH = torch.tensor([1.0, -0.5, 0.2, 0.0], dtype=torch.float64)
"""Of the four answers that there are."""


class TestRloo:
    def test_advantages_compare_with_the_others_and_hold_the_distance(self) -> None:
        one = written(FOUR)
        (found,) = Rloo(RlooSettings(rewards=REWARDS, beta=0.3)).learn_from([one])
        distance = per_answer(one, one.old_logprobs - one.reference)
        worth = [r[0] - 0.3 * d for r, d in zip(FOUR, distance, strict=True)]
        expected = [w - (sum(worth) - w) / 3 for w in worth]
        assert found.advantages.tolist() == pytest.approx([expected[a] for a in one.answers])
        assert sum(expected) == pytest.approx(0)

    @pytest.mark.parametrize("count", [2, 3, 8])
    def test_leave_one_out(self, count: int) -> None:
        numbers = torch.randn(count, dtype=torch.float64)
        others = [(numbers.sum() - number) / (count - 1) for number in numbers]
        torch.testing.assert_close(leave_one_out(numbers), numbers - torch.stack(others))

    def test_before_the_first_step_it_is_reinforce(self) -> None:
        """The slope at every token of an answer is -A / (prompts x samples)."""
        one, rloo = written(FOUR), Rloo(RlooSettings(rewards=REWARDS))
        (experience,) = rloo.learn_from([one])
        batch = scored(one, experience)
        assert float(rloo.loss(batch, 1).value.detach()) == pytest.approx(0)
        torch.testing.assert_close(slope(rloo, batch, 1), -experience.advantages / 4)
        torch.testing.assert_close(slope(rloo, batch, 3), -experience.advantages / 12)

    def test_on_average_it_climbs_the_reward_less_the_distance(self) -> None:
        """The whole goal, distance included, though no gradient passes through the rewards."""
        logits = LOGITS.clone().requires_grad_()
        model = logits.log_softmax(0)
        distance = (model.exp() * (model - REFERENCE.log_softmax(0))).sum()
        goal = (model.exp() * WORTH).sum() - 0.3 * distance
        (expected,) = torch.autograd.grad(-goal, logits)
        rloo = Rloo(RlooSettings(rewards=REWARDS, num_generations=2, beta=0.3))
        torch.testing.assert_close(expected_slope(rloo, WORTH), expected)

    def test_ratios_are_of_whole_answers(self) -> None:
        one, rloo = written(FOUR), Rloo(RlooSettings(rewards=REWARDS, clip_epsilon=0.3))
        (experience,) = rloo.learn_from([one])
        batch = scored(one, experience, moved=0.3)
        ratios = [math.exp(c) for c in per_answer(one, batch.logprobs.detach() - one.old_logprobs)]
        advantages = [float(experience.advantages[one.answers == a][0]) for a in range(4)]
        expected = [
            -min(r * a, min(max(r, 0.7), 1.3) * a) for r, a in zip(ratios, advantages, strict=True)
        ]
        found = rloo.loss(batch, 1)
        assert float(found.value.detach()) == pytest.approx(sum(expected) / 4)
        cut = [
            (r > 1.3 and a > 0) or (r < 0.7 and a < 0)
            for r, a in zip(ratios, advantages, strict=True)
        ]
        assert 0 < sum(cut) < 4
        assert found.metrics["clipped"] == sum(cut) / 4


class TestGrpo:
    @pytest.mark.parametrize("scale", [True, False])
    def test_advantages(self, scale: bool) -> None:
        one = written(FOUR)
        (found,) = Grpo(GrpoSettings(rewards=REWARDS, scale_rewards=scale)).learn_from([one])
        numbers = [r[0] for r in FOUR]
        mean = sum(numbers) / 4
        spread = math.sqrt(sum((n - mean) ** 2 for n in numbers) / 3) + 1e-4 if scale else 1.0
        expected = [(n - mean) / spread for n in numbers]
        assert found.advantages.tolist() == pytest.approx([expected[a] for a in one.answers])

    @pytest.mark.parametrize("scale", [True, False])
    @pytest.mark.parametrize("reward", [0.0, 0.1, 1e6])
    def test_equal_rewards_teach_nothing(self, scale: bool, reward: float) -> None:
        one = written([[reward]] * 4)
        (found,) = Grpo(GrpoSettings(rewards=REWARDS, scale_rewards=scale)).learn_from([one])
        torch.testing.assert_close(found.advantages, torch.zeros(10).double())

    def test_the_mean_is_over_tokens_and_the_distance_has_a_slope(self) -> None:
        one, beta = written(FOUR), 0.4
        grpo = Grpo(GrpoSettings(rewards=REWARDS, beta=beta))
        (experience,) = grpo.learn_from([one])
        batch = scored(one, experience)
        behind = one.reference - one.old_logprobs
        distance = (behind.exp() - behind - 1).sum()
        expected = (-experience.advantages.sum() + beta * distance) / 10
        torch.testing.assert_close(grpo.loss(batch, 10).value.detach(), expected)
        slopes = (-experience.advantages + beta * (1 - behind.exp())) / 10
        torch.testing.assert_close(slope(grpo, batch, 10), slopes)


class TestExcess:
    def test_it_is_never_negative_and_0_at_the_reference(self) -> None:
        behind = torch.linspace(-30, 30, 601, dtype=torch.float64)
        zero = torch.zeros_like(behind)
        assert (k3(-behind, zero) >= 0).all()
        assert not k3(zero, zero).any()

    @pytest.mark.parametrize("behind", [1e-4, -1e-4, 1e-2])
    def test_it_keeps_its_digits_near_the_reference_in_fp32(self, behind: float) -> None:
        exact = behind**2 / 2 + behind**3 / 6 + behind**4 / 24
        found = k3(torch.zeros(1), torch.tensor([behind]))
        assert float(found) == pytest.approx(exact, rel=2e-3)

    def test_its_slope_keeps_its_digits_in_fp32(self) -> None:
        logprobs = torch.tensor([-0.5, 1e-3, 0.0, 2.0], requires_grad=True)
        (found,) = torch.autograd.grad(k3(logprobs, torch.zeros(4)).sum(), logprobs)
        expected = [1 - math.exp(-x) for x in logprobs.tolist()]
        assert found.tolist() == pytest.approx(expected, abs=1e-7)

    def test_on_average_it_is_one_distance_and_climbs_the_other(self) -> None:
        """Over all tokens, weighed by their probability. Both are 0 at the reference only."""
        logits = LOGITS.clone().requires_grad_()
        model, reference = logits.log_softmax(0), REFERENCE.log_softmax(0)
        found = (model.exp().detach() * k3(model, reference)).sum()
        torch.testing.assert_close(found, (model.exp() * (model - reference)).sum())
        (slopes,) = torch.autograd.grad(found, logits)
        torch.testing.assert_close(slopes, LOGITS.softmax(0) - REFERENCE.softmax(0))

    def test_it_goes_on_as_a_straight_line(self) -> None:
        logprobs = torch.tensor([-20.0, -21.0, -1e4], dtype=torch.float64, requires_grad=True)
        found = k3(logprobs, torch.zeros_like(logprobs))
        (slopes,) = torch.autograd.grad(found.sum(), logprobs)
        steepest = math.exp(20)
        assert slopes.tolist() == pytest.approx([1 - steepest] * 3)
        assert float((found[1] - found[0]).detach()) == pytest.approx(steepest - 1)


class TestClipped:
    @pytest.mark.parametrize("advantage", [2.0, -2.0])
    @pytest.mark.parametrize("ratio", [0.5, 0.79, 0.81, 1.0, 1.19, 1.21, 3.0])
    def test_the_slope_is_cut_where_the_clip_is_active_and_only_there(
        self, ratio: float, advantage: float
    ) -> None:
        change = torch.tensor([math.log(ratio)], dtype=torch.float64, requires_grad=True)
        loss, cut = clipped(change, torch.tensor([advantage], dtype=torch.float64), 0.2)
        (found,) = torch.autograd.grad(loss, change)
        expected = ratio > 1.2 if advantage > 0 else ratio < 0.8
        assert bool(cut) is expected
        assert float(found) == pytest.approx(0.0 if expected else -ratio * advantage)
        bounded = min(max(ratio, 0.8), 1.2)
        worth = min(ratio * advantage, bounded * advantage)
        assert float(loss.detach()) == pytest.approx(-worth)

    @pytest.mark.parametrize("advantage", [2.0, 0.0, -2.0])
    @pytest.mark.parametrize("change", [1e4, 4e7, -1e4])
    def test_a_huge_change_is_finite(self, change: float, advantage: float) -> None:
        """exp is infinite there, and infinity times the 0 of the cut side is no number."""
        at = torch.tensor([change], requires_grad=True)
        loss, _ = clipped(at, torch.tensor([advantage]), 0.2)
        (found,) = torch.autograd.grad(loss, at)
        assert torch.isfinite(loss).all()
        assert torch.isfinite(found).all()
        # What has become much likelier though it is bad is still pushed down.
        assert (found > 0).all() if advantage < 0 < change else not found.any()


def by_double_sum(rewards: Tensor, values: Tensor, gamma: float, gae_lambda: float) -> list[float]:
    """Equation 16 of arXiv 1506.02438 as it stands: every token sums all later surprises."""
    after = torch.cat([values[1:], values.new_zeros(1)])
    surprises = (rewards + gamma * after - values).tolist()
    return [
        sum((gamma * gae_lambda) ** k * s for k, s in enumerate(surprises[place:]))
        for place in range(len(surprises))
    ]


class TestPpo:
    @pytest.mark.parametrize("gamma", [1.0, 0.9])
    @pytest.mark.parametrize("gae_lambda", [0.0, 0.95, 1.0])
    def test_advantages_equal_the_double_sum(self, gamma: float, gae_lambda: float) -> None:
        torch.manual_seed(0)
        rewards, values = torch.randn(2, 9, dtype=torch.float64)
        found = generalised_advantages(rewards, values, gamma, gae_lambda).tolist()
        assert found == pytest.approx(by_double_sum(rewards, values, gamma, gae_lambda))

    def test_looking_all_the_way_returns_what_was_earned(self) -> None:
        rewards, values = torch.randn(2, 6, dtype=torch.float64)
        returns = generalised_advantages(rewards, values, 0.9, 1.0) + values
        to_go = [sum(0.9**k * r for k, r in enumerate(rewards[t:].tolist())) for t in range(6)]
        assert returns.tolist() == pytest.approx(to_go)

    def test_looking_one_token_ahead_trusts_the_next_value(self) -> None:
        rewards, values = torch.randn(2, 6, dtype=torch.float64)
        returns = generalised_advantages(rewards, values, 0.9, 0.0) + values
        after = torch.cat([values[1:], torch.zeros(1).double()])
        torch.testing.assert_close(returns, rewards + 0.9 * after)

    def test_rewards_stand_at_the_last_tokens_and_distances_at_all(self) -> None:
        """Two prompts: returns are per answer; advantages are whitened over both prompts."""
        prompts = [written(FOUR), written([[0.3], [0.4]], (2, 2))]
        settings = PpoSettings(rewards=REWARDS, beta=0.2, gamma=0.9, gae_lambda=0.8)
        found = Ppo(settings).learn_from(prompts)
        every = []
        for one, experience in zip(prompts, found, strict=True):
            assert one.values is not None
            assert experience.returns is not None
            rewards = 0.2 * (one.reference - one.old_logprobs)
            for answer, worth in enumerate(one.rewards[:, 0]):
                rewards[int((one.answers == answer).nonzero()[-1])] += worth
            mine = [
                advantage
                for answer in range(len(one.rewards))
                for advantage in by_double_sum(
                    rewards[one.answers == answer], one.values[one.answers == answer], 0.9, 0.8
                )
            ]
            returns = [a + v for a, v in zip(mine, one.values.tolist(), strict=True)]
            assert experience.returns.tolist() == pytest.approx(returns)
            every += mine
        raw, white = torch.tensor(every).double(), torch.cat([one.advantages for one in found])
        torch.testing.assert_close(white, (raw - raw.mean()) / raw.std(correction=0))
        assert float(white.mean()) == pytest.approx(0, abs=1e-9)
        assert float(white.std(correction=0)) == pytest.approx(1)

    def test_what_was_written_stays_as_it_was(self) -> None:
        one = written(FOUR)
        copies = [part.clone() for part in (one.old_logprobs, one.reference, one.rewards)]
        Ppo(PpoSettings(rewards=REWARDS, beta=0.0)).learn_from([one])
        assert all(map(torch.equal, copies, (one.old_logprobs, one.reference, one.rewards)))

    def test_the_mean_is_over_tokens(self) -> None:
        one, ppo = written(FOUR), Ppo(PpoSettings(rewards=REWARDS))
        (experience,) = ppo.learn_from([one])
        torch.testing.assert_close(
            slope(ppo, scored(one, experience), 10), -experience.advantages / 10
        )

    def test_values_move_no_further_than_the_clip(self) -> None:
        """By hand: one token is inside, one went too far towards its return, one away from it."""
        was, returns = torch.zeros(3).double(), torch.tensor([1.0, 1.0, -1.0]).double()
        values = torch.tensor([0.1, 0.5, 0.5]).double().requires_grad_()
        unused = torch.zeros(3).double()
        batch = LossInputs(
            unused[:0], torch.zeros(3, dtype=torch.long), 1, scores=values[:, None],
            experience=Experience(unused, unused, unused, returns, was),
        )  # fmt: skip
        settings = PpoSettings(rewards=REWARDS, value_clip=0.2, value_weight=0.1)
        found = PpoValue(settings).loss(batch, 3)
        expected = 0.1 * (0.9**2 + 0.8**2 + 1.5**2) / 2 / 3
        assert float(found.value.detach()) == pytest.approx(expected)
        assert found.metrics["value_error"] == pytest.approx((0.9**2 + 0.5**2 + 1.5**2) / 3)
        (slopes,) = torch.autograd.grad(found.value, values)
        assert slopes.tolist() == pytest.approx([0.1 * -0.9 / 3, 0.0, 0.1 * 1.5 / 3])


PAIR_AND_OWN = [[0.8], [-0.4], [1.0], [0.1]]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def doubly_robust(batch: LossInputs, one: Written, limit: float, beta: float) -> Tensor:
    """Equation 9 with the better answer first (Z = 1), as a function with the right slope.

    The preference model's worth of own answers has the mean of the other own ones taken off, which
    changes the slope's noise and not its mean.
    """
    better, worse, *own = (row[0] for row in one.rewards.tolist())
    sums = torch.stack([batch.logprobs[batch.answers == a].sum() for a in range(4)])
    references = torch.tensor(per_answer(one, one.reference)).double()
    ratios = (sums - references).exp()
    # A limited ratio is held there; its answer's log-probability still has a slope.
    limited = ratios.detach().clamp(1 / limit, limit)
    held = torch.where(limited == ratios, ratios, limited * (1 + sums - sums.detach()))
    pair = (held[0] - held[1]) * (1 - sigmoid(better - worse)) / 2
    wins = [(sigmoid(o - better) + sigmoid(o - worse)) / 2 for o in own]
    by_score = (sums[2] * (wins[0] - wins[1]) + sums[3] * (wins[1] - wins[0])) / 2
    behind = (one.reference - batch.logprobs)[batch.answers > 1]
    distance = (behind.exp() - behind - 1).sum() / 2
    return -pair - by_score + beta * distance


class TestDrpo:
    @pytest.mark.parametrize("limit", [100.0, 1.05], ids=["free", "limited"])
    @pytest.mark.parametrize("beta", [0.0, 0.3])
    def test_the_slope_is_that_of_equation_9(self, limit: float, beta: float) -> None:
        one = written(PAIR_AND_OWN)
        drpo = Drpo(DrpoSettings(rewards=REWARDS, beta=beta, ratio_limit=limit))
        (experience,) = drpo.learn_from([one])
        batch = scored(one, experience, moved=0.3)
        expected = torch.autograd.grad(doubly_robust(batch, one, limit, beta), batch.logprobs)[0]
        torch.testing.assert_close(slope(drpo, batch, 1), expected)
        torch.testing.assert_close(slope(drpo, batch, 4), expected / 4)

    def test_on_average_it_climbs_equation_9(self) -> None:
        logits = LOGITS.clone().requires_grad_()
        model = logits.log_softmax(0)
        wins = (torch.sigmoid(WORTH - WORTH[0]) + torch.sigmoid(WORTH - WORTH[1])) / 2
        ratios = (model - REFERENCE.log_softmax(0)).exp()
        doubt = 1 - torch.sigmoid(WORTH[0] - WORTH[1])
        goal = (model.exp() * wins).sum() + (ratios[0] - ratios[1]) * doubt / 2
        (expected,) = torch.autograd.grad(-goal, logits)
        drpo = Drpo(DrpoSettings(rewards=REWARDS, beta=0.0))
        torch.testing.assert_close(expected_slope(drpo, WORTH, given=(0, 1)), expected)

    def test_limited_ratios_are_counted(self) -> None:
        one = written(PAIR_AND_OWN)
        (experience,) = Drpo(DrpoSettings(rewards=REWARDS)).learn_from([one])
        batch = scored(one, experience)
        changes = per_answer(one, one.old_logprobs - one.reference)[:2]
        between = math.exp(sum(abs(c) for c in changes) / 2)
        assert abs(changes[0]) != pytest.approx(abs(changes[1]))
        for limit, share in ((1.0001, 1.0), (between, 0.5), (100.0, 0.0)):
            drpo = Drpo(DrpoSettings(rewards=REWARDS, ratio_limit=limit))
            assert drpo.loss(batch, 1).metrics["ratio_clipped"] == share

    def test_the_distance_has_a_slope_at_own_answers_only(self) -> None:
        """The authors' code computes it without a gradient, so that beta has no effect."""
        one = written(PAIR_AND_OWN)
        (experience,) = Drpo(DrpoSettings(rewards=REWARDS)).learn_from([one])
        batch = scored(one, experience)
        with_distance, without = (
            slope(Drpo(DrpoSettings(rewards=REWARDS, beta=beta)), batch, 1) for beta in (0.5, 0.0)
        )
        behind = one.reference - one.old_logprobs
        expected = torch.where(one.answers > 1, 0.5 * (1 - behind.exp()) / 2, 0.0)
        torch.testing.assert_close(with_distance - without, expected)

    def test_one_own_answer_is_compared_with_a_coin(self) -> None:
        one = written(PAIR_AND_OWN[:3], LENGTHS[:3])
        drpo = Drpo(DrpoSettings(rewards=REWARDS, num_generations=1))
        (experience,) = drpo.learn_from([one])
        wins = (sigmoid(1.0 - 0.8) + sigmoid(1.0 + 0.4)) / 2
        assert experience.advantages[-1] == pytest.approx(wins - 0.5)
        doubt = (1 - sigmoid(1.2)) / 2
        assert experience.advantages[:5].tolist() == pytest.approx([doubt] * 5)

    def test_a_sure_preference_model_leaves_pairs_alone(self) -> None:
        """Then all is learned from own answers; an unsure one leaves all to the pairs."""
        sure = written([[50.0], [-50.0], [0.0], [0.0]])
        (found,) = Drpo(DrpoSettings(rewards=REWARDS)).learn_from([sure])
        assert not found.advantages[:5].any()
        unsure = written([[0.0]] * 4)
        (found,) = Drpo(DrpoSettings(rewards=REWARDS)).learn_from([unsure])
        assert found.advantages.tolist() == pytest.approx([0.25] * 5 + [0.0] * 5)

    def test_a_general_preference_model_may_go_in_a_circle(self) -> None:
        """The own answer beats the better one and loses to the worse one: a draw."""
        turns = [a * 2 * math.pi / 3 for a in range(3)]
        one = written([[math.cos(a), math.sin(a)] for a in turns], LENGTHS[:3])
        (found,) = Drpo(DrpoSettings(rewards=REWARDS, num_generations=1)).learn_from([one])
        surely = sigmoid(math.sin(turns[1]) / TEMPERATURE)
        assert found.advantages[:5].tolist() == pytest.approx([(1 - surely) / 2] * 5)
        assert float(found.advantages[-1]) == pytest.approx(0, abs=1e-9)
