"""One suite that every engine passes: the embedded one, and the fake that tests stand on."""

from collections.abc import Iterator

import pytest

from kamerton.core.protocols import Chat, Engine, Generation, TokenEvent
from kamerton.data.rendering.renderer import make_renderer
from kamerton.data.rendering.tokenized import RenderSettings
from kamerton.inference.engine import EmbeddedEngine
from kamerton.models.load import load_base
from kamerton.testing import FakeEngine

TEXTS = ("Hello, who are you?", "When do you open on Sunday?", "Где мой заказ?")
CHATS: list[Chat] = [[{"role": "user", "content": text}] for text in TEXTS]


def embedded() -> Engine:
    base = load_base("builtin:nano", dtype="float32", device="cpu")
    # The plain template, which is supplied then, knows tools.
    base.tokenizer.chat_template = None
    renderer = make_renderer(base.tokenizer, RenderSettings(), vocab_size=base.identity.vocab_size)
    return EmbeddedEngine(base, renderer, max_batch=2)


def fake() -> Engine:
    return FakeEngine(lambda chat: f"You said: {chat[-1]['content']} That is noted here.")


ENGINES = {"embedded": embedded, "fake": fake}


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest) -> Engine:
    return ENGINES[request.param]()


def events_of(events: Iterator[TokenEvent]) -> list[list[TokenEvent]]:
    answers: list[list[TokenEvent]] = [[] for _ in CHATS]
    for event in events:
        answers[event.index].append(event)
    return answers


def texts_of(engine: Engine, generation: Generation) -> list[str]:
    answers = events_of(engine.stream(CHATS, generation))
    return ["".join(event.text for event in answer) for answer in answers]


def test_it_satisfies_the_protocol(engine: Engine) -> None:
    assert isinstance(engine, Engine)


@pytest.mark.parametrize("max_tokens", [1, 3, 60])
def test_every_answer_ends_once_with_its_last_event(engine: Engine, max_tokens: int) -> None:
    for answer in events_of(engine.stream(CHATS, Generation(max_tokens=max_tokens))):
        assert [event.finish_reason is None for event in answer] == [True] * (len(answer) - 1) + [
            False
        ]
        assert answer[-1].finish_reason in {"stop", "length"}
        if answer[-1].finish_reason == "length":
            assert len(answer) == max_tokens
        assert len(answer) <= max_tokens + 1  # an end that is no text has an event of its own


def test_short_answers_begin_as_long_ones(engine: Engine) -> None:
    long, short = (texts_of(engine, Generation(max_tokens=count)) for count in (40, 4))
    assert all(a.startswith(b.rstrip("\ufffd")) for a, b in zip(long, short, strict=True))
    assert all(long)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_same_seed_answers_the_same(engine: Engine, temperature: float) -> None:
    generation = Generation(max_tokens=12, temperature=temperature, seed=5)
    assert texts_of(engine, generation) == texts_of(engine, generation)


def test_stop_texts_end_the_answer_and_are_no_part_of_it(engine: Engine) -> None:
    whole = texts_of(engine, Generation(max_tokens=40))[0]
    stop = whole[5:8]
    answer = events_of(engine.stream(CHATS, Generation(max_tokens=40, stop=(stop,))))[0]
    assert "".join(event.text for event in answer) == whole.partition(stop)[0]
    assert answer[-1].finish_reason == "stop"


def test_nothing_asked_nothing_answered(engine: Engine) -> None:
    assert list(engine.stream([], Generation())) == []
    assert engine.score([], []) == []


def test_scores_have_the_shape_of_the_question(engine: Engine) -> None:
    candidates = [["yes", "no", "возврат денег"], ["open"], ["here it is", "no"]]
    scores = engine.score(CHATS, candidates)
    assert [len(row) for row in scores] == [3, 1, 2]
    assert all(score.logprob <= 0 and score.num_tokens >= 1 for row in scores for score in row)
    backwards = engine.score(CHATS, [row[::-1] for row in candidates])
    for row, turned in zip(scores, backwards, strict=True):
        assert [s.logprob for s in row] == pytest.approx(
            [s.logprob for s in turned[::-1]], abs=1e-3
        )
        assert [s.num_tokens for s in row] == [s.num_tokens for s in turned[::-1]]


def test_its_own_answer_is_likelier_than_noise(engine: Engine) -> None:
    answers = texts_of(engine, Generation(max_tokens=200))
    scores = engine.score(CHATS, [[answer, "zqx!! 77 ЪЪЪ " * 8] for answer in answers])
    assert all(own.logprob > noise.logprob for own, noise in scores)


def test_chats_may_have_tools(engine: Engine) -> None:
    tool = {"type": "function", "function": {"name": "opening_hours", "parameters": {}}}
    told = events_of(engine.stream(CHATS, Generation(max_tokens=3), [(tool,), (), ()]))
    plain = texts_of(engine, Generation(max_tokens=3))
    assert ["".join(event.text for event in answer) for answer in told][1:] == plain[1:]
    scores = engine.score(CHATS, [["Yes."]] * 3, [(tool,), (), ()])
    assert [row[0].num_tokens for row in scores] == [
        row[0].num_tokens for row in engine.score(CHATS, [["Yes."]] * 3)
    ]
