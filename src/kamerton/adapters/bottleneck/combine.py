"""Combining bottlenecks in a row: each reads what the one before has made."""

from collections.abc import Mapping, Sequence

from kamerton.adapters.adapter_files import json_bytes, read_json
from kamerton.adapters.bottleneck.bottleneck import CONFIG_FILE, BottleneckSettings
from kamerton.adapters.bottleneck.stack import members_of, stacked
from kamerton.adapters.combine import Combination, CombineSettings, ensure_no_rank, normalised
from kamerton.core.errors import AdapterError

__all__ = ["stack"]


def stack(parents: Sequence[Mapping[str, bytes]], settings: CombineSettings) -> Combination:
    """Let each bottleneck read what the one before made; weights multiply their scales.

    Args:
        parents: The files of at least two, by name.
        settings: The settings with the weights asked for.

    Returns:
        The stack.

    Raises:
        AdapterError: If a weight is negative, or a rank is asked for.
    """
    ensure_no_rank(settings)
    scaled = []
    for files, weight in zip(parents, normalised(settings, len(parents)), strict=True):
        for member in members_of(files):
            config = read_json(member, CONFIG_FILE)
            own = BottleneckSettings.parse(config["settings"], source=CONFIG_FILE)
            if own.factor * weight < 0:
                raise AdapterError("combine: the weights of a stack must not be negative")
            config["settings"] = {**config["settings"], "scale": own.factor * weight}
            scaled.append({**member, CONFIG_FILE: json_bytes(config)})
    note = (
        f"{len(scaled)} bottlenecks stand in a row at every place: the later ones read what the "
        "earlier ones changed, which they never saw while they were trained, and each costs time"
    )
    return Combination(stacked(scaled), {"members": len(scaled)}, [note])
