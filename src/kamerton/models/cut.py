"""A base cut to some of its decoder blocks: a small student whose tokens are its teacher's."""

import re
from pathlib import Path
from typing import Any

from torch import nn

from kamerton.core.errors import ModelError
from kamerton.core.files import atomic_folder, cache_folder, hash_json
from kamerton.core.language import translated
from kamerton.models.quiet import quieten_transformers
from kamerton.models.reading import weight_files

__all__ = ["LAYERS", "cut_base", "cut_name", "split_name"]

LAYERS = "#layers="
"""Between a base's name and the blocks that are kept, as in `builtin:smollm2#layers=0,9`."""

_PLACES = re.compile(r"\d+(,\d+)*")


def cut_name(name: str, layers: str) -> str:
    """Name a base that is cut.

    Args:
        name: The whole base's name.
        layers: Blocks that are kept, such as "0, 4, 8"; empty keeps all.

    Returns:
        The name.

    Raises:
        ValueError: If the blocks are not ascending whole numbers, or the base is cut already.
    """
    if not layers:
        return name
    places = layers.replace(" ", "")
    if LAYERS in name:
        raise ValueError(f"the base's name says already what is kept of it: {name}")
    if not _PLACES.fullmatch(places) or (numbers := _numbers(places)) != sorted(set(numbers)):
        raise ValueError(f'must be ascending numbers of blocks such as "0,4,8", got {layers!r}')
    return f"{name}{LAYERS}{places}"


def split_name(name: str) -> tuple[str, str]:
    """Part the name of a base from what is kept of it.

    Args:
        name: A base's name.

    Returns:
        The whole base's name, and the blocks; these are empty where all are kept.
    """
    whole, _, layers = name.partition(LAYERS)
    return whole, layers


def cut_base(folder: Path, layers: str) -> Path:
    """Write a base with some of its decoder blocks, unless that was done before.

    Args:
        folder: The whole base.
        layers: Blocks that are kept, as `split_name` gave them.

    Returns:
        A folder in the user's cache, named by the base's files and the blocks.

    Raises:
        ModelError: If a block is not there, or the base does not hold its blocks in one list.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    stamps = [[file.name, file.stat().st_size, file.stat().st_mtime_ns]
              for file in weight_files(folder)]  # fmt: skip
    made_of = [str(folder.resolve()), stamps, layers]
    place = cache_folder("bases") / f"{folder.name}-layers-{hash_json(made_of)[:16]}"
    if (place / "config.json").is_file():
        return place
    quieten_transformers()
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto")
    _keep(model, _numbers(layers))
    with atomic_folder(place) as temporary:
        model.save_pretrained(temporary)
        AutoTokenizer.from_pretrained(folder).save_pretrained(temporary)
    return place


def _keep(model: Any, kept: list[int]) -> None:
    """Leave out all other blocks of a model, and what its config says of them."""
    config = model.config.get_text_config()
    num = int(config.num_hidden_layers)
    if kept[-1] >= num:
        raise ModelError(
            translated(
                "base.layers: the base has blocks 0 to {last}, and {wanted} is named",
                last=num - 1,
                wanted=kept[-1],
            )
        )
    lists = [
        (parent, name)
        for parent in model.modules()
        for name, child in parent.named_children()
        if isinstance(child, nn.ModuleList) and len(child) == num
    ]
    if len(lists) != 1:
        raise ModelError(
            translated(
                "base.layers: {name} does not hold its blocks in one list, so that it "
                "cannot be cut",
                name=type(model).__name__,
            )
        )
    ((parent, name),) = lists
    blocks = [getattr(parent, name)[place] for place in kept]
    for place, block in enumerate(blocks):
        for part in block.modules():
            if isinstance(getattr(part, "layer_idx", None), int):
                part.layer_idx = place
    setattr(parent, name, nn.ModuleList(blocks))
    for key, value in list(config.to_dict().items()):
        # Such as `layer_types` and `no_rope_layers`: one entry a block.
        if "layer" in key and isinstance(value, list) and len(value) == num:
            setattr(config, key, [value[place] for place in kept])
    config.num_hidden_layers = len(kept)


def _numbers(layers: str) -> list[int]:
    return [int(place) for place in layers.split(",")]
