"""A forward and a backward pass over one short row, which shows what a loaded model cannot do.

Models of every make go through the same hooks, and some take no part in them: they pass no keyword
arguments on to attention, or have heads of two sizes.

Shapes: T tokens in the row, E hidden size.
"""

import torch
from torch import Tensor, nn

from kamerton.core.errors import ModelError
from kamerton.models.attention.layout import Layout
from kamerton.models.base import Base
from kamerton.models.blocks import decoder_blocks

__all__ = ["try_out"]


def try_out(base: Base, ids: Tensor, layout: Layout) -> Tensor:
    """Run a row forwards, and backwards to its embedded tokens.

    Args:
        base: The base without an adapter.
        ids: [T] token ids.
        layout: The row's segments.

    Returns:
        [T, E] last hidden states, without a gradient.

    Raises:
        ModelError: If the decoder blocks take no part or hand no gradient back. What the model
            itself raises is passed on.
    """
    ran: set[nn.Module] = set()
    embedded: list[Tensor] = []

    def start(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
        embedded.append(output.detach().requires_grad_())
        return embedded[-1]

    try:
        blocks = list(decoder_blocks(base.model))
    except ModelError:
        # Such a base can still answer; methods that need its blocks refuse it themselves.
        blocks = []
    hooks = [base.model.get_input_embeddings().register_forward_hook(start)]
    hooks += [
        block.register_forward_pre_hook(lambda module, _: ran.add(module)) for block in blocks
    ]
    try:
        with torch.enable_grad():
            hidden = base.hidden(ids, layout)
            if hidden.requires_grad:
                hidden.float().sum().backward()
    finally:
        for hook in hooks:
            hook.remove()
    if not ran.issuperset(blocks):
        raise ModelError("its decoder blocks do not take part")
    if all(one.grad is None for one in embedded):
        raise ModelError("no gradient comes back through its decoder blocks")
    return hidden.detach()
