"""Full fine-tuning: gradients of every weight, taking it off again, files."""

import pytest
import torch
from safetensors.torch import load, save

from kamerton.adapters.full import FullSettings, attach_full, load_full
from kamerton.core.errors import AdapterError, SettingsError
from kamerton.models.attention.layout import Layout
from kamerton.models.heads import token_logprobs
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
    with pytest.raises(AdapterError, match="made for Qwen3ForCausalLM"):
        load_full(tiny_base("llama"), files)
    bare = {"model.safetensors": save(load(files["model.safetensors"]))}
    with pytest.raises(AdapterError, match="belongs to no module"):
        load_full(tiny_base("llama"), bare)
    with pytest.raises(AdapterError, match="damaged"):
        load_full(tiny_base("llama"), {"model.safetensors": b"x"})


# One block, its biases and norms, all norms and biases, of `tests.shapes`: E 64, F 96, 4 heads and
# 2 key/value heads of 16, vocabulary 97, GPT-2 with F 256.
BLOCK = {
    "llama": 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 96 + 2 * 64,
    "gpt2": (64 + 1) * 192 + (64 + 1) * 64 + (64 + 1) * 256 + (256 + 1) * 64 + 4 * 64,
}
SMALL = {
    "llama": 3 * 2 * 64 + 64,
    # Three norms' worth of weights and biases: two in a block, one at the end.
    "gpt2": 3 * (192 + 64 + 256 + 64 + 4 * 64) + 2 * 64,
    # Four norms in a block, two more within attention.
    "gemma3": 3 * (4 * 64 + 2 * 16) + 64,
}


@pytest.mark.parametrize(
    ("shape", "parts", "count"),
    [
        ("llama", ("last-1",), BLOCK["llama"]),
        ("llama", ("last-2", "last-1"), 2 * BLOCK["llama"]),
        ("gpt2", ("last-3",), 3 * BLOCK["gpt2"]),
        ("llama", ("norms-and-biases",), SMALL["llama"]),
        ("gpt2", ("norms-and-biases",), SMALL["gpt2"]),
        ("gemma3", ("norms-and-biases",), SMALL["gemma3"]),
        ("llama", ("embeddings",), 97 * 64),
        ("llama", ("head", "embeddings"), 2 * 97 * 64),
        # Tied: the same numbers by either name.
        ("gemma3", ("head", "embeddings"), 97 * 64),
        ("llama", ("last-1", "norms-and-biases"), BLOCK["llama"] + SMALL["llama"] - 2 * 64),
    ],
)
def test_parts_are_what_they_say(shape: str, parts: tuple[str, ...], count: int) -> None:
    base = tiny_base(shape)
    full = attach_full(base, FullSettings(parts=parts))
    assert sum(p.numel() for p in full.parameters().values()) == count
    assert not any(p.requires_grad for p in base.model.parameters())
    stored = load(full.files()["model.safetensors"])
    assert sum(tensor.numel() for tensor in stored.values()) == count


def test_a_base_in_bf16_learns_in_fp32() -> None:
    """A step smaller than bf16 can hold is not lost, and shows once there are enough of them."""
    base = tiny_base("llama", dtype=torch.bfloat16)
    full = attach_full(base)
    start = base.head.weight.detach().clone()
    weight = full.parameters()["lm_head.weight"]
    assert weight.dtype == torch.float32
    with torch.no_grad():
        for _ in range(64):
            weight *= 1 + 2**-12
    assert base.head.weight.dtype == torch.bfloat16
    ratio = (base.head.weight.detach().float() / start.float()).mean()
    assert float(ratio) == pytest.approx((1 + 2**-12) ** 64, abs=1e-3)
    # The gradient arrives in fp32, from both passes over the same weights.
    for _ in range(2):
        logprobs(base).sum().backward()
    assert weight.grad is not None
    assert weight.grad.dtype == torch.float32
    assert torch.isfinite(weight.grad).all()


def test_last_blocks_are_the_last() -> None:
    full = attach_full(tiny_base("llama"), FullSettings(parts=("last-2",)))
    numbers = {name.split(".")[2] for name in full.parameters()}
    assert numbers == {"1", "2"}


def test_parts_the_base_has_not_are_refused() -> None:
    with pytest.raises(AdapterError, match="the base has 3 blocks"):
        attach_full(tiny_base("llama"), FullSettings(parts=("last-4",)))
    for parts in (("last-0",), ("norms",), (), ("last-",)):
        with pytest.raises(SettingsError, match="parts"):
            FullSettings.parse({"parts": parts})


def test_files_of_parts_and_of_earlier_versions() -> None:
    base = tiny_base("llama")
    start = answers(base)
    partial = attach_full(base, FullSettings(parts=("norms-and-biases",)))
    with torch.no_grad():
        for parameter in partial.parameters().values():
            parameter += 0.1
    trained, files = answers(base), partial.files()
    partial.detach()
    again = load_full(base, files)
    assert torch.equal(answers(base), trained)
    assert list(again.parameters()) == list(partial.parameters())
    again.detach()
    assert torch.equal(answers(base), start)
    # Norms have the same names and shapes in Phi-3, but are of another model.
    with pytest.raises(AdapterError, match="made for LlamaForCausalLM"):
        load_full(tiny_base("phi3"), files)
    tensors = load(files["model.safetensors"])
    for strange in ("[]", "1", "{", "null", '{"architecture": "x", "parts": ["x"]}'):
        with pytest.raises(AdapterError, match="strange parts"):
            load_full(base, {"model.safetensors": save(tensors, {"full": strange})})
    # Without metadata a file is of all weights, as it was before there were parts.
    everything = {name: p.detach() for name, p in base.model.named_parameters()}
    old = load_full(base, {"model.safetensors": save(everything, {"format": "pt"})})
    assert len(old.parameters()) == len(everything)
