"""A frozen embedding with a low-rank update, as in PEFT.

A token's vector is its row of the frozen table plus s B A[:, token], with A [r, V] and B [E, r].
A is zero at the start and B normal: only columns of tokens that occur get a gradient.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, linear

from kamerton.adapters.lora.layer import LoraLayer
from kamerton.models.linear import device_of, embedding_scale

__all__ = ["LoraEmbedding"]


class LoraEmbedding(LoraLayer):
    """A frozen embedding with its update; stands where the embedding stood."""

    def __init__(self, layer: nn.Embedding, rank: int, scaling: float) -> None:
        super().__init__(layer, scaling)
        device = device_of(layer)
        self.a = nn.Parameter(torch.zeros(rank, layer.num_embeddings, device=device))
        self.b = nn.Parameter(torch.zeros(layer.embedding_dim, rank, device=device))

    @property
    def weight(self) -> Tensor:
        """The frozen table, [V, E]."""
        weight: Tensor = self.layer.weight  # type: ignore[assignment]
        return weight

    def forward(self, ids: Tensor) -> Tensor:
        """Look tokens up.

        Args:
            ids: [...] token ids.

        Returns:
            [..., E] in the dtype of the table.
        """
        found: Tensor = self.layer(ids)
        if not self.enabled:
            return found
        # Gemma multiplies what it looks up, and means the updated row.
        factor = embedding_scale(self.layer) * self.scaling
        update = linear(embedding(ids, self.a.t()), self.b) * factor
        return found + update.to(found.dtype)

    @torch.no_grad()
    def updated_weight(self) -> Tensor:
        """Compute the table with its update, [V, E] in fp32."""
        return self.weight.float() + (self.b @ self.a).t() * self.scaling
