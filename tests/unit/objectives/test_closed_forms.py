"""Losses and slopes against formulas written down by hand, in fp64."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from kamerton.objectives.dpo import Dpo, DpoSettings
from kamerton.objectives.kto import Kto, KtoSettings
from kamerton.objectives.objective import Context, LossInputs
from kamerton.objectives.orpo import Orpo, OrpoSettings, log_odds
from kamerton.objectives.sft import Sft
from kamerton.objectives.simpo import Simpo, SimpoSettings

LENGTHS = torch.tensor([2, 3, 4, 1])
"""Tokens of better, worse, better, worse."""


def scored(references: bool = True, is_desirable: Tensor | None = None) -> LossInputs:
    torch.manual_seed(0)
    logprobs = (-torch.rand(int(LENGTHS.sum()), dtype=torch.float64) * 2).requires_grad_()
    owners = torch.repeat_interleave(torch.arange(4), LENGTHS)
    sums = torch.tensor([-2.0, -3.5, -4.0, -1.0], dtype=torch.float64)
    return LossInputs(logprobs, owners, 4, sums if references else None, is_desirable)


def sums_of(batch: LossInputs) -> list[float]:
    return [float(part.detach().sum()) for part in batch.logprobs.split(LENGTHS.tolist())]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def gaps(batch: LossInputs, means: bool = False) -> list[float]:
    assert batch.references is not None
    ratios = [s - float(r) for s, r in zip(sums_of(batch), batch.references, strict=True)]
    if means:
        ratios = [r / int(n) for r, n in zip(ratios, LENGTHS, strict=True)]
    return [ratios[0] - ratios[1], ratios[2] - ratios[3]]


def test_sft() -> None:
    batch = scored(references=False)
    loss = Sft().loss(batch, 10).value
    loss.backward()
    assert float(loss.detach()) == pytest.approx(-sum(sums_of(batch)) / 10)
    torch.testing.assert_close(batch.logprobs.grad, torch.full_like(batch.logprobs, -0.1))


def test_dpo_is_ln_2_at_its_reference() -> None:
    batch = scored()
    same = LossInputs(batch.logprobs, batch.answers, 4, batch.sums.detach())
    assert float(Dpo(DpoSettings()).loss(same, 2).value.detach()) == pytest.approx(math.log(2))


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_dpo_smooths_both_ways(smoothing: float) -> None:
    """TRL's "sigmoid" ignores label_smoothing; here it really pulls towards both."""
    batch, beta = scored(), 0.3
    loss = Dpo(DpoSettings(beta=beta, label_smoothing=smoothing)).loss(batch, 2).value
    loss.backward()
    expected = [
        -(1 - smoothing) * math.log(sigmoid(beta * gap))
        - smoothing * math.log(sigmoid(-beta * gap))
        for gap in gaps(batch)
    ]
    assert float(loss.detach()) == pytest.approx(sum(expected) / 2)
    slopes = [
        beta * (smoothing * sigmoid(beta * gap) - (1 - smoothing) * sigmoid(-beta * gap)) / 2
        for gap in gaps(batch)
    ]
    by_answer = torch.tensor([slopes[0], -slopes[0], slopes[1], -slopes[1]], dtype=torch.float64)
    torch.testing.assert_close(batch.logprobs.grad, by_answer[batch.answers])


def test_hinge_ipo_and_length_normalised() -> None:
    batch, beta = scored(), 0.3

    def found(form: str) -> float:
        return float(Dpo(DpoSettings(beta=beta, loss_type=form)).loss(batch, 2).value.detach())  # type: ignore[arg-type]

    sums, means = gaps(batch), gaps(batch, means=True)
    assert found("hinge") == pytest.approx(sum(max(0.0, 1 - beta * g) for g in sums) / 2)
    assert found("ipo") == pytest.approx(sum((g - 1 / (2 * beta)) ** 2 for g in means) / 2)
    expected = sum(-math.log(sigmoid(beta * g)) for g in means) / 2
    assert found("length-normalised") == pytest.approx(expected)


def test_robust_undoes_flips_on_average() -> None:
    """Its mean over flipped labels is the loss of clean ones (theorem of arXiv 2403.00409)."""
    batch, share = scored(), 0.2
    flipped = LossInputs(
        batch.logprobs,
        torch.tensor([1, 0, 3, 2])[batch.answers],
        4,
        batch.references[[1, 0, 3, 2]],  # type: ignore[index]
    )
    robust = Dpo(DpoSettings(loss_type="robust", label_smoothing=share))
    clean = float(Dpo(DpoSettings()).loss(batch, 2).value.detach())
    mixed = (1 - share) * float(robust.loss(batch, 2).value.detach())
    mixed += share * float(robust.loss(flipped, 2).value.detach())
    assert mixed == pytest.approx(clean)


def test_robust_weights_push_in_opposite_directions() -> None:
    """A large loss counts less for noisy labels, and more for users who may shift."""
    batch = scored()
    losses = [-math.log(sigmoid(0.1 * gap)) for gap in gaps(batch)]
    hard = max(range(2), key=losses.__getitem__)

    def share_of_hard(robustness: str) -> float:
        settings = DpoSettings(robustness=robustness, temperature=0.1)  # type: ignore[arg-type]
        one, other = scored(), scored()
        (slope,) = torch.autograd.grad(Dpo(settings).loss(one, 2).value, one.logprobs)
        (plain,) = torch.autograd.grad(Dpo(DpoSettings()).loss(other, 2).value, other.logprobs)
        at = int(LENGTHS[: 2 * hard].sum())
        return float(slope[at] / (plain[at] * 2))

    assert share_of_hard("dr-dpo") < 0.5 < share_of_hard("kldpo")
    dr = Dpo(DpoSettings(robustness="dr-dpo", temperature=0.5)).loss(batch, 2).value
    assert float(dr.detach()) == pytest.approx(
        -0.5 * math.log(sum(math.exp(-loss / 0.5) for loss in losses) / 2)
    )
    # The weights of the second are cut at 10.
    for temperature in (0.5, 1e-3):
        settings = DpoSettings(robustness="kldpo", temperature=temperature)
        weights = [min(math.exp((x - sum(losses) / 2) / temperature), 10) for x in losses]
        expected = sum(w * x for w, x in zip(weights, losses, strict=True)) / 2
        found = Dpo(settings).loss(batch, 2).value
        assert float(found.detach()) == pytest.approx(expected)
    assert max(weights) == 10


def test_simpo_takes_the_ratio_and_not_the_gap() -> None:
    batch = scored(references=False)
    means = [s / int(n) for s, n in zip(sums_of(batch), LENGTHS, strict=True)]
    loss = Simpo(SimpoSettings(beta=2.5, gamma_beta_ratio=0.3)).loss(batch, 2).value
    both = (means[0] - means[1], means[2] - means[3])
    assert float(loss.detach()) == pytest.approx(
        sum(-math.log(sigmoid(2.5 * (gap - 0.3))) for gap in both) / 2
    )


def test_orpo() -> None:
    batch = scored(references=False)
    means = [s / int(n) for s, n in zip(sums_of(batch), LENGTHS, strict=True)]
    odds = [mean - math.log(1 - math.exp(mean)) for mean in means]
    ratio = [-math.log(sigmoid(odds[0] - odds[1])), -math.log(sigmoid(odds[2] - odds[3]))]
    expected = -(means[0] + means[2]) / 2 + 0.25 * sum(ratio) / 2
    loss = Orpo(OrpoSettings(weight=0.25)).loss(batch, 2)
    assert float(loss.value.detach()) == pytest.approx(expected)
    assert loss.metrics["odds_ratio"] == pytest.approx(sum(ratio) / 2)


def test_orpo_over_everything_counts_what_stands_around_the_better_answers() -> None:
    batch = scored(references=False)
    around = torch.tensor([-3.0, -0.5, -1.0, -2.0, -0.1], dtype=torch.float64, requires_grad=True)
    owners = torch.tensor([0, 0, 0, 2, 2])
    whole = replace(batch, context=Context(around, owners))
    sums = sums_of(batch)
    nll = -((sums[0] - 4.5) / (2 + 3) + (sums[2] - 2.1) / (4 + 2)) / 2
    ratio = Orpo(OrpoSettings()).loss(batch, 2).metrics["odds_ratio"]
    loss = Orpo(OrpoSettings(weight=0.25, nll_over="everything")).loss(whole, 2)
    assert loss.metrics["nll"] == pytest.approx(nll)
    assert loss.metrics["odds_ratio"] == ratio
    assert float(loss.value.detach()) == pytest.approx(nll + 0.25 * ratio)
    loss.value.backward()
    expected = torch.tensor([-1 / 10] * 3 + [-1 / 12] * 2, dtype=torch.float64)
    torch.testing.assert_close(around.grad, expected)


@pytest.mark.parametrize("logprob", [-1e-5, -1e-3, -0.5, -math.log(2), -0.7, -3.0, -80.0])
def test_log_odds_keep_their_digits_in_fp32(logprob: float) -> None:
    found = float(log_odds(torch.tensor(logprob)))
    assert found == pytest.approx(logprob - math.log(-math.expm1(logprob)), rel=1e-5)


def test_log_odds_of_a_sure_thing_are_finite() -> None:
    """numpy and torch give infinity for log1p(-exp(x)) at x = -1e-8 in fp32."""
    sure = torch.tensor([0.0, -1e-8], requires_grad=True)
    assert math.isinf(float(torch.log1p(-torch.exp(sure[1].detach()))))
    odds = log_odds(sure)
    odds.sum().backward()
    assert torch.isfinite(odds).all()
    assert torch.isfinite(sure.grad).all()  # type: ignore[arg-type]


def test_kto() -> None:
    is_desirable = torch.tensor([True, True, False, False])
    batch = scored(is_desirable=is_desirable)
    ratios = [s - float(r) for s, r in zip(sums_of(batch), batch.references, strict=True)]  # type: ignore[arg-type]
    kl = max(0.0, (ratios[1] + ratios[3]) / 2)
    settings = KtoSettings(beta=0.4, desirable_weight=1.5, undesirable_weight=0.5)
    loss = Kto(settings).loss(batch, 2)
    expected = 1.5 * (1 - sigmoid(0.4 * (ratios[0] - kl)))
    expected += 0.5 * (1 - sigmoid(0.4 * (kl - ratios[2])))
    assert float(loss.value.detach()) == pytest.approx(expected / 2)
    assert loss.metrics["kl"] == pytest.approx(kl)
    loss.value.backward()
    slope = batch.logprobs.grad
    assert slope is not None
    liked = 1.5 * 0.4 * sigmoid(0.4 * (ratios[0] - kl)) * sigmoid(0.4 * (kl - ratios[0])) / 2
    torch.testing.assert_close(slope[:2], torch.full((2,), -liked, dtype=torch.float64))
    # The other answers only measure the distance: they are not learned from.
    assert not slope[2:5].any()
