"""The language-model head on chosen positions only, in chunks, without keeping logits.

Shapes: N positions, E hidden size, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from torch.utils.checkpoint import checkpoint

__all__ = [
    "Head",
    "UpdatedHead",
    "candidate_logprobs",
    "token_logprobs",
    "top_logprobs",
    "with_rows",
]

# Logits of one chunk stay within the processor's cache or a small part of GPU memory.
_CHUNK_LOGITS = 1 << 22

# On a CPU the elementwise part goes in blocks that stay within one core's second-level cache.
_BLOCK_LOGITS = 1 << 18


@runtime_checkable
class UpdatedHead(Protocol):
    """An adapter's layer in the place of the head's."""

    @property
    def layer(self) -> nn.Module:
        """The frozen layer."""
        ...

    def low_rank(self) -> tuple[Tensor, Tensor, float] | None:
        """Give A [r, E], B [V, r] and the factor on B A that is added to the weight, or None."""
        ...

    def own_rows(self) -> tuple[Tensor, Tensor] | None:
        """Give ids [n] and rows [n, E] in place of the weight's, or after them, or None."""
        ...


@dataclass(frozen=True, slots=True)
class Head:
    """The way from hidden states to logits: softcap(hidden @ weight.T * scale + bias).

    Attributes:
        weight: [V, E].
        bias: [V] or None.
        scale: Factor on the logits that some models have.
        softcap: Logits become softcap * tanh(logit / softcap); None means as they are.
        update: A [r, E], B [V, r] and the factor on B A that is added to the weight, or None.
        rows: Ids [n] and rows [n, E] that stand in place of the weight's, or after them; or None.
        own: The model's own way from [N, E] to [N, V], where it is not the formula above; whatever
            an adapter changes is part of it.
        product: A faster way from hidden to hidden @ weight.T where nothing learns, or None.
    """

    weight: Tensor
    bias: Tensor | None = None
    scale: float = 1.0
    softcap: float | None = None
    update: tuple[Tensor, Tensor, float] | None = None
    rows: tuple[Tensor, Tensor] | None = None
    own: Callable[[Tensor], Tensor] | None = None
    product: Callable[[Tensor], Tensor] | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it is the formula with frozen numbers alone."""
        return self.update is None and self.rows is None and self.own is None

    def logits(self, hidden: Tensor) -> Tensor:
        """Compute logits.

        Args:
            hidden: [N, E].

        Returns:
            [N, V] in fp32; wider where `rows` stand after the weight's.
        """
        if self.own is not None:
            return self.own(hidden).float()
        if self.product is None or torch.is_grad_enabled():
            raw = linear(hidden, self.weight).float()
        else:
            raw = self.product(hidden).float()
        if self.update is not None:
            a, b, factor = self.update
            raw = raw + linear(linear(hidden, a.to(hidden.dtype)), b.to(hidden.dtype)) * factor
        if self.rows is not None:
            ids, values = self.rows
            raw = with_rows(raw, ids, linear(hidden, values.to(hidden.dtype)).float())
        return self.finish(raw)

    def finish(self, logits: Tensor) -> Tensor:
        """Apply bias, scale and soft cap.

        Args:
            logits: [N, V] in fp32, hidden @ weight.T; may be overwritten.

        Returns:
            [N, V] in fp32.
        """
        if self.bias is not None:
            logits[:, : len(self.bias)] += self.bias
        if self.scale != 1.0:
            logits *= self.scale
        if self.softcap is not None:
            logits = self.softcap * torch.tanh(logits / self.softcap)
        return logits


def with_rows(logits: Tensor, ids: Tensor, own: Tensor) -> Tensor:
    """Put logits of single tokens in their places, after the others where those end before.

    Args:
        logits: [..., V].
        ids: [n].
        own: [..., n].

    Returns:
        [..., max(V, largest id + 1)].
    """
    more = max(0, int(ids.max()) + 1 - logits.shape[-1])
    return nn.functional.pad(logits, (0, more)).index_copy(-1, ids, own)


def token_logprobs(hidden: Tensor, targets: Tensor, head: Head) -> Tensor:
    """Log-probability of each target, with the gradient formed in the same pass.

    Every objective is a function of these numbers. The derivative with respect to a position's
    hidden state does not depend on the objective, so it is computed while the logits of a chunk
    are there and only scaled later; the head itself gets no gradient.

    Args:
        hidden: [N, E], the states that predict the targets.
        targets: [N] token ids.
        head: The head; when frozen it gets no gradient.

    Returns:
        [N] natural logs in fp32, nothing reduced.
    """
    if not head.is_plain or (head.weight.requires_grad and torch.is_grad_enabled()):
        # Something of the head learns or is not known, so autograd does it, a chunk of logits at
        # a time.
        size = _chunk_size(head)
        parts = zip(hidden.split(size), targets.split(size), strict=True)
        if not torch.is_grad_enabled():
            return torch.cat([_plain_logprobs(*part, head) for part in parts])
        return torch.cat(
            [checkpoint(_plain_logprobs, *part, head, use_reentrant=False) for part in parts]
        )
    if torch.is_grad_enabled() and hidden.requires_grad:
        logprobs: Tensor = _TokenLogprobs.apply(hidden, targets, head)  # type: ignore[no-untyped-call]
        return logprobs
    return _chunks(hidden, targets, head, None)


def candidate_logprobs(
    hidden: Tensor, targets: Tensor, ids: Tensor, head: Head, temperature: float
) -> Tensor:
    """Log-probabilities of each target, and of other candidates at a temperature.

    Args:
        hidden: [N, E], the states that predict the targets.
        targets: [N] token ids.
        ids: [N, K] token ids of candidates.
        head: The head; what of it is frozen gets no gradient.
        temperature: Divides the candidates' logits.

    Returns:
        [N, 1 + K] natural logs in fp32: the target's at temperature 1, then the candidates'.
    """
    size = _chunk_size(head)
    parts = zip(hidden.split(size), targets.split(size), ids.split(size), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([_candidates(*part, head, temperature) for part in parts])
    return torch.cat(
        [checkpoint(_candidates, *part, head, temperature, use_reentrant=False) for part in parts]
    )


def _candidates(
    hidden: Tensor, targets: Tensor, ids: Tensor, head: Head, temperature: float
) -> Tensor:
    logits = head.logits(hidden)
    own = logits.log_softmax(-1).gather(1, targets[:, None])
    return torch.cat([own, (logits / temperature).log_softmax(-1).gather(1, ids)], 1)


@torch.no_grad()
def top_logprobs(hidden: Tensor, head: Head, k: int, temperature: float) -> tuple[Tensor, Tensor]:
    """Find the most probable next tokens.

    Args:
        hidden: [N, E].
        head: The head.
        k: How many; the whole vocabulary where it has fewer.
        temperature: Divides the logits.

    Returns:
        Natural logs [N, k] in fp32 of probabilities over the whole vocabulary, the largest first,
        and their token ids [N, k].
    """
    found = [
        (head.logits(part) / temperature).log_softmax(-1).topk(min(k, head.weight.shape[0]))
        for part in hidden.split(_chunk_size(head))
    ]
    return torch.cat([one.values for one in found]), torch.cat([one.indices for one in found])


def _plain_logprobs(hidden: Tensor, targets: Tensor, head: Head) -> Tensor:
    return head.logits(hidden).log_softmax(-1).gather(1, targets[:, None]).squeeze(1)


def _chunk_size(head: Head) -> int:
    return max(16, _CHUNK_LOGITS // head.weight.shape[0])


def _chunks(hidden: Tensor, targets: Tensor, head: Head, grad: Tensor | None) -> Tensor:
    """Fill log-probabilities, and if asked d logprob / d hidden [N, E], chunk by chunk."""
    logprobs = torch.empty(len(targets), dtype=torch.float32, device=hidden.device)
    size = min(_chunk_size(head), max(1, len(targets)))
    # Buffers are made once: fresh pages cost a CPU more than the arithmetic on them.
    held = torch.empty(size, head.weight.shape[0], dtype=hidden.dtype, device=hidden.device)
    on_cpu = hidden.device.type == "cpu"
    block = max(1, _BLOCK_LOGITS // head.weight.shape[0]) if on_cpu else size
    work = torch.empty(min(block, size), held.shape[1], dtype=torch.float32, device=hidden.device)
    for start in range(0, len(targets), size):
        part = slice(start, min(start + size, len(targets)))
        logits = held[: part.stop - start]
        torch.mm(hidden[part], head.weight.t(), out=logits)
        for first in range(0, len(logits), len(work)):
            rows = logits[first : first + len(work)]
            ids = targets[start + first : start + first + len(rows), None]
            logprobs[start + first : start + first + len(rows)] = _log_softmax_slope(
                rows, ids, head, work[: len(rows)], rows if grad is not None else None
            )
        if grad is not None:
            torch.mm(logits.to(head.weight.dtype), head.weight, out=grad[part])
    return logprobs


def _log_softmax_slope(
    raw: Tensor, ids: Tensor, head: Head, work: Tensor, slope: Tensor | None
) -> Tensor:
    """Log-probabilities of `ids` [n, 1], and into `slope` [n, V] their derivative by `raw` [n, V].

    `work` [n, V] fp32 is scratch; `slope` may be `raw` itself.
    """
    logits = head.finish(work.copy_(raw))
    bend = None
    if slope is not None and head.softcap is not None:
        bend = 1 - (logits / head.softcap) ** 2
    peak = logits.gather(1, ids)
    maximum = logits.amax(1, keepdim=True)
    exps = logits.sub_(maximum).exp_()
    total = exps.sum(1, keepdim=True)
    if slope is not None:
        # d logprob / d logits = onehot - softmax
        exps.mul_(-1 / total).scatter_add_(1, ids, torch.ones_like(peak))
        if bend is not None:
            exps *= bend
        if head.scale != 1.0:
            exps *= head.scale
        slope.copy_(exps)
    return (peak - maximum - total.log()).squeeze(1)


class _TokenLogprobs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, targets: Tensor, head: Head) -> Tensor:
        slopes = torch.empty_like(hidden, dtype=head.weight.dtype)
        logprobs = _chunks(hidden, targets, head, slopes)
        ctx.save_for_backward(slopes)
        ctx.dtype = hidden.dtype
        return logprobs

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (slopes,) = ctx.saved_tensors
        return (slopes * grad_outputs[0][:, None]).to(ctx.dtype), None, None
