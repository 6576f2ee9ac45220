"""What people see while something runs: notices, progress bars and the training line.

No console here reads rich's markup or emoji codes: file names, users and models write `[billing]`
and `:warning:` and mean it.
"""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console, RenderableType
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)

from kamerton.cli.progress_lines import ProgressLines, pulse
from kamerton.core.durations import duration_text
from kamerton.core.events import (
    CheckpointSaved,
    Event,
    Forecast,
    HoldoutMeasured,
    Notice,
    RunFinished,
    RunStarted,
    Sink,
    StepDone,
)
from kamerton.core.events import Progress as ProgressEvent
from kamerton.core.language import translated, translated_count

__all__ = [
    "busy",
    "data_console",
    "harmless",
    "messages",
    "print_table",
    "progress_sink",
    "say_notice",
]

# Control characters but tab and line feed, and those that turn the direction of writing around.
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
_WIDEST = 100_000

messages = Console(stderr=True, highlight=False, markup=False, emoji=False)
"""Where messages go; data goes to stdout."""


def data_console() -> Console:
    """Make a console for stdout that prints every text as it is.

    Returns:
        The console; without colours where stdout is no terminal or NO_COLOR is set.
    """
    return Console(highlight=False, markup=False, emoji=False)


def harmless(text: str) -> str:
    """Take from a text what a terminal would obey: data and models may hold escape codes.

    Args:
        text: Text that a user, a file or a model wrote.

    Returns:
        The text with control characters written out, such as `\\x1b`.
    """
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


def print_table(out: Console, table: RenderableType) -> None:
    """Print a table; where stdout is no terminal, as wide as it needs to be.

    Args:
        out: Where.
        table: One table or several.
    """
    before = out.width
    if not out.is_terminal:
        options = out.options.update(max_width=_WIDEST)
        out.width = max(before, Measurement.get(out, options, table).maximum)
    out.print(table)
    out.width = before


def say_notice(event: Event) -> None:
    """Print a notice as a line; other events are not shown.

    Args:
        event: An event of a flow that needs no progress bars.
    """
    if isinstance(event, Notice):
        _print_notice(messages, event)


def _print_notice(out: Console, notice: Notice) -> None:
    style = "yellow" if notice.level == "warning" else "dim"
    level = translated("warning") if notice.level == "warning" else translated("info")
    out.print(f"{level}: {harmless(notice.message)}", style=style, soft_wrap=True)


@contextmanager
def busy(doing: str) -> Iterator[None]:
    """Show that something runs whose progress cannot be measured, such as loading PyTorch.

    Args:
        doing: What, as a participle.

    Yields:
        Nothing.
    """
    if messages.is_terminal:
        with messages.status(doing):
            yield
        return
    lines = ProgressLines(_say)
    lines.moved(doing, None, "")
    with pulse(lines.beat):
        yield


@contextmanager
def progress_sink() -> Iterator[Sink]:
    """Show progress bars and notices for the events of a flow.

    Something moves all the time: where no event names a task, a bar without an end does. Where
    there is no terminal, a line every 10 s says how far it is.

    Yields:
        The sink; when the bars are gone it prints lines only.
    """
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        TextColumn("{task.fields[count]}", markup=False),
        TextColumn("{task.fields[note]}", markup=False),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}", markup=False),
    )
    # In a log a bar would be a heap of lines: there each task is named once, and lines follow.
    live = messages.is_terminal
    with Progress(*columns, console=messages, transient=True, disable=not live) as bars:
        shown = _Bars(bars, announce=not live)
        if live:
            yield shown
            return
        with pulse(shown.lines.beat):
            yield shown


def _say(line: str) -> None:
    messages.print(harmless(line), style="dim", soft_wrap=True)


_FORECAST_FROM_S = 10.0
_SHOWN = (
    "accuracy",
    "reward_accuracy",
    "preference_accuracy",
    "liked_above_disliked",
    "confidence",
    "brier",
    "margin",
    "reward",
    "kl",
    "distance",
)
"""Parts of a held-out loss that are printed; the others are in the events."""


class _Bars:
    """Turns events into bars and lines."""

    def __init__(
        self, bars: Progress, *, announce: bool, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bars = bars
        self._announce = announce
        self._announced: set[str] = set()
        self._tasks: dict[str, TaskID] = {}
        self._num_steps, self._training = 0, translated("training")
        self.lines = ProgressLines(self._print if announce else lambda line: None, clock)
        self._idle = bars.add_task(translated("working"), total=None, note="", count="", left="")

    def __call__(self, event: Event) -> None:
        match event:
            case Notice():
                _print_notice(self._bars.console, event)
            case Forecast():
                # A few seconds need no forecast.
                if event.seconds >= _FORECAST_FROM_S:
                    self._say_forecast(event)
            case ProgressEvent():
                self._show(event.task, event.done, event.total, event.unit, event.share)
            case RunStarted():
                self._say_start(event)
            case StepDone():
                rate = event.num_tokens / max(event.seconds, 1e-9)
                # The loss of what the model writes itself says nothing: the reward does.
                told = {"loss": event.loss, **event.metrics}
                first = "reward" if "reward" in told else "loss"
                note = f"{first} {told[first]:.3f}  {rate:,.0f} tokens/s"
                self._show(self._training, event.step, event.num_steps, note, event.share)
            case HoldoutMeasured():
                mark = "  " + translated("best so far") if event.best else ""
                shown = "".join(
                    f", {name.replace('_', ' ')} {event.metrics[name]:.3f}"
                    for name in _SHOWN
                    if name in event.metrics
                )
                told_loss = translated(
                    "step {step}: held-out loss {loss:.4f}", step=event.step, loss=event.loss
                )
                self._print(f"{told_loss}{shown}{mark}")
            case RunFinished():
                self._hide(self._training)
            case CheckpointSaved() | _:
                pass

    def _print(self, line: str) -> None:
        self._bars.console.print(harmless(line), style="dim", soft_wrap=True)

    def _say_forecast(self, event: Forecast) -> None:
        steps = translated_count(self._num_steps - event.step, "step")
        self._print(
            translated(
                "about {time} for {steps} to come and what follows them; memory about {memory} GiB",
                time=duration_text(event.seconds),
                steps=steps,
                memory=f"{event.peak_bytes / 2**30:.1f}",
            )
        )

    def _say_start(self, event: RunStarted) -> None:
        self._num_steps = event.num_steps
        self._show(self._training, event.first_step, event.num_steps, "")
        if 0 < event.first_step < event.num_steps:
            going_on = translated("going on after step {step}", step=event.first_step)
            self._bars.console.print(going_on, style="dim")
        facts = event.facts
        if "trainable" in facts:
            learned = (
                translated(", {tokens:,} learned", tokens=facts["labelled"])
                if "labelled" in facts
                else translated(" at most")
            )
            self._print(
                translated(
                    "{trainable:,} trainable parameters ({share:.2f} % of the base), {dtype}; "
                    "{tokens:,} tokens an epoch{learned}; activations about {activations:,.0f} MiB "
                    "a row, gradients and optimiser {optimiser:,.0f} MiB",
                    trainable=facts["trainable"],
                    share=100 * facts["share"],
                    dtype=facts["dtype"],
                    tokens=facts["tokens"],
                    learned=learned,
                    activations=facts["activation_bytes_per_row"] / 2**20,
                    optimiser=facts["optimiser_bytes"] / 2**20,
                )
            )

    def _show(
        self, name: str, done: float, total: float | None, note: str, share: float | None = None
    ) -> None:
        if name not in self._tasks:
            if self._announce and name not in self._announced:
                self._announced.add(name)
                self._print(name)
                self.lines.heard()
            self._tasks[name] = self._bars.add_task(name, total=1, note="", count="", left="")
            self._bars.update(self._idle, visible=False)
        if total is not None and done >= total:
            self._hide(name)
            return
        count, unit = _count(done, total, note)
        if share is None and total:
            share = done / total
        self.lines.moved(name, share, self._in_words(name, done, total, note))
        self._bars.update(
            self._tasks[name], completed=share or 0, total=total and 1, note=unit, count=count,
            left=self.lines.left(name),
        )  # fmt: skip

    def _hide(self, name: str) -> None:
        self.lines.ended(name)
        if name in self._tasks:
            self._bars.remove_task(self._tasks.pop(name))
        self._bars.update(self._idle, visible=not self._tasks)

    def _in_words(self, name: str, done: float, total: float | None, note: str) -> str:
        """Write how much is done of how much, for a line."""
        count, unit = _count(done, total, note)
        if total is None:
            return f"{count} {unit}".strip() if count else ""
        done_of, of = count.split("/")
        count = translated("{done} of {total}", done=done_of, total=of)
        if name == self._training:
            count = translated("step {count}", count=count)
        # A rate is a part of its own, a unit belongs to the count.
        apart = ", " if " " in unit else " "
        return f"{count}{apart}{unit.replace('  ', ', ')}".rstrip(", ")


def _count(done: float, total: float | None, unit: str) -> tuple[str, str]:
    """Write how much is done, and the unit; bytes become MiB."""
    if total is None:
        return f"{int(done):,}" if done else "", unit
    if unit == "bytes":
        return f"{done / 2**20:,.0f}/{total / 2**20:,.0f}", "MiB"
    return f"{int(done):,}/{int(total):,}", unit
