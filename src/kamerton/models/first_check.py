"""The check of a base as it is loaded: its parts must say what the untouched model says.

A short row is read while the model is still as Transformers made it; then packed rows, blockwise
modules and the head have to say the same, and to hand a gradient back. What does not is left out,
in the order of what it costs: packed rows, blockwise modules, the formula of the head. A base that
then still differs is refused. So no verb meets a base that computes something else in silence, and
loading takes two short forward passes and one backward pass where nothing differs.

Shapes: T tokens of the row, V vocabulary.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from kamerton.core.errors import ModelError
from kamerton.core.wording import first_line
from kamerton.models.agreement import Agreement, compare, rounded_otherwise
from kamerton.models.attention.layout import Layout, Segment
from kamerton.models.base import Base
from kamerton.models.dtype import dtype_name
from kamerton.models.fused import use_original_modules
from kamerton.models.head_form import own_head_form
from kamerton.models.trial import try_out

__all__ = ["OWN_PARTS", "Reference", "choose_forward", "read_untouched", "use_own_parts", "ways"]

_TEXT = (
    "Order 4417 was sent on Monday. Здравствуйте! When will it arrive, and whom should I ask? "
    "def f(x): return 2 * x"
)
_PROMPT, _WHOLE = 9, 24

# A prompt with two answers, then the prompt alone: what leaks between segments, sees the future or
# counts positions from the start of the row becomes visible.
_LAYOUT = Layout(
    (
        Segment(0, _PROMPT),
        Segment(_PROMPT, _WHOLE, parent=0),
        Segment(_WHOLE, 2 * _WHOLE - _PROMPT, parent=0),
        Segment(2 * _WHOLE - _PROMPT, 2 * _WHOLE),
    )
)
_WINDOWS = re.compile("window|attention_chunk|local_attention")
_WINDOW = 6

_MOST_CHARACTERS = 120
_PLACES = [*range(_WHOLE), *range(_PROMPT, _WHOLE), *range(_PROMPT)]

OWN_PARTS = "the model's own modules and head"
"""The slowest of `ways`."""


@dataclass(frozen=True, eq=False)
class Reference:
    """The untouched model's results for a short row.

    Attributes:
        ids: [T] its tokens.
        logprobs: [T, V] natural logs of all tokens, fp32.
    """

    ids: Tensor
    logprobs: Tensor


@torch.no_grad()
def read_untouched(model: Any, tokenizer: Any = None) -> Reference | None:
    """Let a model read a short row before anything of it is replaced.

    Args:
        model: A Transformers causal language model in evaluation mode.
        tokenizer: Its tokenizer; None for random tokens.

    Returns:
        The results; None while its weights are on the meta device.

    Raises:
        ModelError: If it cannot read a text.
    """
    if model.device.type == "meta":
        return None
    ids = _ids(model, tokenizer).to(model.device)
    try:
        with _narrow_windows(model):
            logits = model(input_ids=ids[None], use_cache=False).logits[0]
            logprobs = logits.float().log_softmax(-1)
    # Whatever a model of another make raises ends here as one line.
    except Exception as error:
        raise ModelError(
            f"{type(model).__name__} cannot read a text by itself: {_line(error)}",
            hint="take a causal language model whose only input is text",
        ) from error
    if not logprobs.isfinite().any(-1).all():
        raise ModelError(
            f"{type(model).__name__} gives no finite logits in {dtype_name(model.dtype)}",
            hint='set base.dtype = "float32"; if that does not help, the weights are damaged',
        )
    return Reference(ids, logprobs)


def ways(base: Base) -> Iterator[str]:
    """Set a base to one way of computing after another, the fastest first.

    Args:
        base: The base; it stays as it is when the caller has seen enough.

    Yields:
        The name of the way that its rows go now.
    """
    if base.ragged:
        yield "packed rows"
        base.ragged = False
    yield "padded rows"
    use_own_parts(base)
    yield OWN_PARTS


def use_own_parts(base: Base) -> None:
    """Let a base compute with its model's own modules and head: slower, and nothing of ours.

    Args:
        base: The base.
    """
    use_original_modules(base.model)
    base.head_form = own_head_form(base.model)


@torch.no_grad()
def choose_forward(base: Base, reference: Reference) -> Agreement:
    """Let a base compute in the fastest way that says what the untouched model says, and learns.

    Sets `ragged`, `notice` and `head_form` of the base.

    Args:
        base: The base as it was loaded, without an adapter.
        reference: The results of its model before.

    Returns:
        The comparison of the way that was chosen.

    Raises:
        ModelError: If no way says the same, or none hands a gradient back.
    """
    reason = ""
    for way in ways(base):
        try:
            calls = _Calls()
            with _narrow_windows(base.model):
                layout = replace(_LAYOUT, record=calls, memo={})
                hidden = try_out(base, _row(reference), layout)
            found = base.head.logits(hidden).log_softmax(-1)
        except Exception as error:
            reason = f"fail ({_line(error)})"
        else:
            agreement = compare(
                found,
                reference.logprobs[_PLACES],
                base.dtype,
                lambda: _rounded_otherwise(base, reference)[_PLACES],
            )
            if agreement.agrees and calls.twice is not None:
                # A cache or a trained prefix has one place for a layer.
                reason = f"attend more than once in layer {calls.twice}"
            elif agreement.agrees:
                return agreement
            else:
                reason = (
                    f"differ from the model's own log-probabilities by "
                    f"{agreement.difference:.3g} (tolerance {agreement.tolerance:.3g})"
                )
        if way == "packed rows":
            base.notice = f"packed rows of {base.identity.architecture} {reason}"
    raise ModelError(
        f"{base.identity.architecture} is not supported: padded rows {reason}",
        hint="it may see later tokens, need more than token ids, or compute its logits from more "
        "than the last hidden states",
    )


@contextmanager
def _narrow_windows(model: Any) -> Iterator[None]:
    """Let local attention see a few tokens for a while: a short row shows what a long one does.

    A family that keeps its window from the attention function and puts it into masks only, which
    packed rows have none of, would else differ in long rows alone.
    """
    holders = [model.config, model.config.get_text_config()]
    for part in model.modules():
        holders += [part, part.config] if hasattr(part, "config") else [part]
    found = {
        (id(holder), name): (holder, name, value)
        for holder in holders
        for name, value in vars(holder).items()
        if _WINDOWS.search(name) and type(value) is int and value > _WINDOW
    }
    for holder, name, _ in found.values():
        setattr(holder, name, _WINDOW)
    try:
        yield
    finally:
        for holder, name, value in found.values():
            setattr(holder, name, value)


class _Calls(dict[int, tuple[Tensor, Tensor]]):
    """Sees the keys and values of every layer go by and keeps none."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[int] = set()
        self.twice: int | None = None

    def __setitem__(self, layer: int, pair: tuple[Tensor, Tensor]) -> None:
        if layer in self.seen:
            self.twice = layer
        self.seen.add(layer)


def _row(reference: Reference) -> Tensor:
    return reference.ids[torch.tensor(_PLACES, device=reference.ids.device)]


def _rounded_otherwise(base: Base, reference: Reference) -> Tensor:
    """The model's own log-probabilities with every layer's output moved by what rounding may."""
    with rounded_otherwise(base.model), _narrow_windows(base.model):
        return base.own_logits(reference.ids).log_softmax(-1)


def _ids(model: Any, tokenizer: Any) -> Tensor:
    """Tokens of a short text, or random ones where a tokenizer has too few for it."""
    num_rows = model.get_input_embeddings().weight.shape[0]
    if tokenizer is not None:
        ids = list(tokenizer(_TEXT)["input_ids"])
        if len(ids) >= _WHOLE and max(ids) < num_rows:
            return torch.tensor(ids[:_WHOLE])
    special = _special_ids(model.config)
    plain = torch.tensor([i for i in range(min(num_rows, 4096)) if i not in special])
    generator = torch.Generator().manual_seed(0)
    return plain[torch.randint(len(plain), (_WHOLE,), generator=generator)]


def _special_ids(config: Any) -> set[int]:
    """Ids that a configuration names: they may stand for an image or for nothing."""
    named = [*config.to_dict().items(), *config.get_text_config().to_dict().items()]
    found: set[int] = set()
    for name, value in named:
        if name.endswith(("token_id", "token_index", "token_ids")):
            found.update(
                v for v in (value if isinstance(value, list) else [value]) if v is not None
            )
    return found


def _line(error: Exception) -> str:
    reason = first_line(error)[:_MOST_CHARACTERS]
    return reason if isinstance(error, ModelError) else f"{type(error).__name__}: {reason}"
