"""Variants that each say their own name, so that a wrong one is seen."""

import json
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from tests.e2e.project import make_project
from tests.e2e.training import train_in

__all__ = ["make_speakers"]


def make_speakers(
    folder: Path,
    kinds: Mapping[str, tuple[str, ...]],
    sayings: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Train a variant per name that answers every question with it, or with its saying."""
    make_project(folder, num_rows=16)
    for name, settings in kinds.items():
        said = sayings.get(name, name)
        rows = [{"prompt": f"Which colour has box {n}?", "completion": said} for n in range(16)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        data = (f"data.train={name}.jsonl", "data.holdout=0", "train.epochs=4")
        train_in(folder, (f"name={name}", *data, *settings))
