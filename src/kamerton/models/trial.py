"""One small pass forwards and backwards at load: what a model cannot do is said then, in one line.

Models of every make go through the same hooks, and some take no part in them: they pass no keyword
arguments on to attention, or have heads of two sizes. Padded rows serve those.
"""

import torch
from torch import Tensor, nn

from kamerton.core.errors import ModelError
from kamerton.models.base import Base, decoder_blocks
from kamerton.models.layout import Layout

__all__ = ["try_out"]

# Two segments of different lengths: a padded row has padding then.
_LENGTHS = (3, 5)


def try_out(base: Base) -> None:
    """Run a few tokens forwards and backwards; fall back to padded rows where packed ones fail.

    Args:
        base: Without an adapter; `ragged` and `notice` may change. Weights on the meta device are
            not tried.

    Raises:
        ModelError: If padded rows fail too.
    """
    if any(parameter.is_meta for parameter in base.model.parameters()):
        return
    if base.ragged:
        reason = _failure(base)
        if reason is None:
            return
        base.ragged = False
        base.notice = f"{base.identity.architecture} fails on packed rows ({reason})"
    reason = _failure(base)
    if reason is not None:
        raise ModelError(
            f"base: {base.identity.architecture} fails on a first row of tokens: {reason}",
            hint="take another base, or another version of Transformers; please report the model",
        )


def _failure(base: Base) -> str | None:
    """Run a row; say in one line what went wrong."""
    count = sum(_LENGTHS)
    ids = torch.arange(count, device=base.device) % base.identity.vocab_size
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
            hidden = base.hidden(ids, Layout.of_lengths(_LENGTHS))
            hidden.float().sum().backward()
    # Whatever a model of another make raises ends here as one line.
    except Exception as error:
        words = str(error).strip() or "no reason given"
        return f"{type(error).__name__}: {words.splitlines()[0]}"
    finally:
        for hook in hooks:
            hook.remove()
    if not ran.issuperset(blocks):
        return "its decoder blocks do not take part"
    if all(one.grad is None for one in embedded):
        return "no gradient comes back through its decoder blocks"
    return None
