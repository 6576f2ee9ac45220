"""Steps of single tokens through Llama's blocks, without Transformers' layers around them.

In a step that gives each request one token, arguments that are passed through thirty layers cost
as much time as the numbers. Here the blocks' own modules are called one after another: projections
and norms are those that stand in the model, with whatever adapters make of them.

Shapes: T tokens in the row, E features, H query heads, K key/value heads, D head size.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaDecoderLayer, LlamaModel

from kamerton.models.attention.cached import cached_attention
from kamerton.models.attention.layout import Layout
from kamerton.models.attention.masked import AttentionOptions

__all__ = ["LlamaSteps", "llama_steps"]


class LlamaSteps:
    """Computes rows of single tokens as a Llama does.

    Args:
        backbone: The model without its head, of the very classes that are known here.
    """

    def __init__(self, backbone: LlamaModel) -> None:
        self._backbone: Any = backbone
        self._blocks: list[Any] = list(backbone.layers)
        self._passed_over = [backbone, *self._blocks, *(b.self_attn for b in self._blocks)]

    def takes(self, layout: Layout) -> bool:
        """Say whether a row can be computed here.

        Args:
            layout: The row's segments.

        Returns:
            True for single tokens with cache slots, where nothing learns and no adapter changes
            the output of a module that is not called.
        """
        return (
            layout.cache is not None
            and layout.record is None
            and not torch.is_grad_enabled()
            and layout.num_tokens == len(layout.segments)
            and not any(m._forward_hooks or m._forward_pre_hooks for m in self._passed_over)
        )

    def hidden(self, ids: Tensor, layout: Layout) -> Tensor:
        """Run the model without its head.

        Args:
            ids: [T] token ids.
            layout: A row that `takes` accepts.

        Returns:
            [T, E] last hidden states, after the final norm.
        """
        x = self._backbone.embed_tokens(ids[None])
        positions = torch.tensor(layout.positions, device=ids.device)
        cos, sin = self._backbone.rotary_emb(x, positions[None])
        turn = cos.unsqueeze(2), _signed(sin).unsqueeze(2)
        for block in self._blocks:
            x = x + _attend(block.self_attn, block.input_layernorm(x), turn, layout)
            x = x + block.mlp(block.post_attention_layernorm(x))
        hidden: Tensor = self._backbone.norm(x)[0]
        return hidden


def llama_steps(backbone: nn.Module) -> LlamaSteps | None:
    """Look whether a model can take its steps here.

    Args:
        backbone: A model without its head.

    Returns:
        None for all but Transformers' own Llama: others differ in what stands between the modules.
    """
    if type(backbone) is not LlamaModel:
        return None
    known = all(
        type(block) is LlamaDecoderLayer and type(block.self_attn) is LlamaAttention
        for block in backbone.layers
    )
    return LlamaSteps(backbone) if known else None


def _attend(attention: Any, x: Tensor, turn: tuple[Tensor, Tensor], layout: Layout) -> Tensor:
    """What the attention module gives, [1, T, E]; turn is cosine and signed sine, [1, T, 1, D]."""
    shape = (1, x.shape[1], -1, attention.head_dim)
    q, k = attention.q_proj(x).view(shape), attention.k_proj(x).view(shape)
    v = attention.v_proj(x).view(shape).transpose(1, 2)
    cos, sin = turn
    both = torch.cat((q, k), 2)
    # Rotary positions (arXiv 2104.09864): the halves of a head turn about each other.
    both = torch.addcmul(both * cos, both.roll(attention.head_dim // 2, -1), sin).transpose(1, 2)
    q, k = both.split((q.shape[2], k.shape[2]), 1)
    rule = AttentionOptions(attention.scaling)
    found: Tensor = attention.o_proj(cached_attention(attention, q, k, v, layout, rule).flatten(2))
    return found


def _signed(sin: Tensor) -> Tensor:
    """Sines [1, T, D] with the first half negative: what the second half is multiplied by."""
    first, second = sin.chunk(2, -1)
    return torch.cat((-first, second), -1)
