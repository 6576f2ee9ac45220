"""What the gateway needs of an engine."""

from collections.abc import AsyncIterator, Mapping
from typing import Protocol

from kamerton.core.requests import AnswerRequest, AnswerUpdate, ServedModel
from kamerton.core.tokenizing import TokenizerReply, TokenizerRequest

__all__ = ["ServingEngine"]


class ServingEngine(Protocol):
    """Answers requests of many clients at once."""

    @property
    def models(self) -> Mapping[str, ServedModel]:
        """What can be asked for, by name."""
        ...

    @property
    def is_ready(self) -> bool:
        """Whether requests are answered now."""
        ...

    @property
    def problem(self) -> str:
        """Why no request will be answered any more; empty while there is hope."""
        ...

    @property
    def num_restarts(self) -> int:
        """How often it was started again after a crash."""
        ...

    def answer(self, request: AnswerRequest) -> AsyncIterator[AnswerUpdate]:
        """Answer a request piece by piece; whoever closes the iterator cancels the request."""
        ...

    async def tokenize(self, question: TokenizerRequest) -> TokenizerReply:
        """Answer a question about a tokenizer."""
        ...
