"""Short runs with several learning rates, in turn over one base and from the same first weights.

Each has a whole schedule of its own, so its end is worth measuring. All see the same examples in
the same order, which is a function of the seed alone.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor

from kamerton.adapters.adapter import load_tensors
from kamerton.core.errors import InterruptedRun, NotFiniteError, SettingsError
from kamerton.core.events import Event, Notice, Progress, Sink, StepDone
from kamerton.core.language import translated
from kamerton.data.rendering.tokenized import num_tokens
from kamerton.training.defaults import resolve
from kamerton.training.loop import train
from kamerton.training.plan import plan_run
from kamerton.training.settings import TrainSettings
from kamerton.training.task import Task

__all__ = ["Trial", "choose_rate", "run_trials"]

_FACTORS = (1.0, 1 / 3, 3.0)
"""Of the rate of the task; its own comes first."""
_MOST_TRIALS = 5
_SHARE = 0.1
_FEWEST_STEPS = 8
_CLEARLY = 0.02
"""A short run overrates large rates: another than the task's must be better by this share."""
_EXPLODED = 2.0


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


def run_trials(
    task: Task, before: float, sink: Sink, should_stop: Callable[[], bool]
) -> list[Trial]:
    """Make the short runs; the adapter has its first weights again afterwards.

    Args:
        task: The task of the real run, with a folder for what the short runs leave behind.
        before: The held-out loss before any step.
        sink: Receives how long it will take, and progress.
        should_stop: Asked after every step.

    Returns:
        The short runs, that with the task's own rate first.

    Raises:
        InterruptedRun: If `should_stop` said so.
    """
    lengths = [num_tokens(example) for example in task.train]
    chosen = resolve(task.settings, lengths, task.auto_rate, online=False).settings
    num_steps = len(plan_run(lengths, chosen))
    settings = _shortened(chosen, num_steps)
    told = translated(
        "trying {number} learning rates for {steps} steps each, {share:.0f} % of the run together",
        number=len(_FACTORS), steps=settings.max_steps,
        share=100 * len(_FACTORS) * settings.max_steps / num_steps,
    )  # fmt: skip
    sink(Notice(told))
    # On the CPU: of all weights there may be no room for another copy beside the base.
    first = {name: one.detach().cpu().clone() for name, one in task.adapter.parameters().items()}
    trials: list[Trial] = []
    rates = [chosen.peak_rate * factor for factor in _FACTORS]
    while rates:
        rate = float(f"{rates.pop(0):.1e}")
        one = replace(
            task,
            settings=settings.model_copy(update={"learning_rate": rate}),
            folder=task.folder / str(len(trials)),
        )
        one.folder.mkdir()
        watch = _Watch(sink, should_stop, len(trials), len(trials) + 1 + len(rates))
        trials.append(_run_trial(one, rate, first, watch))
        lowest = min(trials, key=lambda trial: trial.rate)
        if not rates and len(trials) < _MOST_TRIALS and _best(trials, before) in (None, lowest):
            # Whoever names a rate that is far too high has not tried the right one yet.
            rates.append(lowest.rate / 10)
    return trials


def choose_rate(trials: Sequence[Trial], before: float) -> float:
    """Choose the rate with the best loss; the task's own where none is clearly better.

    Args:
        trials: The short runs, that with the task's own rate first.
        before: The held-out loss before any step.

    Returns:
        The rate.

    Raises:
        SettingsError: If no short run was better than no training.
    """
    best, own = _best(trials, before), trials[0]
    if best is None or best.held_out_loss is None:
        lowest = min(one.rate for one in trials)
        raise SettingsError(
            translated(
                "--try: no rate down to {lowest:g} made the held-out loss smaller than it was",
                lowest=lowest,
            ),
            hint=translated("look at the examples with kamerton check, or leave --try out"),
        )
    loss = own.held_out_loss
    if loss is not None and loss - best.held_out_loss <= _CLEARLY * abs(loss):
        return own.rate
    return best.rate


def _best(trials: Sequence[Trial], before: float) -> Trial | None:
    """Find the short run that ended best; None where none was better than no training."""
    ended = [(one.held_out_loss, one) for one in trials if one.held_out_loss is not None]
    loss, best = min(ended, key=lambda one: one[0], default=(math.inf, None))
    return best if loss < before else None


def _shortened(settings: TrainSettings, num_steps: int) -> TrainSettings:
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
        return self.is_stopped() or self.has_exploded

    @property
    def has_exploded(self) -> bool:
        """Whether the last two losses are both far above the first."""
        limit = _EXPLODED * abs(self.losses[0]) if self.losses else 0.0
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
        load_tensors(task.adapter, first)
    return Trial(rate, loss, len(watch.losses))
