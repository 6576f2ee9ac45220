"""One suite that every objective passes; the objectives come from the catalogue."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from kamerton.core.settings import Settings
from kamerton.objectives.catalogue import OBJECTIVES as RECORDS
from kamerton.objectives.catalogue import make_objective
from kamerton.objectives.distillation import DistillationSettings
from kamerton.objectives.dpo import DpoSettings
from kamerton.objectives.grpo import GrpoSettings
from kamerton.objectives.objective import (
    Context,
    Experience,
    LossInputs,
    Objective,
    Online,
    Taught,
    Written,
)
from kamerton.objectives.orpo import OrpoSettings
from kamerton.objectives.ppo import PpoSettings, PpoValue
from kamerton.objectives.reward import RewardSettings


def settings_of(kind: type[Settings], **given: Any) -> Any:
    """Settings with a reward where there must be one; it is never asked for here."""
    if "rewards" in kind.model_fields:
        given = {"rewards": [{"kind": "check", "check": {"kind": "json"}}], **given}
    return kind(**given)


FORMS: tuple[Settings, ...] = (
    DpoSettings(loss_type="hinge", beta=0.5),
    DpoSettings(loss_type="ipo"),
    DpoSettings(loss_type="robust", label_smoothing=0.2),
    DpoSettings(loss_type="length-normalised", beta=2.0, label_smoothing=0.1),
    DpoSettings(nll_weight=0.5),
    DpoSettings(robustness="dr-dpo", temperature=0.7),
    DpoSettings(robustness="kldpo", temperature=0.7),
    OrpoSettings(nll_over="everything"),
    DistillationSettings(beta=0.3, temperature=2.0, hard=0.2),
    DistillationSettings(beta=1.0, hard=0.0),
    RewardSettings(margin=0.5, center_rewards=0.0),
    RewardSettings(model="general"),
    settings_of(GrpoSettings, beta=0.0, scale_rewards=False),
)
"""Forms of objectives besides the defaults."""

SETTINGS: list[Any] = [settings_of(one.settings) for one in RECORDS]
LENGTHS = (3, 1, 7, 2, 5, 4, 2, 6) * 2
"""Tokens of the answers: sixteen texts, eight pairs or judged answers, or four prompts with four
answers each."""


def name(settings: Any) -> str:
    plain = settings.model_dump(exclude_defaults=True, exclude={"kind", "rewards"})
    return "-".join([settings.kind, *(str(value) for value in plain.values())])


OBJECTIVES: dict[str, Objective] = {
    name(settings): make_objective(settings) for settings in [*SETTINGS, *FORMS]
} | {"ppo's value model": PpoValue(settings_of(PpoSettings))}


@pytest.fixture(params=OBJECTIVES)
def objective(request: pytest.FixtureRequest) -> Objective:
    return OBJECTIVES[request.param]


@pytest.fixture(params=[name for name, one in OBJECTIVES.items() if isinstance(one, Online)])
def online(request: pytest.FixtureRequest) -> Online:
    found = OBJECTIVES[request.param]
    assert isinstance(found, Online)
    return found


def of(holds: Callable[[Objective], bool]) -> pytest.MarkDecorator:
    """Only the objectives of which something holds."""
    chosen = [name for name, one in OBJECTIVES.items() if holds(one)]
    return pytest.mark.parametrize("objective", chosen, indirect=True)


def holds_a_part_constant(objective: Objective) -> bool:
    """Whether the slope is meant to be another than that of the number: such have own tests."""
    settings: Any = getattr(objective, "settings", None)
    if settings is None:
        return False
    return settings.kind in ("kto", "drpo") or getattr(settings, "robustness", "") == "kldpo"


def scored_of(
    objective: Objective, logprobs: Tensor, lengths: Sequence[int], references: Tensor, old: Tensor
) -> LossInputs:
    """What the objective asks for: scores are log-probabilities that were made to differ."""
    count = len(lengths)
    answers = torch.repeat_interleave(torch.arange(count), torch.tensor(lengths))
    scores = None
    if objective.reads == "scores":
        size = objective.settings.num_scores  # type: ignore[attr-defined]
        firsts = logprobs[torch.searchsorted(answers, torch.arange(count))]
        scores = firsts[:, None] * torch.randn(count, size, dtype=logprobs.dtype)
    elif objective.reads == "values":
        scores = logprobs[:, None]
    noise = torch.randn(2, len(logprobs), dtype=logprobs.dtype)
    advantages = noise[0, :count][answers]
    learned = isinstance(objective, Online | PpoValue)
    return LossInputs(
        logprobs if scores is None else logprobs[:0],
        answers,
        count,
        references if objective.needs_reference else None,
        torch.tensor([True, True, False, False] * (count // 4))
        if objective.takes == "feedback"
        else None,
        scores,
        experience=Experience(old, old.flip(0), advantages, noise[1], old) if learned else None,
        context=Context(logprobs.flip(0), answers // 2 * 2)
        if objective.reads == "everything"
        else None,
        taught=taught_beside(logprobs) if objective.reads == "taught" else None,
    )


def taught_beside(logprobs: Tensor) -> Taught:
    """Three tokens of a teacher at each place; the student finds the second and third rarer."""
    generator = torch.Generator().manual_seed(1)
    numbers = torch.randn(len(logprobs), 4, generator=generator, dtype=logprobs.dtype)
    student = logprobs[:, None] - torch.tensor([1.0, 2.0, 3.0], dtype=logprobs.dtype)
    return Taught(numbers.log_softmax(-1)[:, :3], student)


def batch(objective: Objective) -> LossInputs:
    """Answers of different lengths, in fp64 so that sums are exact; some ratios are clipped."""
    torch.manual_seed(0)
    logprobs = -torch.rand(sum(LENGTHS), dtype=torch.float64) * 2
    owners = torch.repeat_interleave(torch.arange(len(LENGTHS)), torch.tensor(LENGTHS))
    references = LossInputs(logprobs, owners, len(LENGTHS)).sums + torch.randn(len(LENGTHS))
    old = logprobs + 0.2 * torch.randn(len(logprobs))
    return scored_of(objective, logprobs, LENGTHS, references, old)


def read(objective: Objective, scored: LossInputs) -> Tensor:
    """What the loss has a slope at."""
    if scored.context is not None:
        return torch.cat([scored.logprobs, scored.context.logprobs])
    if scored.taught is not None:
        return torch.cat([scored.logprobs[:, None], scored.taught.student], 1)
    found = scored.logprobs if objective.reads == "logprobs" else scored.scores
    assert found is not None
    return found


def some(
    objective: Objective, scored: LossInputs, first: int, stop: int, moved: Tensor
) -> LossInputs:
    """Some of a batch's answers, with other numbers in place of what is read."""
    mine = (scored.answers >= first) & (scored.answers < stop)
    experience = scored.experience
    if experience is not None:
        parts = [getattr(experience, one.name) for one in fields(Experience)]
        experience = Experience(*(part[mine] for part in parts))
    context = scored.context
    if context is not None:
        moved, around = moved.split([len(scored.logprobs), len(context.logprobs)])
        near = (context.answers >= first) & (context.answers < stop)
        context = Context(around[near], context.answers[near] - first)
    taught = scored.taught
    if taught is not None:
        moved, student = moved[:, 0], moved[:, 1:]
        taught = Taught(taught.teacher[mine], student[mine])
    places = {"scores": slice(first, stop), "values": mine}.get(objective.reads)
    return LossInputs(
        moved[mine] if places is None else moved[:0, 0],
        scored.answers[mine] - first,
        stop - first,
        None if scored.references is None else scored.references[first:stop],
        None if scored.is_desirable is None else scored.is_desirable[first:stop],
        None if places is None else moved[places],
        experience=experience,
        context=context,
        taught=taught,
    )


def num_units(objective: Objective, lengths: Sequence[int] = LENGTHS) -> int:
    if objective.unit == "token":
        return sum(lengths)
    each = {"texts": 1, "pairs": 2, "feedback": 2, "prompts": 4, "prompts-with-pairs": 4}
    return len(lengths) // each[objective.takes]


def loss_at(objective: Objective, moved: Tensor) -> Tensor:
    scored = some(objective, batch(objective), 0, len(LENGTHS), moved)
    return objective.loss(scored, num_units(objective)).value


def slope(objective: Objective) -> Tensor:
    at = read(objective, batch(objective)).requires_grad_()
    (gradient,) = torch.autograd.grad(loss_at(objective, at), at)
    return gradient


@of(lambda objective: not holds_a_part_constant(objective))
def test_the_gradient_equals_finite_differences(objective: Objective) -> None:
    at, found, step = read(objective, batch(objective)), slope(objective), 1e-6
    assert found.any()
    for place in range(at.numel()):
        nudge = torch.zeros_like(at)
        nudge.view(-1)[place] = step
        difference = loss_at(objective, at + nudge) - loss_at(objective, at - nudge)
        expected = float(found.reshape(-1)[place])
        assert float(difference / (2 * step)) == pytest.approx(expected, abs=1e-7)


def test_fp32_has_the_slopes_of_fp64(objective: Objective) -> None:
    """Where large numbers cancel, the finite differences of fp64 would not show it."""
    exact = batch(objective)
    parts = {one.name: getattr(exact, one.name) for one in fields(LossInputs)}
    if exact.experience is not None:
        told = [getattr(exact.experience, one.name).float() for one in fields(Experience)]
        parts["experience"] = Experience(*told)
    if (context := exact.context) is not None:
        parts["context"] = Context(context.logprobs.float(), context.answers)
    if (taught := exact.taught) is not None:
        parts["taught"] = Taught(taught.teacher.float(), taught.student.float())
    floats = ("logprobs", "references", "scores")
    parts |= {key: parts[key].float() for key in floats if parts[key] is not None}
    rounded = LossInputs(**parts)
    at = read(objective, rounded).requires_grad_()
    share = objective.loss(some(objective, rounded, 0, len(LENGTHS), at), num_units(objective))
    (found,) = torch.autograd.grad(share.value, at)
    torch.testing.assert_close(found.double(), slope(objective), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("cuts", [[4], [4, 12], [4, 8, 12]], ids=str)
@of(lambda objective: not objective.whole_batch)
def test_accumulation_equals_the_large_batch(objective: Objective, cuts: Sequence[int]) -> None:
    scored = batch(objective)
    at = read(objective, scored).requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    metrics: dict[str, float] = {}
    for first, stop in pairwise([0, *cuts, len(LENGTHS)]):
        share = objective.loss(some(objective, scored, first, stop, at), num_units(objective))
        share.value.backward()
        total += share.value.detach()
        metrics = {key: metrics.get(key, 0.0) + value for key, value in share.metrics.items()}
    torch.testing.assert_close(total, loss_at(objective, at.detach()))
    torch.testing.assert_close(at.grad, slope(objective))
    assert metrics == pytest.approx(objective.loss(scored, num_units(objective)).metrics)


def test_the_loss_is_one_finite_number_and_so_are_its_parts(objective: Objective) -> None:
    loss = objective.loss(batch(objective), num_units(objective))
    assert loss.value.shape == ()
    assert torch.isfinite(loss.value)
    assert all(value == value for value in loss.metrics.values())


# What DRPO lowers is not the number that has the right slope.
@of(lambda objective: objective.takes != "prompts-with-pairs")
def test_a_step_against_the_gradient_lowers_the_loss(objective: Objective) -> None:
    at, gradient = read(objective, batch(objective)), slope(objective)
    moved = loss_at(objective, at - 0.01 * gradient / gradient.norm())
    assert moved < loss_at(objective, at)


EXTREMES: dict[str, Callable[[int], Tensor]] = {
    "certain": lambda count: torch.zeros(count),
    "nearly certain": lambda count: torch.full((count,), -1e-8),
    "hopeless": lambda count: torch.full((count,), -1e4),
    "rounded to bf16": lambda count: (-torch.rand(count) * 3).bfloat16().float(),
}


@pytest.mark.parametrize("length", [1, 4096])
@pytest.mark.parametrize("extreme", EXTREMES)
def test_extremes_are_finite(objective: Objective, extreme: str, length: int) -> None:
    """Each extreme as the better answer and as the worse, beside an ordinary one, in fp32.

    Where it matters what was said before, certain is what was hopeless, and the reverse.
    """
    torch.manual_seed(0)
    strange, plain = EXTREMES[extreme](length), -torch.rand(3)
    logprobs, lengths = torch.cat([strange, plain, plain, strange]), (length, 3, 3, length)
    scored = scored_of(objective, logprobs, lengths, torch.zeros(4), -1e4 - logprobs)
    at = read(objective, scored).requires_grad_()
    found = objective.loss(some(objective, scored, 0, 4, at), num_units(objective, lengths))
    (gradient,) = torch.autograd.grad(found.value, at)
    assert torch.isfinite(found.value)
    assert torch.isfinite(gradient).all()
    assert torch.isfinite(torch.tensor(list(found.metrics.values()))).all()


def written(rewards: Sequence[float], lengths: Sequence[int]) -> Written:
    """Answers, written as the reference would, of which nothing was expected."""
    old = -torch.rand(sum(lengths), dtype=torch.float64)
    answers = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    worth = torch.tensor(rewards, dtype=torch.float64)[:, None]
    return Written(old, old.clone(), answers, worth, torch.zeros_like(old))


@pytest.mark.parametrize("rewards", [[0.7, -0.2, 0.1, 0.9], [0.3] * 4], ids=["different", "equal"])
def test_experience_fits_what_was_written(online: Online, rewards: list[float]) -> None:
    prompts = [written(rewards, (3, 1, 4, 2)), written(rewards, (1, 1, 2, 5))]
    found = online.learn_from(prompts)
    assert len(found) == 2
    for prompt, one in zip(prompts, found, strict=True):
        assert one.old_logprobs is prompt.old_logprobs
        assert one.reference is prompt.reference
        for part in (one.advantages, one.returns, one.values):
            if part is not None:
                assert part.shape == prompt.old_logprobs.shape
                assert torch.isfinite(part).all()
                assert not part.requires_grad


def test_the_best_answer_becomes_likelier_and_the_worst_less_so(online: Online) -> None:
    """The last is the best and the last but one the worst; before them may stand a pair."""
    prompt = written([0.2, -0.1, -2.0, 2.0], (2, 3, 2, 2))
    (experience,) = online.learn_from([prompt])
    logprobs = prompt.old_logprobs.clone().requires_grad_()
    scored = LossInputs(logprobs, prompt.answers, 4, experience=experience)
    online.loss(scored, 1).value.backward()
    assert logprobs.grad is not None
    assert (logprobs.grad[prompt.answers == 2] > 0).all()
    assert (logprobs.grad[prompt.answers == 3] < 0).all()
