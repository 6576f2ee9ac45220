"""Attention of a few rows with plain operations, whatever a model asks for.

Shapes: n rows, H query heads, K key/value heads, L queries, S keys, D head size.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

__all__ = ["AttentionOptions", "attend"]


@dataclass(frozen=True, slots=True)
class AttentionOptions:
    """The options that a layer applies to its scores.

    Attributes:
        scale: Factor on the scores.
        window: A token sees itself and at most `window - 1` tokens before it; None means all.
        softcap: Scores become softcap * tanh(score / softcap); None means as they are.
        sinks: [H] one more score per head that takes probability and gives no value.
    """

    scale: float
    window: int | None = None
    softcap: float | None = None
    sinks: Tensor | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the fused kernels can do it."""
        return self.softcap is None and self.sinks is None


def attend(
    q: Tensor, k: Tensor, v: Tensor, visible: Tensor | None, rule: AttentionOptions
) -> Tensor:
    """Attend, differentiably.

    Args:
        q: [n, H, L, D].
        k: [n, K, S, D], K divides H.
        v: [n, K, S, D].
        visible: Bool [1 or n, L, S], which key each query sees; None means causal with L = S.
        rule: Scale, soft cap and sinks; the window is already part of `visible`.

    Returns:
        [n, H, L, D].
    """
    num_rows, num_kv, num_keys, _ = k.shape
    if rule.is_plain and visible is None:
        return scaled_dot_product_attention(
            q, k, v, is_causal=True, scale=rule.scale, enable_gqa=True
        )
    if visible is None:
        visible = torch.ones(1, q.shape[2], num_keys, dtype=torch.bool, device=q.device).tril()
    if rule.is_plain and q.shape[2] == 1:
        # The query heads that share a key head become the queries: no key is repeated.
        grouped = q.squeeze(2).unflatten(1, (num_kv, -1))
        output = scaled_dot_product_attention(
            grouped, k, v, attn_mask=visible[:, None], scale=rule.scale
        )
        return output.flatten(1, 2).unsqueeze(2)
    if rule.is_plain:
        return scaled_dot_product_attention(
            q, k, v, attn_mask=visible[:, None], scale=rule.scale, enable_gqa=True
        )
    grouped = q.unflatten(1, (num_kv, -1))
    scores = torch.einsum("nkgld,nksd->nkgls", grouped, k) * rule.scale
    if rule.softcap is not None:
        scores = rule.softcap * torch.tanh(scores / rule.softcap)
    scores = scores.float().masked_fill(~visible[:, None, None], float("-inf"))
    if rule.sinks is not None:
        sinks = rule.sinks.float().view(1, num_kv, -1, 1, 1)
        scores = torch.cat([scores, sinks.expand(num_rows, -1, -1, q.shape[2], 1)], dim=-1)
    weights = scores.softmax(-1)[..., :num_keys].to(v.dtype)
    return torch.einsum("nkgls,nksd->nkgld", weights, v).flatten(1, 2)
