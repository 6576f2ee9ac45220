"""How far a measurement is: its forward passes are counted from outside."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from kamerton.core.events import Progress, Sink
from kamerton.core.language import translated
from kamerton.data.rendering.tokenized import num_tokens
from kamerton.models.base import Base
from kamerton.training.task import Task

__all__ = ["watched", "watched_holdout"]


@contextmanager
def watched(base: Base, task: str, num_tokens: int | None, sink: Sink) -> Iterator[None]:
    """Tell before each forward pass how many tokens were read.

    Args:
        base: The base whose passes are counted.
        task: What is done, as a participle.
        num_tokens: Tokens to read; None where that is not known, as the model writes some itself.
        sink: Receives the progress.

    Yields:
        Nothing.
    """
    done = 0

    def tell(_module: Any, _args: Any, inputs: dict[str, Any]) -> None:
        nonlocal done
        # The end is told once, after the last pass.
        shown = done if num_tokens is None else min(done, num_tokens - 1)
        sink(Progress(task, shown, num_tokens, "tokens"))
        if (ids := inputs.get("input_ids")) is not None:
            done += ids.numel()
        elif (rows := inputs.get("inputs_embeds")) is not None:
            done += rows.shape[:-1].numel()

    sink(Progress(task, 0, num_tokens, "tokens"))
    hook = base.backbone.register_forward_pre_hook(tell, with_kwargs=True)
    try:
        yield
    finally:
        hook.remove()
        sink(Progress(task, num_tokens or 1, num_tokens or 1, "tokens"))


def watched_holdout(task: Task, sink: Sink) -> AbstractContextManager[None]:
    """Tell how far a measurement on the holdout is.

    Args:
        task: The task that is measured.
        sink: Receives the progress.

    Returns:
        What runs around the measurement.
    """
    # Where the model answers first, nobody knows how many tokens it will write.
    total = None if task.rollouts is not None else sum(map(num_tokens, task.holdout))
    return watched(task.base, translated("measuring on held-out examples"), total, sink)
