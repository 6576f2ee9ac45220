"""Asking in turn: every item once, in its place, whatever the rounds."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from typing import Any

import numpy as np
import pytest

from kamerton.core.events import Event, Notice
from kamerton.core.protocols import Engine, ToolCall
from kamerton.evaluation.comparison import compare
from kamerton.evaluation.items import Answers, Item, ReadCalls, run_items
from kamerton.flows.asking import ask_in_turn, rounds_of
from kamerton.testing import FakeEngine
from tests.unit.evaluation.compared import SETTINGS, labelled, spoken


@dataclass
class Fake:
    """A candidate that notes what it is asked in which turn."""

    name: str
    turns: list[str]
    seconds: Iterator[float]

    @contextmanager
    def attached(self, _base: Any) -> Iterator[Engine]:
        self.turns.append(self.name)
        yield FakeEngine(lambda chat: f"{chat[-1]['content']} by {self.name}")

    def answer(
        self, engine: Engine, items: Any, _asked: Any, settings: Any, report: Any, read_calls: Any
    ) -> Answers:
        answers = run_items(engine, self.name, items, settings, report, read_calls)
        return replace(answers, seconds=(next(self.seconds),) * len(items))

    def with_losses(self, _base: Any, answers: Answers, asked: Any) -> Answers:
        return replace(answers, holdout_loss=float(len(asked)), holdout_tokens=7)


def ask(
    items: list[Item],
    seconds: list[float] | None = None,
    tick: float = 0.0,
    read_calls: ReadCalls | None = None,
) -> tuple[list[Answers], list[str], list[Event]]:
    turns: list[str] = []
    events: list[Event] = []
    fakes: Any = [Fake(name, turns, iter(seconds or [1.0] * 99)) for name in "ab"]
    how: Any = [items, items]
    base: Any = None
    clock = (tick * number for number in count())
    answers = ask_in_turn(
        base,
        fakes,
        items,
        how,
        SETTINGS,
        events.append,
        read_calls=read_calls,
        clock=clock.__next__,
    )
    return answers, turns, events


@pytest.mark.parametrize("num", [1, 11, 12, 80, 300])
@pytest.mark.parametrize("labels", [0, 3, 5000])
def test_each_place_is_in_one_batch_and_rounds_are_alike(num: int, labels: int) -> None:
    rounds = rounds_of(num, labels)
    assert len(rounds) == (5 if num >= 80 else 3 if num >= 12 else 1)
    assert sorted(p for batches in rounds for places in batches for p in places) == list(range(num))
    sizes = [sum(map(len, batches)) for batches in rounds]
    assert max(sizes) - min(sizes) <= 1
    if labels == 5000:
        assert all(len(places) == 1 for batches in rounds for places in batches)


@pytest.mark.parametrize("items", [spoken(17), labelled(90)], ids=["written", "scored"])
def test_answers_are_those_of_asking_all_at_once(items: list[Item]) -> None:
    (first, second), turns, _ = ask(items)
    engine = FakeEngine(lambda chat: f"{chat[-1]['content']} by a")
    whole = run_items(engine, "a", items, SETTINGS)
    same = ("variant", "kind", "texts", "num_tokens", "finish_reasons", "item_ids")
    assert [getattr(first, name) for name in same] == [getattr(whole, name) for name in same]
    assert turns == ["a", "b"] * (3 if len(items) == 17 else 5)
    # The losses are measured once, on all items.
    assert (first.holdout_loss, second.holdout_loss) == (len(items), len(items))
    assert compare(items, [first, second], SETTINGS, against=["a"]).num_items == len(items)


def test_calls_are_read_in_every_round_and_stay_beside_their_texts() -> None:
    (first, _), _, _ = ask(spoken(17), read_calls=lambda text: (ToolCall(text, "{}"),))
    assert [call.name for (call,) in first.calls] == list(first.texts)


def test_gaps_and_worths_of_pairs_keep_their_places() -> None:
    items = [
        replace(item, labels=("worse", f"{item.chat[-1]['content']} by a"), pair=True)
        for item in labelled(13)
    ]
    (first, second), _, _ = ask(items)
    assert (first.gaps, second.gaps) == ((10.0,) * 13, (0.0,) * 13)
    assert len(first.worths) == 13


def test_another_job_for_a_while_does_not_move_the_cost() -> None:
    (first, _), _, _ = ask(spoken(90), [0.015, 0.193, 0.193, 0.015, 0.015])
    cost = compare(spoken(90), [first], SETTINGS).costs[0]
    assert cost.seconds_median == pytest.approx(0.015)
    assert cost.seconds_mean == pytest.approx(np.mean([0.015, 0.193, 0.193, 0.015, 0.015]))


def test_after_the_first_batch_it_says_how_long_all_will_take() -> None:
    # 1,500 labels: the first batch is one item of 60, asked of two; it takes 5 seconds.
    items = [replace(item, labels=tuple(map(str, range(1500)))) for item in spoken(60)]
    events = ask(items, tick=5.0)[2]
    (notice,) = (event.message for event in events if isinstance(event, Notice))
    assert notice == (
        "120 questions to ask in all, 1,500 labels to score for each: about 10 min; "
        "evaluate.limit asks fewer"
    )
    quick = ask(items, tick=0.1)[2]
    assert not [event for event in quick if isinstance(event, Notice)]
