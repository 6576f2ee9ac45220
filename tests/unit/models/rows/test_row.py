"""Rows: the last tokens of answers may be left out, and numbers come back by example."""

import numpy as np
import pytest
import torch

from kamerton.data.rendering.tokenized import TokenizedExample, TokenizedGroup, TokenizedPrompt
from kamerton.models.rows.reading import by_example, logprobs_of, scores_at_ends
from kamerton.models.rows.row import make_row, make_rows
from tests.shapes import tiny_base


def group(prompt: list[int], *answers: list[int]) -> TokenizedGroup:
    return TokenizedPrompt(np.array(prompt, np.int32), (), {}, None).answered(answers)


GROUPS = [
    group([*range(3, 43), 7], [5, 6, 4], [8]),
    group([9, 4], [7, 7, 5, 6], [8, 4]),
    group([*range(3, 43), 11, 12], [5], [6]),
]


@pytest.mark.parametrize("shared", [True, False])
def test_last_tokens_predict_nothing(shared: bool) -> None:
    base = tiny_base("llama")
    whole = make_row(GROUPS, base.device, shared=shared)
    cut = make_row(GROUPS, base.device, shared=shared, last_tokens=False)
    assert len(cut.ids) == len(whole.ids) - whole.num_answers
    assert torch.equal(cut.targets, whole.targets)
    assert torch.equal(cut.answers, whole.answers)
    torch.testing.assert_close(logprobs_of(base, cut), logprobs_of(base, whole))
    with pytest.raises(AssertionError, match="score head"):
        scores_at_ends(base, cut)


def test_a_text_may_end_early_too() -> None:
    text = TokenizedExample(np.array([3, 4, 5, 6], np.int32), np.array([False, True, False, True]))
    row = make_row([text], torch.device("cpu"), last_tokens=False)
    assert row.ids.tolist() == [3, 4, 5]
    assert (row.at.tolist(), row.targets.tolist()) == ([0, 2], [4, 6])


@pytest.mark.parametrize("limit", [10, 60, 4096])
def test_numbers_come_back_by_example(limit: int) -> None:
    rows = make_rows(GROUPS, limit, torch.device("cpu"), last_tokens=False)
    found = by_example(rows, lambda row: row.targets, [4, 6, 2])
    assert [numbers.tolist() for numbers in found] == [[5, 6, 4, 8], [7, 7, 5, 6, 8, 4], [5, 6]]


def test_nothing_makes_no_rows() -> None:
    assert make_rows([], 100, torch.device("cpu")) == []
