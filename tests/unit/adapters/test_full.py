"""Full fine-tuning: gradients of every weight, taking it off again, files."""

import pytest
import torch

from kamerton.adapters.full import attach_full, load_full
from kamerton.core.errors import AdapterError
from kamerton.models.heads import token_logprobs
from kamerton.models.layout import Layout
from tests.parity.test_ragged_rows import random_ids
from tests.shapes import tiny_base

LAYOUT = Layout.of_lengths([13, 13, 20])


def logprobs(base):
    ids = random_ids(46)
    return token_logprobs(base.hidden(ids, LAYOUT)[:-1], ids[1:], base.head)


@torch.no_grad()
def answers(base):
    return logprobs(base)


@pytest.mark.parametrize("shape", ["llama", "gemma2", "gpt2", "phi3"])
def test_gradients_equal_transformers(shape: str) -> None:
    base = tiny_base(shape)
    full = attach_full(base)
    parameters = list(full.parameters().values())
    ours = torch.autograd.grad(logprobs(base).sum(), parameters)
    ids = random_ids(46)
    with base.attention("eager"):
        total = torch.zeros(())
        for segment in LAYOUT.segments:
            own = ids[segment.start : segment.stop]
            found = base.model(input_ids=own[None]).logits[0].log_softmax(-1)
            follows = ids[segment.start + 1 : segment.stop + 1]
            total = total + found[: len(follows)].gather(1, follows[:, None]).sum()
        theirs = torch.autograd.grad(total, parameters)
    for mine, reference in zip(ours, theirs, strict=True):
        scale = reference.abs().max().clamp_min(1e-6)
        torch.testing.assert_close(mine / scale, reference / scale, rtol=0, atol=2e-4)


def test_disabled_detach_and_files() -> None:
    base = tiny_base("llama")
    start = answers(base)
    full = attach_full(base)
    with torch.no_grad():
        for parameter in full.parameters().values():
            parameter += 0.01
    trained = answers(base)
    assert not torch.equal(trained, start)
    with full.disabled():
        assert torch.equal(answers(base), start)
    assert torch.equal(answers(base), trained)
    files = full.files()
    full.detach()
    assert torch.equal(answers(base), start)
    assert not any(p.requires_grad for p in base.model.parameters())
    load_full(base, files)
    assert torch.equal(answers(base), trained)


def test_wrong_weights_are_refused() -> None:
    files = attach_full(tiny_base("qwen3")).files()
    with pytest.raises(AdapterError, match="do not fit"):
        load_full(tiny_base("llama"), files)
    with pytest.raises(AdapterError, match="damaged"):
        load_full(tiny_base("llama"), {"model.safetensors": b"x"})
    with pytest.raises(AdapterError, match="fp32"):
        attach_full(tiny_base("llama", dtype=torch.bfloat16))
