"""One suite that every objective passes; the objectives come from the catalogue."""

import typing
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from kamerton.objectives.catalogue import ObjectiveSettings, make_objective
from kamerton.objectives.objective import Objective, Scored

KINDS: list[type] = list(typing.get_args(ObjectiveSettings)) or [ObjectiveSettings]
# The derivative of the whole batch's loss with respect to every log-probability, written down by
# hand: [N] log-probabilities and the number of units give [N].
CLOSED_FORMS: dict[str, Callable[[Tensor, int], Tensor]] = {
    "sft": lambda logprobs, num_units: torch.full_like(logprobs, -1 / num_units),
}
LENGTHS = (3, 1, 7, 2, 5)

pytestmark = pytest.mark.parametrize("kind", KINDS, ids=lambda m: m().kind)


def batch() -> tuple[Tensor, Tensor]:
    """Log-probabilities of five examples of different lengths, and whose each is."""
    torch.manual_seed(0)
    logprobs = -torch.rand(sum(LENGTHS)) * 5
    owners = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    return logprobs, owners


def num_units(objective: Objective) -> int:
    return sum(LENGTHS) if objective.unit == "token" else len(LENGTHS)


def whole(objective: Objective) -> tuple[Tensor, Tensor]:
    """Loss and gradient of the batch in one piece."""
    logprobs, owners = batch()
    logprobs.requires_grad_()
    loss = objective.loss(Scored(logprobs, owners, len(LENGTHS)), num_units(objective)).value
    (gradient,) = torch.autograd.grad(loss, logprobs)
    return loss.detach(), gradient


def test_the_gradient_equals_its_closed_form(kind: type) -> None:
    objective = make_objective(kind())
    _, gradient = whole(objective)
    expected = CLOSED_FORMS[kind().kind](batch()[0], num_units(objective))
    torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize("cuts", [[2], [1, 3], [1, 2, 3, 4]], ids=str)
def test_accumulation_equals_the_large_batch(kind: type, cuts: list[int]) -> None:
    objective = make_objective(kind())
    logprobs, owners = batch()
    loss, gradient = whole(objective)
    logprobs.requires_grad_()
    total = torch.zeros(())
    bounds = [0, *cuts, len(LENGTHS)]
    for first, stop in pairwise(bounds):
        mine = (owners >= first) & (owners < stop)
        scored = Scored(logprobs[mine], owners[mine] - first, stop - first)
        share = objective.loss(scored, num_units(objective)).value
        share.backward()
        total += share.detach()
    torch.testing.assert_close(total, loss)
    torch.testing.assert_close(logprobs.grad, gradient)


def test_the_loss_is_one_finite_number_and_so_are_its_parts(kind: type) -> None:
    objective = make_objective(kind())
    logprobs, owners = batch()
    loss = objective.loss(Scored(logprobs, owners, len(LENGTHS)), num_units(objective))
    assert loss.value.shape == ()
    assert torch.isfinite(loss.value)
    assert all(value == value for value in loss.parts.values())


def test_a_step_against_the_gradient_lowers_the_loss(kind: type) -> None:
    objective = make_objective(kind())
    logprobs, owners = batch()
    loss, gradient = whole(objective)
    moved = Scored(logprobs - 0.01 * gradient / gradient.norm(), owners, len(LENGTHS))
    assert objective.loss(moved, num_units(objective)).value < loss
