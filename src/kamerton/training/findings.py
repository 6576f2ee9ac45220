"""Findings about a run: how many examples it has, and what its numbers mean."""

from collections.abc import Mapping
from dataclasses import replace

from kamerton.core.events import Notice, Sink
from kamerton.core.language import translated, translated_count
from kamerton.core.settings import Settings
from kamerton.data.examples import ClassificationExample, FeedbackExample, TextExample
from kamerton.data.identity import whole_text
from kamerton.data.prepared import Prepared
from kamerton.models.base import Base
from kamerton.models.dtype import dtype_name, has_bf16
from kamerton.models.experts import fused_experts
from kamerton.training.task import Outcome, Task
from kamerton.training.watching import watched_holdout

__all__ = [
    "explain",
    "metrics_of",
    "say_counts",
    "say_fused_experts",
    "say_no_base",
    "say_slow_dtype",
]

_FEW_HELD = 20
_LESS_PROBABLE = -1.0
_MOSTLY = 0.9


def say_no_base(base: Settings, sink: Sink) -> None:
    """Warn where a recipe names no base, so that the toy is adapted.

    Args:
        base: The recipe's `base`.
        sink: Receives the warning.
    """
    if "id" not in base.model_fields_set:
        told = (
            "the recipe names no base: builtin:nano is adapted, a toy that is no use for real work"
        )
        sink(Notice(told, "warning"))


def say_counts(examples: Prepared, sink: Sink) -> None:
    """Say how many examples are learned from and measured on, and warn when those are few.

    Args:
        examples: The examples to learn from and to measure on.
        sink: Receives notices.
    """
    held = len(examples.holdout)
    if len(examples.train) == held == 1 and isinstance(examples.holdout[0], TextExample):
        # The end of one text is held out: its length counts, not that it is one example.
        learned, measured = (len(whole_text(one[0])) for one in (examples.train, examples.holdout))
        sink(
            Notice(
                translated(
                    "{learned:,} characters to learn from, {measured:,} held out",
                    learned=learned,
                    measured=measured,
                )
            )
        )
        return
    counts = translated(
        "{examples} to learn from, {held} held out",
        examples=translated_count(len(examples.train), "example"),
        held=held,
    )
    if examples.test:
        counts += translated(", {number} for the test", number=len(examples.test))
    # Nothing is held out on purpose where a test set measures.
    few = [
        translated(
            "fewer than {few} examples of {key} say little: raise it, or give it a file",
            few=_FEW_HELD,
            key=key,
        )
        for number, key in ((held, "data.holdout"), (len(examples.test), "data.test"))
        if number < _FEW_HELD and (number or (key == "data.holdout" and not examples.test))
    ]
    sink(Notice("; ".join([counts, *few]), "warning" if few else "info"))
    verdicts = {e.is_desirable for e in examples.train if isinstance(e, FeedbackExample)}
    if len(verdicts) == 1:
        only = f"all answers are {'liked' if verdicts.pop() else 'disliked'}"
        sink(Notice(translated("{only}: there is nothing to tell apart", only=only), "warning"))
    labels = {e.label for e in examples.train if isinstance(e, ClassificationExample)}
    if len(labels) == 1:
        only = f"all examples have one label, '{labels.pop()}': there is nothing to tell apart"
        sink(Notice(only, "warning"))


def say_slow_dtype(base: Base, sink: Sink) -> None:
    """Warn where 16 bits were asked for on a CPU that can only compute in 32.

    Args:
        base: The base as it was loaded.
        sink: Receives notices.
    """
    if base.device.type == "cpu" and base.dtype.itemsize == 2 and not has_bf16(base.device):
        name = dtype_name(base.dtype)
        sink(
            Notice(
                translated(
                    'base.dtype = "{name}": this CPU has no instructions for it, and '
                    'training is many times slower than in "float32"; if that does not fit, '
                    'add base.quantise = "int8"',
                    name=name,
                ),
                "warning",
            )
        )


def say_fused_experts(base: Base, adapter: Settings, sink: Sink) -> None:
    """Warn where a mixture's experts are left out: they may be nine tenths of the weights.

    Args:
        base: The base as it was loaded.
        adapter: The method's settings.
        sink: Receives notices.
    """
    adapted = "all-linear" in getattr(adapter, "targets", ())
    kind = base.identity.quantise
    if not adapted and kind == "none":
        return
    fused = fused_experts(base.model)
    if fused is None:
        return
    share = (
        f"{100 * fused.share:.0f} % of the base's weights are experts in fused tensors "
        f"({', '.join(fused.names)})"
    )
    rest = f"the other {100 * (1 - fused.share):.0f} %"
    if kind != "none":
        dtype = dtype_name(base.dtype)
        message = f'base.quantise = "{kind}": {share} and stay in {dtype}; it holds for {rest}'
        sink(Notice(message, "warning"))
    if adapted:
        message = (
            f'adapter.targets: {share}, which are no linear layers: "all-linear" means layers '
            f"within {rest}, mostly attention"
        )
        sink(Notice(message, "warning"))


def metrics_of(task: Task, outcome: Outcome, sink: Sink) -> dict[str, float]:
    """Sum training up; the base's own loss on the holdout says what was gained.

    Args:
        task: The task, with the kept weights in its adapter.
        outcome: The outcome of training.
        sink: Receives progress.

    Returns:
        The metrics by name, for the variant's manifest.
    """
    metrics = {"steps": float(outcome.kept_step), "train_seconds": outcome.seconds}
    if outcome.holdout_loss is not None:
        metrics["holdout_loss"] = outcome.holdout_loss
        with watched_holdout(task, sink):
            metrics |= _metrics_before(task)
        measured = outcome.metrics
        if measured is None:
            with watched_holdout(task, sink):
                measured = task.measure()[1]
        metrics |= {f"holdout_{name}": value for name, value in measured.items()}
    return metrics


def _metrics_before(task: Task) -> dict[str, float]:
    """Measure the model that the run began with, where that says what was gained."""
    if task.rollouts is not None:
        with task.rollouts.reference():
            return {"holdout_reward_before": task.measure()[1]["reward"]}
    if task.objective.reads in ("logprobs", "everything"):
        with task.adapter.disabled():
            return {"holdout_loss_base": replace(task, distance=None).measure()[0]}
    return {}


def explain(metrics: Mapping[str, float], sink: Sink) -> None:
    """Say what numbers mean that would alarm, or escape, whoever sees them first.

    Args:
        metrics: The metrics that `metrics_of` gives.
        sink: Receives notices.
    """
    _explain_reward(metrics, sink)
    change = metrics.get("holdout_chosen_change", 0.0)
    if change < _LESS_PROBABLE:
        sink(
            Notice(
                translated(
                    "the better answers became less probable too, by {value:.1f} nats an "
                    "answer: preferences only look at differences, and the worse answers "
                    "fell by {worse:.1f}. To hold the better ones, set objective.nll_weight "
                    "= 0.1 or more, a larger objective.beta, or a smaller rate",
                    value=-change,
                    worse=-metrics["holdout_rejected_change"],
                ),
                "warning",
            )
        )


def _explain_reward(metrics: Mapping[str, float], sink: Sink) -> None:
    """Say how far rewards came, and at what distance."""
    if "holdout_reward" not in metrics:
        return
    sink(
        Notice(
            translated(
                "mean reward of held-out answers: {before:.3f} before, {after:.3f} "
                "now, {distance:.1f} nats an answer away from the reference (an "
                "estimate). Rewards do not say whether answers got better: read some",
                before=metrics["holdout_reward_before"],
                after=metrics["holdout_reward"],
                distance=metrics["holdout_kl"],
            )
        )
    )
    if metrics["holdout_ended"] < _MOSTLY:
        sink(
            Notice(
                translated(
                    "{value:.0f} % of the held-out answers were cut at objective.max_tokens, "
                    "or at the end of the base's context: raise it, or "
                    "objective.missing_eos_penalty",
                    value=100 * (1 - metrics["holdout_ended"]),
                ),
                "warning",
            )
        )
