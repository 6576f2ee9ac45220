"""A request while it is answered, as plain data."""

from dataclasses import dataclass, field

from kamerton.core.requests import AnswerRequest

__all__ = ["RequestState"]


@dataclass(eq=False)
class RequestState:
    """What is known of one answer.

    Attributes:
        request: What was asked.
        ids: The prompt's tokens, then those written.
        num_prompt: How many of them are the prompt's.
        num_most: Most tokens that `ids` may grow to, by the request and by the base's context.
        num_before: Positions that stand before `ids`: those of the variant's prefix.
        slot: Row of the cache; -1 while it waits.
        num_computed: Tokens of `ids` whose keys and values the slot holds.
        num_reused: How many of them were computed for another request.
        leader: The request that reads the beginning of the prompt; this one waits for it.
        num_shared: Tokens of that beginning.
    """

    request: AnswerRequest
    ids: list[int]
    num_prompt: int
    num_most: int
    num_before: int = 0
    slot: int = -1
    num_computed: int = field(default=0)
    num_reused: int = 0
    leader: "RequestState | None" = None
    num_shared: int = 0

    @property
    def num_left(self) -> int:
        """Tokens to be read before the next can be chosen."""
        return len(self.ids) - self.num_computed

    @property
    def written(self) -> list[int]:
        """Tokens of the answer so far, with the one that ended it."""
        return self.ids[self.num_prompt :]

    @property
    def num_written(self) -> int:
        """Tokens of the answer so far."""
        return len(self.ids) - self.num_prompt

    @property
    def num_free(self) -> int:
        """Tokens that may still be written; 0 from the start where only the prompt is read."""
        return self.num_most - len(self.ids)

    @property
    def num_longest(self) -> int:
        """Most positions that its slot may come to hold."""
        return self.num_before + self.num_most

    @property
    def past(self) -> int:
        """Positions that its slot holds."""
        return self.num_before + self.num_computed
