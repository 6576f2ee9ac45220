"""Asking all candidates: in turn, so that what else the machine does costs none of them more."""

import dataclasses
import time
from collections.abc import Callable, Sequence

from kamerton.core.durations import duration_text
from kamerton.core.events import Notice, Progress, Sink, under_way
from kamerton.core.language import translated, translated_number
from kamerton.evaluation.items import Answers, Item, ReadCalls
from kamerton.evaluation.settings import EvaluationSettings
from kamerton.flows.candidates import Asked, Candidate
from kamerton.models.base import Base

__all__ = ["ask_in_turn", "rounds_of"]

_ROUNDS = ((80, 5), (12, 3), (0, 1))
"""From so many items on so many rounds: an odd number, as their median is reported, and few
enough that a round's items fill a batch."""
_LABELS_PER_BATCH = 1024
_WORTH_SAYING_S = 60


def rounds_of(num_items: int, num_labels: int) -> list[list[list[int]]]:
    """Divide items into rounds of like mixture, and rounds into batches.

    Args:
        num_items: The number of items.
        num_labels: The number of labels to score for each; 0 where answers are written.

    Returns:
        The batches of positions of each round, in order; each position stands in one of them.
    """
    num = next(rounds for least, rounds in _ROUNDS if num_items >= least)
    size = max(1, _LABELS_PER_BATCH // num_labels) if num_labels else num_items
    rounds = [list(range(first, num_items, num)) for first in range(num)]
    return [
        [positions[at : at + size] for at in range(0, len(positions), size)] for positions in rounds
    ]


def ask_in_turn(
    base: Base,
    candidates: Sequence[Candidate],
    items: Sequence[Item],
    asked: Sequence[Sequence[Asked]],
    settings: EvaluationSettings,
    sink: Sink,
    *,
    read_calls: ReadCalls | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> list[Answers]:
    """Let every candidate answer a part of the items, then every one the next part, and so on.

    Args:
        base: The base without an adapter.
        candidates: The candidates to ask.
        items: The questions.
        asked: The questions of each candidate.
        settings: The evaluation's settings.
        sink: Receives progress, and after the first batch how long it will take.
        read_calls: Reads calls in answers, where questions have to do with tools.
        clock: Gives seconds.

    Returns:
        The answers of each candidate to all items, and their cost.
    """
    num_labels = len(items[0].labels)
    parts: list[list[tuple[list[int], Answers]]] = [[] for _ in candidates]
    whole: list[Answers] = []
    forecast = _Forecast(len(items) * len(candidates), sink, clock)
    rounds = rounds_of(len(items), num_labels)
    for batches in rounds:
        for number, (one, own) in enumerate(zip(candidates, asked, strict=True)):
            done = sum(len(positions) for positions, _ in parts[number])
            with one.attached(base) as engine:
                for positions in batches:

                    def report(new: int, _of: int, one: Candidate = one, done: int = done) -> None:
                        sink(
                            Progress(
                                translated("asking {name}", name=one.name),
                                done + new,
                                len(items),
                                translated("questions"),
                            )
                        )

                    report(0, 0)
                    chosen = [items[position] for position in positions]
                    how = [own[position] for position in positions]
                    answers = one.answer(engine, chosen, how, settings, report, read_calls)
                    parts[number].append((positions, answers))
                    done += len(positions)
                    forecast.did(len(positions), num_labels)
                if batches is rounds[-1]:
                    with under_way(translated("measuring {name}", name=one.name), sink):
                        answers = _joined(parts[number], len(items))
                        whole.append(one.with_losses(base, answers, own))
    return whole


class _Forecast:
    """Says after the first batch how long all will take, where that is long."""

    def __init__(self, num: int, sink: Sink, clock: Callable[[], float]) -> None:
        self._num, self._sink, self._clock = num, sink, clock
        self._began, self._said = clock(), False

    def did(self, num: int, num_labels: int) -> None:
        if self._said:
            return
        self._said = True
        seconds = (self._clock() - self._began) / num * self._num
        if seconds >= _WORTH_SAYING_S:
            labels = ""
            if num_labels > 2:
                number = translated_number(f"{num_labels:,}")
                labels = translated(", {number} labels to score for each", number=number)
            told = translated(
                "{number} questions to ask in all{labels}: about {time}",
                number=translated_number(f"{self._num:,}"),
                labels=labels,
                time=duration_text(seconds),
            )
            self._sink(Notice(translated("{told}; evaluate.limit asks fewer", told=told)))


def _joined(parts: Sequence[tuple[list[int], Answers]], num: int) -> Answers:
    """Put the answers to parts of the items together, in the order of the items."""
    _, whole = parts[-1]
    changed: dict[str, tuple[object, ...]] = {}
    for field in dataclasses.fields(Answers):
        if not isinstance(getattr(whole, field.name), tuple):
            continue
        values: dict[int, object] = {}
        for positions, answers in parts:
            values |= dict(zip(positions, getattr(answers, field.name), strict=False))
        changed[field.name] = tuple(
            values[position] for position in range(num) if position in values
        )
    return dataclasses.replace(whole, **changed)  # type: ignore[arg-type]
