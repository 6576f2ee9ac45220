"""Reward and preference models against formulas written down by hand, in fp64."""

import math

import pytest
import torch
from torch import Tensor

from kamerton.objectives.objective import LossInputs
from kamerton.objectives.preference_model import TEMPERATURE, log_preference, preference
from kamerton.objectives.reward import Reward, RewardSettings

REWARDS = (1.5, -0.5, 0.2, 0.9)
"""Of better, worse, better, worse."""
GAPS, SUMS = (2.0, -0.7), (1.0, 1.1)


def pairs(scores: Tensor, margins: Tensor | None = None) -> LossInputs:
    empty = torch.zeros(0, dtype=torch.float64)
    count = len(scores)
    return LossInputs(empty, torch.arange(count), count, scores=scores, margins=margins)


def column() -> Tensor:
    return torch.tensor(REWARDS, dtype=torch.float64)[:, None].requires_grad_()


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize("centre", [0.0, 0.3])
@pytest.mark.parametrize("margins", [(0.4, 0.4), (0.1, 2.0)], ids=["one for all", "their own"])
def test_bradley_terry(centre: float, margins: tuple[float, float]) -> None:
    scores, own = column(), margins[0] != margins[1]
    settings = RewardSettings(center_rewards=centre, margin=0.7 if own else margins[0])
    batch = pairs(scores, torch.tensor(margins, dtype=torch.float64) if own else None)
    loss = Reward(settings).loss(batch, 2)
    loss.value.backward()
    expected = [
        -math.log(sigmoid(gap - margin)) + centre * total**2
        for gap, margin, total in zip(GAPS, margins, SUMS, strict=True)
    ]
    assert float(loss.value.detach()) == pytest.approx(sum(expected) / 2)
    slopes = [
        (side * -sigmoid(margin - gap) + 2 * centre * total) / 2
        for gap, margin, total in zip(GAPS, margins, SUMS, strict=True)
        for side in (1, -1)
    ]
    assert scores.grad is not None
    assert scores.grad.flatten().tolist() == pytest.approx(slopes)


def test_what_is_logged_knows_no_margin() -> None:
    metrics = Reward(RewardSettings(margin=5.0)).loss(pairs(column()), 2).metrics
    assert metrics["accuracy"] == 0.5
    assert metrics["brier"] == pytest.approx(sum((1 - sigmoid(gap)) ** 2 for gap in GAPS) / 2)
    assert metrics["margin"] == pytest.approx(sum(GAPS) / 2)
    assert metrics["chosen_reward"] == pytest.approx((REWARDS[0] + REWARDS[2]) / 2)


def test_a_tie_is_half_right() -> None:
    tie = torch.full((2, 1), 0.3)
    assert Reward(RewardSettings()).loss(pairs(tie), 1).metrics["accuracy"] == 0.5


def test_the_general_model_by_hand() -> None:
    first = torch.tensor([3.0, 4.0, 0.0, 0.0], dtype=torch.float64)
    second = torch.tensor([0.0, 1.0, 1.0, 0.0], dtype=torch.float64)
    ahead = (0.6 * math.sqrt(0.5) - 0.8 * 0.0) / TEMPERATURE
    assert float(log_preference(first, second)) == pytest.approx(math.log(sigmoid(ahead)))
    with_margin = float(log_preference(first, second, 0.5))
    assert with_margin == pytest.approx(math.log(sigmoid(ahead - 0.5)))


@pytest.mark.parametrize("size", [1, 2, 8])
def test_preferences_are_antisymmetric(size: int) -> None:
    torch.manual_seed(0)
    first, second = torch.randn(2, 20, size, dtype=torch.float64)
    torch.testing.assert_close(
        preference(first, second) + preference(second, first), torch.ones(20).double()
    )
    assert (preference(first, first) == 0.5).all()
    torch.testing.assert_close(log_preference(first, second).exp(), preference(first, second))


def test_the_general_model_holds_a_circle() -> None:
    """Stone, paper, scissors: no number per answer can say that each beats the next."""
    angles = torch.arange(3) * 2 * math.pi / 3
    circle = torch.stack([angles.cos(), angles.sin()], dim=1)
    assert (preference(circle, circle.roll(-1, 0)) > 0.99).all()


def test_the_general_model_learns_a_circle_and_bradley_terry_cannot() -> None:
    torch.manual_seed(0)
    turns = torch.tensor([0, 1, 1, 2, 2, 0])

    def learned(settings: RewardSettings) -> float:
        table = torch.randn(3, settings.num_scores, requires_grad=True)
        optimiser = torch.optim.Adam([table], lr=0.1)
        for _ in range(200):
            optimiser.zero_grad()
            found = Reward(settings).loss(pairs(table[turns]), 3)
            found.value.backward()
            optimiser.step()
        return float(found.value.detach())

    assert learned(RewardSettings(model="general", dimensions=2)) < 0.01
    assert learned(RewardSettings(center_rewards=0.0)) == pytest.approx(math.log(2), abs=1e-3)
