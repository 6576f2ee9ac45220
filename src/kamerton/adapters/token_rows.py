"""Trained rows of the embeddings and the head for single tokens, known ones or new.

Only these rows are trained and stored; the tables themselves stay frozen. A new token begins as
the mean of the tokens that its text is read as without it. PEFT calls this trainable tokens.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from kamerton.core.errors import AdapterError
from kamerton.models.base import Base
from kamerton.models.heads import with_rows
from kamerton.models.linear import device_of, embedding_scale
from kamerton.models.new_tokens import pieces_of, token_ids

__all__ = ["TokenHead", "TokenRows", "attach_rows", "rows_at"]


class TokenRows(nn.Module):
    """An embedding with trained rows; stands where the embedding stood.

    Args:
        layer: The frozen embedding.
        head: The frozen head.
        ids: The tokens' ids, in order.
        rows: [n, E] of the embedding in fp32.
        head_rows: [n, E] of the head; the same tensor where both share one weight.
    """

    def __init__(
        self,
        layer: nn.Embedding,
        head: nn.Linear,
        ids: Sequence[int],
        rows: Tensor,
        head_rows: Tensor,
    ) -> None:
        super().__init__()
        self.layer = layer
        self.ids = tuple(ids)
        self.rows = nn.Parameter(rows)
        self.head_rows = self.rows if head_rows is rows else nn.Parameter(head_rows)
        # Not a module of this one: it stands at the other end of the model.
        object.__setattr__(self, "head", TokenHead(head, self))
        self.enabled = True
        self.begun: tuple[Tensor, Tensor] | None = None
        """The first values of new tokens' rows: a base without any cannot read or say them."""
        self._originals: list[tuple[Any, nn.Parameter]] = []
        device = device_of(layer)
        self.register_buffer("index", torch.tensor(self.ids, device=device), persistent=False)
        slots = torch.full((self.num_rows,), -1, dtype=torch.long, device=device)
        slots[self.index] = torch.arange(len(self.ids), device=device)
        self.register_buffer("slots", slots, persistent=False)

    index: Tensor
    slots: Tensor
    head: "TokenHead"

    @property
    def num_rows(self) -> int:
        """Rows of the table with the new tokens."""
        return max(len(self.layer.weight), max(self.ids) + 1)

    @property
    def weight(self) -> Tensor:
        """The frozen table, [V, E]."""
        return self.layer.weight

    @property
    def current(self) -> tuple[Tensor, Tensor] | None:
        """Rows of embedding and head that count, or None; while disabled those of new tokens."""
        if self._originals:
            return None
        return (self.rows, self.head_rows) if self.enabled else self.begun

    def forward(self, ids: Tensor) -> Tensor:
        """Look tokens up.

        Args:
            ids: [...] token ids.

        Returns:
            [..., E] in the dtype of the table.
        """
        found: Tensor = self.layer(ids.clamp(max=self.layer.num_embeddings - 1))
        if self.current is None:
            return found
        slots = self.slots[ids]
        own = self.current[0][slots.clamp(min=0)] * embedding_scale(self.layer)
        return torch.where((slots >= 0)[..., None], own.to(found.dtype), found)

    def put(self, model: Any) -> None:
        """Stand in the place of the embedding and the head.

        Args:
            model: The model that has this embedding and head.
        """
        model.set_input_embeddings(self)
        model.set_output_embeddings(self.head)

    def take_off(self, model: Any) -> None:
        """Let the embedding and the head stand where they stood.

        Args:
            model: The model that has this embedding and head.
        """
        model.set_input_embeddings(self.layer)
        model.set_output_embeddings(self.head.layer)

    @torch.no_grad()
    def merge(self, model: Any) -> None:
        """Write the rows into the tables, which grow where tokens are new.

        Args:
            model: The model that has this embedding and head.
        """
        head: Any = self.head.layer
        shared = head.weight is self.layer.weight
        table: Any = self.layer
        self._originals = [(table, table.weight), (head, head.weight)]
        self.layer.weight = self._table(self.layer.weight, self.rows)
        head.weight = self.layer.weight if shared else self._table(head.weight, self.head_rows)
        self._resize(model)

    def unmerge(self, model: Any) -> None:
        """Put the tables back as they were before `merge`; without it, do nothing.

        Args:
            model: The model that has this embedding and head.
        """
        for module, weight in self._originals:
            module.weight = weight
        if self._originals:
            self._resize(model)
        self._originals = []

    def _table(self, weight: Tensor, rows: Tensor) -> nn.Parameter:
        more = weight.new_zeros(self.num_rows - len(weight), weight.shape[1])
        made = torch.cat([weight, more])
        made[self.index] = rows.to(made.dtype)
        return nn.Parameter(made, requires_grad=False)

    def _resize(self, model: Any) -> None:
        """Let what says how large the tables are say the truth."""
        size = len(self.layer.weight)
        self.layer.num_embeddings = size
        self.head.layer.out_features = size
        model.config.get_text_config().vocab_size = size


class TokenHead(nn.Module):
    """A head with trained rows; an `UpdatedHead`."""

    def __init__(self, layer: nn.Linear, rows: TokenRows) -> None:
        super().__init__()
        self.layer = layer
        object.__setattr__(self, "trained", rows)

    trained: TokenRows

    @property
    def weight(self) -> Tensor:
        """The frozen weight, [V, E]."""
        return self.layer.weight

    def forward(self, hidden: Tensor) -> Tensor:
        """Compute logits, as Transformers asks for them.

        Args:
            hidden: [..., E].

        Returns:
            [..., V], wider with new tokens.
        """
        logits: Tensor = self.layer(hidden)
        if self.trained.current is None:
            return logits
        own = linear(hidden, self.trained.current[1].to(hidden.dtype))
        return with_rows(logits, self.trained.index, own)

    def low_rank(self) -> None:
        """Give nothing: it has no update of its whole weight."""

    def own_rows(self) -> tuple[Tensor, Tensor] | None:
        """Give ids [n] and rows [n, E], while they count."""
        current = self.trained.current
        return None if current is None else (self.trained.index, current[1])


def attach_rows(base: Base, tokens: Sequence[str]) -> TokenRows:
    """Let rows of single tokens learn.

    Args:
        base: The base; its weights are not touched.
        tokens: The texts of the tokens.

    Returns:
        The module in the place of the embedding now.

    Raises:
        ModelError: If the tokenizer has no place for new ones.
    """
    weight = base.model.get_input_embeddings().weight
    head = base.model.get_output_embeddings().weight
    ids = token_ids(base.tokenizer, tokens, len(weight))
    known = len(base.tokenizer)
    pieces = [
        [number] if number < known else pieces_of(base.tokenizer, token)
        for number, token in zip(ids, tokens, strict=True)
    ]
    rows = _means(weight, pieces)
    made = rows_at(base, ids, rows, rows if head is weight else _means(head, pieces))
    if max(ids) >= known:
        made.begun = made.rows.detach().clone(), made.head_rows.detach().clone()
    return made


def rows_at(base: Base, ids: Sequence[int], rows: Tensor, head: Tensor) -> TokenRows:
    """Put trained rows in place.

    Args:
        base: The base.
        ids: The tokens' ids.
        rows: [n, E] of the embedding.
        head: [n, E] of the head; the same tensor where both share one weight.

    Returns:
        The module in the place of the embedding now.

    Raises:
        AdapterError: If the embedding has an adapter already.
    """
    layer, last = base.model.get_input_embeddings(), base.model.get_output_embeddings()
    if not isinstance(layer, nn.Embedding) or not isinstance(last, nn.Linear):
        raise AdapterError(
            "adapter.new_tokens: embeddings or head have an adapter already",
            hint="leave them out of adapter.targets: all their rows learn there",
        )
    if last.bias is not None:
        raise AdapterError("adapter.new_tokens: the head of this base has biases")
    made = TokenRows(layer, last, ids, rows, head)
    made.put(base.model)
    return made


def _means(weight: Tensor, pieces: Iterable[Sequence[int]]) -> Tensor:
    return torch.stack([weight[list(ids)].float().mean(0) for ids in pieces])
