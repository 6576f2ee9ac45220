"""Knowledge distillation: follow a teacher's distribution over tokens, not only the given one.

Forward KL and temperature as in Hinton, Vinyals and Dean (arXiv 1503.02531); the family between
forward and reverse KL as in Agarwal et al. (arXiv 2306.13649). The teacher is known by its most
probable tokens; what it gives to all others together is one more outcome.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from kamerton.objectives.objective import Loss, LossInputs, Reads, Takes, Unit
from kamerton.objectives.settings import ObjectiveSettings

__all__ = ["Distillation", "DistillationSettings", "divergence", "with_the_rest"]

# The least that all other tokens together count for: bf16 and fp16 numbers add up to more than 1.
_LEAST_REST = 1e-6


class DistillationSettings(ObjectiveSettings):
    """Distillation: learn what a teacher says, token by token."""

    kind: Literal["distillation"] = "distillation"
    """Learn from a teacher's distribution over tokens, mixed with the given answers."""
    teacher: str = ""
    """Name of the variant to learn from: a larger model of the same tokenizer, a fine-tuned one,
    or a prompt over the same base, whose effect is then learned without the prompt."""
    beta: float = Field(default=0.0, ge=0, le=1)
    """Which divergence: 0 is KL(teacher || student), which covers all that the teacher says; 1 is
    KL(student || teacher), which keeps to its likeliest; between them the generalised
    Jensen-Shannon divergence."""
    temperature: float = Field(default=1.0, gt=0)
    """Logits of both are divided by it. The divergence is multiplied by its square, so that
    gradients keep their size. Above 1 the less probable tokens count more."""
    hard: float = Field(default=0.5, ge=0, le=1)
    """Weight of the given answer's negative log-likelihood; the divergence has the rest. 0 learns
    from the teacher alone."""
    top: int = Field(default=64, ge=1)
    """How many of the teacher's most probable tokens are kept at each place. More is closer to its
    whole distribution and takes more disk: 6 bytes a number."""


class Distillation:
    """The mean over labelled tokens of hard * nll + (1 - hard) * temperature^2 * divergence.

    Args:
        settings: The objective's settings.
    """

    takes: Takes = "texts"
    reads: Reads = "taught"
    unit: Unit = "token"
    needs_reference = False
    whole_batch = False

    def __init__(self, settings: DistillationSettings) -> None:
        self.settings = settings

    def loss(self, scored: LossInputs, num_units: int) -> Loss:
        """Compute the loss of texts.

        Args:
            scored: Texts, with what teacher and student say of the teacher's tokens.
            num_units: Labelled tokens of the whole effective batch.

        Returns:
            The micro-batch's share of the mean over tokens.
        """
        assert scored.taught is not None, "distillation is asked with a teacher"
        ours = self.settings
        nll = -scored.logprobs.sum() / num_units
        apart = divergence(scored.taught.teacher, scored.taught.student, ours.beta)
        soft = ours.temperature**2 * apart.sum() / num_units
        metrics = {"nll": float(nll.detach()), "divergence": float(soft.detach())}
        return Loss(ours.hard * nll + (1 - ours.hard) * soft, metrics)


def with_the_rest(logprobs: Tensor) -> Tensor:
    """Add what all other tokens have together.

    Args:
        logprobs: [N, K] natural logs of K tokens' probabilities, fp32.

    Returns:
        [N, K + 1] natural logs that add up to probability 1; the last is that of the others.
    """
    rest = (1 - logprobs.exp().sum(-1, keepdim=True)).clamp(min=_LEAST_REST)
    return torch.cat([logprobs, rest.log()], -1).log_softmax(-1)


def divergence(teacher: Tensor, student: Tensor, beta: float) -> Tensor:
    """Compute how far a student is from its teacher.

    Args:
        teacher: [N, K] natural logs of the probabilities of K tokens, fp32.
        student: [N, K] of the same tokens, with a gradient.
        beta: 0 for KL(teacher || student), 1 for KL(student || teacher); between them, with
            m = beta teacher + (1 - beta) student,
            beta KL(teacher || m) + (1 - beta) KL(student || m).

    Returns:
        [N] in nats.
    """
    t, s = with_the_rest(teacher), with_the_rest(student)
    if beta == 0:
        return _kl(t, s)
    if beta == 1:
        return _kl(s, t)
    weights = torch.tensor([beta, 1 - beta], device=t.device).log()
    middle = torch.logsumexp(torch.stack([t + weights[0], s + weights[1]]), 0)
    return beta * _kl(t, middle) + (1 - beta) * _kl(s, middle)


def _kl(first: Tensor, second: Tensor) -> Tensor:
    return (first.exp() * (first - second)).sum(-1)
