"""Knowing a finished run again at once, without reading its data or loading its base.

Beside a run stands what it was made from: the recipe, and size and time of every file. Where all
of it is as it was and the variant is whole, nothing is left to do. Where anything differs, or
cannot be told (data of the Hub), the run is looked at in full, which never trusts this file.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from kamerton import __version__
from kamerton.core.errors import ModelError, VariantError
from kamerton.core.files import hash_json, write_atomically
from kamerton.flows.prepare import relative_to
from kamerton.flows.recipe import Recipe
from kamerton.flows.workspace import Workspace
from kamerton.models.load import find_base
from kamerton.objectives.online import OnlineSettings
from kamerton.store.variants import Variant, read_variant
from kamerton.training.reward_functions import function_hashes
from kamerton.training.task import Outcome

__all__ = [
    "Stamps",
    "forget_finished",
    "key_of_run",
    "note_finished",
    "read_finished",
    "stamps_of_data",
]

_FILE = "finished.json"


Stamps = list[list[Any]] | None
"""Name, size and time of files; None where something is no file of this machine."""


def stamps_of_data(recipe: Recipe, folder: Path) -> Stamps:
    """Take name, size and time of a recipe's data, before they are read.

    Args:
        recipe: The recipe of the run.
        folder: The folder that its paths are relative to.

    Returns:
        The stamps.
    """
    data = relative_to(recipe.data, folder)
    # A share has no file of its own.
    named = [name for name in (data.train, data.holdout, data.test) if isinstance(name, str)]
    stamps = [_stamps(Path(name)) for name in named]
    return None if None in stamps else [one for some in stamps for one in some or ()]


def key_of_run(
    recipe: Recipe, folder: Path, parents: Sequence[Variant], data: Stamps
) -> str | None:
    """Hash what a run is made from, as far as that can be told without reading it.

    Args:
        recipe: The recipe of the run.
        folder: The folder that its paths are relative to.
        parents: Variants that it is made with.
        data: The stamps that `stamps_of_data` gave.

    Returns:
        SHA-256 in hex; None where something is not on this machine, or not yet.
    """
    try:
        base = _stamps(find_base(recipe.base.id, online=False))
    except ModelError:
        return None
    if base is None or data is None:
        return None
    functions: dict[str, str] = {}
    if isinstance(recipe.objective, OnlineSettings):
        functions = dict(function_hashes(recipe.objective, folder))
    return hash_json(
        {
            "recipe": recipe.to_plain(),
            "folder": str(folder.resolve()),
            "files": [base, data],
            "parents": [parent.manifest.content_hash for parent in parents],
            "functions": functions,
            "versions": [__version__, torch.__version__],
            "machine": [torch.get_num_threads(), torch.cuda.device_count()],
        }
    )


def note_finished(
    key: str | None, variant: Variant, outcome: Outcome | None, workspace: Workspace
) -> None:
    """Write down that a run is finished.

    Args:
        key: The key that `key_of_run` gave when the run began.
        variant: The variant that the run made.
        outcome: The outcome of training; None without training.
        workspace: The workspace of the runs.
    """
    if key is None:
        return
    noted = {
        "key": key,
        "content_hash": variant.manifest.content_hash,
        "outcome": None if outcome is None else asdict(outcome),
    }
    write_atomically(workspace.runs / variant.name / _FILE, json.dumps(noted, indent=2) + "\n")


def forget_finished(name: str, workspace: Workspace) -> None:
    """Forget that a run is finished: it begins anew, and may be stopped before its end.

    Args:
        name: The name of the run.
        workspace: The workspace of the runs.
    """
    (workspace.runs / name / _FILE).unlink(missing_ok=True)


def read_finished(
    key: str | None, name: str, workspace: Workspace
) -> tuple[Variant, Outcome | None] | None:
    """Find what came of a run that is finished.

    Args:
        key: The key that `key_of_run` gives now.
        name: The name of the run and its variant.
        workspace: The workspace of both.

    Returns:
        The variant and how training ended; None where the run has to be looked at in full.
    """
    try:
        noted: dict[str, Any] = json.loads((workspace.runs / name / _FILE).read_bytes())
        variant = read_variant(workspace.variants / name)
        outcome = noted["outcome"]
        if key is None or noted["key"] != key:
            return None
        if noted["content_hash"] != variant.manifest.content_hash:
            return None
        return variant, None if outcome is None else Outcome(**outcome)
    except (OSError, ValueError, KeyError, TypeError, VariantError):
        return None


def _stamps(source: Path) -> Stamps:
    """Take name, size and time of a file, or of all files of a folder; None where it is none."""
    files: Iterable[Path]
    if source.is_file():
        files = [source]
    elif source.is_dir():
        files = sorted(path for path in source.rglob("*") if path.is_file())
    else:
        return None
    return [
        [str(file.resolve()), file.stat().st_size, file.stat().st_mtime_ns]
        for file in files
        if "__pycache__" not in file.parts
    ]
