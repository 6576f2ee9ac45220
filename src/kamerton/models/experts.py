"""Experts of a mixture whose weights lie in one tensor for all of them, as Transformers fuses them.

They are no linear layers, so adapters of linear layers and quantisation do not reach them.
"""

from dataclasses import dataclass

from torch import nn

from kamerton.models.blocks import decoder_blocks
from kamerton.models.quantised.layer import count_parameters

__all__ = ["FusedExperts", "fused_experts"]

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True, slots=True)
class FusedExperts:
    """The part of a model's weights that lies in fused experts.

    Attributes:
        names: Names of the tensors within their modules, such as `gate_up_proj`.
        share: Their share of all weights, from 0 to 1.
    """

    names: tuple[str, ...]
    share: float


def fused_experts(model: nn.Module) -> FusedExperts | None:
    """Find the experts that lie in fused tensors.

    Args:
        model: A Transformers causal language model.

    Returns:
        Their tensors' names and their share of the weights; None if there are none.

    Raises:
        ModelError: If the model has no decoder blocks.
    """
    names: dict[str, None] = {}
    count = 0
    for module in decoder_blocks(model).modules():
        if isinstance(module, _CONVOLUTIONS):
            continue
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim == 3:
                names[name] = None
                count += parameter.numel()
    return FusedExperts(tuple(names), count / count_parameters(model)) if names else None
