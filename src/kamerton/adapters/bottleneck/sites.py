"""Sites in decoder blocks where a small module can stand, found by what a block is made of.

A block adds two things to the residual stream: what attention found and what the feed-forward
made of it. Where the model normalises them once more (Gemma, OLMo 2, GLM 4), that post-norm is
the last module before the sum.
"""

from collections.abc import Sequence
from typing import Literal

from torch import Tensor, nn

from kamerton.adapters.targets import ends_with, layer_numbers
from kamerton.core.errors import AdapterError
from kamerton.core.settings import suggestion
from kamerton.models.base import Base
from kamerton.models.blocks import decoder_blocks
from kamerton.models.linear import is_linear, linear_size

__all__ = ["Sublayer", "named_sites", "sublayer_ends", "width_of"]

Sublayer = Literal["attention", "feed-forward"]

_ATTENTION = ("self_attn", "attn", "attention")
_FEED_FORWARD = ("mlp", "feed_forward", "block_sparse_moe", "moe")


def sublayer_ends(
    base: Base, sublayers: Sequence[Sublayer], layers: str, *, post_norms: bool
) -> list[str]:
    """Find the modules whose output is added to the residual stream.

    Args:
        base: The base.
        sublayers: The sublayers whose outputs are wanted.
        layers: The blocks: "all", "8-15", "0,2".
        post_norms: Whether the post-norm is named where there is one, not the sublayer itself.

    Returns:
        Paths of modules, block by block.

    Raises:
        AdapterError: If a block is not made of the usual parts.
    """
    paths = []
    for path, block in _blocks(base, layers):
        children = {name for name, _ in block.named_children()}
        for sublayer in sublayers:
            found = _end_of(children, sublayer, post_norms)
            if found is None:
                raise AdapterError(
                    f"adapter: the {sublayer} of {type(block).__name__} cannot be found among "
                    f"{', '.join(sorted(children))}",
                    hint="name the modules in adapter.modules",
                )
            paths.append(f"{path}.{found}")
    return paths


def named_sites(base: Base, modules: Sequence[str], layers: str) -> list[str]:
    """Find modules of decoder blocks by name.

    Args:
        base: The base.
        modules: Names within a block such as "mlp" or "self_attn.o_proj"; an ending is enough.
        layers: The blocks.

    Returns:
        Paths of modules.

    Raises:
        AdapterError: If a name matches nothing.
    """
    inside = {
        f"{path}.{name}": name
        for path, block in _blocks(base, layers)
        for name, _ in block.named_modules()
        if name
    }
    paths: list[str] = []
    for wanted in modules:
        matched = [path for path, name in inside.items() if ends_with(name, wanted)]
        if not matched:
            raise AdapterError(
                f"adapter.modules: '{wanted}' matches no module of "
                f"{base.identity.architecture}{suggestion(wanted, set(inside.values()))}"
            )
        paths += [path for path in matched if path not in paths]
    return paths


def width_of(base: Base, path: str) -> tuple[int, int]:
    """Tell how wide a module is.

    Args:
        base: The base.
        path: A linear layer, or a module that reads and writes the residual stream's width.

    Returns:
        out, in.

    Raises:
        AdapterError: If it has another width.
    """
    module = base.model.get_submodule(path)
    if is_linear(module):
        return linear_size(module)
    weight = getattr(module, "weight", None)
    hidden = int(base.model.config.get_text_config().hidden_size)
    if isinstance(weight, Tensor) and weight.shape != (hidden,):
        raise AdapterError(
            f"adapter.modules: {path} must be a linear layer, or as wide as the hidden states "
            f"({hidden}), its weight is {tuple(weight.shape)}"
        )
    return hidden, hidden


def _blocks(base: Base, layers: str) -> list[tuple[str, nn.Module]]:
    blocks = decoder_blocks(base.model)
    names = {module: name for name, module in base.model.named_modules()}
    chosen = layer_numbers(layers, len(blocks))
    return [(names[blocks[number]], blocks[number]) for number in chosen]


def _end_of(children: set[str], sublayer: Sublayer, post_norms: bool) -> str | None:
    """The child of a block that ends a sublayer."""
    if sublayer == "attention":
        norms = ["post_self_attn_layernorm"]
        # Llama calls the norm before its feed-forward by the name of Gemma's post-norm.
        if "post_feedforward_layernorm" in children:
            norms.append("post_attention_layernorm")
        order = [*(norms if post_norms else ()), *_ATTENTION]
    else:
        norms = ["post_mlp_layernorm", "post_feedforward_layernorm"]
        order = [*(norms if post_norms else ()), *_FEED_FORWARD]
    return next((name for name in order if name in children), None)
