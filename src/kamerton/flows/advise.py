"""`kamerton advise`: which methods fit a file or a project."""

from collections.abc import Sequence
from pathlib import Path

import torch

from kamerton.advisor.kinds import kind_of_task
from kamerton.advisor.methods import Advice, Aim, Must, Situation, advise
from kamerton.core.events import Sink
from kamerton.data.dataset import ensure_usable, load_examples
from kamerton.data.settings import DataSettings
from kamerton.flows.demo import base_at_hand
from kamerton.flows.new import look_at
from kamerton.flows.prepare import relative_to
from kamerton.flows.recipe import Recipe

__all__ = ["advise_on", "situation_of"]


def advise_on(source: str, aim: Aim, must: Sequence[Must], sink: Sink) -> Sequence[Advice]:
    """Rank the methods for a file or a project.

    Args:
        source: A file of examples, a recipe, or a folder with a `recipe.toml`.
        aim: What the variant is for.
        must: What it must be able to do.
        sink: Receives progress.

    Returns:
        The methods, those that fit first.

    Raises:
        KamertonError: If the source cannot be read.
    """
    return advise(situation_of(source, aim, must, sink))


def situation_of(source: str, aim: Aim, must: Sequence[Must], sink: Sink) -> Situation:
    """Read what there is.

    Args:
        source: A file of examples, a recipe, or a folder with a `recipe.toml`.
        aim: What the variant is for.
        must: What it must be able to do.
        sink: Receives progress.

    Returns:
        The situation on this machine.

    Raises:
        KamertonError: If the source cannot be read.
    """
    path = Path(source)
    path = path / "recipe.toml" if path.is_dir() else path
    if path.suffix == ".toml":
        recipe = Recipe.read(path)
        data: DataSettings = relative_to(recipe.data, path.parent)
        loaded, base = load_examples(data), recipe.base.id
        ensure_usable(loaded, 1.0)
        kind = kind_of_task(loaded.examples)
    else:
        looked = look_at(source, "", "", None, sink)
        loaded, kind, base = looked.checked.loaded, looked.kind, f"builtin:{base_at_hand()}"
    return Situation(
        kind=kind.name,
        num_examples=len(loaded.examples),
        has_gpu=torch.cuda.is_available(),
        is_small=base.startswith("builtin:"),
        aim=aim,
        must=tuple(must),
    )
