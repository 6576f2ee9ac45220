"""Distillation against the divergences of PyTorch, and what is left out of a teacher."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import kl_div

from kamerton.objectives.distillation import (
    Distillation,
    DistillationSettings,
    divergence,
    with_the_rest,
)
from kamerton.objectives.objective import LossInputs, Taught

VOCABULARY = 50


@pytest.fixture
def both() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    numbers = 2 * torch.randn(2, 7, VOCABULARY, generator=generator)
    teacher, student = numbers.log_softmax(-1)
    return teacher, student


def whole(teacher: Tensor, student: Tensor, beta: float) -> Tensor:
    """The generalised divergence over the whole vocabulary, term by term as it is published."""
    if beta in (0, 1):
        given, of = (student, teacher) if beta == 0 else (teacher, student)
        return kl_div(given, of, reduction="none", log_target=True).sum(-1)
    middle = (beta * teacher.exp() + (1 - beta) * student.exp()).log()
    of_teacher = kl_div(middle, teacher, reduction="none", log_target=True).sum(-1)
    of_student = kl_div(middle, student, reduction="none", log_target=True).sum(-1)
    return beta * of_teacher + (1 - beta) * of_student


@pytest.mark.parametrize("beta", [0.0, 0.3, 0.5, 1.0])
def test_with_all_tokens_it_is_the_published_divergence(
    both: tuple[Tensor, Tensor], beta: float
) -> None:
    teacher, student = both
    torch.testing.assert_close(
        divergence(teacher, student, beta), whole(teacher, student, beta), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_more_of_the_teacher_comes_nearer_from_below(
    both: tuple[Tensor, Tensor], beta: float
) -> None:
    teacher, student = both
    order = teacher.argsort(-1, descending=True)
    teacher, student = teacher.gather(-1, order), student.gather(-1, order)
    exact = float(whole(teacher, student, beta).sum())
    found = [
        float(divergence(teacher[:, :k], student[:, :k], beta).sum()) for k in (1, 4, 16, 32, 50)
    ]
    # Outcomes that are put together can only look more alike.
    assert found == sorted(found)
    assert found[-1] == pytest.approx(exact, rel=1e-3)
    assert found[0] < 0.8 * exact


def test_the_rest_makes_the_probabilities_whole(both: tuple[Tensor, Tensor]) -> None:
    for k in (1, 10, VOCABULARY):
        total = with_the_rest(both[0][:, :k]).exp().sum(-1)
        torch.testing.assert_close(total, torch.ones(7))


def test_a_student_that_says_the_same_has_nothing_to_learn(both: tuple[Tensor, Tensor]) -> None:
    teacher = both[0][:, :10]
    student = teacher.clone().requires_grad_()
    for beta in (0.0, 0.5, 1.0):
        apart = divergence(teacher, student, beta).sum()
        (slope,) = torch.autograd.grad(apart, student)
        assert apart.item() == pytest.approx(0, abs=1e-6)
        torch.testing.assert_close(slope, torch.zeros_like(slope), atol=1e-6, rtol=0)


def test_hard_and_soft_parts_are_weighed_and_the_temperature_squared(
    both: tuple[Tensor, Tensor],
) -> None:
    teacher, student = (one[:, :10] for one in both)
    logprobs, answers = student[:, 0], torch.zeros(7, dtype=torch.long)
    scored = LossInputs(logprobs, answers, 1, taught=Taught(teacher, student))
    objective = Distillation(DistillationSettings(teacher="t", hard=0.25, temperature=2.0))
    loss = objective.loss(scored, 7)
    apart = float(divergence(teacher, student, 0.0).mean())
    expected = 0.25 * -float(logprobs.mean()) + 0.75 * 4 * apart
    assert float(loss.value) == pytest.approx(expected)
    assert loss.metrics["divergence"] == pytest.approx(4 * apart)
