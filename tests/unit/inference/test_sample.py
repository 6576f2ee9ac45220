"""Samples: several answers to a prompt, with the probability of every token as training sees it."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from kamerton.adapters.adapter import Adapter
from kamerton.adapters.catalogue import AdapterSettings, attach
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.adapters.virtual.prefix import PrefixSettings
from kamerton.core.errors import ModelError
from kamerton.core.protocols import Generation, Sample
from kamerton.data.examples import ChatExample, SourceLocation
from kamerton.data.rendering.renderer import make_renderer
from kamerton.data.rendering.tokenized import RenderSettings
from kamerton.inference.engine import EmbeddedEngine
from kamerton.inference.sampling import choose_tokens, random_stream
from kamerton.models.attention.layout import Layout
from kamerton.models.base import Base
from kamerton.models.load import load_base
from kamerton.prompting.prompt import Prompt
from tests.shapes import tiny_base, tiny_renderer

END = 2
PROMPTS = [[5, 6, 7, 8, 9, 10, 11, 12, 13, 20], [5, 6, 7, 8, 9, 10, 11, 12, 13], [40], [50, 51] * 9]
FREE = Generation(max_tokens=40, temperature=1.0, seed=7)


def engine_of(base: Base, **settings: int) -> EmbeddedEngine:
    return EmbeddedEngine(base, tiny_renderer(base), **settings)


@torch.no_grad()
def in_one_pass(base: Base, prompt: Sequence[int], ids: Sequence[int]) -> Tensor:
    """[n, V] log-probabilities where each token of an answer is said, as Transformers sees it."""
    row = torch.tensor([*prompt, *ids])
    hidden = base.plain_hidden(row, Layout.of_lengths([len(row)]))
    return base.head.logits(hidden[len(prompt) - 1 : -1]).log_softmax(-1)


def assert_told(base: Base, prompts: Sequence[Sequence[int]], samples: Sequence[Sample]) -> None:
    for prompt, sample in zip(prompts, samples, strict=True):
        assert len(sample.logprobs) == len(sample.ids)
        rows = in_one_pass(base, prompt, sample.ids)
        expected = rows.gather(1, torch.tensor(sample.ids)[:, None])[:, 0]
        torch.testing.assert_close(torch.tensor(sample.logprobs), expected, atol=2e-5, rtol=1e-5)


def changed(base: Base, settings: AdapterSettings) -> Adapter:
    adapter = attach(base, settings, seed=0)
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in adapter.parameters().values():
            parameter += torch.randn_like(parameter) * 0.3
    return adapter


@pytest.mark.parametrize("shape", ["llama", "gpt2", "gemma2", "gemma3", "gpt_oss"])
def test_logprobs_are_those_of_one_pass(shape: str) -> None:
    base = tiny_base(shape)
    prompts = [prompt for prompt in PROMPTS for _ in range(3)]
    assert_told(base, prompts, engine_of(base).sample(prompts, FREE))


@pytest.mark.parametrize(
    "settings", [LoraSettings(rank=4), PrefixSettings(num_virtual_tokens=5, init="random")]
)
def test_an_adapter_writes_and_is_told(settings: AdapterSettings) -> None:
    base = tiny_base("llama")
    engine = engine_of(base)
    plain = engine.sample(PROMPTS, FREE)
    adapter = changed(base, settings)
    with_adapter = engine.sample(PROMPTS, FREE)
    assert_told(base, PROMPTS, with_adapter)
    assert with_adapter != plain
    with adapter.disabled():
        assert engine.sample(PROMPTS, FREE) == plain
    adapter.detach()
    assert engine.sample(PROMPTS, FREE) == plain


@pytest.mark.parametrize(
    "how", [{"temperature": 0.3}, {"top_k": 3}, {"top_p": 0.2}, {"temperature": 0.0}]
)
def test_logprobs_are_of_the_whole_vocabulary_however_tokens_are_chosen(
    how: dict[str, float],
) -> None:
    base = tiny_base("llama")
    found = engine_of(base).sample(PROMPTS, Generation(**{"temperature": 1.0, "seed": 7, **how}))
    assert_told(base, PROMPTS, found)


def test_greedy_takes_the_most_probable_token() -> None:
    base = tiny_base("llama")
    prompts = [*PROMPTS, PROMPTS[0]]
    found = engine_of(base).sample(prompts, Generation(max_tokens=12, temperature=0.0))
    assert found[0].ids == found[-1].ids
    for prompt, sample in zip(prompts, found, strict=True):
        assert in_one_pass(base, prompt, sample.ids).argmax(1).tolist() == list(sample.ids)


def test_a_repeated_prompt_has_several_answers_and_a_seed_the_same() -> None:
    engine = engine_of(tiny_base("llama"))
    prompts = [PROMPTS[0]] * 6
    found = engine.sample(prompts, FREE)
    assert len({sample.ids for sample in found}) == 6
    assert engine.sample(prompts, FREE) == found
    # The place of a prompt decides its answer, not how many come after it.
    torch.testing.assert_close(
        torch.tensor(engine.sample(prompts[:2], FREE)[1].logprobs), torch.tensor(found[1].logprobs)
    )
    other = engine.sample(prompts, Generation(max_tokens=40, temperature=1.0, seed=8))
    assert not {sample.ids for sample in other} & {sample.ids for sample in found}


@pytest.mark.parametrize("ragged", [True, False])
def test_batches_of_any_size_write_the_same(ragged: bool) -> None:
    base = tiny_base("llama")
    prompts = PROMPTS * 3
    together = engine_of(base).sample(prompts, FREE)
    base.ragged = ragged
    for settings in ({"max_batch": 1}, {"max_batch": 5, "tokens_per_row": 16}):
        apart = engine_of(base, **settings).sample(prompts, FREE)
        for one, other in zip(apart, together, strict=True):
            assert (one.ids, one.text, one.ended) == (other.ids, other.text, other.ended)
            torch.testing.assert_close(
                torch.tensor(one.logprobs), torch.tensor(other.logprobs), atol=2e-5, rtol=1e-5
            )


def test_an_answer_ends_with_its_end_token_or_is_cut() -> None:
    engine = engine_of(tiny_base("llama"))
    prompts = PROMPTS * 4
    found = engine.sample(prompts, FREE)
    assert {sample.ended for sample in found} == {True, False}
    for sample in found:
        assert sample.ended == (sample.ids[-1] == END)
        assert END not in sample.ids[:-1]
        assert sample.ended or len(sample.ids) == FREE.max_tokens
        # Special tokens, the end among them, are in the ids and not in the text.
        words = [f"w{token}" for token in sample.ids if token not in (0, END)]
        assert sample.text.replace(" ", "") == "".join(words)
    place = next(n for n, sample in enumerate(found) if sample.ended and len(sample.ids) > 2)
    whole = found[place]
    count = len(whole.ids)
    for limit, ended in ((count, True), (count - 1, False)):
        short = Generation(max_tokens=limit, temperature=1.0, seed=7)
        again = engine.sample(prompts, short)[place]
        assert (again.ids, again.ended) == (whole.ids[:limit], ended)


def test_the_end_of_the_context_cuts_too() -> None:
    engine = engine_of(tiny_base("llama"))
    prompt = [5, 6] * 126  # 252 of 256
    found = engine.sample([prompt] * 3, Generation(max_tokens=50, temperature=1.0, seed=1))
    assert [(len(sample.ids), sample.ended) for sample in found] == [(4, False)] * 3


def test_a_prompt_beyond_the_context_is_an_error() -> None:
    engine = engine_of(tiny_base("llama"))
    with pytest.raises(ModelError, match="a prompt of 256 tokens leaves no room .* of 256"):
        engine.sample([[5], [5] * 256], FREE)
    assert engine.sample([], FREE) == []


def test_what_cannot_be_sampled_is_a_mistake_of_the_programmer() -> None:
    engine = engine_of(tiny_base("llama"))
    with pytest.raises(AssertionError, match="without any token"):
        engine.sample([[5], []], FREE)
    with pytest.raises(AssertionError, match="not with a text"):
        engine.sample([[5]], Generation(stop=("w5",)))


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_rendered_prompts_are_answered_as_chats_are(temperature: float) -> None:
    base = load_base("builtin:nano", dtype="float32", device="cpu")
    renderer = make_renderer(base.tokenizer, RenderSettings())
    prompt = Prompt(system="You are a polite assistant of a shop.")
    chats = [
        ({"role": "user", "content": text}, {"role": "assistant", "content": "Yes."})
        for text in ("Hello!", "When do you open?", "Где мой заказ 4417? Я жду уже неделю. 🙂")
    ]
    generation = Generation(max_tokens=20, temperature=temperature, seed=3)
    texts = [""] * len(chats)
    engine = EmbeddedEngine(base, renderer, prompt)
    for event in engine.stream([chat[:1] for chat in chats], generation):
        texts[event.index] += event.text
    made = [
        renderer.render_prompt(ChatExample(SourceLocation("a.jsonl", n), chat), prompt.apply)
        for n, chat in enumerate(chats)
    ]
    # The engine's own prompt stands in the ids already.
    found = engine.sample([one.ids.tolist() for one in made], generation)
    assert [sample.text for sample in found] == texts
    assert any(texts)


@pytest.mark.parametrize(
    "settings", [{"top_p": 1e-46}, {"top_p": 1e-300}, {"temperature": 1e-38}, {"top_k": 1}]
)
def test_settings_at_the_edge_of_numbers_take_the_likeliest(settings: dict[str, float]) -> None:
    generation = Generation(**{"temperature": 1.0, **settings})
    logits = torch.randn(3, 50, generator=torch.Generator().manual_seed(0))
    streams = [random_stream(generation, index) for index in range(3)]
    assert choose_tokens(logits, generation, streams).tolist() == logits.argmax(-1).tolist()
