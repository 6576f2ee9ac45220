"""Virtual tokens before every text, which prefix-tuning and prompt tuning share.

They differ in what is trained. Either way the base is given keys and values per layer, so packed
rows, families, recomputation and generation treat both alike.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import cycle, islice
from typing import Protocol

import torch
from torch import Tensor, nn

from kamerton.adapters.adapter import Capabilities
from kamerton.adapters.parts import Parts
from kamerton.core.errors import AdapterError
from kamerton.models.attention.prefix import Prefix
from kamerton.models.base import Base

__all__ = ["Trained", "Virtual", "check_base", "embeddings_of", "first_tokens"]


class Trained(Protocol):
    """The trained tensors, and the way from them to keys and values."""

    @property
    def num_tokens(self) -> int:
        """Number of virtual tokens P."""
        ...

    def parameters(self) -> dict[str, nn.Parameter]:
        """TrainingExample tensors in fp32 by name."""
        ...

    def compute(self) -> Prefix:
        """Keys and values, differentiably."""
        ...

    def files(self) -> dict[str, bytes]:
        """The files to store, by name."""
        ...


class Virtual:
    """Virtual tokens attached to a base.

    Args:
        base: The base, with packed rows and without a prefix.
        trained: The trained tensors and the way to keys and values.

    Raises:
        AdapterError: If the base has a prefix already or no room for this one.
    """

    capabilities = Capabilities(
        mergeable=False, identity_at_start=False, formats=frozenset({"peft"})
    )

    def __init__(self, base: Base, trained: Trained) -> None:
        check_base(base)
        context = getattr(base.model.config.get_text_config(), "max_position_embeddings", None)
        if context and trained.num_tokens >= context:
            raise AdapterError(
                f"adapter.num_virtual_tokens must be below the base's context of {context}, "
                f"got {trained.num_tokens}"
            )
        self._base = base
        self._trained = trained
        base.prefix = trained

    def parameters(self) -> dict[str, nn.Parameter]:
        """List the trainable tensors.

        Returns:
            fp32 tensors by name.
        """
        return self._trained.parameters()

    def train(self, mode: bool) -> None:
        """Do nothing: no part differs in training.

        Args:
            mode: Ignored.
        """

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Answer as the base alone for a while.

        Yields:
            Nothing.
        """
        before, self._base.prefix = self._base.prefix, None
        try:
            yield
        finally:
            self._base.prefix = before

    def detach(self) -> None:
        """Take the virtual tokens off; no weight was touched."""
        self._base.prefix = None

    def release(self) -> Parts:
        """Take the virtual tokens off and give them away.

        Returns:
            A prefix.
        """
        self.detach()
        return Parts(prefix=self._trained)

    def merge(self) -> None:
        """Refuse: weights cannot hold virtual tokens.

        Raises:
            AdapterError: Always.
        """
        raise AdapterError("adapter: virtual tokens cannot be folded into weights")

    def as_plain_model(self) -> nullcontext[None]:
        """Do nothing: the model has no other modules.

        Returns:
            An empty context.
        """
        return nullcontext()

    def files(self) -> dict[str, bytes]:
        """Write the virtual tokens in PEFT's format.

        Returns:
            `adapter_config.json`, `adapter_model.safetensors` and what training goes on from.
        """
        return self._trained.files()


def check_base(base: Base) -> None:
    """Refuse a base that virtual tokens cannot stand before.

    Args:
        base: The base.

    Raises:
        AdapterError: If its rows are padded or it has a prefix.
    """
    if not base.ragged:
        raise AdapterError(
            "adapter: virtual tokens need packed rows, and this base falls back to padded ones"
            + (f": {base.notice}" if base.notice else ""),
            hint='set adapter.kind = "lora", or take another base',
        )
    if base.prefix is not None:
        raise AdapterError("adapter: the base has virtual tokens already; detach them first")


def first_tokens(base: Base, text: str, opening: Sequence[int], count: int) -> list[int]:
    """Choose the real tokens that virtual ones begin as.

    Args:
        base: The base; it has a tokenizer where `text` is given.
        text: The text to begin as; empty means the opening.
        opening: Token ids that training texts begin with.
        count: The number of tokens wanted.

    Returns:
        The first `count` ids of the text, repeated where it is shorter.

    Raises:
        AdapterError: If there is no text.
    """
    # With what the tokenizer puts before a text: many bases attend to a first BOS a lot.
    ids = base.tokenizer(text)["input_ids"] if text else list(opening)
    if not ids:
        raise AdapterError(
            'adapter.init "text" needs a text to begin with',
            hint="set adapter.text, or another adapter.init",
        )
    return list(islice(cycle(ids), count))


@torch.no_grad()
def embeddings_of(base: Base, ids: Sequence[int]) -> Tensor:
    """Look tokens up.

    Args:
        base: The base.
        ids: Token ids.

    Returns:
        [P, E] as the base's embedding gives them, in the base's dtype.
    """
    embedding = base.model.get_input_embeddings()
    found: Tensor = embedding(torch.tensor(list(ids), device=base.device))
    return found
