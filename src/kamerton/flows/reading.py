"""Plain texts have no question to ask: each variant reads them, and the base alone beside it."""

import time
from collections.abc import Sequence

from kamerton.core.events import Notice, Progress, Sink
from kamerton.core.language import translated
from kamerton.data.examples import Example, TextExample
from kamerton.evaluation.items import Answers, Item
from kamerton.evaluation.settings import EvaluationSettings
from kamerton.flows.candidates import Asked, Candidate, losses_of
from kamerton.models.base import Base
from kamerton.training.forgetting import measure_general_loss

__all__ = ["BASE_ALONE", "are_plain", "read_in_turn"]

BASE_ALONE = "base alone"
"""Name of the baseline of variants that learned plain texts: there is nothing to prompt with."""


def are_plain(examples: Sequence[Example], settings: EvaluationSettings, sink: Sink) -> bool:
    """Tell whether examples are plain texts, which are read.

    Args:
        examples: What is measured on, of one kind.
        settings: The evaluation's settings.
        sink: Is told of checks that plain texts leave nothing to do for.

    Returns:
        Whether they are.
    """
    if not all(isinstance(example, TextExample) for example in examples):
        return False
    if settings.checks:
        told = "plain texts are read and nothing is asked: evaluate.checks are not measured"
        sink(Notice(told, "warning"))
    return True


def read_in_turn(
    base: Base,
    candidates: Sequence[Candidate],
    items: Sequence[Item],
    asked: Sequence[Sequence[Asked]],
    sink: Sink,
) -> list[Answers]:
    """Let every candidate read all texts.

    Args:
        base: The base without an adapter.
        candidates: The base alone and the variants.
        items: The texts.
        asked: The same as each candidate reads them.
        sink: Receives progress.

    Returns:
        Of each candidate its losses; in the place of an answer stands the loss in words.
    """
    found = []
    for one, own in zip(candidates, asked, strict=True):
        sink(
            Progress(translated("{name} reads", name=one.name), 0, len(items), translated("texts"))
        )
        with one.attached(base):
            began = time.perf_counter()
            losses, counts = losses_of(base, own)
            seconds = (time.perf_counter() - began) / len(items)
            general_loss = measure_general_loss(base, one.renderer)
        sink(
            Progress(
                translated("{name} reads", name=one.name),
                len(items),
                len(items),
                translated("texts"),
            )
        )
        found.append(
            Answers(
                variant=one.name,
                kind="read",
                texts=tuple(
                    f"{loss / num:.2f} nats a token"
                    for loss, num in zip(losses, counts, strict=True)
                ),
                seconds=(seconds,) * len(items),
                num_tokens=tuple(counts),
                finish_reasons=("stop",) * len(items),
                item_ids=tuple(item.id for item in items),
                holdout_loss=sum(losses) / sum(counts),
                holdout_tokens=sum(counts),
                losses=tuple(losses),
                loss_tokens=tuple(counts),
                general_loss=general_loss,
            )
        )
    return found
