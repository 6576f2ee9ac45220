"""The embedded engine: batches answer as each alone, scores are likelihoods."""

import pytest
import torch

from kamerton.adapters.catalogue import attach
from kamerton.adapters.virtual.prefix import PrefixSettings
from kamerton.adapters.virtual.prompt import PromptTuningSettings
from kamerton.core.errors import ModelError
from kamerton.core.protocols import Engine, Generation
from kamerton.data.rendering.renderer import make_renderer
from kamerton.data.rendering.tokenized import RenderSettings
from kamerton.evaluation.items import make_items, run_items
from kamerton.evaluation.settings import EvaluationSettings
from kamerton.inference.detokenise import TextStream
from kamerton.inference.engine import EmbeddedEngine
from kamerton.inference.sampling import choose_tokens, random_stream
from kamerton.models.base import Base
from kamerton.models.load import load_base
from kamerton.prompting.prompt import Prompt
from tests.unit.data.rendering.chats import chat as example_of
from tests.unit.data.rendering.chats import renderer_of

CHATS = [
    [{"role": "user", "content": text}]
    for text in (
        "Hello!",
        "When do you open?",
        "Где мой заказ 4417? Я жду уже неделю.",
        "How do I change my password in the app, please?",
    )
]
TEXT = "You answer customers of a shop for lamps, politely and briefly."


@pytest.fixture(scope="module")
def base() -> Base:
    return load_base("builtin:nano", dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def renderer(base: Base):
    return make_renderer(base.tokenizer, RenderSettings(), vocab_size=base.identity.vocab_size)


def texts(engine: EmbeddedEngine, chats, generation: Generation) -> list[str]:
    parts = [""] * len(chats)
    for event in engine.stream(chats, generation):
        parts[event.index] += event.text
    return parts


def test_it_is_an_engine(base: Base, renderer) -> None:
    assert isinstance(EmbeddedEngine(base, renderer), Engine)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_a_batch_answers_as_each_alone(base: Base, renderer, temperature: float) -> None:
    generation = Generation(max_tokens=24, temperature=temperature, seed=3)
    prompt = Prompt(system="You are a polite assistant of a shop.")
    together = texts(EmbeddedEngine(base, renderer, prompt), CHATS, generation)
    one_by_one = EmbeddedEngine(base, renderer, prompt, max_batch=1)
    assert texts(one_by_one, CHATS, generation) == together
    two = EmbeddedEngine(base, renderer, prompt, max_batch=2, tokens_per_row=16)
    assert texts(two, CHATS, generation) == together
    assert any(together)


def test_greedy_equals_transformers(base: Base, renderer) -> None:
    found = texts(EmbeddedEngine(base, renderer), CHATS, Generation(max_tokens=20))
    for chat, text in zip(CHATS, found, strict=True):
        ids = torch.tensor([renderer.prompt_ids(chat)])
        with base.attention("sdpa"):
            made = base.model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=20,
                do_sample=False, eos_token_id=sorted(renderer.stop_ids), pad_token_id=0,
            )  # fmt: skip
        answer = base.tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True)
        assert text == answer


def test_padded_models_generate_the_same(base: Base, renderer) -> None:
    generation = Generation(max_tokens=8)
    ragged = texts(EmbeddedEngine(base, renderer), CHATS, generation)
    padded = Base(base.model, base.tokenizer, base.identity, ragged=False, notice="a test")
    assert texts(EmbeddedEngine(padded, renderer), CHATS, generation) == ragged


def test_scores_are_likelihoods(base: Base, renderer) -> None:
    answers = [["refund", "delivery", "a"], ["возврат"], ["no"], ["yes", "нет"]]
    scores = EmbeddedEngine(base, renderer, tokens_per_row=64).score(CHATS, answers)
    for chat, candidates, found in zip(CHATS, answers, scores, strict=True):
        for candidate, score in zip(candidates, found, strict=True):
            prompt, answer = renderer.answer_ids(chat, candidate)
            ids = torch.tensor([prompt + answer])
            with torch.no_grad(), base.attention("sdpa"):
                logprobs = base.model(input_ids=ids).logits[0].float().log_softmax(-1)
            at = torch.arange(len(prompt) - 1, len(prompt) + len(answer) - 1)
            expected = float(logprobs[at, torch.tensor(answer)].sum())
            assert score.logprob == pytest.approx(expected, abs=1e-3)
            assert score.num_tokens == len(answer)


def test_no_candidates_no_scores(base: Base, renderer) -> None:
    engine = EmbeddedEngine(base, renderer)
    assert engine.score(CHATS[:2], [[], []]) == [[], []]
    assert list(map(len, engine.score(CHATS[:2], [[], ["yes"]]))) == [0, 1]


def test_an_answer_ends_with_the_context(base: Base, renderer) -> None:
    # What it answers does not matter, only that nothing is asked of positions beyond the last.
    chat = [{"role": "user", "content": "word " * 505}]
    prompt = renderer.prompt_ids(chat)
    assert 1000 < len(prompt) < 1024
    forced = Generation(max_tokens=500, temperature=5.0, seed=1)
    events = list(EmbeddedEngine(base, renderer).stream([chat], forced))
    assert events[-1].finish_reason == "length"
    assert len(prompt) + len(events) == 1024


def test_stop_texts_end_the_answer_and_are_left_out(base: Base, renderer) -> None:
    engine = EmbeddedEngine(base, renderer)
    whole = texts(engine, CHATS[1:2], Generation(max_tokens=40))[0]
    assert len(whole) > 6
    stop = whole[4:6]
    cut = texts(engine, CHATS[1:2], Generation(max_tokens=40, stop=(stop,)))[0]
    assert cut == whole[: whole.index(stop)]


def test_a_prompt_beyond_the_context_is_an_error(base: Base, renderer) -> None:
    chat = [{"role": "user", "content": "word " * 3000}]
    with pytest.raises(ModelError, match="no room"):
        list(EmbeddedEngine(base, renderer).stream([chat], Generation()))


def test_text_streams_never_cut_a_character(base: Base, renderer) -> None:
    text = "Заказ №5 — готов 🙂!"
    ids = base.tokenizer(text, add_special_tokens=False)["input_ids"]
    stream = TextStream(renderer)
    pieces = [stream.add(token).text for token in ids]
    assert "".join(pieces) + stream.finish().text == text
    assert not any("\ufffd" in piece for piece in pieces)


@pytest.mark.parametrize("name", ["qwen3", "r1", "gpt-oss", "mistral"])
def test_checks_rewards_and_chats_get_the_answer_that_was_trained(
    base: Base, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    renderer = renderer_of(name, thinking=True)
    more = {"reasoning_content": "It is noon."} if name != "mistral" else {}
    asked = {"role": "user", "content": "Is it open?"}
    example = example_of([asked, {"role": "assistant", "content": "Yes.", **more}])
    row = renderer.render(example)
    wanted = row.ids[row.loss_mask].tolist()

    def forced(logits: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        return torch.tensor([next(said) for _ in logits])

    monkeypatch.setattr("kamerton.inference.choosing.choose_tokens", forced)
    engine = EmbeddedEngine(base, renderer)
    said = iter(wanted)
    items = make_items([example])
    answers = run_items(engine, "a", items, EvaluationSettings())
    assert answers.texts == (items[0].reference,) == ("Yes.",)
    assert answers.finish_reasons == ("stop",)
    said = iter(wanted)
    (sample,) = engine.sample([renderer.prompt_ids([asked])], Generation())
    assert (sample.text, sample.reasoning) == ("Yes.", more.get("reasoning_content", ""))
    assert sample.ended
    assert list(sample.ids) == wanted


def draw(logits: list[float], times: int, **wanted: float) -> list[int]:
    generation = Generation(temperature=1.0, **wanted)
    streams = [random_stream(generation, index) for index in range(times)]
    return choose_tokens(torch.tensor([logits] * times), generation, streams).tolist()


def test_sampling_limits() -> None:
    logits = [3.0, -5.0, 2.0, 1.0]
    assert set(draw(logits, 20, top_k=1)) == {0}
    assert set(draw(logits, 60, top_k=3)) == {0, 2, 3}
    assert set(draw(logits, 60, top_p=0.7)) == {0, 2}
    assert set(draw([1.0, 2.0, 2.0, 0.0], 60, top_k=1)) == {1, 2}
    assert set(draw([1.0, float("-inf"), 1.0], 60)) == {0, 2}
    counts = torch.bincount(torch.tensor(draw(logits, 3000)), minlength=4)
    expected = torch.tensor(logits).softmax(0)
    torch.testing.assert_close(counts / 3000, expected, atol=0.04, rtol=0)


def test_no_token_is_drawn_from_what_is_not_finite() -> None:
    with pytest.raises(ModelError, match="not finite"):
        draw([1.0, float("nan")], 1)


@pytest.mark.parametrize("settings", [PrefixSettings(text=TEXT), PromptTuningSettings(text=TEXT)])
def test_virtual_tokens_stand_before_every_answer(renderer, settings) -> None:
    base = load_base("builtin:nano", dtype="float32", device="cpu")
    generation = Generation(max_tokens=12)
    plain = texts(EmbeddedEngine(base, renderer), CHATS, generation)
    # Their length is no multiple of the text's: it is repeated and cut.
    adapter = attach(base, settings, seed=0)
    together = texts(EmbeddedEngine(base, renderer), CHATS, generation)
    assert together != plain
    alone = EmbeddedEngine(base, renderer, max_batch=1, tokens_per_row=16)
    assert texts(alone, CHATS, generation) == together
    # They are real tokens so far: the base that reads them says the same.
    text = base.tokenizer(TEXT)["input_ids"]
    begun = (text * settings.num_virtual_tokens)[: settings.num_virtual_tokens]
    adapter.detach()
    for chat, answer in zip(CHATS, together, strict=True):
        ids = torch.tensor([begun + renderer.prompt_ids(chat)])
        with base.attention("sdpa"):
            made = base.model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=12,
                do_sample=False, eos_token_id=sorted(renderer.stop_ids), pad_token_id=0,
            )  # fmt: skip
        assert base.tokenizer.decode(made[0, ids.shape[1] :], skip_special_tokens=True) == answer


def test_virtual_tokens_leave_less_room(renderer) -> None:
    base = load_base("builtin:nano", dtype="float32", device="cpu")
    context = base.model.config.max_position_embeddings
    prompt = len(renderer.prompt_ids(CHATS[0]))
    settings = PromptTuningSettings(text=TEXT, num_virtual_tokens=context - prompt - 1)
    adapter = attach(base, settings, seed=0)
    engine = EmbeddedEngine(base, renderer)
    (event,) = engine.stream(CHATS[:1], Generation(max_tokens=9))
    assert event.finish_reason in ("length", "stop")
    adapter.detach()
    attach(base, settings.model_copy(update={"num_virtual_tokens": context - prompt}), seed=0)
    with pytest.raises(ModelError, match="no room"):
        texts(engine, CHATS[:1], Generation(max_tokens=9))
