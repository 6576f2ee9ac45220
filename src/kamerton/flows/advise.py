"""`kamerton advise`: which methods fit a file or a project."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from kamerton.advisor.kinds import kind_of_task
from kamerton.advisor.methods import (
    Advice,
    Aim,
    Must,
    Situation,
    Team,
    advise,
    guidance_for,
)
from kamerton.core.events import Sink
from kamerton.data.dataset import ensure_usable, load_examples
from kamerton.data.settings import DataSettings
from kamerton.flows.demo import base_at_hand
from kamerton.flows.method_costs import Cost, costs_of
from kamerton.flows.new import look_at, make_plan, write_project
from kamerton.flows.prepare import relative_to
from kamerton.flows.recipe import Recipe

__all__ = ["Advised", "Measure", "advise_on", "situation_of"]

Measure = Literal["none", "first", "all"]


@dataclass(frozen=True, slots=True)
class Advised:
    """What is advised.

    Attributes:
        ranked: The methods, those that fit first.
        costs: By a method's name what it costs; nothing where the base is not at hand.
        guidance: Common guidance that applies, in a sentence; may be empty.
        base: The base that the costs are over.
    """

    ranked: Sequence[Advice]
    costs: Mapping[str, Cost]
    guidance: str
    base: str


def advise_on(
    source: str,
    aim: Aim,
    must: Sequence[Must],
    sink: Sink,
    *,
    team: Team = "any",
    measure: Measure = "first",
) -> Advised:
    """Rank the methods for a file or a project, and say what they cost.

    Args:
        source: A file of examples, a recipe, or a folder with a `recipe.toml`.
        aim: What the variant is for.
        must: What it must be able to do.
        sink: Receives progress.
        team: How large the team is that will keep it.
        measure: Which methods take a few of their steps: the first that fits, all, or none.

    Returns:
        What is advised.

    Raises:
        KamertonError: If the source cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="kamerton-") as scratch:
        situation, recipe, folder = _read(source, aim, must, team, Path(scratch), sink)
        ranked = advise(situation)
        guidance = guidance_for(situation)
        costs = costs_of(ranked, recipe, folder, sink, measure)
    return Advised(ranked, costs, guidance.sentence if guidance else "", recipe.base.id)


def situation_of(
    source: str, aim: Aim, must: Sequence[Must], sink: Sink, team: Team = "any"
) -> Situation:
    """Read what there is.

    Args:
        source: A file of examples, a recipe, or a folder with a `recipe.toml`.
        aim: What the variant is for.
        must: What it must be able to do.
        sink: Receives progress.
        team: How large the team is that will keep it.

    Returns:
        The situation on this machine.

    Raises:
        KamertonError: If the source cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="kamerton-") as scratch:
        return _read(source, aim, must, team, Path(scratch), sink)[0]


def _read(
    source: str, aim: Aim, must: Sequence[Must], team: Team, scratch: Path, sink: Sink
) -> tuple[Situation, Recipe, Path]:
    """Read what there is, and its recipe: for a file the one that `new` would write."""
    path = Path(source)
    path = path / "recipe.toml" if path.is_dir() else path
    if path.suffix == ".toml":
        recipe, folder = Recipe.read(path), path.parent
        data: DataSettings = relative_to(recipe.data, folder)
        loaded = load_examples(data)
        ensure_usable(loaded, 1.0)
        kind = kind_of_task(loaded.examples)
    else:
        looked = look_at(source, "", "", None, sink)
        loaded, kind, folder = looked.checked.loaded, looked.kind, scratch
        plan = make_plan(looked, folder, "advised", "", f"builtin:{base_at_hand()}")
        recipe = Recipe.read(write_project(folder, plan)[0])
    situation = Situation(
        kind=kind.name,
        num_examples=len(loaded.examples),
        has_gpu=torch.cuda.is_available(),
        is_small=recipe.base.id.startswith("builtin:"),
        aim=aim,
        must=tuple(must),
        team=team,
    )
    return situation, recipe, folder
