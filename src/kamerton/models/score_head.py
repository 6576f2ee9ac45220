"""A head that judges: a few numbers per position in place of a token."""

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

__all__ = ["ScoreHead"]


class ScoreHead:
    """Linear in hidden states, in fp32 whatever the base is in.

    Args:
        num_scores: D, numbers per position.
        size: E, of a hidden state.
        device: The device that it goes to.
        seed: The seed of its first values where D is above 1; one number begins as 0 everywhere.
    """

    def __init__(self, num_scores: int, size: int, device: torch.device, seed: int = 0) -> None:
        weight = torch.zeros(num_scores, size)
        if num_scores > 1:
            # Directions of equal vectors would have no gradient.
            generator = torch.Generator().manual_seed(seed)
            weight = torch.randn(num_scores, size, generator=generator) * size**-0.5
        self.weight = nn.Parameter(weight.to(device))
        self.bias = nn.Parameter(torch.zeros(num_scores, device=device))

    @property
    def num_scores(self) -> int:
        """Numbers per position."""
        return len(self.bias)

    def scores(self, hidden: Tensor) -> Tensor:
        """Judge positions.

        Args:
            hidden: [N, E].

        Returns:
            [N, D] in fp32.
        """
        return linear(hidden.float(), self.weight, self.bias)
