"""One suite that every objective passes; the objectives come from the catalogue."""

import typing
from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from kamerton.core.settings import Settings
from kamerton.objectives.catalogue import ObjectiveSettings, make_objective
from kamerton.objectives.dpo import DpoSettings
from kamerton.objectives.objective import Objective, Scored

FORMS: tuple[Settings, ...] = (
    DpoSettings(form="hinge", beta=0.5),
    DpoSettings(form="ipo"),
    DpoSettings(form="robust", label_smoothing=0.2),
    DpoSettings(form="length-normalised", beta=2.0, label_smoothing=0.1),
    DpoSettings(nll=0.5),
    DpoSettings(robustness="dr-dpo", temperature=0.7),
    DpoSettings(robustness="kldpo", temperature=0.7),
)
"""Forms of objectives besides the defaults."""

SETTINGS: list[Settings] = [kind() for kind in typing.get_args(ObjectiveSettings)] + list(FORMS)
LENGTHS = (3, 1, 7, 2, 5, 4, 2, 6)
"""Tokens of the answers: four pairs or judged answers, or eight texts."""


def name(settings: Settings) -> str:
    plain = settings.model_dump(exclude_defaults=True)
    return "-".join([settings.kind, *(str(v) for k, v in plain.items() if k != "kind")])


@pytest.fixture(params=SETTINGS, ids=name)
def objective(request: pytest.FixtureRequest) -> Objective:
    return make_objective(request.param)


def batch(objective: Objective) -> Scored:
    """Answers of different lengths with made-up references, in fp64 so that sums are exact."""
    torch.manual_seed(0)
    logprobs = -torch.rand(sum(LENGTHS), dtype=torch.float64) * 2
    owners = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    scored = Scored(logprobs, owners, len(LENGTHS))
    references = scored.sums + torch.randn(len(LENGTHS), dtype=torch.float64)
    good = torch.tensor([True, True, False, False, True, True, False, False])
    return Scored(
        logprobs,
        owners,
        len(LENGTHS),
        references if objective.needs_reference else None,
        good if objective.takes == "feedback" else None,
    )


def some(scored: Scored, first: int, stop: int, logprobs: Tensor) -> Scored:
    """Some of a batch's answers."""
    mine = (scored.answers >= first) & (scored.answers < stop)
    return Scored(
        logprobs[mine],
        scored.answers[mine] - first,
        stop - first,
        None if scored.references is None else scored.references[first:stop],
        None if scored.good is None else scored.good[first:stop],
    )


def num_units(objective: Objective) -> int:
    if objective.unit == "token":
        return sum(LENGTHS)
    return len(LENGTHS) if objective.takes == "texts" else len(LENGTHS) // 2


def loss_at(objective: Objective, logprobs: Tensor) -> Tensor:
    scored = batch(objective)
    moved = some(scored, 0, len(LENGTHS), logprobs)
    return objective.loss(moved, num_units(objective)).value


def slope(objective: Objective) -> Tensor:
    logprobs = batch(objective).logprobs.requires_grad_()
    (gradient,) = torch.autograd.grad(loss_at(objective, logprobs), logprobs)
    return gradient


def test_the_gradient_equals_finite_differences(objective: Objective) -> None:
    """KTO and KLDPO hold a part of the loss constant, so they have tests of their own."""
    if (settings := getattr(objective, "settings", None)) is not None and (
        settings.kind == "kto" or getattr(settings, "robustness", "") == "kldpo"
    ):
        assert objective.whole_batch
        return
    logprobs, found, step = batch(objective).logprobs, slope(objective), 1e-6
    for place in range(len(logprobs)):
        nudge = torch.zeros_like(logprobs)
        nudge[place] = step
        difference = loss_at(objective, logprobs + nudge) - loss_at(objective, logprobs - nudge)
        assert float(difference / (2 * step)) == pytest.approx(float(found[place]), abs=1e-7)


@pytest.mark.parametrize("cuts", [[2], [2, 6], [2, 4, 6]], ids=str)
def test_accumulation_equals_the_large_batch(objective: Objective, cuts: Sequence[int]) -> None:
    if objective.whole_batch:
        return
    scored = batch(objective)
    logprobs = scored.logprobs.requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for first, stop in pairwise([0, *cuts, len(LENGTHS)]):
        share = objective.loss(some(scored, first, stop, logprobs), num_units(objective)).value
        share.backward()
        total += share.detach()
    torch.testing.assert_close(total, loss_at(objective, logprobs.detach()))
    torch.testing.assert_close(logprobs.grad, slope(objective))


def test_the_loss_is_one_finite_number_and_so_are_its_parts(objective: Objective) -> None:
    loss = objective.loss(batch(objective), num_units(objective))
    assert loss.value.shape == ()
    assert torch.isfinite(loss.value)
    assert all(value == value for value in loss.parts.values())


def test_a_step_against_the_gradient_lowers_the_loss(objective: Objective) -> None:
    logprobs, gradient = batch(objective).logprobs, slope(objective)
    moved = loss_at(objective, logprobs - 0.01 * gradient / gradient.norm())
    assert moved < loss_at(objective, logprobs)


EXTREMES: dict[str, Callable[[int], Tensor]] = {
    "certain": lambda count: torch.zeros(count),
    "nearly certain": lambda count: torch.full((count,), -1e-8),
    "hopeless": lambda count: torch.full((count,), -1e4),
    "rounded to bf16": lambda count: (-torch.rand(count) * 3).bfloat16().float(),
}


@pytest.mark.parametrize("length", [1, 4096])
@pytest.mark.parametrize("extreme", EXTREMES)
def test_extremes_are_finite(objective: Objective, extreme: str, length: int) -> None:
    """Each extreme as the better answer and as the worse, beside an ordinary one, in fp32."""
    torch.manual_seed(0)
    strange, plain = EXTREMES[extreme](length), -torch.rand(3)
    logprobs = torch.cat([strange, plain, plain, strange]).requires_grad_()
    lengths = torch.tensor([length, 3, 3, length])
    references = torch.zeros(4) if objective.needs_reference else None
    good = torch.tensor([True, True, False, False]) if objective.takes == "feedback" else None
    scored = Scored(
        logprobs, torch.repeat_interleave(torch.arange(4), lengths), 4, references, good
    )
    units = 2 if objective.unit == "example" else int(lengths.sum())
    loss = objective.loss(scored, units).value
    (gradient,) = torch.autograd.grad(loss, logprobs)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()
