"""Prompts that begin alike and come together are read once, and answers stay what they were."""

from functools import partial

import pytest
from torch import Tensor

from kamerton.adapters.adapter_set import AdapterSet
from kamerton.adapters.catalogue import attach
from kamerton.adapters.virtual.prefix import PrefixSettings
from kamerton.core.protocols import Generation
from kamerton.core.requests import AnswerRequest, ServedModel
from kamerton.core.sequences import shared_prefix
from kamerton.inference.continuous_engine import ContinuousEngine, LoadedVariant
from kamerton.inference.following import follow
from kamerton.inference.request_state import RequestState
from kamerton.models.attention.layout import Layout
from kamerton.models.base import Base
from kamerton.prompting.prompt import Prompt
from tests.shapes import tiny_base, tiny_renderer

SYSTEM = tuple(range(20, 70))
PROMPTS = [(*SYSTEM, 5, 6), (*SYSTEM, 7), (*SYSTEM, 7, 8, 9), (*SYSTEM, 5, 6), (11, 12, 13)]
OWN = [52, 1, 3, 1, 3]
"""Tokens of each prompt that no other has read."""


@pytest.fixture(scope="module")
def loaded() -> tuple[Base, list[LoadedVariant]]:
    base = tiny_base("llama")
    prefix = PrefixSettings(num_virtual_tokens=3, init="random")
    number = AdapterSet(base, fixed=True).add(partial(attach, base, prefix, seed=0))
    return base, [
        LoadedVariant(ServedModel(name, "", name, ""), tiny_renderer(base), Prompt(), adapter)
        for name, adapter in (("base", -1), ("prefix", number))
    ]


@pytest.fixture
def rows(loaded, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Sizes of the rows that are computed."""
    base, sizes = loaded[0], []
    hidden = base.hidden

    def listening(ids: Tensor, layout: Layout) -> Tensor:
        sizes.append(len(ids))
        return hidden(ids, layout)

    monkeypatch.setattr(base, "hidden", listening)
    return sizes


def engine_of(loaded, rows: list[int], **settings: int) -> ContinuousEngine:
    engine = ContinuousEngine(*loaded, beginnings_mib=0, **settings)
    # It lets one request run alone before it knows what a token takes.
    ask(engine, [("base", (11,))])
    finish(engine)
    rows.clear()
    return engine


def ask(engine: ContinuousEngine, asked: list[tuple[str, tuple[int, ...]]], **how: int) -> None:
    for index, (name, prompt) in enumerate(asked):
        generation = Generation(**{"max_tokens": 4, **how})
        assert not engine.add(AnswerRequest(str(index), name, generation, prompt=prompt))


def finish(engine: ContinuousEngine) -> tuple[dict[str, str], int]:
    """Texts of the answers, and how many of their tokens were read: the last ones never are."""
    found: dict[str, str] = {}
    num_read = 0
    while not engine.is_idle:
        for update in engine.step():
            assert not update.error
            found[update.id] = found.get(update.id, "") + update.text
            num_read += not update.is_last
    return found, num_read


def alone(loaded, name: str, prompt: tuple[int, ...], **how: int) -> str:
    engine = engine_of(loaded, [])
    ask(engine, [(name, prompt)], **how)
    return finish(engine)[0]["0"]


@pytest.mark.parametrize("max_tokens", [1, 4])
@pytest.mark.parametrize("tokens_per_step", [512, 16])
@pytest.mark.parametrize("name", ["base", "prefix"])
def test_what_prompts_share_is_read_once(loaded, rows, name, tokens_per_step, max_tokens):
    engine = engine_of(loaded, rows, tokens_per_step=tokens_per_step)
    ask(engine, [(name, prompt) for prompt in PROMPTS], max_tokens=max_tokens)
    found, num_read = finish(engine)
    assert sum(rows) == sum(OWN) + num_read
    for number, prompt in enumerate(PROMPTS):
        assert found[str(number)] == alone(loaded, name, prompt, max_tokens=max_tokens)


def test_other_weights_read_for_themselves(loaded, rows):
    engine = engine_of(loaded, rows)
    asked = [("base", PROMPTS[0]), ("prefix", PROMPTS[0]), ("base", PROMPTS[1])]
    ask(engine, asked)
    found, num_read = finish(engine)
    assert sum(rows) == 52 + 52 + 1 + num_read
    assert [found[str(n)] for n in range(3)] == [alone(loaded, *each) for each in asked]


def test_who_reads_may_leave(loaded, rows):
    engine = engine_of(loaded, rows, tokens_per_step=20)
    ask(engine, [("base", PROMPTS[0]), ("base", PROMPTS[1]), ("base", PROMPTS[2])])
    engine.step()
    engine.step()
    assert sum(rows) == 40
    engine.cancel("0")
    found, num_read = finish(engine)
    # What it had read is not read again; the rest each reads for itself.
    assert sum(rows) == 40 + 11 + 13 + num_read
    assert found["1"] == alone(loaded, "base", PROMPTS[1])
    assert found["2"] == alone(loaded, "base", PROMPTS[2])


def test_who_follows_may_leave(loaded, rows):
    engine = engine_of(loaded, rows, tokens_per_step=20)
    ask(engine, [("base", PROMPTS[0]), ("base", PROMPTS[1]), ("base", PROMPTS[2])])
    engine.step()
    engine.step()
    engine.cancel("1")
    assert finish(engine)[0]["2"] == alone(loaded, "base", PROMPTS[2])


def test_one_follows_the_first_that_is_about_as_good():
    def asked(name: str, *ids: int) -> RequestState:
        return RequestState(AnswerRequest(name, "base", Generation()), [*ids], len(ids), 99)

    a, b, c = asked("a", *SYSTEM, 1), asked("b", *SYSTEM, 2, 3), asked("c", *range(9))
    state = asked("d", *SYSTEM, 2, 3, 4)
    follow(state, [c, a, b])
    assert (state.leader, state.num_shared) == (a, 50)
    longer = asked("e", *SYSTEM, *range(2, 12), 1)
    state = asked("f", *SYSTEM, *range(2, 12), 1)
    follow(state, [a, b, longer])
    assert (state.leader, state.num_shared) == (longer, 60)  # its last token is its own
    state = asked("g", *SYSTEM, 9)
    state.num_computed = 48
    follow(state, [a])
    assert state.leader is None


@pytest.mark.parametrize(
    ("first", "second", "shared"),
    [("", "", 0), ("a", "b", 0), ("abc", "abx", 2), ("abc", "ab", 2), ("abcd", "abcd", 4)],
)
def test_the_shared_beginning_of_two_sequences(first: str, second: str, shared: int):
    assert shared_prefix(first, second) == shared_prefix(second, first) == shared
    assert shared_prefix([*first], [*second]) == shared
