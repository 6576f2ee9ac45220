"""Tokens that let a browser judge one answer without a key."""

import base64
import hashlib
import hmac
import time
from collections.abc import Callable

from kamerton.serving.errors import ApiError

__all__ = ["TOKEN_HEADER", "FeedbackTokens"]

TOKEN_HEADER = "x-kamerton-feedback-token"
_NUM_BYTES = 18


class FeedbackTokens:
    """Makes and checks tokens: "COMPLETION.EXPIRES.SIGNATURE", each for one completion.

    Args:
        secret: Key of the signatures (HMAC-SHA-256, 144 bits are kept).
        days: How long a token is good.
        clock: Unix time.
    """

    def __init__(
        self, secret: bytes, days: float = 30.0, clock: Callable[[], float] = time.time
    ) -> None:
        self._secret, self._days, self._clock = secret, days, clock

    def make(self, completion_id: str) -> str:
        """Make a token.

        Args:
            completion_id: The completion's id.

        Returns:
            The token.
        """
        signed = f"{completion_id}.{int(self._clock() + self._days * 86_400):x}"
        return f"{signed}.{self._signature(signed)}"

    def check(self, token: str, completion_id: str) -> None:
        """Let a judgement in.

        Args:
            token: As the browser sent it.
            completion_id: The completion that is judged.

        Raises:
            ApiError: 401 if the token is forged or too old, 403 if it is another completion's.
        """
        signed, _, signature = token.rpartition(".")
        # Compared as bytes: a header may hold any character.
        if not hmac.compare_digest(signature.encode(), self._signature(signed).encode()):
            raise ApiError(401, "the feedback token is not valid")
        owner, _, expires = signed.rpartition(".")
        if int(expires, 16) < self._clock():
            raise ApiError(401, "the feedback token is too old")
        if owner != completion_id:
            raise ApiError(403, "the feedback token is for another answer")

    def _signature(self, signed: str) -> str:
        digest = hmac.new(self._secret, signed.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest[:_NUM_BYTES]).decode()
