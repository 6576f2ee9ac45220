"""Requests that join and leave: each answers as it would alone."""

from collections.abc import Iterator

import pytest

from kamerton.core.protocols import Generation
from kamerton.core.requests import AnswerRequest, AnswerUpdate, ServedModel
from kamerton.data.rendering.renderer import make_renderer
from kamerton.data.rendering.tokenized import RenderSettings
from kamerton.inference.continuous_engine import ContinuousEngine, LoadedVariant
from kamerton.inference.engine import EmbeddedEngine
from kamerton.models.base import Base
from kamerton.models.load import load_base
from kamerton.prompting.prompt import Prompt

QUESTIONS = [
    "Where is my order?",
    "Can I return it?",
    "Hello! " * 30 + "When do you open?",
    "Сколько стоит доставка?",
    "Do you have it in blue?",
]


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base("builtin:nano", dtype="float32")


@pytest.fixture(scope="module")
def variant(base: Base) -> LoadedVariant:
    renderer = make_renderer(base.tokenizer, RenderSettings(), ends=base.ends)
    return LoadedVariant(ServedModel("nano", "base", "hash", "builtin:nano"), renderer, Prompt())


def chat(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def alone(base: Base, variant: LoadedVariant, text: str, generation: Generation) -> str:
    engine = EmbeddedEngine(base, variant.renderer)
    return "".join(event.text for event in engine.stream([chat(text)], generation))


def run(engine: ContinuousEngine) -> Iterator[AnswerUpdate]:
    while not engine.is_idle:
        yield from engine.step()


def texts(updates: list[AnswerUpdate]) -> dict[str, str]:
    found: dict[str, str] = {}
    for update in updates:
        found[update.id] = found.get(update.id, "") + update.text
    return found


@pytest.mark.parametrize("num_slots", [1, 3, 8])
def test_answers_do_not_depend_on_who_else_is_there(base, variant, num_slots):
    generation = Generation(max_tokens=12)
    engine = ContinuousEngine(base, [variant], num_slots=num_slots, tokens_per_step=16)
    updates: list[AnswerUpdate] = []
    for number, text in enumerate(QUESTIONS):
        engine.add(AnswerRequest(str(number), "nano", generation, chat(text)))
        updates += engine.step()
    updates += run(engine)
    found = texts(updates)
    for number, text in enumerate(QUESTIONS):
        assert found[str(number)] == alone(base, variant, text, generation), text
    ends = [update for update in updates if update.is_last]
    assert {update.id for update in ends} == {str(n) for n in range(len(QUESTIONS))}
    assert all(update.finish_reason in ("stop", "length") for update in ends)


def test_sampled_answers_follow_their_own_seeds(base, variant):
    how = [Generation(max_tokens=8, temperature=1.0, top_p=0.9, seed=seed) for seed in (1, 2)]
    greedy = Generation(max_tokens=8)
    engine = ContinuousEngine(base, [variant])
    for number, generation in enumerate([*how, greedy]):
        engine.add(AnswerRequest(str(number), "nano", generation, chat(QUESTIONS[0])))
    found = texts(list(run(engine)))
    for number, generation in enumerate([*how, greedy]):
        assert found[str(number)] == alone(base, variant, QUESTIONS[0], generation)
    assert found["0"] != found["1"]


def test_a_cancelled_request_leaves_and_the_others_go_on(base, variant):
    generation = Generation(max_tokens=10)
    engine = ContinuousEngine(base, [variant], num_slots=3)
    for number in range(3):
        engine.add(AnswerRequest(str(number), "nano", generation, chat(QUESTIONS[number])))
    updates = engine.step() + engine.step()
    engine.cancel("0")
    engine.cancel("nobody")
    later = list(run(engine))
    assert all(update.id != "0" for update in later)
    found = texts(updates + later)
    assert found["1"] == alone(base, variant, QUESTIONS[1], generation)
    assert found["2"] == alone(base, variant, QUESTIONS[2], generation)


def test_plain_text_goes_on_and_stops_at_a_text(base, variant):
    engine = ContinuousEngine(base, [variant])
    engine.add(AnswerRequest("free", "nano", Generation(max_tokens=20), prompt="Once upon a"))
    whole = texts(list(run(engine)))["free"]
    assert len(whole) > 8
    stop = whole[5:8]
    cut = Generation(max_tokens=20, stop=(stop,))
    engine.add(AnswerRequest("cut", "nano", cut, prompt="Once upon a"))
    updates = list(run(engine))
    assert texts(updates)["cut"] == whole[: whole.index(stop)]
    assert updates[-1].finish_reason == "stop"


def test_log_probabilities_are_those_of_the_chosen_tokens(base, variant):
    engine = ContinuousEngine(base, [variant])
    asked = AnswerRequest(
        "a", "nano", Generation(max_tokens=5), chat(QUESTIONS[0]), num_top_logprobs=3
    )
    engine.add(asked)
    tokens = [token for update in run(engine) for token in update.logprobs]
    assert 0 < len(tokens) <= 5
    for token in tokens:
        # Greedy: what was chosen is the likeliest, bit for bit.
        assert token.logprob == token.top[0][1] == max(value for _, value in token.top)
        assert len(token.top) == 3


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        (AnswerRequest("a", "other", Generation(), chat("Hello")), "'other' is not served"),
        (AnswerRequest("a", "nano", Generation(), prompt=(1 << 30,)), "token ids are from 0"),
        (AnswerRequest("a", "nano", Generation(), prompt=()), "at least one token"),
        (AnswerRequest("a", "nano", Generation(), prompt="word " * 5000), "maximum context"),
        (AnswerRequest("a", "nano", Generation(), [{"content": "x"}]), "must have a role"),
    ],
)
def test_a_request_that_cannot_be_answered_is_refused(base, variant, request_, said):
    engine = ContinuousEngine(base, [variant])
    (update,) = engine.add(request_)
    assert update.is_client_error
    assert said in update.error
    assert engine.is_idle


def test_requests_wait_where_memory_would_not_be_enough(base, variant):
    generation = Generation(max_tokens=12)
    engine = ContinuousEngine(base, [variant], num_slots=8, cache_mib=1, beginnings_mib=0)
    for number, text in enumerate(QUESTIONS):
        engine.add(AnswerRequest(str(number), "nano", generation, chat(text)))
    updates, most, reserved = [], 0, 0
    while not engine.is_idle:
        updates += engine.step()
        most = max(most, len(engine.batch.scheduler.running))
        reserved = max(
            reserved, engine.batch.cache.num_reserved * engine.batch.cache.bytes_per_token
        )
    found = texts(updates)
    for number, text in enumerate(QUESTIONS):
        assert found[str(number)] == alone(base, variant, text, generation), text
    assert 1 < most < len(QUESTIONS)
    assert reserved <= 1 << 20
