"""`kamerton train --try`: short runs with several learning rates choose the one of the real run.

The short runs go in turn over one base, from the same first weights, with the same examples in the
same order, each with a whole schedule of its own. The held-out loss at their end decides; the test
part is never read. Then the real run begins from scratch, so it has the same bits as a run whose
recipe names that rate. The choice stands beside the run: a run that was stopped goes on with it.
"""

import gc
import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from kamerton.adapters.catalogue import NoAdapterSettings
from kamerton.core.errors import SettingsError, TrainingError
from kamerton.core.events import Event, Progress, Sink, under_way
from kamerton.core.files import hash_json, write_atomically
from kamerton.core.language import translated
from kamerton.evaluation.items import spread
from kamerton.flows.after_training import falls_with_distance
from kamerton.flows.dates import dated
from kamerton.flows.finished import stamps_of_data
from kamerton.flows.prepare import make_prompt, read_examples
from kamerton.flows.recipe import Recipe
from kamerton.flows.start import read_members, read_start, taken_over
from kamerton.flows.task import TaskVariants, make_task
from kamerton.flows.teaching import read_teacher
from kamerton.flows.workspace import Workspace
from kamerton.models.load import ensure_here, load_base
from kamerton.objectives.online import OnlineSettings
from kamerton.training.loop import CHECKPOINT_FILE
from kamerton.training.task import Task
from kamerton.training.trial import Trial, choose_rate, run_trials
from kamerton.variants.load import with_template_of

__all__ = ["TRIED_FILE", "Tried", "try_rates", "with_rate"]

TRIED_FILE = "tried.json"

_MOST_HELD = 64


@dataclass(frozen=True, slots=True)
class Tried:
    """The short runs and the choice.

    Attributes:
        trials: The short runs, the recipe's own rate first.
        rate: The rate that was chosen.
        loss_before: The held-out loss before any step.
        is_new: Whether they were made now, and not by the same command before.
    """

    trials: Sequence[Trial]
    rate: float
    loss_before: float
    is_new: bool = True


def try_rates(
    recipe: Recipe,
    folder: Path,
    workspace: Workspace,
    sink: Sink,
    *,
    should_stop: Callable[[], bool] = lambda: False,
    fresh: bool = False,
) -> Tried:
    """Choose a recipe's learning rate by short runs, or as the same command chose before.

    Args:
        recipe: The recipe; the middle rate is its own, or that of "auto".
        folder: The folder that its paths are relative to.
        workspace: The workspace of the run.
        sink: Receives progress, and how long it will take.
        should_stop: Asked after every step.
        fresh: Whether an earlier choice is forgotten.

    Returns:
        The short runs and the choice.

    Raises:
        SettingsError: If the recipe has no rate to choose, or nothing to judge it by.
        TrainingError: If there is a run of this name that goes on with another rate.
        InterruptedRun: If `should_stop` said so.
        KamertonError: If data, base or adapter fail.
    """
    _ensure_judged_by_loss(recipe)
    start = read_start(recipe, workspace)
    recipe = taken_over(recipe, start)
    members = read_members(recipe, workspace) if start is None else []
    others = TaskVariants(start, members, [], folder, read_teacher(recipe, workspace))
    path = workspace.runs / recipe.name / TRIED_FILE
    made_of = {
        "recipe": recipe.to_plain(),
        "data": stamps_of_data(recipe, folder),
        "parents": [parent.manifest.content_hash for parent in others.parents],
    }
    key = hash_json(made_of)
    if not fresh and (known := _read(path, key)) is not None:
        return known
    if not fresh and path.with_name(CHECKPOINT_FILE).is_file():
        raise TrainingError(
            translated(
                "'{name}' has a run already, whose learning rate was not chosen by --try",
                name=recipe.name,
            ),
            hint=translated(
                "start over with --try --fresh, or leave --try out to go on with that run"
            ),
        )
    tried = _run_trials(recipe, others, workspace, sink, should_stop)
    # A base with its hooks is a cycle; the real run loads its own, and two may not fit.
    gc.collect()
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps({"key": key, **asdict(tried)}, indent=2) + "\n")
    return tried


def with_rate(recipe: Recipe, rate: float) -> Recipe:
    """Put a learning rate into a recipe.

    Args:
        recipe: The recipe.
        rate: Peak learning rate.

    Returns:
        The same recipe as if it had been written with that rate.
    """
    return recipe.model_copy(
        update={"train": recipe.train.model_copy(update={"learning_rate": rate})}
    )


def _ensure_judged_by_loss(recipe: Recipe) -> None:
    """Refuse recipes whose held-out loss does not say which rate is good."""
    if isinstance(recipe.adapter, NoAdapterSettings):
        raise SettingsError(
            translated('--try: adapter.kind = "none" trains nothing, so there is no rate')
        )
    kind = recipe.objective.kind
    if isinstance(recipe.objective, OnlineSettings):
        raise SettingsError(
            translated(
                '--try: objective.kind = "{kind}" learns from the model\'s own answers, '
                "whose rewards need longer runs than a trial",
                kind=kind,
            ),
            hint=translated("leave --try out, and compare runs by their rewards"),
        )
    if falls_with_distance(recipe.objective):
        raise SettingsError(
            translated(
                '--try: the held-out loss of objective.kind = "{kind}" falls the further '
                "answers move from their start, so it would choose too high a rate",
                kind=kind,
            ),
            hint=translated("leave --try out, and compare runs by reward accuracy and distance"),
        )


def _run_trials(
    recipe: Recipe,
    others: TaskVariants,
    workspace: Workspace,
    sink: Sink,
    should_stop: Callable[[], bool],
) -> Tried:
    """Make the short runs over one base, which is forgotten afterwards."""
    task = _make_task(recipe, others, workspace, _only_progress(sink))
    if not task.holdout:
        raise SettingsError(
            translated(
                "--try: the held-out loss chooses the rate, and the recipe holds nothing out"
            ),
            hint=translated("set data.holdout, such as 0.1"),
        )
    before, _ = task.measure()
    with tempfile.TemporaryDirectory(prefix="kamerton-") as scratch:
        trials = run_trials(replace(task, folder=Path(scratch)), before, sink, should_stop)
    return Tried(trials, choose_rate(trials, before), before)


def _make_task(recipe: Recipe, others: TaskVariants, workspace: Workspace, sink: Sink) -> Task:
    """Make the run's own task, measured on at most some of its held-out examples."""
    ensure_here(recipe.base.id, recipe.base.device)
    examples = read_examples(recipe, others.folder, sink)
    with under_way(translated("loading the base"), sink):
        base = load_base(
            recipe.base.id,
            dtype=recipe.base.dtype,
            device=recipe.base.device,
            quantise=recipe.base.quantise,
            sink=sink,
        )
    if others.start is not None:
        base = with_template_of(others.start, base)
    recipe = dated(recipe, base, workspace.runs / recipe.name)
    prompt = make_prompt(recipe, examples.train)
    task = make_task(recipe, examples, base, prompt, others, workspace, sink)
    measured = spread(range(len(task.holdout)), _MOST_HELD)
    return replace(task.with_holdout(measured), distance=None)


def _only_progress(sink: Sink) -> Sink:
    """Leave out what the real run says again."""

    def send(event: Event) -> None:
        if isinstance(event, Progress):
            sink(event)

    return send


def _read(path: Path, key: str) -> Tried | None:
    """Read an earlier choice; None where there is none, or it was made from something else."""
    try:
        noted: dict[str, Any] = json.loads(path.read_bytes())
        if noted["key"] != key:
            return None
        trials = [Trial(**one) for one in noted["trials"]]
        return Tried(trials, noted["rate"], noted["loss_before"], is_new=False)
    except (OSError, ValueError, KeyError, TypeError):
        return None
