"""How many answers may be waited for at once: more are turned away, not kept in memory."""

from kamerton.serving.engine import ServingEngine
from kamerton.serving.errors import ApiError

__all__ = ["Admission", "ensure_ready"]


class Admission:
    """Counts the answers that clients wait for.

    Args:
        limit: Most answers at once, those that wait for a place in the batch included.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.num_open = 0
        self.is_draining = False

    def enter(self, num: int) -> None:
        """Let answers in.

        Args:
            num: How many.

        Raises:
            ApiError: If these alone are too many, if there would be too many, or the server stops.
        """
        if self.is_draining:
            raise ApiError(503, "the server is stopping", headers={"Retry-After": "5"})
        if num > self._limit:
            raise ApiError(400, f"a request may ask for {self._limit} answers at most, got {num}")
        if self.num_open + num > self._limit:
            raise ApiError(
                429,
                f"{self.num_open} answers are waited for and {self._limit} may be: try again soon",
                headers={"Retry-After": "1"},
            )
        self.num_open += num

    def leave(self, num: int) -> None:
        """Let answers go.

        Args:
            num: How many.
        """
        self.num_open -= num


def ensure_ready(engine: ServingEngine) -> None:
    """Refuse a request that no engine would answer now.

    Args:
        engine: The engine.

    Raises:
        ApiError: If it loads, has crashed, or is given up.
    """
    if engine.problem:
        raise ApiError(503, f"the engine is down: {engine.problem}", headers={"Retry-After": "60"})
    if not engine.is_ready:
        doing = "the engine is not ready" if engine.models else "the engine is loading"
        raise ApiError(503, doing, headers={"Retry-After": "2"})
