"""The linear layers of a base that an adapter goes to: by name and by decoder block."""

from collections.abc import Iterable, Sequence
from typing import Annotated

from pydantic import AfterValidator
from torch import nn

from kamerton.core.errors import AdapterError
from kamerton.core.settings import suggestion
from kamerton.models.base import Base
from kamerton.models.blocks import decoder_blocks
from kamerton.models.linear import is_linear

__all__ = [
    "Layers",
    "check_patterns",
    "ends_with",
    "layer_numbers",
    "module_at",
    "target_paths",
    "token_paths",
]


def module_at(base: Base, path: str) -> nn.Module | None:
    """Find a module by its path.

    Args:
        base: The base.
        path: A path such as `model.layers.0.mlp.down_proj`.

    Returns:
        The module, or None when there is none.
    """
    try:
        module: nn.Module = base.model.get_submodule(path)
        return module
    except AttributeError:
        return None


def ends_with(path: str, name: str) -> bool:
    """Tell whether a path ends with a name, whole parts only.

    Args:
        path: A path such as `model.layers.0.mlp.down_proj`.
        name: A name such as `down_proj` or `mlp.down_proj`.

    Returns:
        Whether the name means this module.
    """
    return f".{path}".endswith(f".{name}")


def check_patterns(base: Base, setting: str, patterns: Iterable[str], paths: Sequence[str]) -> None:
    """Refuse a pattern that means no module.

    Args:
        base: The base, for the message.
        setting: The setting of the pattern, such as `rank_pattern`.
        patterns: Ends of module paths.
        paths: The modules that get an adapter.

    Raises:
        AdapterError: If one matches none of them.
    """
    for pattern in patterns:
        if not any(ends_with(path, pattern) for path in paths):
            leaves = {path.rsplit(".", 1)[-1] for path in paths}
            raise AdapterError(
                f"adapter.{setting}: '{pattern}' matches none of the adapted layers of "
                f"{base.identity.architecture}{suggestion(pattern, leaves)}"
            )


def target_paths(
    base: Base, targets: Sequence[str], layers: str, setting: str = "targets", *, ends: bool = False
) -> list[str]:
    """Find the linear layers that the settings mean.

    Args:
        base: The base.
        targets: Ends of module paths, or "all-linear".
        layers: Decoder blocks, as for `layer_numbers`.
        setting: The setting that names the targets, for messages.
        ends: Whether "embeddings" and "head", or these modules' names, may be meant too.

    Returns:
        Paths of modules, each once.

    Raises:
        AdapterError: If a target matches no linear layer, or a block does not exist.
    """
    blocks = decoder_blocks(base.model)
    names = {module: name for name, module in base.model.named_modules()}
    chosen = layer_numbers(layers, len(blocks))
    linears = {
        f"{names[block]}.{name}": name
        for block in (blocks[number] for number in chosen)
        for name, module in block.named_modules()
        if is_linear(module) and not _is_read_as_matrix(block, name)
    }
    outer = _ends(base) if ends else {}
    paths: list[str] = []
    for target in targets:
        if target in outer:
            paths.append(outer[target])
            continue
        matched = [
            path
            for path, name in linears.items()
            if target == "all-linear" or ends_with(name, target)
        ]
        if not matched:
            leaves = {name.rsplit(".", 1)[-1] for name in linears.values()} | set(outer)
            raise AdapterError(
                f"adapter.{setting}: '{target}' matches no linear layer of "
                f"{base.identity.architecture}{suggestion(target, leaves)}"
            )
        paths += [path for path in matched if path not in paths]
    return list(dict.fromkeys(paths))


def _is_read_as_matrix(block: nn.Module, name: str) -> bool:
    """Whether a model multiplies with a layer's weight itself, past any adapter on the layer.

    Mamba's first version does so with the layer that makes its step sizes (Jamba, Falcon Mamba).
    """
    mixer, _, leaf = name.rpartition(".")
    return leaf == "dt_proj" and hasattr(block.get_submodule(mixer), "A_log")


def _ends(base: Base) -> dict[str, str]:
    """Paths of the embeddings and the head by what they may be called."""
    found: dict[str, str] = {}
    for called, path in zip(("embeddings", "head"), token_paths(base), strict=True):
        found |= {called: path, path.rsplit(".", 1)[-1]: path}
    return found


def token_paths(base: Base) -> tuple[str, str]:
    """Find the embeddings and the head.

    Args:
        base: The base.

    Returns:
        Their paths in the model.
    """
    names = {module: name for name, module in base.model.named_modules()}
    model = base.model
    return names[model.get_input_embeddings()], names[model.get_output_embeddings()]


def layer_numbers(text: str, num_layers: int) -> list[int]:
    """Read which decoder blocks are meant.

    Args:
        text: "all", "8-15" or "0,2,4-7", from 0.
        num_layers: The number of layers.

    Returns:
        Their numbers in order.

    Raises:
        ValueError: If the text has another form.
        AdapterError: If a block does not exist.
    """
    if text.strip() == "all":
        return list(range(num_layers))
    ranges = _ranges(text)
    if max(last for _, last in ranges) >= num_layers:
        raise AdapterError(
            f"adapter.layers: {text} must name blocks within 0-{num_layers - 1} of the base"
        )
    return sorted({number for first, last in ranges for number in range(first, last + 1)})


def _ranges(text: str) -> list[tuple[int, int]]:
    """Read first and last of each part."""
    found = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ValueError(f'must look like "all", "8-15" or "0,2,4-7", got {text!r}')
        found.append((int(first), int(last or first)))
        if found[-1][1] < found[-1][0]:
            raise ValueError(f"must name blocks from small to large, got {text!r}")
    return found


def _readable(text: str) -> str:
    if text.strip() != "all":
        _ranges(text)
    return text


Layers = Annotated[str, AfterValidator(_readable)]
"""The decoder blocks, as `layer_numbers` reads them."""
