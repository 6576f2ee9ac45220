"""Choosing the next token."""

import torch
from torch import Tensor

from kamerton.core.protocols import Generation
from kamerton.core.seeds import derive_seed

__all__ = ["Sampler"]


class Sampler:
    """Chooses tokens for one answer; its draws do not depend on who else is in the batch.

    Args:
        generation: How to choose.
        index: Number of the answer; gives it its own random stream.
    """

    def __init__(self, generation: Generation, index: int) -> None:
        self._generation = generation
        self._random = torch.Generator().manual_seed(derive_seed(generation.seed, "sample", index))

    def choose(self, logits: Tensor) -> int:
        """Choose the next token.

        Args:
            logits: [V] in fp32.

        Returns:
            A token id.
        """
        wanted = self._generation
        if wanted.temperature == 0:
            return int(logits.argmax())
        values = logits.detach().cpu() / wanted.temperature
        if wanted.top_k:
            kept = values.topk(min(wanted.top_k, len(values))).values[-1]
            values = values.masked_fill(values < kept, float("-inf"))
        probabilities = values.softmax(-1)
        if wanted.top_p < 1:
            ordered, order = probabilities.sort(descending=True)
            # A token stays when the mass before it is below top_p: the first always does.
            dropped = order[ordered.cumsum(0) - ordered >= wanted.top_p]
            probabilities[dropped] = 0
        return int(torch.multinomial(probabilities, 1, generator=self._random))
