"""Advice after a run, by its own curves: pure rules over numbers that the run wrote down.

Every rule needs a change that is larger than what chance makes of so few held-out examples, so a
noisy curve without a trend gives no advice. The margins are rules of thumb.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance

from kamerton.advisor.suggestion import Suggestion
from kamerton.core.language import translated, translated_count

__all__ = ["FORGOTTEN", "RunCurves", "TrainCommand", "advise_after_training", "shown_rate"]

TrainCommand = Callable[[Mapping[str, object]], str]
"""Gives the command that trains anew, with settings by key."""

_FEWEST_HELD = 5
_ENOUGH_HELD = 20
_MARGIN = 0.03
_LEAST_CHANGE = 0.005
_DIVERGED = 1.5
_SURE = 2.5
_FEWEST_STEPS = 20

FORGOTTEN = 1.0
"""Rise of the loss on general text, in nats a token, that is much."""


@dataclass(frozen=True, slots=True)
class RunCurves:
    """What a run wrote down.

    Attributes:
        losses: Training loss of every step, from the first on.
        held_out: Steps done and held-out loss of every measurement, in order.
        num_held_out: Held-out examples.
        epochs: Passes over the examples, as the settings say.
        max_steps: Limit on steps, as the settings say; 0 where the epochs decide.
        rate: Peak learning rate.
        keeps_best: Whether the weights with the best held-out loss were kept.
        loss_of_base: Held-out loss of the base alone; None where it was not measured.
        general_loss: Loss of the variant on general text; None where it was not measured.
        general_loss_of_base: The same of the base alone.
        scores_labels: Whether the task is to choose a label.
        is_relative: Whether the loss falls the further answers move from their start, as that of
            DPO does: then one that still falls is no reason to go on.
        is_minimised: Whether the loss says how good the model is; not so where it learns from its
            own answers.
    """

    losses: Sequence[float]
    held_out: Sequence[tuple[int, float]]
    num_held_out: int
    epochs: int
    max_steps: int
    rate: float
    keeps_best: bool = True
    loss_of_base: float | None = None
    general_loss: float | None = None
    general_loss_of_base: float | None = None
    scores_labels: bool = False
    is_relative: bool = False
    is_minimised: bool = True

    @property
    def margin(self) -> float:
        """Relative change of the held-out loss that is more than chance makes of it."""
        few = _ENOUGH_HELD / max(1, self.num_held_out)
        return _MARGIN * max(1.0, math.sqrt(few))

    @property
    def num_steps(self) -> int:
        """Steps done."""
        return len(self.losses)


def advise_after_training(run: RunCurves, command: TrainCommand) -> list[Suggestion]:
    """Advise what to change, the most pressing first.

    Args:
        run: The curves of a finished run.
        command: Gives the command that trains anew with other settings.

    Returns:
        At most three suggestions; none where the curves ask for nothing.
    """
    if not run.is_minimised or not run.losses:
        return _forgot(run, command)
    if broken := _diverged(run, command) or _no_better_than_base(run, command):
        return broken
    found = _forgot(run, command)
    if run.held_out and run.num_held_out < _FEWEST_HELD:
        return [*found, _few_held(run, command)]
    turned = _turned(run, command)
    # Who is told to make fewer steps is not told to make more.
    return [*found, *(turned or ([] if found else _still_falling(run, command)))]


def shown_rate(rate: float) -> str:
    """Write a learning rate with two digits.

    Args:
        rate: The rate.

    Returns:
        Such as `0.0013`.
    """
    return f"{float(f'{rate:.1e}'):g}"


def _diverged(run: RunCurves, command: TrainCommand) -> list[Suggestion]:
    """The loss ends above where it began: the rate is too high."""
    few = max(1, run.num_steps // 5)
    began, ends = fmean(run.losses[:few]), fmean(run.losses[-few:])
    if run.num_steps < 2 or began <= 0 or ends < _DIVERGED * began:
        return []
    lower = shown_rate(run.rate / 10)
    text = translated(
        "the training loss rose from {began:.2f} to {ends:.2f}: the learning rate {rate} is too "
        "high, take a tenth of it",
        began=began, ends=ends, rate=shown_rate(run.rate),
    )  # fmt: skip
    return [Suggestion(text, f"{command({'train.learning_rate': lower})} --try")]


def _no_better_than_base(run: RunCurves, command: TrainCommand) -> list[Suggestion]:
    """On held-out examples nothing was won at all."""
    base, best = run.loss_of_base, min((loss for _, loss in run.held_out), default=0.0)
    if base is None or base <= 0 or not run.held_out or best < base * (1 - _MARGIN):
        return []
    third = run.num_steps // 3
    learns, fell = _falls([*run.losses[:third], *run.losses[run.num_steps - third :]])
    if best > base * (1 + run.margin) or (learns and fell > 0.2):
        text = translated(
            "on held-out examples the variant is no better than the base (loss {best:.2f}, base "
            "{base:.2f}), though it learned its own examples: try a smaller rate, and look at the "
            "examples, which may have nothing in common",
            best=best, base=base,
        )  # fmt: skip
        return [Suggestion(text, command({"train.learning_rate": shown_rate(run.rate / 3)}))]
    text = translated(
        "the variant hardly learned anything (held-out loss {best:.2f}, base {base:.2f}): take "
        "three times the learning rate, or more epochs",
        best=best, base=base,
    )  # fmt: skip
    higher = shown_rate(run.rate * 3)
    return [Suggestion(text, f"{command({'train.learning_rate': higher})} --try")]


def _forgot(run: RunCurves, command: TrainCommand) -> list[Suggestion]:
    """General text became much less probable."""
    before, after = run.general_loss_of_base, run.general_loss
    if before is None or after is None or after - before < FORGOTTEN:
        return []
    values = {"before": before, "after": after, "rate": shown_rate(run.rate / 3)}
    if run.scores_labels:
        text = translated(
            "it forgot much of its general language (loss {before:.2f} to {after:.2f}). While it "
            "only chooses among labels that does no harm; if it is to write as well, take a "
            "smaller rate, {rate}",
            **values,
        )
    else:
        text = translated(
            "it forgot much of its general language (loss {before:.2f} to {after:.2f}): take a "
            "smaller rate, {rate}",
            **values,
        )
    return [Suggestion(text, command({"train.learning_rate": values["rate"]}))]


def _few_held(run: RunCurves, command: TrainCommand) -> Suggestion:
    text = translated(
        "{examples} cannot say when to stop: hold out a fifth, or add examples",
        examples=translated_count(run.num_held_out, "held-out example"),
    )
    return Suggestion(text, command({"data.holdout": 0.2}))


def _turned(run: RunCurves, command: TrainCommand) -> list[Suggestion]:
    """The held-out loss rose again before the end."""
    if len(run.held_out) < 2:
        return []
    best_step, best = min(run.held_out, key=lambda one: one[1])
    last_step, last = run.held_out[-1]
    later = [loss for step, loss in run.held_out if step > best_step]
    # The best of several is low by chance, too: the last alone may only be back where it was.
    if not later or not _is_more(best, min(last, fmean(later)), run.margin):
        return []
    values = {"best_step": best_step, "last_step": last_step, "best": best, "last": last}
    kept = {} if run.keeps_best else {"train.keep": "best"}
    shorter: dict[str, object]
    if best_step == run.held_out[0][0]:
        rate = shown_rate(run.rate / 3)
        text = translated(
            "the held-out loss rose from the first measurement on (step {best_step}: {best:.2f}, "
            "step {last_step}: {last:.2f}): it learns its examples by heart. More examples help "
            "most; a smaller rate, {rate}, may help a little",
            **values, rate=rate,
        )  # fmt: skip
        shorter = {"train.learning_rate": rate}
    elif run.max_steps:
        text = translated(
            "the held-out loss turned at step {best_step} of {last_step} ({best:.2f}, at the end "
            "{last:.2f}): take fewer steps",
            **values,
        )
        shorter = {"train.max_steps": best_step}
    else:
        text = translated(
            "the held-out loss turned at step {best_step} of {last_step} ({best:.2f}, at the end "
            "{last:.2f}): take fewer epochs",
            **values,
        )
        share = best_step / last_step
        shorter = {"train.epochs": min(run.epochs - 1, max(1, round(run.epochs * share)))}
        if run.epochs == 1:
            shorter = {"train.max_steps": best_step}
    return [Suggestion(text, command({**shorter, **kept}))]


def _still_falling(run: RunCurves, command: TrainCommand) -> list[Suggestion]:
    """The loss fell to the end, and there is more to win."""
    if run.is_relative:
        return []
    if run.held_out and len(run.held_out) > 1:
        began, ends = _last_stretch(run)
        falls = _is_more(ends, began, run.margin)
    elif run.epochs == 1:
        # Each example was seen once, so the training loss is as good as a held-out one.
        last = run.losses[run.num_steps * 3 // 5 :]
        falls, _ = _falls(last)
        began, ends = fmean(last[: len(last) // 2] or last), fmean(last[len(last) // 2 :])
    else:
        return []
    if not falls:
        return []
    more = max(1, min(3, run.epochs))
    values = {"began": began, "ends": ends, "rate": shown_rate(2 * run.rate)}
    if run.max_steps:
        text = translated(
            "the loss was still falling at the end ({began:.2f} to {ends:.2f}): take twice as many "
            "steps, or a rate of {rate}",
            **values,
        )
        longer = {"train.max_steps": 2 * run.max_steps, "train.epochs": 2 * run.epochs}
    else:
        text = translated(
            "the loss was still falling at the end ({began:.2f} to {ends:.2f}): take {more}, or a "
            "rate of {rate}",
            **values, more=translated_count(more, "more epoch", "more epochs"),
        )  # fmt: skip
        longer = {"train.epochs": run.epochs + more}
    return [Suggestion(text, command(longer))]


def _last_stretch(run: RunCurves) -> tuple[float, float]:
    """Give the held-out loss an epoch before the end, and at the end where it fell all the way."""
    last_step, ends = run.held_out[-1]
    stretch = run.num_steps / max(2, run.epochs)
    earlier = [loss for step, loss in run.held_out if step <= last_step - 0.9 * stretch]
    after = [loss for step, loss in run.held_out if step > last_step - 0.9 * stretch]
    if not earlier or min(loss for _, loss in run.held_out) < ends or after[0] < ends:
        return ends, ends
    return earlier[-1], ends


def _is_more(smaller: float, larger: float, margin: float) -> bool:
    return smaller >= 0 and larger - smaller > max(_LEAST_CHANGE, margin * smaller)


def _falls(losses: Sequence[float]) -> tuple[bool, float]:
    """Tell whether losses fall from their first half to their second by more than chance.

    Args:
        losses: Training losses by step.

    Returns:
        Whether they do, and by what share.
    """
    half = len(losses) // 2
    first, second = losses[:half], losses[half:]
    if half < _FEWEST_STEPS // 4 or fmean(first) <= 0:
        return False, 0.0
    fell = fmean(first) - fmean(second)
    error = math.sqrt(variance(first) / len(first) + variance(second) / len(second))
    share = fell / fmean(first)
    return fell > _SURE * error and share > _MARGIN, share
