"""Keys and values of the beginnings of prompts, kept so that the next prompt need not be read anew.

Prompts of one variant often begin alike: a system text, demonstrations, the turns so far. Blocks of
tokens are kept by what stands in them, by what stands before them and by the adapter; never by a
name, which may mean other weights tomorrow.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence

from torch import Tensor

from kamerton.models.attention.cache import KVCache

__all__ = ["BLOCK_TOKENS", "Beginnings"]

BLOCK_TOKENS = 16
"""Tokens of a block; what is left over at the end of a prompt is not kept."""

_Layers = Mapping[int, tuple[Tensor, Tensor]]
_Key = tuple[int, tuple[int, ...]]
"""What stands before, by its number, and the block's own tokens."""


class Beginnings:
    """Blocks in the order of their last use; the one that waits longest goes first.

    Args:
        limit_bytes: Most memory to use; 0 keeps nothing.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._blocks: OrderedDict[_Key, tuple[int, _Layers]] = OrderedDict()
        # Adapters count from -1 and blocks from here: no block has the number of an adapter.
        self._following = 1 << 32
        self.num_bytes = 0

    def load(
        self, adapter: int, ids: Sequence[int], cache: KVCache, slot: int, start: int
    ) -> int:  # fmt: skip
        """Put what is known of a prompt's beginning into a slot.

        Args:
            adapter: The adapter that reads the prompt; -1 for none.
            ids: The prompt's tokens that may be taken from here.
            cache: Receives keys and values.
            slot: Where.
            start: Positions that the slot holds already.

        Returns:
            How many of the tokens the slot holds now, a multiple of the block.
        """
        keys = self._known(adapter, ids)
        for number, key in enumerate(keys):
            cache.put(slot, start + number * BLOCK_TOKENS, self._blocks[key][1])
        return len(keys) * BLOCK_TOKENS

    def keep(
        self, adapter: int, ids: Sequence[int], cache: KVCache, slot: int, start: int
    ) -> None:  # fmt: skip
        """Keep the blocks of a text that are not kept yet.

        Args:
            adapter: The adapter that read it; -1 for none.
            ids: The text's tokens, all of them in the slot.
            cache: Has keys and values.
            slot: Where.
            start: Positions that stand before the text in the slot.
        """
        if not self._limit:
            return
        keys = self._known(adapter, ids)
        number = self._blocks[keys[-1]][0] if keys else adapter
        for at in range(len(keys) * BLOCK_TOKENS, len(ids) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
            layers = cache.read(slot, start + at, start + at + BLOCK_TOKENS)
            size = _size(layers)
            if (len(keys) + 1) * size > self._limit:
                break
            key = number, tuple(ids[at : at + BLOCK_TOKENS])
            number = self._following
            self._following += 1
            self._blocks[key] = number, layers
            self.num_bytes += size
            keys.append(key)
        self._touch(keys)
        while self.num_bytes > self._limit:
            _, (_, oldest) = self._blocks.popitem(last=False)
            self.num_bytes -= _size(oldest)

    def _known(self, adapter: int, ids: Sequence[int]) -> list[_Key]:
        """Keys of the blocks that a text begins with."""
        keys: list[_Key] = []
        number = adapter
        for at in range(0, len(ids) - BLOCK_TOKENS + 1, BLOCK_TOKENS):
            key = number, tuple(ids[at : at + BLOCK_TOKENS])
            if key not in self._blocks:
                break
            keys.append(key)
            number = self._blocks[key][0]
        self._touch(keys)
        return keys

    def _touch(self, keys: Sequence[_Key]) -> None:
        """Note a use; what stands before is used later, so that no block outlives it."""
        for key in reversed(keys):
            self._blocks.move_to_end(key)


def _size(layers: _Layers) -> int:
    return sum(x.numel() * x.element_size() for pair in layers.values() for x in pair)
