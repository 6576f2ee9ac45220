"""The layer of a bottleneck adapter: down, activation, up, beside or after a module of the base.

    after:    h = module(x),  h + s (act(h D^T + c) U^T + u)
    beside:   module(x) + s (act(x D^T + c) U^T + u)

Shapes: D [d, in], c [d], U [out, d], u [out]. They live in fp32 and are used in the dtype of x.
A forward hook puts the layer there, so the base's modules and their names stay as they are.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, linear, relu, silu

__all__ = ["Activation", "BottleneckLayer"]

Activation = Literal["relu", "gelu", "silu"]

_FUNCTIONS: Mapping[str, Callable[[Tensor], Tensor]] = {"relu": relu, "gelu": gelu, "silu": silu}


class BottleneckLayer(nn.Module):
    """One bottleneck; its up-projection is zero until it is trained."""

    def __init__(
        self,
        size: tuple[int, int],
        width: int,
        activation: Activation,
        scale: float,
        *,
        beside: bool,
        device: torch.device,
    ) -> None:
        super().__init__()
        out, inner = size
        self.down = nn.Linear(inner, width, device=device)
        self.up = nn.Linear(width, out, device=device)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)
        self.activation = activation
        self.scale = scale
        self.beside = beside
        self.enabled = True

    def forward(self, x: Tensor) -> Tensor:
        """Compute what is added, before the scale.

        Args:
            x: [..., in].

        Returns:
            [..., out] in the dtype of x.
        """
        low = linear(x, self.down.weight.to(x.dtype), self.down.bias.to(x.dtype))
        inner = _FUNCTIONS[self.activation](low)
        return linear(inner, self.up.weight.to(x.dtype), self.up.bias.to(x.dtype))

    def read(self, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor) -> Tensor:
        """Choose what it reads of a module.

        Args:
            args: The module's arguments.
            kwargs: The same by name.
            output: The module's output.

        Returns:
            The module's input if it stands beside it, else the output.
        """
        return _first_tensor(args, kwargs) if self.beside else output

    def hook(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any
    ) -> Any:
        """Change a module's output; called by PyTorch after the module.

        Args:
            module: The module.
            args: The module's arguments.
            kwargs: The same by name.
            output: Its output: a tensor, or a tuple that begins with it.

        Returns:
            The same with the change added.
        """
        if not self.enabled:
            return output
        first: Tensor = output[0] if isinstance(output, tuple) else output
        changed = torch.add(first, self(self.read(args, kwargs, first)), alpha=self.scale)
        return (changed, *output[1:]) if isinstance(output, tuple) else changed


def _first_tensor(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    x: Tensor = args[0] if args else next(iter(kwargs.values()))
    return x
