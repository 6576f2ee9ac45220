"""A sample of a run: a few of its steps, spread over their sizes, and what all will take.

The plan is known before the first step, so the sample is drawn from all of it: the step with the
longest row first, which decides the memory and warms up, then steps whose tokens are spread evenly
over those of the run. What the steps do to the weights is thrown away.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from kamerton.core.events import Sink, under_way
from kamerton.core.language import translated
from kamerton.data.rendering.tokenized import num_tokens
from kamerton.training.forecast import Pace, seconds_left
from kamerton.training.loop import Run
from kamerton.training.plan import MEASURING
from kamerton.training.task import Outcome, Task

__all__ = ["Sampled", "sample", "spread_steps"]

_MOST_STEPS = 16
# Of the time for all, that for steps; measuring takes most of the rest.
_FOR_STEPS, _FOR_MEASURING = 0.7, 0.25


@dataclass(frozen=True, slots=True)
class Sampled:
    """What a run's loop will take, by a sample of it.

    Attributes:
        num_steps: Steps of the run.
        num_measured: Steps that were taken.
        steps_s: Seconds of all steps.
        measuring_s: Seconds of measuring on held-out examples, all times together.
        saving_s: Seconds of writing checkpoints and best weights.
        spent_s: Seconds that the sample took.
    """

    num_steps: int
    num_measured: int
    steps_s: float
    measuring_s: float
    saving_s: float
    spent_s: float

    @property
    def seconds(self) -> float:
        """Seconds of the whole loop, but for its checks."""
        return self.steps_s + self.measuring_s + self.saving_s


def spread_steps(tokens: Sequence[int], rows: Sequence[int]) -> Iterator[int]:
    """Order steps so that the first few stand for all.

    Args:
        tokens: Tokens by step.
        rows: Tokens of the longest row, by step.

    Yields:
        Every step once: that with the longest row, then the median, the quartiles, and so on.
    """
    first = max(range(len(tokens)), key=lambda step: (rows[step], tokens[step]))
    yield first
    ordered = sorted((step for step in range(len(tokens)) if step != first), key=tokens.__getitem__)
    given = set[int]()
    parts = 2
    while len(given) < len(ordered):
        for part in range(1, parts, 2):
            place = part * len(ordered) // parts
            if place not in given:
                given.add(place)
                yield ordered[place]
        parts *= 2
        if parts > 2 * len(ordered):
            yield from (step for place, step in enumerate(ordered) if place not in given)
            return


def sample(
    task: Task, sink: Sink, limit_s: float, clock: Callable[[], float] = time.monotonic
) -> tuple[Outcome, Sampled]:
    """Take a sample of a run.

    Args:
        task: The task; its weights are changed.
        sink: Receives events.
        limit_s: Seconds after which no further step is begun; one is always taken.
        clock: Gives seconds.

    Returns:
        An outcome without a measurement, and what the whole loop will take.

    Raises:
        TrainingError: If the run could not start.
    """
    run = Run(task, sink, lambda: False, clock)
    run.begin()
    began = clock()
    tokens = [sum(map(run.lengths.__getitem__, numbers)) for numbers in run.plan]
    with under_way(translated("taking a few steps"), sink):
        for number in spread_steps(tokens, run.rows):
            if len(run.paces) == _MOST_STEPS:
                break
            if run.paces and clock() - began + run.paces[-1].seconds > _FOR_STEPS * limit_s:
                break
            run.counters = replace(run.counters, step=number)
            run.step()
    steps_s = seconds_left(run.paces, sum(tokens))
    measuring_s = _measuring(run, steps_s / sum(tokens), _FOR_MEASURING * limit_s)
    saving_s = _saving(run, steps_s + measuring_s)
    done = len(run.paces)
    outcome = Outcome(done, done, None, "sampled", sum(pace.seconds for pace in run.paces))
    return outcome, Sampled(len(run.plan), done, steps_s, measuring_s, saving_s, clock() - began)


def _measuring(run: Run, seconds_per_token: float, limit_s: float) -> float:
    """Measure on as many held-out examples as there is time for, the longest first."""
    sizes = [num_tokens(example) for example in run.task.holdout]
    if not sizes:
        return 0.0
    longest, *others = sorted(range(len(sizes)), key=sizes.__getitem__, reverse=True)
    chosen = [longest]
    room = limit_s / (MEASURING * seconds_per_token) - sizes[longest]
    # The longest stands for the memory, and examples of all lengths for the time.
    for place in others[:: max(1, len(sizes) // 64)] if room > 0 else ():
        if sizes[place] > room:
            break
        room -= sizes[place]
        chosen.append(place)
    if len(chosen) > len(sizes) // 2:
        # What is left takes less than what was chosen.
        chosen = list(range(len(sizes)))
    part = run.task.with_holdout(chosen)
    began = run.clock()
    part.measure(run.counters.tokens_per_row)
    pace = Pace(sum(sizes[place] for place in chosen), run.clock() - began)
    tokens = sum(sizes)
    # At the end what the run began with is measured once, without the distance to it.
    return seconds_left([pace], len(run.ends) * tokens) + MEASURING * seconds_per_token * tokens


def _saving(run: Run, seconds: float) -> float:
    """Write a checkpoint and the weights once, and say how often both will be written."""
    began = run.clock()
    run.save()
    checkpoint_s = run.clock() - began
    times = 1 + int(seconds / max(run.settings.checkpoint_every_s, 20 * checkpoint_s, 1.0))
    best_s = 0.0
    if run.ends and run.settings.keep == "best":
        began = run.clock()
        run.best.save(0, run.parameters)
        best_s = run.clock() - began
    return times * checkpoint_s + len(run.ends) * best_s
