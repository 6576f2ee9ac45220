"""Packed ragged rows against plain Transformers rows, values and gradients, in fp32."""

import pytest
import torch
from torch import Tensor

from kamerton.adapters.lora.lora import LoraSettings, attach_lora
from kamerton.models.attention.cache import KVCache
from kamerton.models.attention.layout import Layout, Segment
from kamerton.models.attention.ragged import ATTENTION_NAME
from kamerton.models.base import Base
from kamerton.models.heads import token_logprobs
from tests.shapes import CONFIGS, VOCABULARY, tiny_base

FAMILY = Layout(
    (
        Segment(0, 12),
        Segment(12, 24),
        Segment(24, 40),
        Segment(40, 45, parent=2),
        Segment(45, 52, parent=2),
        Segment(52, 60, parent=4),
        Segment(60, 61),
        Segment(61, 90),
    )
)


def random_ids(num_tokens: int) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(3, VOCABULARY, (num_tokens,), generator=generator)


def logprobs_and_gradients(base: Base, hidden: Tensor, ids: Tensor, lora) -> tuple:
    predicts = torch.arange(len(ids) - 1)
    logprobs = token_logprobs(hidden[predicts], ids[1:], base.head)
    parameters = list(lora.parameters().values())
    return logprobs.detach(), torch.autograd.grad(logprobs.sum(), parameters)


@pytest.mark.parametrize("shape", CONFIGS)
def test_values_and_gradients_equal_plain_rows(shape: str) -> None:
    base = tiny_base(shape)
    ids = random_ids(FAMILY.num_tokens)
    lora = attach_lora(base, LoraSettings(rank=4), seed=0)
    for name, parameter in lora.parameters().items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    ragged, ragged_grads = logprobs_and_gradients(base, base.hidden(ids, FAMILY), ids, lora)
    with base.attention("eager"):
        plain_hidden = base._padded_hidden(ids, FAMILY)
        plain, plain_grads = logprobs_and_gradients(base, plain_hidden, ids, lora)
    torch.testing.assert_close(ragged, plain, rtol=1e-5, atol=2e-5)
    for ours, theirs in zip(ragged_grads, plain_grads, strict=True):
        scale = theirs.abs().max()
        assert scale > 0
        torch.testing.assert_close(ours / scale, theirs / scale, rtol=0, atol=2e-5)


@pytest.mark.parametrize("shape", CONFIGS)
def test_head_equals_the_model_head(shape: str) -> None:
    base = tiny_base(shape)
    ids = random_ids(40)
    with torch.no_grad():
        ours = token_logprobs(base.hidden(ids, Layout.of_lengths([40]))[:-1], ids[1:], base.head)
        with base.attention("eager"):
            logits = base.model(input_ids=ids[None]).logits[0, :-1].float()
    theirs = logits.log_softmax(-1).gather(1, ids[1:, None]).squeeze(1)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("shape", CONFIGS)
def test_cache_slots_equal_whole_rows(shape: str) -> None:
    """Reading in two parts and then token by token gives the states of reading at once."""
    base = tiny_base(shape)
    lengths = [30, 17, 23]
    ids = random_ids(sum(lengths))
    rows = list(ids.split(lengths))
    with torch.no_grad():
        whole = base.hidden(ids, Layout.of_lengths(lengths)).split(lengths)
        cache = KVCache(num_slots=3)
        for start, stop in ((0, 5), (5, 14)):
            at, segments = 0, []
            for slot in range(3):
                segments.append(Segment(at, at + stop - start, slot=slot, past=start))
                at += stop - start
            part = torch.cat([row[start:stop] for row in rows])
            hidden = base.hidden(part, Layout(tuple(segments), cache))
            for slot, segment in enumerate(segments):
                expected = whole[slot][start:stop]
                found = hidden[segment.start : segment.stop]
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=2e-5)
        cache.copy_slot(2, [0], 14)  # as if the first answer had finished
        for at in range(14, 17):
            part = torch.stack([rows[2][at], rows[1][at]])
            segments = [Segment(0, 1, slot=0, past=at), Segment(1, 2, slot=1, past=at)]
            hidden = base.hidden(part, Layout(tuple(segments), cache))
            expected = torch.stack([whole[2][at], whole[1][at]])
            torch.testing.assert_close(hidden, expected, rtol=1e-4, atol=2e-5)


def test_a_neighbour_changes_nothing() -> None:
    """An example's states do not depend on what else is in the row, bit for bit."""
    base = tiny_base("llama")
    ids = random_ids(60)
    with torch.no_grad():
        row = base.hidden(ids, Layout.of_lengths([20, 19, 21]))
        ids[:20] = torch.flip(ids[:20], [0])
        other = base.hidden(ids, Layout.of_lengths([20, 19, 21]))
    assert torch.equal(row[20:], other[20:])
    assert not torch.equal(row[:20], other[:20])


def test_the_attention_function_is_in_use() -> None:
    base = tiny_base("llama")
    assert base.model.config._attn_implementation == ATTENTION_NAME
    with base.attention("eager"):
        assert base.model.config._attn_implementation == "eager"
    assert base.model.config._attn_implementation == ATTENTION_NAME
