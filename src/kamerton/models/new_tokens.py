"""Tokens that an adapter brings along: a tokenizer that knows them, and their ids."""

import copy
from collections.abc import Sequence
from typing import Any

from tokenizers import AddedToken

from kamerton.core.errors import ModelError

__all__ = ["pieces_of", "rows_with", "token_ids", "tokenizer_with"]


def tokenizer_with(tokenizer: Any, tokens: Sequence[str]) -> Any:
    """Let a tokenizer read each of some texts as one token.

    A text of letters and digits at its ends is only read so as a word of its own.

    Args:
        tokenizer: A fast tokenizer of Transformers; stays as it is.
        tokens: The texts; those it reads as one token already change nothing.

    Returns:
        A copy with the new tokens after its own, in order; the same without any.
    """
    new = [token for token in tokens if _known(tokenizer, token) is None]
    if not new:
        return tokenizer
    extended = copy.deepcopy(tokenizer)
    extended.add_tokens(
        [
            AddedToken(text, single_word=text[0].isalnum() and text[-1].isalnum(), normalized=False)
            for text in new
        ]
    )
    return extended


def rows_with(num_rows: int, own: Any, extended: Any) -> int:
    """Count the rows that an embedding has with the tokens of an adapter.

    Args:
        num_rows: The number of rows of the base's embedding.
        own: The base's tokenizer.
        extended: The tokenizer that `tokenizer_with` gave.

    Returns:
        The rows; those of the base where there are no new tokens.
    """
    return num_rows if extended is own else max(num_rows, len(extended))


def token_ids(tokenizer: Any, tokens: Sequence[str], num_rows: int) -> list[int]:
    """Give the ids that tokens have in the tokenizer that `tokenizer_with` makes.

    Args:
        tokenizer: The tokenizer without them.
        tokens: The texts.
        num_rows: The number of rows of the base's embedding.

    Returns:
        One id per text; new ones come after the tokenizer's own.

    Raises:
        ModelError: If the tokenizer has more tokens than the embedding has rows.
    """
    if len(tokenizer) > num_rows:
        raise ModelError(
            f"the tokenizer has {len(tokenizer)} tokens and the base's embedding {num_rows} rows: "
            "new tokens have no place"
        )
    ids, following = [], len(tokenizer)
    for token in tokens:
        known = _known(tokenizer, token)
        ids.append(following if known is None else known)
        following += known is None
    return ids


def pieces_of(tokenizer: Any, token: str) -> list[int]:
    """Give the ids of the tokens that a text is read as without a token of its own.

    Args:
        tokenizer: The tokenizer without the token.
        token: The text.

    Returns:
        At least one id.
    """
    ids: list[int] = tokenizer(token, add_special_tokens=False)["input_ids"]
    return ids


def _known(tokenizer: Any, token: str) -> int | None:
    """The id of a text that is one token already."""
    found: int | None = tokenizer.get_vocab().get(token)
    return found
