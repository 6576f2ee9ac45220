"""What rounding explains and what it does not."""

import pytest
import torch

from kamerton.models.agreement import compare, rounded_otherwise
from tests.parity.test_ragged_rows import random_ids
from tests.shapes import plain_model

BF16 = torch.bfloat16


def logprobs(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=random_ids(40)[None]).logits[0].float().log_softmax(-1)


def test_one_token_far_off_is_rounding() -> None:
    wanted = torch.full((100,), -2.0)
    found = wanted.clone()
    found[7] += 0.9
    assert compare(found, wanted, BF16).agrees


@pytest.mark.parametrize("off", [1.0, float("nan"), float("inf")])
def test_many_tokens_off_are_not(off: float) -> None:
    wanted = torch.full((100,), -2.0)
    found = wanted.clone()
    found[::8] += off
    check = compare(found, wanted, BF16)
    assert not check.agrees
    assert check.difference > check.tolerance


def test_the_models_own_error_is_allowed_and_measured_only_where_it_is_needed() -> None:
    wanted = torch.full((100,), -2.0)
    asked = []

    def own() -> torch.Tensor:
        asked.append(1)
        return wanted + 0.1

    assert compare(wanted + 0.01, wanted, BF16, own).agrees
    assert not asked
    assert compare(wanted + 0.15, wanted, BF16, own).agrees
    assert not compare(wanted + 0.25, wanted, BF16, own).agrees
    assert len(asked) == 2


def test_rounding_otherwise_is_as_far_off_as_the_dtype() -> None:
    exact = logprobs(plain_model("llama"))
    model = plain_model("llama").to(BF16)
    rounded = logprobs(model)
    with rounded_otherwise(model):
        otherwise = logprobs(model)
    assert torch.equal(logprobs(model), rounded)
    error, own = (rounded - exact).abs().mean(), (otherwise - rounded).abs().mean()
    assert 0.5 * error < own < 3 * error
