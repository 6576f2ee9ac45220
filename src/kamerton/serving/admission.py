"""How many answers may be waited for at once: more are turned away, not kept in memory."""

from kamerton.serving.errors import ApiError

__all__ = ["Admission"]


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
            ApiError: If there would be too many, or the server is stopping.
        """
        if self.is_draining:
            raise ApiError(503, "the server is stopping", headers={"Retry-After": "5"})
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
