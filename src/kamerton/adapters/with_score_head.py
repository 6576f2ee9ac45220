"""An adapter that comes with a score head: of reward models, and of PPO's value model."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import nn

from kamerton.adapters.adapter import Adapter, Paced
from kamerton.adapters.adapter_files import read_tensors, tensor_bytes
from kamerton.adapters.parts import Parts, release
from kamerton.core.errors import AdapterError
from kamerton.models.base import Base
from kamerton.models.score_head import ScoreHead

__all__ = ["SCORE_HEAD_FILE", "WithScoreHead", "load_headed", "with_head"]

SCORE_HEAD_FILE = "score_head.safetensors"


class WithScoreHead:
    """A method's adapter and a score head; both are on or off together.

    Args:
        base: The base with the adapter attached.
        inner: The adapter.
        head: The head.
    """

    def __init__(self, base: Base, inner: Adapter, head: ScoreHead) -> None:
        self.capabilities = inner.capabilities
        self.head = head
        self._base, self._inner = base, inner
        self._tensors = {"score_head.weight": head.weight, "score_head.bias": head.bias}
        base.score_head = head

    def parameters(self) -> dict[str, nn.Parameter]:
        """List the adapter's tensors, then the head's.

        Returns:
            fp32 tensors by name.
        """
        return {**self._inner.parameters(), **self._tensors}

    def rate_factor(self, name: str) -> float:
        """Ask the adapter; the head learns at the plain rate.

        Args:
            name: The tensor's name.

        Returns:
            Factor on the learning rate.
        """
        inner = self._inner
        return (
            inner.rate_factor(name)
            if isinstance(inner, Paced) and name not in self._tensors
            else 1.0
        )

    def train(self, mode: bool) -> None:
        """Switch the adapter's dropout.

        Args:
            mode: True while training.
        """
        self._inner.train(mode)

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Be the base alone for a while, which has no score head.

        Yields:
            Nothing.
        """
        before, self._base.score_head = self._base.score_head, None
        try:
            with self._inner.disabled():
                yield
        finally:
            self._base.score_head = before

    def detach(self) -> None:
        """Take both off."""
        self._base.score_head = None
        self._inner.detach()

    def release(self) -> Parts:
        """Take both off and give the adapter's parts away; the head stays here.

        Returns:
            The adapter's parts.
        """
        self._base.score_head = None
        return release(self._inner)

    def merge(self) -> None:
        """Fold the adapter into the base's weights; the head stays beside them."""
        self._inner.merge()

    def as_plain_model(self) -> AbstractContextManager[None]:
        """Show the model without the adapter's modules for a while.

        Returns:
            A context.
        """
        return self._inner.as_plain_model()

    def files(self) -> dict[str, bytes]:
        """Write the adapter's files, and the head's.

        Returns:
            The contents by name.
        """
        return {**self._inner.files(), SCORE_HEAD_FILE: tensor_bytes(self._tensors)}


def with_head(base: Base, inner: Adapter, num_scores: int, seed: int) -> WithScoreHead:
    """Put a fresh score head beside an adapter.

    Args:
        base: The base with the adapter attached.
        inner: The adapter.
        num_scores: Numbers per position.
        seed: The seed of the head's first values.

    Returns:
        The adapter and its head as one.
    """
    size = int(base.model.config.get_text_config().hidden_size)
    return WithScoreHead(base, inner, ScoreHead(num_scores, size, base.device, seed))


@torch.no_grad()
def load_headed(base: Base, inner: Adapter, files: Mapping[str, bytes]) -> WithScoreHead:
    """Put a stored score head beside an adapter.

    Args:
        base: The base with the adapter attached.
        inner: The adapter.
        files: The files, among them `score_head.safetensors`.

    Returns:
        The adapter and its head as one.

    Raises:
        AdapterError: If the head is damaged or made for another size; then the adapter is off.
    """
    size = int(base.model.config.get_text_config().hidden_size)
    try:
        tensors = read_tensors(files, SCORE_HEAD_FILE)
        if tensors.keys() != {"score_head.weight", "score_head.bias"}:
            raise AdapterError(f"adapter: {SCORE_HEAD_FILE} must hold a weight and a bias")
        weight, bias = tensors["score_head.weight"], tensors["score_head.bias"]
        if weight.ndim != 2 or weight.shape[1] != size or bias.shape != weight.shape[:1]:
            raise AdapterError(
                f"adapter: {SCORE_HEAD_FILE} must judge hidden states of size {size}, found "
                f"{tuple(weight.shape)}",
                hint="the adapter was made for another base",
            )
    except AdapterError:
        inner.detach()
        raise
    head = ScoreHead(len(bias), size, base.device)
    head.weight.copy_(weight)
    head.bias.copy_(bias)
    return WithScoreHead(base, inner, head)
