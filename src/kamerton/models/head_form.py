"""Finding out how a model turns hidden states into logits.

Families multiply, divide, cap or transform under names of their own in their configurations. What
counts is what they compute: the model's own forward pass runs on chosen hidden states, and scale
and cap are read off its logits. Where that formula does not fit (layers between backbone and head,
tokens that are ruled out), the model's own forward pass stays the head.

Shapes: N positions, E hidden size, V vocabulary.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear
from transformers import PreTrainedModel

from kamerton.models.heads import Head

__all__ = ["HeadForm", "backbone_name", "own_head_form", "own_logits", "recognise_head"]

# Relative difference of logits that rounding explains, by dtype of the computation: a product, a
# factor and a cap are rounded one after another.
_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 2e-2, torch.float16: 4e-3}

# Root mean squares of logits: a cap (15 to 50 in real models) leaves the first as they are, bends
# the next, and of the last two leaves itself.
_SMALL, _MIDDLE, _LARGE, _LARGEST = 0.01, (1.0, 10.0, 40.0), 1000.0, 3000.0
_NUM_STATES = 8

# A measured number this near to one of the configuration is that one.
_NEAR = 3e-3


@dataclass(frozen=True, slots=True)
class HeadForm:
    """The form in which a model turns hidden @ weight.T + bias into logits.

    Attributes:
        scale: Factor on it.
        softcap: The bound in softcap * tanh(logit / softcap); None leaves logits as they are.
        own: The model's own way from [N, E] to [N, V], where it is another one.
    """

    scale: float = 1.0
    softcap: float | None = None
    own: Callable[[Tensor], Tensor] | None = None


def backbone_name(model: Any) -> str:
    """Find the part of a model that gives hidden states.

    Args:
        model: A Transformers causal language model.

    Returns:
        Its path; that of the only part that is a model itself where the class names none.
    """
    name: str = model.base_model_prefix
    if isinstance(getattr(model, name, None), nn.Module):
        return name
    parts = [name for name, part in model.named_children() if isinstance(part, PreTrainedModel)]
    return parts[0] if len(parts) == 1 else name


def own_logits(model: Any, hidden: Tensor) -> Tensor:
    """Run a model's own forward pass on given hidden states.

    Args:
        model: A Transformers causal language model with a backbone.
        hidden: [N, E], what its backbone would give.

    Returns:
        [N, V] in the dtype that the model gives.
    """
    ids = torch.zeros(1, len(hidden), dtype=torch.long, device=hidden.device)
    with _backbone_gives(model, hidden[None]):
        logits: Tensor = model(input_ids=ids, use_cache=False).logits[0]
    return logits


def own_head_form(model: Any) -> HeadForm:
    """Take the model's own forward pass for its head.

    Args:
        model: A Transformers causal language model.

    Returns:
        The form: slower than a formula, and right where no formula fits.
    """
    return HeadForm(own=partial(own_logits, model))


@torch.no_grad()
def recognise_head(model: Any) -> HeadForm:
    """Find out how a model turns hidden states into logits.

    Args:
        model: A Transformers causal language model.

    Returns:
        The form; one with `own` where nothing simple fits.
    """
    own = own_head_form(model)
    layer: Any = model.get_output_embeddings()
    weight = getattr(layer, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2:
        return own
    if weight.is_meta or weight.dtype not in _TOLERANCE:
        return HeadForm()
    states = _states(weight)
    if states is None:
        return HeadForm()
    try:
        plain = Head(weight, getattr(layer, "bias", None))
        scale = _scale(own_logits(model, states * _SMALL), plain.logits(states * _SMALL))
        large, largest = (
            float(own_logits(model, states * size).float().abs().max())
            for size in (_LARGE, _LARGEST)
        )
        softcap = largest if largest < 1.01 * large else None
        numbers = _numbers(model.config.get_text_config())
        form = HeadForm(_snap(scale, numbers), None if softcap is None else _snap(softcap, numbers))
        found = Head(weight, plain.bias, form.scale, form.softcap)
        worst = max(
            _error(own_logits(model, states * size), found.logits(states * size))
            for size in (_SMALL, *_MIDDLE, _LARGE)
        )
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError):
        # Its backbone gives states of another kind, or it takes more than them.
        return own
    return form if worst <= _TOLERANCE[weight.dtype] else own


def _states(weight: Tensor) -> Tensor | None:
    """Random hidden states [N, E] whose products with the weight have a root mean square of 1."""
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(_NUM_STATES, weight.shape[1], generator=generator)
    states = states.to(weight.device, weight.dtype)
    size = float(linear(states, weight).float().square().mean().sqrt())
    return states / size if size > 0 and math.isfinite(size) else None


def _scale(wanted: Tensor, raw: Tensor) -> float:
    """The factor between two tensors, by least squares."""
    return float((wanted.float() * raw).sum() / raw.square().sum())


def _error(wanted: Tensor, found: Tensor) -> float:
    """Relative difference of root mean squares."""
    if wanted.shape != found.shape:
        return math.inf
    wanted = wanted.float()
    difference = float((wanted - found).square().mean().sqrt() / wanted.square().mean().sqrt())
    return difference if difference == difference else math.inf


def _numbers(config: Any) -> list[float]:
    """Numbers of a configuration and their inverses."""
    found = [
        float(value)
        for value in config.to_dict().values()
        if isinstance(value, int | float) and not isinstance(value, bool) and value
    ]
    return [1.0, *found, *(1 / number for number in found)]


def _snap(measured: float, numbers: list[float]) -> float:
    """Take the exact number that a measured one is near to, if there is one."""
    nearest = min(numbers, key=lambda number: abs(number - measured))
    return nearest if abs(nearest - measured) <= _NEAR * abs(measured) else measured


class _Given(nn.Module):
    """Stands in the place of a backbone, with its attributes, and gives what it is told."""

    def __init__(self, backbone: nn.Module, hidden: Tensor) -> None:
        super().__init__()
        # Neither is a child: __getattr__ would find them in vain.
        self.given = hidden
        self.backbone = (backbone,)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self.__dict__["backbone"][0], name)
        # Some heads ask a decoder inside of it.
        return self if isinstance(value, PreTrainedModel) else value

    def forward(self, *_: Any, **__: Any) -> "_Output":
        return _Output(self.given)


class _Output(tuple[Tensor]):
    """The output of backbones of all families, with None for all but the hidden states."""

    def __new__(cls, hidden: Tensor) -> "_Output":
        return super().__new__(cls, (hidden,))

    @property
    def last_hidden_state(self) -> Tensor:
        return self[0]

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


@contextmanager
def _backbone_gives(model: Any, hidden: Tensor) -> Iterator[None]:
    """Put given hidden states [1, N, E] in the place of what the backbone computes."""
    name = backbone_name(model)
    backbone = model.get_submodule(name)
    model.set_submodule(name, _Given(backbone, hidden))
    try:
        yield
    finally:
        model.set_submodule(name, backbone)
