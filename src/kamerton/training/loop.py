"""The training loop: one for every adapter and objective.

A step is: pack the step's examples into rows, add up the rows' shares of the loss, guard, clip,
AdamW. Everything a step does is a function of the state and the seed, so a run that goes on from
a checkpoint ends with the same bits as one that was never stopped.

The file is long because all of a run's state is in one place, and every step reads and writes it.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from kamerton.adapters.adapter import load_tensors
from kamerton.core.errors import InterruptedRun, KamertonError, NotFiniteError, TrainingError
from kamerton.core.events import (
    CheckpointSaved,
    Forecast,
    HoldoutMeasured,
    Notice,
    RunFinished,
    RunStarted,
    Sink,
    StepDone,
    under_way,
)
from kamerton.core.language import translated
from kamerton.core.seeds import derive_seed
from kamerton.data.rendering.tokenized import TrainingExample, num_tokens
from kamerton.models.blocks import compile_blocks
from kamerton.models.first_check import use_own_parts
from kamerton.models.rows.row import num_labelled
from kamerton.objectives.objective import Experience, Objective
from kamerton.training.best import BestWeights
from kamerton.training.checkpoint import (
    Checkpoint,
    RunState,
    load_checkpoint,
    optimiser_tensors,
    pause_after,
    restore_optimiser,
    save_checkpoint,
)
from kamerton.training.defaults import resolve
from kamerton.training.forecast import Pace, is_known, peak_bytes, seconds_left
from kamerton.training.memory import is_out_of_memory, recompute_blocks
from kamerton.training.optimiser import make_optimiser, update_weights
from kamerton.training.plan import (
    MEASURING,
    learning_rate_at,
    measured_after,
    plan_run,
    row_sizes,
    work_after_steps,
)
from kamerton.training.preflight import preflight
from kamerton.training.rollouts import RolloutBatch
from kamerton.training.scoring import References, add_gradient
from kamerton.training.stopping import StopRequested, stoppable
from kamerton.training.task import Outcome, Task
from kamerton.training.teachings import Teachings
from kamerton.training.watching import watched_holdout

__all__ = ["CHECKPOINT_FILE", "FINISHED", "Run", "train"]

CHECKPOINT_FILE = "checkpoint.safetensors"
FINISHED = Notice("this run is finished: nothing is left to train")
"""The message for a run that has nothing left to do."""

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class _Batch:
    """The examples of one step and their experience."""

    examples: Sequence[TrainingExample]
    references: References | None = None
    experiences: Sequence[Experience] | None = None
    teachings: Teachings | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    updates: int = 1


def train(task: Task, sink: Sink, should_stop: Callable[[], bool] = lambda: False) -> Outcome:
    """Run a task to its end, from its checkpoint if there is one.

    Args:
        task: The task to train.
        sink: Receives events.
        should_stop: Asked after every step, and within measurements; True saves the state and
            stops.

    Returns:
        The outcome of the run.

    Raises:
        InterruptedRun: If `should_stop` said so; the same command goes on.
        NotFiniteError: If a loss or gradient is not finite; the last checkpoint is kept.
        TrainingError: If the run cannot start or memory is short beyond help.
    """
    if not task.train:
        raise TrainingError("there is no example to train on")
    return Run(task, sink, should_stop).finish()


class Run:
    """The state of a run while it runs.

    Args:
        task: The task to train.
        sink: Receives events.
        should_stop: Asked after every step, and within measurements.
        clock: Gives seconds.
    """

    def __init__(
        self,
        task: Task,
        sink: Sink,
        should_stop: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.sink = sink
        self.should_stop = should_stop
        self.clock = clock
        self.parameters = dict(task.adapter.parameters())
        self._count = num_tokens if task.rollouts is None else task.rollouts.num_tokens
        self.lengths = [self._count(example) for example in task.train]
        self._chosen = resolve(
            task.settings, self.lengths, task.auto_rate, online=task.rollouts is not None
        )
        self.settings = self._chosen.settings
        self.task = replace(task, settings=self.settings)
        self.plan = plan_run(self.lengths, self.settings)
        self.rows = row_sizes(self.lengths, self.plan, self.settings.tokens_per_row)
        self.optimiser = make_optimiser(task.adapter, self.settings)
        # Steps after which the holdout is measured.
        self.ends = set[int]()
        if task.holdout:
            self.ends = measured_after(self.lengths, self.settings, len(self.plan))
        measured = sum(map(self._count, task.holdout))
        self._work_after = work_after_steps(self.lengths, self.plan, self.ends, measured)
        self.best = BestWeights(task.folder)
        # The step whose best weights the last checkpoint names.
        self.saved_best = -1
        self.metrics: dict[int, Mapping[str, float]] = {}
        self.counters = RunState(tokens_per_row=self.settings.tokens_per_row)
        self.path = task.folder / CHECKPOINT_FILE
        self.paces: list[Pace] = []
        """Tokens and seconds of the steps in this process."""

    def finish(self) -> Outcome:
        """Check or restore, then step to the end.

        Returns:
            The outcome of the run.
        """
        resumed = self._restore()
        facts = {} if resumed else self.check()
        # A restored run may have failed in the measurement that was due.
        due = self.counters.step in self.ends and self.counters.measured < self.counters.step
        if resumed and not due and (self.counters.step == len(self.plan) or self._given_up()):
            self.sink(FINISHED)
        self._apply_checked(facts)
        if due:
            self._measure()
        self._take_steps()
        self.save()
        return self._outcome("early stop" if self._given_up() else "done")

    def begin(self) -> None:
        """Check, and compute as a run from its first step does."""
        self._apply_checked(self.check())

    def _apply_checked(self, facts: Mapping[str, float | int | str]) -> None:
        recompute_blocks(self.task.base, self.counters.recomputed_blocks)
        if self.settings.compile:
            self.sink(Notice("compiling the decoder blocks in the first steps, about a minute"))
            compile_blocks(self.task.base)
        self._bytes_per_token = float(facts.get("activation_bytes_per_token", 0.0))
        self.sink(
            RunStarted(self.task.name, self.task.name, len(self.plan), self.counters.step, facts)
        )

    def _take_steps(self) -> None:
        """Step to the end of the plan, measure and save on the way."""
        saved_at, pause_s = self.clock(), self.settings.checkpoint_every_s
        told = False
        while self.counters.step < len(self.plan) and not self._given_up():
            self.step()
            step = self.counters.step
            if step in self.ends:
                self._measure()
            if not told and is_known(self.paces) and step < len(self.plan):
                told = True
                self._say_forecast()
            interrupted = self.should_stop()
            if interrupted or self.clock() - saved_at >= pause_s:
                began = self.clock()
                self.save()
                saved_at = self.clock()
                pause_s = pause_after(saved_at - began, self.settings.checkpoint_every_s)
            if interrupted:
                raise self._stopped()

    def _stopped(self) -> InterruptedRun:
        return InterruptedRun(
            translated(
                "stopped after step {step} of {steps}; the state is saved",
                step=self.counters.step,
                steps=len(self.plan),
            ),
            hint=translated("the same command goes on from here"),
        )

    def _say_forecast(self) -> None:
        """Predict the time that is left from the steps so far."""
        step = self.counters.step
        left = seconds_left(
            self.paces, self._work_after[step] + MEASURING * self.task.num_tokens_after
        )
        # Rows to come may be longer than those so far.
        longer = max(self.rows) - max(self.rows[:step])
        peak = peak_bytes(self.task.base.device) + int(self._bytes_per_token * longer)
        self.sink(Forecast(step, left, peak))

    def _given_up(self) -> bool:
        return 0 < self.settings.patience <= self.counters.since_best

    def _keeps_best(self) -> bool:
        """Whether there are best weights, and they are wanted."""
        return self.settings.keep == "best" and self.counters.best_step >= 0

    def _restore(self) -> bool:
        checkpoint = load_checkpoint(self.path, self.task.identity)
        if checkpoint is None:
            return False
        restore_optimiser(self.optimiser, self.parameters, checkpoint.optimiser)
        load_tensors(self.task.adapter, checkpoint.adapter)
        self.counters = replace(checkpoint.counters, failed=False)
        self.saved_best = self.counters.best_step
        if self._keeps_best():
            self.best.ensure(self.counters.best_step)
        self.task.base.ragged = self.task.base.ragged and checkpoint.counters.ragged
        if not checkpoint.counters.blockwise:
            use_own_parts(self.task.base)
        return True

    def check(self) -> Mapping[str, float | int | str]:
        """Check the run before its first step.

        Returns:
            The facts that are stated then.
        """
        rollouts, seed = self.task.rollouts, self.settings.seed

        def answer(prompts: Sequence[TrainingExample], lengths: Sequence[int]) -> RolloutBatch:
            assert rollouts is not None, "only prompts are answered"
            return self._fitting(
                lambda: rollouts.collect(prompts, seed, self.counters.tokens_per_row), lengths
            )

        with under_way(translated("checking the run before its first step"), self.sink):
            checked = preflight(self.task, self.plan, self.lengths, self._chosen, answer, self.sink)
        self.counters = replace(
            self.counters,
            recomputed_blocks=checked.recomputed_blocks,
            ragged=checked.ragged,
            blockwise=checked.blockwise,
        )
        return checked.facts

    def step(self) -> None:
        """Take a step of the plan: one update of the weights, or several from the same answers."""
        started = self.clock()
        number = self.counters.step
        planned = [self.lengths[index] for index in self.plan[number]]
        batch = self._fitting(lambda: self._batch(number), planned)
        lengths = list(map(num_tokens, batch.examples))
        rate = learning_rate_at(number, len(self.plan), self.settings)
        for group in self.optimiser.param_groups:
            group["lr"] = rate * group["factor"]
        for update in range(batch.updates):
            loss, metrics = self._fitting(partial(self._gradient, batch, update), lengths)
            grad_norm = self._guard(loss, number)
            update_weights(self.optimiser)
        seconds = self.clock() - started
        self.paces.append(Pace(sum(planned), seconds))
        self.counters = replace(
            self.counters, step=number + 1, seconds=self.counters.seconds + seconds
        )
        self.sink(
            StepDone(
                step=number + 1,
                num_steps=len(self.plan),
                loss=loss,
                learning_rate=rate,
                grad_norm=grad_norm,
                num_tokens=sum(lengths),
                num_labelled=num_labelled(batch.examples),
                seconds=seconds,
                metrics={**batch.metrics, **metrics},
                share=1 - self._work_after[number + 1] / self._work_after[0],
            )
        )

    def _batch(self, number: int) -> _Batch:
        """Take a step's examples, or let the model answer its prompts."""
        task, numbers = self.task, self.plan[number]
        examples = [task.train[index] for index in numbers]
        if task.rollouts is None:
            references = task.references and [task.references[0][index] for index in numbers]
            teachings = task.teachings and [task.teachings[0][index] for index in numbers]
            return _Batch(examples, references, teachings=teachings)
        seed = derive_seed(self.settings.seed, "answers", number)
        with self._kept_if_it_fails():
            collected = task.rollouts.collect(examples, seed, self.counters.tokens_per_row)
        return _Batch(
            collected.groups,
            experiences=collected.experiences,
            metrics=collected.metrics,
            updates=task.rollouts.objective.settings.num_updates,
        )

    @contextmanager
    def _kept_if_it_fails(self) -> Iterator[None]:
        """Save what was learned when a judge or a function of somebody's fails."""
        try:
            yield
        except KamertonError:
            self.counters = replace(self.counters, failed=True)
            self.save()
            self.sink(
                Notice(
                    f"the state after step {self.counters.step} is saved: the same command goes on "
                    "from there, also once a reward is mended"
                )
            )
            raise

    def _fitting(self, compute: Callable[[], _Result], lengths: Sequence[int]) -> _Result:
        """Compute something; shrink the rows and try again when memory runs out."""
        while True:
            try:
                return compute()
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                self._shrink(lengths, error)

    def _gradient(self, batch: _Batch, update: int) -> tuple[float, dict[str, float]]:
        """Add up the gradient of the effective batch, row by row."""
        task, place = self.task, (self.counters.step, *((update,) if update else ()))
        self.optimiser.zero_grad(set_to_none=True)
        torch.manual_seed(derive_seed(self.settings.seed, "step", *place))

        def seed(row: int) -> None:
            torch.manual_seed(derive_seed(self.settings.seed, "step", *place, row))

        def add(objective: Objective) -> tuple[float, dict[str, float]]:
            return add_gradient(
                objective, task.base, batch.examples, batch.references,
                self.counters.tokens_per_row, seed, batch.experiences, batch.teachings,
            )  # fmt: skip

        # Own answers were drawn without dropout, and are learned as they were drawn.
        task.adapter.train(task.rollouts is None)
        try:
            loss, metrics = add(task.objective)
            if task.rollouts is not None and task.rollouts.critic is not None:
                with task.rollouts.critic.on():
                    more, others = add(task.rollouts.critic.objective)
                loss, metrics = loss + more, {**metrics, **others}
        finally:
            task.adapter.train(False)
        return loss, metrics

    def _guard(self, loss: float, number: int) -> float:
        """Refuse a step that would write NaN or infinity into the weights; clip it otherwise."""
        limit = self.settings.max_grad_norm or float("inf")
        norm = float(torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), limit))
        if not (abs(loss) < float("inf") and norm < float("inf")):
            what = "loss" if not abs(loss) < float("inf") else "gradient"
            places = [str(self.task.train[i].location) for i in self.plan[number][:3]]
            raise NotFiniteError(
                f"the {what} of step {number + 1} is not finite; nothing was written into the "
                f"weights. The step's examples begin with {', '.join(places)}",
                hint="lower train.learning_rate, or compute in float32 (dtype)",
            )
        return norm

    def _shrink(self, lengths: Sequence[int], error: RuntimeError) -> None:
        """Halve the rows; when they cannot get smaller, recompute blocks; else give up.

        `lengths` counts the tokens of the examples that rows are made of.
        """
        self.optimiser.zero_grad(set_to_none=True)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        longest = max(lengths)
        blocks = self.task.base.num_layers
        now = min(self.counters.tokens_per_row, sum(lengths))
        if now > longest:
            smaller = max(longest, now // 2)
            self.counters = replace(self.counters, tokens_per_row=smaller)
            message = f"out of memory: rows of {smaller} tokens from now on"
        elif self.counters.recomputed_blocks < blocks:
            self.counters = replace(self.counters, recomputed_blocks=blocks)
            recompute_blocks(self.task.base, blocks)
            message = "out of memory: recomputing all blocks from now on"
        else:
            raise TrainingError(
                f"out of memory with one example of {longest} tokens in a row",
                hint="lower render.max_tokens, or take a smaller base"
                if self.task.rollouts is None
                else "lower objective.max_tokens or objective.num_generations, "
                "or take a smaller base",
            ) from error
        self.sink(Notice(f"{message}; the effective batch stays the same", "warning"))

    def _measure(self) -> None:
        """Held-out loss, mean over the objective's units."""
        try:
            with (
                self._kept_if_it_fails(),
                stoppable(self.task.base, self.should_stop),
                watched_holdout(self.task, self.sink),
            ):
                loss, metrics = self.task.measure(self.counters.tokens_per_row)
        except StopRequested:
            # A run that goes on from here measures first.
            self.save()
            raise self._stopped() from None
        self.metrics[self.counters.step] = metrics
        self.counters = replace(self.counters, last_loss=loss, measured=self.counters.step)
        better = loss < self.counters.best_loss
        if better:
            self.counters = replace(
                self.counters, best_loss=loss, best_step=self.counters.step, since_best=0
            )
            if self._keeps_best():
                self.best.save(self.counters.step, self.parameters)
                self.best.keep_only({self.counters.step, self.saved_best})
        else:
            self.counters = replace(self.counters, since_best=self.counters.since_best + 1)
        self.sink(HoldoutMeasured(self.counters.step, loss, better, metrics))

    def save(self) -> None:
        """Write a checkpoint."""
        names: dict[Tensor, str] = {p: name for name, p in self.parameters.items()}
        checkpoint = Checkpoint(
            identity=self.task.identity,
            counters=self.counters,
            adapter={name: p.detach() for name, p in self.parameters.items()},
            optimiser=optimiser_tensors(self.optimiser, names),
        )
        save_checkpoint(self.path, checkpoint)
        self.saved_best = self.counters.best_step
        self.best.keep_only({self.saved_best})
        self.sink(CheckpointSaved(self.counters.step, self.path))

    def _outcome(self, reason: str) -> Outcome:
        counters = self.counters
        # The last step is always measured, so the latest loss is that of the last weights.
        kept, loss = counters.step, counters.last_loss if self.task.holdout else None
        if self._keeps_best():
            self.best.load(counters.best_step, self.parameters)
            kept, loss = counters.best_step, counters.best_loss
        metrics = {} if loss is None else {"holdout_loss": loss}
        self.sink(RunFinished(self.task.name, counters.step, reason, metrics))
        measured = self.metrics.get(kept)
        return Outcome(counters.step, kept, loss, reason, counters.seconds, measured)
