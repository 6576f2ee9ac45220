"""Which requests take part in the next step, and with how many tokens. Knows nothing of tensors."""

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass

from kamerton.inference.request_state import RequestState

__all__ = ["Chunk", "Move", "Scheduler"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """The next tokens of a request to compute.

    Attributes:
        state: The request.
        num_tokens: How many, at least 1.
    """

    state: RequestState
    num_tokens: int

    @property
    def ids(self) -> list[int]:
        """The tokens."""
        first = self.state.num_computed
        return self.state.ids[first : first + self.num_tokens]

    @property
    def is_whole(self) -> bool:
        """Whether the request's next token can be chosen afterwards."""
        return self.num_tokens == self.state.num_left


@dataclass(frozen=True, slots=True)
class Move:
    """What the cache must copy because a request has another slot now.

    Attributes:
        source: The slot it had.
        target: The slot it has, at least for the moment.
        num_tokens: Positions that are held.
    """

    source: int
    target: int
    num_tokens: int


class Scheduler:
    """Gives waiting requests a slot in the order they came, and every running one its turn.

    Answers that are being written get a token each in every step. What is left of the budget goes
    to prompts, so that a long one is read in chunks and does not stall the others; a prompt whose
    beginning another request reads has none until that is done. Slots 0 to n - 1 are taken by n
    requests: attention then needs no copy of the cache.

    Args:
        num_slots: Most requests that run at once.
        tokens_per_step: Most tokens that are computed in a step.

    Attributes:
        limit_tokens: Most tokens that all slots hold together, each as long as the longest may
            become; None for no limit. A request that is alone runs whatever its length.
    """

    limit_tokens: int | None = None

    def __init__(self, num_slots: int, tokens_per_step: int) -> None:
        assert 0 < num_slots <= tokens_per_step, "every running request has a token in each step"
        self._num_slots, self._tokens_per_step = num_slots, tokens_per_step
        self.waiting: deque[RequestState] = deque()
        self.running: list[RequestState] = []

    @property
    def is_idle(self) -> bool:
        """Whether nothing is to be done."""
        return not self.waiting and not self.running

    def add(self, state: RequestState) -> None:
        """Let a request wait for a slot.

        Args:
            state: The request.
        """
        self.waiting.append(state)

    def admit(self) -> list[RequestState]:
        """Give free slots to those who wait longest.

        Nobody overtakes: a long request that waits for memory is not put off by short ones.

        Returns:
            The requests that have a slot now and had none.
        """
        admitted = []
        longest = max((state.num_longest for state in self.running), default=0)
        while self.waiting and len(self.running) < self._num_slots:
            longest = max(longest, self.waiting[0].num_longest)
            needed = (len(self.running) + 1) * longest
            if self.running and self.limit_tokens is not None and needed > self.limit_tokens:
                break
            state = self.waiting.popleft()
            state.slot = len(self.running)
            self.running.append(state)
            admitted.append(state)
        return admitted

    def schedule(self) -> list[Chunk]:
        """Choose the tokens of the next step.

        Returns:
            Chunks in the order of their slots; empty when nothing runs.
        """
        # A token is kept for every request that is writing; who reads shares the rest.
        left = self._tokens_per_step - sum(state.num_left == 1 for state in self.running)
        chunks = []
        for state in self.running:
            if state.num_left == 1:
                chunks.append(Chunk(state, 1))
            elif left > 0 and state.leader is None:
                chunks.append(Chunk(state, min(state.num_left, left)))
                left -= chunks[-1].num_tokens
        return chunks

    def remove(self, ids: Collection[str]) -> list[Move]:
        """Take requests out, finished or cancelled; others move into their slots.

        Args:
            ids: Names of requests; unknown ones do no harm.

        Returns:
            Moves to make in the cache, in this order.
        """
        self.waiting = deque(s for s in self.waiting if s.request.id not in ids)
        moves: list[Move] = []
        # From the last slot down: whoever moves has been looked at already and stays.
        for slot in reversed(range(len(self.running))):
            if self.running[slot].request.id not in ids:
                continue
            last = self.running.pop()
            if last.slot != slot:
                moves.append(Move(last.slot, slot, last.past))
                last.slot = slot
                self.running[slot] = last
        return moves
