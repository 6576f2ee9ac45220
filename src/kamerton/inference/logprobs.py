"""Log-probabilities as clients read them: of chosen tokens, and of those of a prompt.

Shapes: V vocabulary, n positions, E hidden size.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from kamerton.core.requests import TokenLogprob
from kamerton.models.heads import Head

__all__ = ["prompt_logprobs", "token_logprobs"]

_ROWS_AT_ONCE = 64
"""Positions of a prompt whose logits are held at once: a vocabulary is large."""


def token_logprobs(
    logits: Tensor, tokens: Sequence[int], num_top: int, tokenizer: Any
) -> list[TokenLogprob]:
    """Report tokens with what else was likely.

    Args:
        logits: [n, V] in fp32.
        tokens: n ids.
        num_top: Alternatives per token.
        tokenizer: Writes them.

    Returns:
        n; a token among its own alternatives has the same number there, bit for bit.
    """
    logprobs = logits.log_softmax(-1)
    best = logprobs.topk(num_top)
    return [
        TokenLogprob(
            tokenizer.decode([token]),
            value,
            _named(token, list(zip(indices, values, strict=True)), tokenizer),
        )
        for token, value, indices, values in zip(
            tokens,
            logprobs[range(len(tokens)), list(tokens)].tolist(),
            best.indices.tolist(),
            best.values.tolist(),
            strict=True,
        )
    ]


def prompt_logprobs(
    head: Head, hidden: Tensor, tokens: Sequence[int], num_top: int, tokenizer: Any
) -> list[TokenLogprob]:
    """Report tokens of a prompt, a few at a time.

    Args:
        head: Of the variant.
        hidden: [n, E], each at the position before the token.
        tokens: n ids.
        num_top: Alternatives per token.
        tokenizer: Writes them.

    Returns:
        n.
    """
    found: list[TokenLogprob] = []
    for start in range(0, len(tokens), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        found += token_logprobs(head.logits(hidden[part]), tokens[part], num_top, tokenizer)
    return found


def _named(
    token: int, top: Sequence[tuple[int, float]], tokenizer: Any
) -> tuple[tuple[str, float], ...]:
    """Give alternatives texts that differ: parts of characters are all written alike."""
    texts = {token: tokenizer.decode([token])}
    taken = set(texts.values())
    for index, _ in top:
        if index not in texts:
            text = tokenizer.decode([index])
            texts[index] = f"token_id:{index}" if text in taken else text
            taken.add(texts[index])
    return tuple((texts[index], value) for index, value in top)
