"""Candidate answers in packed rows: each as if it were read alone, what is common read once."""

from functools import partial

import pytest
import torch

from kamerton.inference.answer_rows import PromptWithAnswers, answer_logprobs, read_answers
from kamerton.models.rows.row import Row
from tests.shapes import tiny_base

SYSTEM = [*range(3, 40)]
ASKED: list[PromptWithAnswers] = [
    ([*SYSTEM, 7, 8], [[5, 6, 4, 9], [8], [4, 4]]),
    ([9, 10], []),
    ([*SYSTEM, 11], [[6], [5, 6]]),
    ([12, 13, 14], [[5, 7, 7]]),
]


@pytest.mark.parametrize("tokens_per_row", [12, 4096])
@pytest.mark.parametrize("shape", ["llama", "gemma3"])
def test_every_answer_is_read_as_if_it_were_alone(shape: str, tokens_per_row: int) -> None:
    base = tiny_base(shape)
    read = partial(answer_logprobs, base)
    found = read_answers(ASKED, tokens_per_row, base.device, read, last_tokens=False)
    for (prompt, answers), sums in zip(ASKED, found, strict=True):
        assert len(sums) == len(answers)
        for answer, number in zip(answers, sums.tolist(), strict=True):
            with torch.no_grad():
                said = base.own_logits(torch.tensor(prompt + answer)).log_softmax(-1)
            at = torch.arange(len(prompt) - 1, len(prompt) + len(answer) - 1)
            assert number == pytest.approx(float(said[at, torch.tensor(answer)].sum()), abs=1e-4)


def test_what_chats_begin_with_is_read_once() -> None:
    rows: list[Row] = []

    def read(row: Row) -> torch.Tensor:
        rows.append(row)
        return torch.zeros(row.num_answers)

    read_answers(ASKED, 4096, torch.device("cpu"), read, last_tokens=False)
    # The beginning; the first chat's own with 3 + 0 + 1 tokens, the third's, the last's.
    assert [len(row.ids) for row in rows] == [len(SYSTEM) + (2 + 4) + (1 + 1) + (3 + 2)]
    rows.clear()
    read_answers(ASKED, 4096, torch.device("cpu"), read, last_tokens=True)
    assert [len(row.ids) for row in rows] == [len(SYSTEM) + (2 + 7) + (1 + 3) + (3 + 3)]
