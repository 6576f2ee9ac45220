"""Our preference losses beside TRL's own code, and where the two are meant to differ.

TRL's losses are methods of its trainers; here they are called with a stand-in that holds the
settings, so that TRL's arithmetic runs without a model.
"""

from collections import defaultdict
from collections.abc import Sequence
from functools import partial
from statistics import fmean
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from kamerton.data.rendering.tokenized import TokenizedPair
from kamerton.objectives.dpo import Dpo, DpoSettings
from kamerton.objectives.kto import Kto, KtoSettings
from kamerton.objectives.objective import LossInputs, Objective
from kamerton.objectives.orpo import Orpo, OrpoSettings
from kamerton.objectives.simpo import Simpo, SimpoSettings
from kamerton.training.scoring import measure
from tests.shapes import plain_model, tiny_base
from tests.unit.training.test_pairs import pairs

NUM_PAIRS, LONGEST, PROMPT = 5, 7, 3
BETA = 0.3


class Batch:
    """Log-probabilities of better and worse answers of different lengths."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.lengths = torch.randint(1, LONGEST + 1, (NUM_PAIRS, 2))
        self.logprobs = [[-torch.rand(int(n)) * 2 for n in pair] for pair in self.lengths]
        self.sums = torch.stack([torch.stack([p.sum() for p in pair]) for pair in self.logprobs])
        self.references = self.sums + torch.randn(NUM_PAIRS, 2)

    def scored(self, is_desirable: Tensor | None = None) -> LossInputs:
        flat = torch.cat([answer for pair in self.logprobs for answer in pair]).requires_grad_()
        owners = torch.repeat_interleave(torch.arange(2 * NUM_PAIRS), self.lengths.flatten())
        return LossInputs(flat, owners, 2 * NUM_PAIRS, self.references.flatten(), is_desirable)

    def side(self, number: int) -> tuple[Tensor, Tensor]:
        """[B, T] log-probabilities after the prompt's and the mask, as TRL lays them out."""
        total = PROMPT + LONGEST - 1
        logprobs, mask = torch.zeros(NUM_PAIRS, total), torch.zeros(NUM_PAIRS, total + 1)
        for row, pair in enumerate(self.logprobs):
            answer = pair[number]
            logprobs[row, PROMPT - 1 : PROMPT - 1 + len(answer)] = answer
            mask[row, PROMPT : PROMPT + len(answer)] = 1
        return logprobs, mask


@pytest.fixture(scope="module")
def batch() -> Batch:
    return Batch()


def stand_in(**settings: Any) -> SimpleNamespace:
    accelerator = SimpleNamespace(
        device=torch.device("cpu"), gather=lambda x: x, gather_for_metrics=lambda x: x
    )
    return SimpleNamespace(
        accelerator=accelerator, model=SimpleNamespace(training=False), beta=BETA,
        aux_loss_enabled=False, precompute_ref_logps=True, _metrics=defaultdict(
            lambda: defaultdict(list)
        ), _total_train_tokens=0, _tp_size=1, **settings,
    )  # fmt: skip


def model_saying(logprobs: Tensor) -> Any:
    zeros = torch.zeros_like(logprobs)
    said = SimpleNamespace(
        log_probs=logprobs, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool()
    )
    return lambda **inputs: said


def theirs_dpo(batch: Batch, form: str, smoothing: float = 0.0) -> tuple[float, Tensor]:
    """TRL's loss and its slope at every summed log-probability."""
    from trl import DPOTrainer

    sides = [batch.side(number) for number in (0, 1)]
    logprobs = torch.cat([side[0] for side in sides]).requires_grad_()
    mask = torch.cat([side[1] for side in sides])
    trainer = stand_in(
        ld_alpha=None, f_divergence_type="reverse_kl", loss_types=[form], loss_weights=[1.0],
        label_smoothing=smoothing, use_weighting=False,
    )  # fmt: skip
    inputs = {
        "input_ids": torch.zeros_like(mask, dtype=torch.long),
        "attention_mask": torch.ones_like(mask),
        "completion_mask": mask.long(),
        "ref_chosen_logps": batch.references[:, 0],
        "ref_rejected_logps": batch.references[:, 1],
    }
    loss = DPOTrainer._compute_loss(trainer, model_saying(logprobs), inputs, False)
    (slope,) = torch.autograd.grad(loss, logprobs)
    return float(loss.detach()), slope[:, PROMPT - 1].view(2, NUM_PAIRS).t()


def ours(objective: Objective, scored: LossInputs) -> tuple[float, Tensor]:
    """Our loss and its slope at the first token of every answer."""
    loss = objective.loss(scored, NUM_PAIRS).value
    (slope,) = torch.autograd.grad(loss, scored.logprobs)
    firsts = torch.searchsorted(scored.answers, torch.arange(2 * NUM_PAIRS))
    return float(loss.detach()), slope[firsts].view(NUM_PAIRS, 2)


@pytest.mark.parametrize(
    ("form", "trl_form", "smoothing"),
    [
        ("sigmoid", "sigmoid", 0.0),
        ("hinge", "hinge", 0.0),
        ("ipo", "ipo", 0.0),
        ("robust", "robust", 0.2),
        ("length-normalised", "sigmoid_norm", 0.0),
    ],
)
def test_dpo_and_its_forms(batch: Batch, form: Any, trl_form: str, smoothing: float) -> None:
    settings = DpoSettings(beta=BETA, loss_type=form, label_smoothing=smoothing)
    found, slope = ours(Dpo(settings), batch.scored())
    expected, their_slope = theirs_dpo(batch, trl_form, smoothing)
    assert found == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(slope, their_slope, rtol=1e-4, atol=1e-6)


def test_our_label_smoothing_smooths_and_theirs_does_not(batch: Batch) -> None:
    settings = DpoSettings(beta=BETA, label_smoothing=0.2)
    found, _ = ours(Dpo(settings), batch.scored())
    plain, _ = theirs_dpo(batch, "sigmoid")
    assert theirs_dpo(batch, "sigmoid", 0.2)[0] == pytest.approx(plain)
    assert found != pytest.approx(plain, rel=1e-2)


def test_simpo_is_cpo_with_another_name_for_its_target(batch: Batch) -> None:
    from trl.experimental.cpo import CPOTrainer

    means = batch.sums / batch.lengths
    trainer = stand_in(alpha=0.0, loss_type="simpo", simpo_gamma=0.5 * BETA, label_smoothing=0.0)
    losses, _, _ = CPOTrainer.cpo_loss(trainer, means[:, 0], means[:, 1])
    objective = Simpo(SimpoSettings(beta=BETA, gamma_beta_ratio=0.5))
    assert ours(objective, batch.scored())[0] == pytest.approx(float(losses.mean()), rel=1e-5)
    # Their defaults (beta 0.1, gamma 0.5) are a ratio of 5, ten times the paper's.
    from trl.experimental.cpo import CPOConfig

    fields = CPOConfig.__dataclass_fields__
    assert fields["simpo_gamma"].default / fields["beta"].default == pytest.approx(5)
    assert SimpoSettings().gamma_beta_ratio == 0.5


def test_orpo_has_their_odds_ratio_and_the_answers_own_likelihood(batch: Batch) -> None:
    from trl.experimental.orpo import ORPOTrainer

    means = batch.sums / batch.lengths
    losses, *_ = ORPOTrainer.odds_ratio_loss(stand_in(), means[:, 0], means[:, 1])
    found = Orpo(OrpoSettings(weight=BETA)).loss(batch.scored(), NUM_PAIRS)
    # Theirs is added to the likelihood of prompt and answer; ours counts the answer unless asked.
    nll = -float(means[:, 0].mean())
    assert found.metrics["nll"] == pytest.approx(nll, rel=1e-5)
    assert float(found.value.detach()) == pytest.approx(nll - float(losses.mean()), rel=1e-5)


def theirs_orpo(model: Any, some: Sequence[TokenizedPair]) -> tuple[float, float]:
    """TRL's whole ORPO, forward pass and all: the loss, and its negative log-likelihood."""
    from trl.experimental.orpo import ORPOTrainer

    trainer = stand_in(is_encoder_decoder=False, padding_value=0)
    for name in ("concatenated_inputs", "get_batch_logps"):
        setattr(trainer, name, getattr(ORPOTrainer, name))
    for name in ("concatenated_forward", "odds_ratio_loss"):
        setattr(trainer, name, partial(getattr(ORPOTrainer, name), trainer))
    inputs = {}
    for side, number in (("chosen", 0), ("rejected", 1)):
        rows = [pair.answers[number] for pair in some]
        ids = [torch.from_numpy(row.ids).long() for row in rows]
        labels = [
            torch.where(torch.from_numpy(row.loss_mask), i, -100)
            for i, row in zip(ids, rows, strict=True)
        ]
        inputs |= {
            f"{side}_input_ids": pad_sequence(ids, batch_first=True),
            f"{side}_attention_mask": pad_sequence(
                [torch.ones_like(i) for i in ids], batch_first=True
            ),
            f"{side}_labels": pad_sequence(labels, batch_first=True, padding_value=-100),
        }
    with torch.no_grad():
        loss, metrics = ORPOTrainer.get_batch_loss_metrics(trainer, model, inputs)
    return float(loss), float(metrics["nll_loss"])


def test_orpo_over_everything_is_theirs_but_for_the_weight_of_long_pairs() -> None:
    some = [pair for pair in pairs(4) if isinstance(pair, TokenizedPair)]
    base, model = tiny_base("llama"), plain_model("llama")
    objective = Orpo(OrpoSettings(weight=BETA, nll_over="everything"))
    found = [measure(objective, base, [pair]) for pair in some]
    for (loss, metrics), pair in zip(found, some, strict=True):
        assert (loss, metrics["nll"]) == pytest.approx(theirs_orpo(model, [pair]), rel=1e-5)
    # Of several pairs they take the mean over all tokens, we over pairs.
    loss, metrics = measure(objective, base, some)
    assert metrics["nll"] == pytest.approx(fmean(each["nll"] for _, each in found), rel=1e-5)
    lengths = [len(pair.chosen.ids) - 1 for pair in some]
    by_token = fmean((each["nll"] for _, each in found), weights=lengths)
    their_loss, their_nll = theirs_orpo(model, some)
    assert their_nll == pytest.approx(by_token, rel=1e-5)
    assert their_loss - their_nll == pytest.approx(loss - metrics["nll"], rel=1e-4)
    assert len(set(lengths)) > 1


def test_their_odds_ratio_is_infinite_for_a_sure_thing() -> None:
    from trl.experimental.orpo import ORPOTrainer

    sure, plain = torch.zeros(1), torch.tensor([-1.0])
    losses, *_ = ORPOTrainer.odds_ratio_loss(stand_in(), plain, sure)
    assert torch.isinf(losses).all()
    scored = LossInputs(torch.tensor([-1.0, 0.0]), torch.tensor([0, 1]), 2)
    assert torch.isfinite(Orpo(OrpoSettings()).loss(scored, 1).value)


@pytest.mark.parametrize("lifted", [0.0, 3.0], ids=["kl clamped", "kl above 0"])
def test_kto(batch: Batch, lifted: float) -> None:
    from trl import KTOTrainer

    is_desirable = torch.tensor([True, False, True, True, False])
    logprobs, mask = batch.side(0)
    logprobs.requires_grad_()
    references = batch.references.clone()
    references[:, 1] = batch.sums[:, 1] - lifted + 0.1 * torch.arange(NUM_PAIRS)
    trainer = stand_in(
        loss_type="kto", calculate_KL=True, desirable_weight=1.3, undesirable_weight=0.6
    )
    trainer._compute_kl_logps = lambda model, inputs: batch.sums[:, 1]
    inputs = {
        "input_ids": torch.zeros_like(mask, dtype=torch.long),
        "attention_mask": torch.ones_like(mask),
        "completion_mask": mask.long(),
        "label": is_desirable,
        "ref_logps": references[:, 0],
        "ref_KL_logps": references[:, 1],
    }
    expected = KTOTrainer._compute_loss(trainer, model_saying(logprobs), inputs, False)
    (their_slope,) = torch.autograd.grad(expected, logprobs)
    verdicts = torch.stack([is_desirable, is_desirable], dim=1).flatten()
    scored = batch.scored(verdicts)
    scored = LossInputs(
        scored.logprobs, scored.answers, scored.num_answers, references.flatten(), verdicts
    )
    objective = Kto(KtoSettings(beta=BETA, desirable_weight=1.3, undesirable_weight=0.6))
    found, slope = ours(objective, scored)
    assert found == pytest.approx(float(expected.detach()), rel=1e-5)
    torch.testing.assert_close(slope[:, 0], their_slope[:, PROMPT - 1], rtol=1e-4, atol=1e-6)
    assert not slope[:, 1].any()
