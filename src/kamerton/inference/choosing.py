"""The next tokens of answers that each have settings of their own.

Shapes: n answers, V vocabulary.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from kamerton.core.errors import ModelError
from kamerton.core.protocols import Generation
from kamerton.core.requests import TokenLogprob
from kamerton.inference.answer import Answer
from kamerton.inference.logprobs import token_logprobs
from kamerton.inference.sampling import choose_tokens

__all__ = ["choose_each", "note_each", "report_each"]


def choose_each(answers: Sequence[Answer], logits: Tensor) -> list[int | ModelError]:
    """Choose the next tokens, those with the same settings at once.

    Args:
        answers: n.
        logits: [n, V] in fp32.

    Returns:
        n; an error where a row has no probabilities, which stops no other.
    """
    logits = _reweighted(answers, logits)
    alike: dict[tuple[float, float, int, float], list[int]] = {}
    for row, answer in enumerate(answers):
        how, min_p = answer.state.request.generation, answer.state.request.reweighting.min_p
        alike.setdefault((how.temperature, how.top_p, how.top_k, min_p), []).append(row)
    tokens: list[int | ModelError] = [0] * len(answers)
    for (*_, min_p), rows in alike.items():
        how = answers[rows[0]].state.request.generation
        streams = [answers[row].random for row in rows]
        own = logits if len(rows) == len(answers) else logits[rows]
        for row, token in zip(rows, _chosen(own, how, streams, min_p), strict=True):
            tokens[row] = token
    return tokens


def note_each(
    answers: Sequence[Answer], logits: Tensor, tokens: Sequence[int | ModelError]
) -> None:
    """Note log-probabilities as training computes them, with answers that keep them.

    Args:
        answers: n.
        logits: [n, V] in fp32, as the model gave them: neither temperature nor cuts change them.
        tokens: n that were chosen.
    """
    told = [
        (row, token, answer.logprobs)
        for row, (answer, token) in enumerate(zip(answers, tokens, strict=True))
        if answer.logprobs is not None and not isinstance(token, ModelError)
    ]
    if not told:
        return
    own = logits if len(told) == len(answers) else logits[[row for row, _, _ in told]]
    chosen = torch.tensor([token for _, token, _ in told], device=logits.device)
    found = own.gather(-1, chosen[:, None]).squeeze(-1) - own.logsumexp(-1)
    for (_, _, kept), logprob in zip(told, found.tolist(), strict=True):
        kept.append(logprob)


def report_each(
    answers: Sequence[Answer], logits: Tensor, tokens: Sequence[int | ModelError]
) -> list[tuple[TokenLogprob, ...]]:
    """Report log-probabilities at temperature 1, to those who asked for them.

    Args:
        answers: n.
        logits: [n, V] in fp32, as the model gave them.
        tokens: n that were chosen.

    Returns:
        n; empty where nobody asked.
    """
    found: list[tuple[TokenLogprob, ...]] = []
    for answer, row, token in zip(answers, logits, tokens, strict=True):
        num_top = answer.state.request.num_top_logprobs
        if num_top is None or isinstance(token, ModelError):
            found.append(())
            continue
        tokenizer = answer.variant.renderer.tokenizer
        found.append(tuple(token_logprobs(row[None], [token], num_top, tokenizer)))
    return found


def _reweighted(answers: Sequence[Answer], logits: Tensor) -> Tensor:
    """Change the [n, V] logits of the answers that ask for it; others' stay bit for bit."""
    if not any(answer.rules for answer in answers):
        return logits
    rows = list(logits)
    for index, answer in enumerate(answers):
        for rule in answer.rules:
            rows[index] = rule.apply(rows[index])
    return torch.stack(rows)


def _chosen(
    logits: Tensor, how: Generation, streams: Sequence[torch.Generator], min_p: float
) -> list[int | ModelError]:
    """Choose tokens of [n, V] logits; a row without a probability fails alone."""
    try:
        return list(choose_tokens(logits, how, streams, min_p=min_p).tolist())
    except ModelError as error:
        if len(streams) == 1:
            return [error]
    # Nothing has been drawn yet.
    rows = zip(logits, streams, strict=True)
    return [token for row, own in rows for token in _chosen(row[None], how, [own], min_p)]
