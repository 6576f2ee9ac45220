"""Requests that begin alike and come together: one reads the beginning, the others copy it."""

from collections.abc import Iterable

from kamerton.core.sequences import shared_prefix
from kamerton.inference.request_state import RequestState

__all__ = ["follow"]

_WORTH_TOKENS = 8
"""Fewer tokens are read faster than they are waited for and copied."""


def follow(state: RequestState, others: Iterable[RequestState]) -> None:
    """Let a request wait for another that reads the same beginning.

    Args:
        state: The request, which has a slot and may know some of its beginning already.
        others: Requests of the same adapter that had slots before it. Whoever waits, waits for one
            of them, so that none waits in a circle.
    """
    ids = state.ids[:-1]
    best = state.num_computed + _WORTH_TOKENS
    for other in others:
        if best > len(ids):
            return
        # The first of those that are about as good: it waits least itself.
        if ids[:best] == other.ids[:best]:
            state.leader, state.num_shared = other, shared_prefix(ids, other.ids)
            best = state.num_shared + _WORTH_TOKENS
