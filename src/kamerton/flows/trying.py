"""`kamerton train --try`: short runs with several learning rates choose the one of the real run.

The short runs go in turn over one base, from the same first weights, with the same examples in the
same order, each with a whole schedule of its own. The held-out loss at their end decides; the test
part is never read. Then the real run begins from scratch, so it has the same bits as a run whose
recipe names that rate. The choice stands beside the run: a run that was stopped goes on with it.
"""

import json
import math
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kamerton.adapters.adapter import load_tensors
from kamerton.adapters.catalogue import NoAdapterSettings
from kamerton.core.errors import InterruptedRun, NotFiniteError, SettingsError
from kamerton.core.events import Event, Notice, Progress, Sink, StepDone
from kamerton.core.files import hash_json, write_atomically
from kamerton.core.language import translated
from kamerton.data.rendering.tokenized import num_tokens
from kamerton.evaluation.items import spread
from kamerton.flows.dates import dated
from kamerton.flows.finished import stamps_of_data
from kamerton.flows.prepare import make_prompt, read_examples
from kamerton.flows.recipe import Recipe
from kamerton.flows.start import read_members, read_start, taken_over
from kamerton.flows.task import TaskVariants, make_task
from kamerton.flows.workspace import Workspace
from kamerton.models.load import ensure_here, load_base
from kamerton.objectives.online import OnlineSettings
from kamerton.training.defaults import resolve
from kamerton.training.loop import train
from kamerton.training.plan import plan_run
from kamerton.training.settings import TrainSettings
from kamerton.training.task import Task
from kamerton.variants.load import with_template_of

__all__ = ["TRIED_FILE", "Trial", "Tried", "try_rates", "with_rate"]

TRIED_FILE = "tried.json"

_FACTORS = (1.0, 1 / 3, 3.0)
_MOST_TRIALS = 5
_SHARE = 0.1
_FEWEST_STEPS = 8
_MOST_HELD = 64
_CLEARLY = 0.02
"""A short run overrates large rates: another than the middle one must be better by this share."""
_DIVERGED = 2.0


@dataclass(frozen=True, slots=True)
class Trial:
    """One short run.

    Attributes:
        rate: Its peak learning rate.
        held_out_loss: The held-out loss at its end; None where the training loss exploded.
        num_steps: Steps that it took.
    """

    rate: float
    held_out_loss: float | None
    num_steps: int


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
        InterruptedRun: If `should_stop` said so.
        KamertonError: If data, base or adapter fail.
    """
    if isinstance(recipe.adapter, NoAdapterSettings):
        raise SettingsError('--try: adapter.kind = "none" trains nothing, so there is no rate')
    if isinstance(recipe.objective, OnlineSettings):
        raise SettingsError(
            f'--try: objective.kind = "{recipe.objective.kind}" learns from the model\'s own '
            "answers, whose rewards need longer runs than a trial",
            hint="leave --try out, and compare runs by their rewards",
        )
    path = workspace.runs / recipe.name / TRIED_FILE
    key = hash_json({"recipe": recipe.to_plain(), "data": stamps_of_data(recipe, folder)})
    if not fresh and (known := _read(path, key)) is not None:
        return known
    tried = _run_trials(recipe, folder, workspace, sink, should_stop)
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


def _run_trials(
    recipe: Recipe,
    folder: Path,
    workspace: Workspace,
    sink: Sink,
    should_stop: Callable[[], bool],
) -> Tried:
    """Make the short runs over one base, which is forgotten afterwards."""
    task = _make_task(recipe, folder, workspace, _only_progress(sink))
    if not task.holdout:
        raise SettingsError(
            "--try: the held-out loss chooses the rate, and the recipe holds nothing out",
            hint="set data.holdout, such as 0.1",
        )
    lengths = [num_tokens(example) for example in task.train]
    chosen = resolve(task.settings, lengths, task.auto_rate, online=False).settings
    num_steps = len(plan_run(lengths, chosen))
    settings = _short(chosen, num_steps)
    share = len(_FACTORS) * settings.max_steps / num_steps
    told = translated(
        "trying {number} learning rates for {steps} steps each, {share:.0f} % of the run together",
        number=len(_FACTORS), steps=settings.max_steps, share=100 * share,
    )  # fmt: skip
    sink(Notice(told))
    # On the CPU: of all weights there may be no room for another copy beside the base.
    first = {name: one.detach().cpu().clone() for name, one in task.adapter.parameters().items()}
    before, _ = task.measure()
    trials: list[Trial] = []
    rates = [chosen.peak_rate * factor for factor in _FACTORS]
    with tempfile.TemporaryDirectory(prefix="kamerton-") as scratch:
        while rates:
            rate = float(f"{rates.pop(0):.1e}")
            one = replace(
                task,
                settings=settings.model_copy(update={"learning_rate": rate}),
                folder=Path(scratch) / str(len(trials)),
            )
            one.folder.mkdir()
            watch = _Watch(sink, should_stop, len(trials), len(trials) + 1 + len(rates))
            trials.append(_run_trial(one, rate, first, watch))
            lowest = min(trials, key=lambda trial: trial.rate)
            if not rates and len(trials) < _MOST_TRIALS and _best(trials, before) in (None, lowest):
                # Whoever names a rate that is far too high has not tried the right one yet.
                rates.append(lowest.rate / 10)
    return Tried(trials, _choose(trials, before, float(f"{chosen.peak_rate:.1e}")), before)


def _make_task(recipe: Recipe, folder: Path, workspace: Workspace, sink: Sink) -> Task:
    """Make the run's own task, measured on at most some of its held-out examples."""
    start = read_start(recipe, workspace)
    recipe = taken_over(recipe, start)
    members = read_members(recipe, workspace) if start is None else []
    ensure_here(recipe.base.id, recipe.base.device)
    examples = read_examples(recipe, folder, sink)
    base = load_base(
        recipe.base.id,
        dtype=recipe.base.dtype,
        device=recipe.base.device,
        quantise=recipe.base.quantise,
    )
    if start is not None:
        base = with_template_of(start, base)
    recipe = dated(recipe, base, workspace.runs / recipe.name)
    prompt = make_prompt(recipe, examples.train)
    variants = TaskVariants(start, members, [], folder)
    task = make_task(recipe, examples, base, prompt, variants, workspace, sink)
    measured = spread(range(len(task.holdout)), _MOST_HELD)
    references = task.references
    if references is not None:
        references = (references[0], [references[1][index] for index in measured])
    holdout = [task.holdout[index] for index in measured]
    return replace(task, holdout=holdout, references=references, distance=None)


def _only_progress(sink: Sink) -> Sink:
    """Leave out what the real run says again."""

    def send(event: Event) -> None:
        if isinstance(event, Progress):
            sink(event)

    return send


def _short(settings: TrainSettings, num_steps: int) -> TrainSettings:
    """Shorten a run: all trials together take a tenth of its steps, but no fewer than teach."""
    wanted = math.ceil(_SHARE * num_steps / len(_FACTORS))
    steps = min(num_steps, max(_FEWEST_STEPS, wanted))
    changes: dict[str, Any] = {
        "max_steps": steps,
        # Measured once, at the end.
        "evaluate_every": steps,
        "patience": 0,
        "keep": "last",
        "checkpoint_every_s": 1e9,
        "compile": False,
        # Of so few steps a share that was chosen for the whole run may be none.
        "warmup": 0.2,
    }
    return settings.model_copy(update=changes)


@dataclass(eq=False)
class _Watch:
    """Follows a short run: shows its steps, and stops it where its loss explodes."""

    sink: Sink
    is_stopped: Callable[[], bool]
    done: int
    total: int
    losses: list[float] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        if isinstance(event, StepDone):
            self.losses.append(event.loss)
            done, total = self.done * event.num_steps + event.step, self.total * event.num_steps
            self.sink(Progress(translated("trying learning rates"), done, total))

    def should_stop(self) -> bool:
        """Whether the short run ends after this step."""
        return self.is_stopped() or self.has_diverged

    @property
    def has_diverged(self) -> bool:
        """Whether the last two losses are both far above the first."""
        limit = _DIVERGED * abs(self.losses[0]) if self.losses else 0.0
        return len(self.losses) > 2 and all(loss > limit for loss in self.losses[-2:])


def _run_trial(task: Task, rate: float, first: Mapping[str, Tensor], watch: _Watch) -> Trial:
    """Make one short run and put the first weights back."""
    loss: float | None = None
    try:
        outcome = train(task, watch, watch.should_stop)
        if outcome.holdout_loss is not None and math.isfinite(outcome.holdout_loss):
            loss = outcome.holdout_loss
    except InterruptedRun:
        if watch.is_stopped():
            raise InterruptedRun(
                translated("stopped while learning rates were tried"),
                hint=translated("the same command tries them anew"),
            ) from None
    except NotFiniteError:
        pass
    finally:
        with torch.no_grad():
            load_tensors(task.adapter, first)
    return Trial(rate, loss, len(watch.losses))


def _best(trials: Sequence[Trial], before: float) -> Trial | None:
    """Find the short run that ended best; None where none was better than no training."""
    ended = [(one.held_out_loss, one) for one in trials if one.held_out_loss is not None]
    loss, best = min(ended, key=lambda one: one[0], default=(math.inf, None))
    return best if loss < before else None


def _choose(trials: Sequence[Trial], before: float, middle: float) -> float:
    """Choose the rate with the best loss; the recipe's own where none is clearly better."""
    best = _best(trials, before)
    if best is None or best.held_out_loss is None:
        lowest = min(one.rate for one in trials)
        raise SettingsError(
            f"--try: no rate down to {lowest:g} made the held-out loss smaller than it was",
            hint="look at the examples with kamerton check, or leave --try out",
        )
    own = next(one.held_out_loss for one in trials if one.rate == middle)
    if own is not None and own - best.held_out_loss <= _CLEARLY * abs(own):
        return middle
    return best.rate


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
