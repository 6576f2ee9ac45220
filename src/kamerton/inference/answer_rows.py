"""Candidate answers in packed rows: chats share what they begin with, answers share their chat."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from kamerton.data.rendering.tokenized import TokenizedPrompt
from kamerton.models.base import Base
from kamerton.models.rows.reading import by_example, logprobs_of
from kamerton.models.rows.row import Row, make_rows
from kamerton.objectives.objective import LossInputs

__all__ = ["PromptWithAnswers", "answer_logprobs", "read_answers"]

PromptWithAnswers = tuple[list[int], list[list[int]]]
"""Ids of a prompt, and of its candidate answers; at least one id each."""


def answer_logprobs(base: Base, row: Row) -> Tensor:
    """Run a row for the log-probability of each answer.

    Args:
        base: The base with whatever adapter is attached.
        row: The row; the last tokens of its answers may be left out.

    Returns:
        [A] natural logs, the sum over the labelled tokens of an answer, fp32.
    """
    return LossInputs(logprobs_of(base, row), row.answers, row.num_answers).sums


@torch.no_grad()
def read_answers(
    asked: Sequence[PromptWithAnswers],
    tokens_per_row: int,
    device: torch.device,
    read: Callable[[Row], Tensor],
    *,
    last_tokens: bool,
) -> list[Tensor]:
    """Read something of every candidate answer.

    Args:
        asked: Prompts with their answers; a prompt may have none.
        tokens_per_row: Size of a row in tokens.
        device: The rows' device.
        read: Gives [A, ...] numbers of a row, one entry an answer.
        last_tokens: Whether it needs the last tokens of answers.

    Returns:
        The numbers of each prompt, [candidates, ...] in their order.
    """
    # Answers of similar length stand together: attention may pad them to a common one.
    orders = [np.argsort([len(a) for a in answers], kind="stable") for _, answers in asked]
    groups = [
        TokenizedPrompt(np.array(prompt, np.int32), (), {}, None).answered(
            [answers[place] for place in order]
        )
        for (prompt, answers), order in zip(asked, orders, strict=True)
        if answers
    ]
    rows = make_rows(groups, tokens_per_row, device, last_tokens=last_tokens)
    found = iter(by_example(rows, read, [len(group.answers) for group in groups]))
    # The second argsort says where each candidate went.
    return [
        next(found)[np.argsort(order)] if len(order) else torch.empty(0, device=device)
        for order in orders
    ]
