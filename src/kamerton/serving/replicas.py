"""Several engines that answer for the same models: which one gets a request, and which none."""

import asyncio
import math
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager

from kamerton.core.events import Notice, Sink
from kamerton.serving.errors import ApiError
from kamerton.serving.upstream import Upstream, UpstreamError
from kamerton.wire.upstream_answers import ModelCard
from kamerton.wire.upstream_requests import Dialect

__all__ = ["Replica", "Replicas"]

_OUT_S, _MOST_OUT_S = 1.0, 30.0
"""Seconds for which an engine that failed gets nothing: doubled with each failure in a row."""
_BUSY_S = 2.0
"""Seconds for which one that is full gets nothing where it does not say how many."""
_DIALECTS: dict[str, Dialect] = {"vllm": "vllm", "kamerton": "vllm", "me": "llama-cpp-python"}
"""By what engines write as the owner of their models."""


class Replica:
    """An engine and how it does.

    Args:
        upstream: Asks it.

    Attributes:
        upstream: Asks it.
        cards: What it lists.
        models: Names of the models that it has.
        dialect: Whose words it understands.
        num_open: Requests that it answers now.
        is_reachable: Whether it answered when it was last asked.
        heard_at: When something last came from it, on the loop's clock.
        out_until: Time until which it is asked only if no other can be.
        busy_until: Time until which it asked not to be asked.
    """

    def __init__(self, upstream: Upstream) -> None:
        self.upstream = upstream
        self.cards: Sequence[ModelCard] = ()
        self.models: Collection[str] = ()
        self.dialect: Dialect = "other"
        self.num_open, self.is_reachable = 0, False
        self.heard_at = self.out_until = self.busy_until = 0.0
        self._num_failures = 0

    def take(self, cards: Iterable[ModelCard]) -> None:
        """Note what it serves.

        Args:
            cards: As it lists them.
        """
        self.cards = known = list(cards)
        self.models = {card.name for card in known}
        self.dialect = next(
            (_DIALECTS[card.owner] for card in known if card.owner in _DIALECTS), "other"
        )

    def hear(self, now: float) -> None:
        """Note that it answers.

        Args:
            now: Time.
        """
        self.heard_at, self.is_reachable, self._num_failures, self.out_until = now, True, 0, 0.0

    def fail(self, error: UpstreamError, now: float) -> None:
        """Note that it did not.

        Args:
            error: What it did instead.
            now: Time.
        """
        if error.is_busy:
            wait = _BUSY_S if error.retry_after_s is None else error.retry_after_s
            self.busy_until = now + wait
            return
        if error.is_of_request or error.status == 404:
            return
        self.is_reachable = self.is_reachable and error.status != 0
        self._num_failures += 1
        self.out_until = now + min(_OUT_S * 2 ** (self._num_failures - 1), _MOST_OUT_S)


class Replicas:
    """Chooses engines.

    Args:
        replicas: All of them.
        sink: Receives notices of those that go and come back.
        limit_open: Most requests that each answers at once, while others wait; None sets none.
        clock: Gives the time in seconds.

    Attributes:
        replicas: All of them.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        sink: Sink,
        limit_open: int | None = None,
        clock: Callable[[], float] | None = None,
    ) -> None:
        self.replicas, self._sink, self._limit_open = replicas, sink, limit_open
        self._clock = clock or (lambda: asyncio.get_running_loop().time())
        self._waiting: list[asyncio.Future[None]] = []
        self._turn = 0

    async def choose(self, model: str, tried: Collection[Replica] = ()) -> Replica | None:
        """Choose the engine for a request: the least loaded, and one that fails only as the last.

        Args:
            model: Name of the model in the engines.
            tried: Those that did not answer it.

        Returns:
            The engine; enter `asked` before anything else runs. None where none is left.
        """
        while True:
            now = self._clock()
            able = [
                one
                for one in self.replicas
                if one not in tried and model in one.models and one.busy_until <= now
            ]
            # A place in one that works is worth waiting for.
            healthy = [one for one in able if one.is_reachable and one.out_until <= now]
            limit = self._limit_open or math.inf
            free = [one for one in healthy or able if one.num_open < limit]
            if free or not able:
                break
            waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(waiting)
            await waiting
        if not free:
            return None
        # Those with equal load take turns.
        self._turn += 1
        turned = [free[(at + self._turn) % len(free)] for at in range(len(free))]
        return min(
            turned, key=lambda one: (not one.is_reachable, one.out_until > now, one.num_open)
        )

    @contextmanager
    def asked(self, replica: Replica) -> Iterator[None]:
        """Count a request while it is open.

        Args:
            replica: The engine that answers it.
        """
        replica.num_open += 1
        try:
            yield
        finally:
            replica.num_open -= 1
            # Whoever waited longest looks first.
            waiting, self._waiting = self._waiting, []
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    def hear(self, replica: Replica) -> None:
        """Note that an engine answers.

        Args:
            replica: Which.
        """
        if not replica.is_reachable:
            self._sink(Notice(f"the engine at {replica.upstream.url} is back"))
        replica.hear(self._clock())

    def fail(self, replica: Replica, error: UpstreamError) -> None:
        """Note that an engine did not answer.

        Args:
            replica: Which.
            error: What it did instead.
        """
        was_reachable = replica.is_reachable
        replica.fail(error, self._clock())
        if was_reachable and not replica.is_reachable:
            said = f"{replica.upstream.url} gets no requests for now: {error.message}"
            self._sink(Notice(said, "warning"))

    def refusal(self, model: str, last: UpstreamError | None) -> ApiError:
        """Say why no engine answers a request.

        Args:
            model: Name of the model in them.
            last: What the engine that was asked last did; None where none could be asked.

        Returns:
            The error for the client.
        """
        if last is not None and not last.is_busy:
            return _of_client(last)
        now = self._clock()
        waits = [one.busy_until - now for one in self.replicas if model in one.models]
        if not waits:
            return ApiError(503, "no engine has this model now", headers={"Retry-After": "5"})
        retry = {"Retry-After": str(max(1, math.ceil(min(waits))))}
        if last is None or last.status == 429:
            return ApiError(429, "all engines are busy: try again later", headers=retry)
        return ApiError(503, f"the engine is not ready: {last.message}", headers=retry)


def _of_client(error: UpstreamError) -> ApiError:
    """Turn the error of an engine into one that a client may see."""
    no_retry = {"x-should-retry": "false"}
    if error.status in (401, 403):
        # The client's own key is right: it must not look for another one.
        return ApiError(502, "the engine refuses the gateway's key", headers=no_retry)
    if error.status == 0:
        return ApiError(503, error.message, headers={"Retry-After": "2"})
    if error.status in (405, 501):
        return ApiError(501, error.message, headers=no_retry)
    if error.is_of_request:
        return ApiError(400, error.message)
    if error.status == 404:
        # The gateway lists it: it was unloaded, or the engine was started again.
        said = f"the engine does not have the model now: {error.message}"
        return ApiError(503, said, headers={"Retry-After": "5"})
    return ApiError(502, error.message)
