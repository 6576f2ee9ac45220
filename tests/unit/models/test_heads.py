"""Log-probabilities and their gradient against the plain computation."""

import pytest
import torch

from kamerton.models import heads
from kamerton.models.heads import Head, candidate_logprobs, token_logprobs, top_logprobs


def plain(hidden, targets, head):
    return head.logits(hidden).log_softmax(-1).gather(1, targets[:, None]).squeeze(1)


@pytest.mark.parametrize("chunk", [64, 1 << 22], ids=["many chunks", "one chunk"])
@pytest.mark.parametrize(
    ("bias", "scale", "softcap"),
    [(False, 1.0, None), (True, 0.25, None), (False, 1.0, 5.0), (True, 2.0, 5.0)],
)
def test_equals_the_plain_computation(bias, scale, softcap, chunk, monkeypatch) -> None:
    monkeypatch.setattr(heads, "_CHUNK_LOGITS", chunk)
    torch.manual_seed(0)
    weight = torch.randn(50, 16, dtype=torch.float32)
    head = Head(weight, torch.randn(50) if bias else None, scale, softcap)
    hidden = torch.randn(70, 16, requires_grad=True)
    targets = torch.randint(50, (70,))
    factors = torch.randn(70)  # an objective weighs positions as it likes
    ours = token_logprobs(hidden, targets, head)
    (our_grad,) = torch.autograd.grad((ours * factors).sum(), hidden)
    theirs = plain(hidden, targets, head)
    (their_grad,) = torch.autograd.grad((theirs * factors).sum(), hidden)
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(our_grad, their_grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(token_logprobs(hidden.detach(), targets, head), theirs.detach())


def test_extreme_logits_stay_finite() -> None:
    head = Head(torch.tensor([[1e4], [-1e4], [0.0]]))
    hidden = torch.tensor([[1.0], [1.0]], requires_grad=True)
    logprobs = token_logprobs(hidden, torch.tensor([0, 1]), head)
    assert logprobs[0] == 0
    assert logprobs[1] == -2e4
    (grad,) = torch.autograd.grad(logprobs.sum(), hidden)
    assert torch.isfinite(grad).all()


def test_bf16_hidden_gives_fp32_logprobs() -> None:
    torch.manual_seed(0)
    head = Head(torch.randn(40, 8, dtype=torch.bfloat16))
    hidden = torch.randn(5, 8, dtype=torch.bfloat16, requires_grad=True)
    targets = torch.arange(5)
    logprobs = token_logprobs(hidden, targets, head)
    assert logprobs.dtype == torch.float32
    torch.testing.assert_close(logprobs, plain(hidden, targets, head), rtol=2e-2, atol=2e-2)
    (grad,) = torch.autograd.grad(logprobs.sum(), hidden)
    assert grad.dtype == torch.bfloat16


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_candidates_at_a_temperature_equal_the_plain_computation(temperature, monkeypatch) -> None:
    monkeypatch.setattr(heads, "_CHUNK_LOGITS", 64)
    torch.manual_seed(0)
    head = Head(torch.randn(50, 16), torch.randn(50))
    hidden = torch.randn(70, 16, requires_grad=True)
    targets, ids = torch.randint(50, (70,)), torch.randint(50, (70, 3))
    found = candidate_logprobs(hidden, targets, ids, head, temperature)
    logits = head.logits(hidden)
    others = (logits / temperature).log_softmax(-1).gather(1, ids)
    expected = torch.cat([plain(hidden, targets, head)[:, None], others], 1)
    torch.testing.assert_close(found, expected)
    factors = torch.randn(70, 4)
    (ours,) = torch.autograd.grad((found * factors).sum(), hidden, retain_graph=True)
    (theirs,) = torch.autograd.grad((expected * factors).sum(), hidden)
    torch.testing.assert_close(ours, theirs)


def test_the_top_of_a_teacher_is_sorted_and_over_the_whole_vocabulary() -> None:
    torch.manual_seed(0)
    head = Head(torch.randn(50, 16))
    hidden = torch.randn(9, 16)
    logprobs, ids = top_logprobs(hidden, head, 7, 2.0)
    whole = (head.logits(hidden) / 2).log_softmax(-1)
    torch.testing.assert_close(logprobs, whole.topk(7).values)
    torch.testing.assert_close(whole.gather(1, ids), logprobs)
    assert top_logprobs(hidden, head, 99, 1.0)[0].shape == (9, 50)
