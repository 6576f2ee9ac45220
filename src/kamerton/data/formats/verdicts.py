"""Verdicts on answers: thumbs up or down, however they are written."""

from typing import Any

__all__ = ["yes_or_no"]

_PAIRS = (
    ("true", "false"),
    ("1", "0"),
    ("+1", "-1"),
    ("yes", "no"),
    ("good", "bad"),
    ("up", "down"),
    ("thumbsup", "thumbsdown"),
    ("like", "dislike"),
    ("liked", "disliked"),
    ("upvote", "downvote"),
    ("👍", "👎"),
    ("да", "нет"),
)
_YES = frozenset(yes for yes, _ in _PAIRS)
_NO = frozenset(no for _, no in _PAIRS)
_JOINTS = str.maketrans("", "", "_ ")


def yes_or_no(value: Any) -> bool | None:
    """Read a thumb up or down.

    Args:
        value: True or false, 1 or 0, 1 or -1, or a word such as "yes", "bad", "thumbs_up".

    Returns:
        Whether it is up; None when it is neither.
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, bool | int | str):
        return None
    word = str(value).casefold().translate(_JOINTS).replace("thumbs-", "thumbs")
    return True if word in _YES else False if word in _NO else None
