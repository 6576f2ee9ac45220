"""The probe: logits over a short chat in two languages, to compare ways of answering by."""

import torch

from kamerton.data.rendering.renderer import Renderer
from kamerton.models.attention.layout import Layout
from kamerton.models.base import Base

__all__ = ["largest_change", "own_probe_logits", "probe_ids", "probe_logits"]

_PROBE = ({"role": "user", "content": "Hello! Здравствуйте! When does my order 4417 arrive?"},)


def largest_change(logits: torch.Tensor, others: torch.Tensor) -> float:
    """Compare logits of the tokens that both have: an adapter may bring more.

    Args:
        logits: [T, V].
        others: [T, V].

    Returns:
        The largest difference.
    """
    width = min(logits.shape[1], others.shape[1])
    return float((logits[:, :width] - others[:, :width]).abs().max())


def probe_ids(renderer: Renderer) -> list[int]:
    """Give the tokens of a short chat in two languages.

    Args:
        renderer: The base's renderer.

    Returns:
        Token ids.
    """
    return list(renderer.prompt_ids(_PROBE))


@torch.no_grad()
def probe_logits(renderer: Renderer, base: Base) -> torch.Tensor:
    """Compute logits over the short chat, with whatever is attached to the base.

    Args:
        renderer: The base's renderer.
        base: The base.

    Returns:
        [T, V] in fp32.
    """
    ids = torch.tensor(probe_ids(renderer), device=base.device)
    return base.head.logits(base.hidden(ids, Layout.of_lengths([len(ids)])))


def own_probe_logits(renderer: Renderer, base: Base) -> torch.Tensor:
    """Compute what `probe_logits` computes through the model's own forward pass.

    Args:
        renderer: The base's renderer.
        base: The base; nothing of ours computes but the adapter that is attached.

    Returns:
        [T, V] in fp32.
    """
    return base.own_logits(torch.tensor(probe_ids(renderer), device=base.device))
