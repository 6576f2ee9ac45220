"""Beginnings of prompts are kept by what they say, and answers stay what they were."""

from functools import partial

import pytest
import torch

from kamerton.adapters.adapter import Adapter
from kamerton.adapters.adapter_set import AdapterSet
from kamerton.adapters.catalogue import attach
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.adapters.virtual.prefix import PrefixSettings
from kamerton.core.protocols import Generation
from kamerton.core.requests import AnswerRequest, ServedModel
from kamerton.data.rendering.renderer import make_renderer
from kamerton.data.rendering.tokenized import RenderSettings
from kamerton.inference.beginnings import BLOCK_TOKENS, Beginnings
from kamerton.inference.continuous_engine import ContinuousEngine, LoadedVariant
from kamerton.models.attention.cache import KVCache
from kamerton.models.base import Base
from kamerton.models.load import load_base
from kamerton.prompting.prompt import Prompt

KINDS = {
    "lora": LoraSettings(rank=4),
    "other": LoraSettings(rank=4),
    "prefix": PrefixSettings(num_virtual_tokens=5, init="random"),
}
SYSTEM = tuple(range(40, 40 + 3 * BLOCK_TOKENS + 5))


def make(base: Base, kind: str) -> Adapter:
    adapter = attach(base, KINDS[kind], seed=0)
    generator = torch.Generator().manual_seed(list(KINDS).index(kind))
    for parameter in adapter.parameters().values():
        noise = torch.randn(parameter.shape, generator=generator)
        parameter.data += (2.0 if kind == "prefix" else 0.3) * noise
    return adapter


@pytest.fixture(scope="module")
def variants() -> tuple[Base, list[LoadedVariant]]:
    base = load_base("builtin:nano", dtype="float32")
    adapters = AdapterSet(base, fixed=True)
    numbers = {"base": -1} | {kind: adapters.add(partial(make, base, kind)) for kind in KINDS}
    renderer = make_renderer(base.tokenizer, RenderSettings(), ends=base.ends)
    return base, [
        LoadedVariant(ServedModel(name, "", f"hash of {name}", ""), renderer, Prompt(), number)
        for name, number in numbers.items()
    ]


def ask(engine: ContinuousEngine, asked: list[tuple[str, tuple[int, ...]]]) -> list[str]:
    """Texts of the answers to prompts."""
    for index, (name, prompt) in enumerate(asked):
        generation = Generation(max_tokens=8)
        assert not engine.add(AnswerRequest(str(index), name, generation, prompt=prompt))
    found = [""] * len(asked)
    while not engine.is_idle:
        for update in engine.step():
            assert not update.error
            found[int(update.id)] += update.text
    return found


def reused(engine: ContinuousEngine, name: str, prompt: tuple[int, ...]) -> int:
    """Tokens of a prompt that need not be computed."""
    engine.add(AnswerRequest("probe", name, Generation(max_tokens=1), prompt=prompt))
    answer = engine.batch.answers["probe"]
    while not engine.is_idle:
        engine.step()
    return answer.state.num_reused


def test_answers_are_those_of_prompts_that_are_read_whole(variants):
    asked = [
        (name, SYSTEM + tuple(range(end, end + length)))
        for name in ("base", "lora", "other", "prefix")
        for end, length in ((300, 3), (200, 20), (100, 1))
    ]
    base, loaded = variants
    plain = ContinuousEngine(base, loaded, beginnings_mib=0)
    sharing = ContinuousEngine(base, loaded, num_slots=3, tokens_per_step=24)
    expected = ask(plain, asked)
    assert plain.batch.beginnings.num_bytes == 0
    assert len({expected[0], expected[3], expected[6], expected[9]}) == 4
    assert ask(sharing, asked) == expected
    assert ask(sharing, asked[::-1]) == expected[::-1]
    assert reused(sharing, *asked[0]) == 3 * BLOCK_TOKENS


def test_only_whole_blocks_of_the_same_adapter_are_shared(variants):
    engine = ContinuousEngine(*variants)
    prompt = SYSTEM[: 2 * BLOCK_TOKENS]
    assert reused(engine, "lora", prompt) == 0
    # The last token of a prompt is computed in any case.
    assert reused(engine, "lora", prompt) == BLOCK_TOKENS
    assert reused(engine, "lora", (*prompt, 5)) == 2 * BLOCK_TOKENS
    assert reused(engine, "other", (*prompt, 5)) == 0
    assert reused(engine, "base", (*prompt, 5)) == 0
    # The second block alone stands behind something else.
    assert reused(engine, "lora", (*prompt[BLOCK_TOKENS:], 5, 6)) == 0
    assert reused(engine, "lora", (9, *prompt[1:], 5)) == 0


def test_a_chat_goes_on_from_its_answer(variants):
    engine = ContinuousEngine(*variants)
    prompt = SYSTEM[: 3 * BLOCK_TOKENS - 2]
    engine.add(AnswerRequest("a", "base", Generation(max_tokens=40), prompt=prompt))
    state = engine.batch.answers["a"].state
    while not engine.is_idle:
        engine.step()
    whole = (len(state.ids) - 1) // BLOCK_TOKENS * BLOCK_TOKENS
    assert whole > len(prompt)
    assert reused(engine, "base", (*state.ids, 7, 8)) == whole


def filled(cache: KVCache, slot: int, num_tokens: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    pair = (torch.randn(2, num_tokens, 4, generator=generator) for _ in range(2))
    cache.put(slot, 0, {0: (next(pair), next(pair))})


def test_memory_is_bounded_and_the_oldest_goes_first():
    cache, block = KVCache(2), 2 * 2 * BLOCK_TOKENS * 4 * 4
    beginnings = Beginnings(3 * block)
    texts = [[number] * BLOCK_TOKENS * 2 for number in range(3)]
    for number, text in enumerate(texts):
        filled(cache, 0, len(text), seed=number)
        beginnings.keep(-1, text, cache, 0, 0)
        assert beginnings.num_bytes <= 3 * block
    assert beginnings.load(-1, texts[0], cache, 1, 0) == 0
    # The end of the second made room: a block never outlives what stands before it.
    assert beginnings.load(-1, texts[1], cache, 1, 0) == BLOCK_TOKENS
    assert beginnings.load(-1, texts[2], cache, 1, 0) == 2 * BLOCK_TOKENS
    found, wanted = (cache.read(slot, 0, 2 * BLOCK_TOKENS)[0] for slot in (1, 0))
    assert torch.equal(found[0], wanted[0])
    assert torch.equal(found[1], wanted[1])
    beginnings.keep(-1, [7] * BLOCK_TOKENS * 9, *_long(cache))
    assert beginnings.num_bytes == 3 * block
    assert beginnings.load(-1, [7] * BLOCK_TOKENS * 9, cache, 1, 0) == 3 * BLOCK_TOKENS


def _long(cache: KVCache) -> tuple[KVCache, int, int]:
    filled(cache, 0, 9 * BLOCK_TOKENS, seed=5)
    return cache, 0, 0
