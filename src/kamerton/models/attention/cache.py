"""A cache of keys and values by slot, for generation and scoring.

Shapes: K key/value heads, C capacity in tokens, D head size, T tokens in the row.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kamerton.models.attention.cached_row import CachedRow
from kamerton.models.attention.prefix import Prefix

__all__ = ["KVCache"]

_GROWTH_TOKENS = 64


@dataclass(eq=False)
class KVCache:
    """Keys and values of every layer, one slot per sequence, growing as needed.

    All slots have the length of the longest.

    Attributes:
        num_slots: Number of sequences held.
        limit_tokens: Tokens of all slots together beyond which it grows by what is needed only.
        keys: By layer, [n, K, C, D], for the first n slots, as many as were ever used.
        values: By layer, the same shape.
    """

    num_slots: int
    limit_tokens: int | None = None
    keys: dict[int, Tensor] = field(default_factory=dict)
    values: dict[int, Tensor] = field(default_factory=dict)

    def write(self, layer: int, key: Tensor, value: Tensor, row: CachedRow) -> None:
        """Append a row's keys and values to its segments' slots.

        Args:
            layer: Layer index.
            key: [1, K, T, D].
            value: [1, K, T, D].
            row: The segments' slots.
        """
        self._reserve(layer, row.num_slots, row.num_tokens, key, value)
        keys, values = self.keys[layer], self.values[layer]
        if row.singles is not None:
            ones = row.singles
            for held, new in ((keys, key[0].transpose(0, 1)), (values, value[0].transpose(0, 1))):
                held[ones.slots, :, ones.past] = new if ones.tokens is None else new[ones.tokens]
        for s in row.longer:
            keys[s.slot, :, s.past : s.past + s.length] = key[0, :, s.start : s.stop]
            values[s.slot, :, s.past : s.past + s.length] = value[0, :, s.start : s.stop]

    def seed(self, prefix: Prefix, dtype: torch.dtype, slots: Sequence[int]) -> None:
        """Let slots begin with a prefix.

        Args:
            prefix: Its tokens count as the slots' past.
            dtype: That of the keys and values to come.
            slots: Which.
        """
        at = list(slots)
        for layer, (keys, values) in enumerate(prefix.layers):
            like = keys[None].to(dtype), values[None].to(dtype)
            self._reserve(layer, max(at) + 1, prefix.num_tokens, *like)
            self.keys[layer][at, :, : prefix.num_tokens] = keys.to(dtype)
            self.values[layer][at, :, : prefix.num_tokens] = values.to(dtype)

    def read(self, slot: int, start: int, stop: int) -> dict[int, tuple[Tensor, Tensor]]:
        """Copy what a slot holds at some positions.

        Args:
            slot: Which.
            start: First position.
            stop: One past the last.

        Returns:
            Keys and values by layer, [K, stop - start, D] each.
        """
        part = (slot, slice(None), slice(start, stop))
        return {
            layer: (keys[part].clone(), self.values[layer][part].clone())
            for layer, keys in self.keys.items()
        }

    def put(self, slot: int, start: int, layers: Mapping[int, tuple[Tensor, Tensor]]) -> None:
        """Write at some positions of a slot what `read` gave.

        Args:
            slot: Which.
            start: First position.
            layers: Keys and values by layer, [K, n, D] each.
        """
        for layer, (key, value) in layers.items():
            stop = start + key.shape[1]
            self._reserve(layer, slot + 1, stop, key[None], value[None])
            self.keys[layer][slot, :, start:stop] = key
            self.values[layer][slot, :, start:stop] = value

    def copy_slot(self, source: int, targets: list[int], num_tokens: int) -> None:
        """Give several slots the first tokens of another.

        Args:
            source: Slot to copy from.
            targets: Slots to copy to.
            num_tokens: How many tokens.
        """
        if not num_tokens:
            # The source may never have been written.
            return
        for layer in self.keys:
            like = self.keys[layer], self.values[layer]
            self._reserve(layer, max(targets, default=0) + 1, num_tokens, *like)
            for cache in (self.keys[layer], self.values[layer]):
                for target in targets:
                    cache[target, :, :num_tokens].copy_(cache[source, :, :num_tokens])

    @property
    def bytes_per_token(self) -> int:
        """Memory of one token of one slot; 0 before anything is written."""
        held = [*self.keys.values(), *self.values.values()]
        return sum(x.shape[1] * x.shape[3] * x.element_size() for x in held)

    @property
    def num_reserved(self) -> int:
        """Tokens that there is memory for, in all slots together."""
        return max((x.shape[0] * x.shape[2] for x in self.keys.values()), default=0)

    def trim(self, held: Sequence[int], num_slots: int) -> None:
        """Give back what long texts left behind, if slots of that length would be over the limit.

        Args:
            held: How many tokens the first slots hold; what others held is lost.
            num_slots: How many slots are needed.
        """
        capacity = max((x.shape[2] for x in self.keys.values()), default=0)
        if self.limit_tokens is None or num_slots * capacity <= self.limit_tokens:
            return
        for cache in (self.keys, self.values):
            for layer, rows in cache.items():
                cache[layer] = rows[: len(held), :, : max(held, default=0)].clone()

    def _reserve(
        self, layer: int, num_slots: int, num_tokens: int, key: Tensor, value: Tensor
    ) -> None:  # fmt: skip
        """Have memory for tokens of the first slots; grow by half at least, as growing copies."""
        held = self.keys.get(layer)
        slots, capacity = (0, 0) if held is None else (held.shape[0], held.shape[2])
        if slots >= num_slots and capacity >= num_tokens:
            return
        if slots < num_slots:
            slots = max(num_slots, min(2 * slots, self.num_slots))
        if capacity < num_tokens:
            capacity = max(num_tokens + _GROWTH_TOKENS, capacity * 3 // 2)
        if self.limit_tokens is not None and slots * capacity > self.limit_tokens:
            held_slots, held_tokens = (0, 0) if held is None else (held.shape[0], held.shape[2])
            slots, capacity = max(num_slots, held_slots), max(num_tokens, held_tokens)
        # Latent attention has values of another width than its keys.
        for cache, like in ((self.keys, key), (self.values, value)):
            grown = like.new_zeros(slots, like.shape[1], capacity, like.shape[3])
            if held is not None:
                before = cache[layer]
                grown[: before.shape[0], :, : before.shape[2]] = before
            cache[layer] = grown
