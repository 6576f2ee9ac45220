"""Changing the logits of one answer before its next token is chosen."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from kamerton.core.errors import ModelError
from kamerton.core.requests import Reweighting

__all__ = ["Reweighter"]


class Reweighter:
    """Penalises tokens that one answer has used already, and adds its bias.

    The repetition penalty looks at the prompt and at the answer, the other two at the answer
    alone, as in vLLM.

    Args:
        how: What the request asks for.
        prompt: Ids of the prompt.
        vocab_size: V, the number of logits.

    Raises:
        ModelError: If the bias names a token that the base has not.
    """

    def __init__(self, how: Reweighting, prompt: Sequence[int], vocab_size: int) -> None:
        strange = [token for token, _ in how.logit_bias if not 0 <= token < vocab_size]
        if strange:
            raise ModelError(f"logit_bias: token ids are from 0 to {vocab_size - 1}: {strange[0]}")
        self._how = how
        self._seen = set(prompt)
        self._written: Counter[int] = Counter()

    def add(self, token: int) -> None:
        """Count a token that was chosen.

        Args:
            token: Its id.
        """
        self._seen.add(token)
        self._written[token] += 1

    def apply(self, logits: Tensor) -> Tensor:
        """Reweight one row.

        Args:
            logits: [V], not changed.

        Returns:
            [V].
        """
        how, logits = self._how, logits.clone()
        if how.repetition_penalty != 1 and self._seen:
            ids = _ids(list(self._seen), logits)
            old = logits[ids]
            # Division would raise a negative logit: CTRL (arXiv:1909.05858, eq. 1) left that open.
            penalty = how.repetition_penalty
            logits[ids] = torch.where(old > 0, old / penalty, old * penalty)
        if (how.presence_penalty or how.frequency_penalty) and self._written:
            counts = torch.tensor(
                list(self._written.values()), dtype=logits.dtype, device=logits.device
            )
            lower = how.frequency_penalty * counts + how.presence_penalty
            logits[_ids(list(self._written), logits)] -= lower
        if how.logit_bias:
            tokens, values = zip(*how.logit_bias, strict=True)
            bias = torch.tensor(values, dtype=logits.dtype, device=logits.device)
            logits[_ids(tokens, logits)] += bias
        return logits


def _ids(tokens: Sequence[int], logits: Tensor) -> Tensor:
    return torch.tensor(tokens, device=logits.device)
