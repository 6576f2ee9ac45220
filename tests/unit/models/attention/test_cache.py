"""Growing, trimming and copying of what slots hold."""

import torch
from torch import Tensor

from kamerton.models.attention.cache import KVCache


def tokens(number: int, value: float) -> dict[int, tuple[Tensor, Tensor]]:
    # Latent attention has values of another width than its keys.
    return {0: (torch.full((2, number, 4), value), torch.full((1, number, 3), value))}


def test_memory_is_that_of_the_slots_in_use() -> None:
    cache = KVCache(16)
    assert (cache.bytes_per_token, cache.num_reserved) == (0, 0)
    cache.put(0, 0, tokens(10, 1.0))
    assert cache.bytes_per_token == 4 * (2 * 4 + 3)
    assert cache.keys[0].shape[0] == 1
    cache.put(2, 0, tokens(5, 2.0))
    assert cache.keys[0].shape[0] == 3
    cache.put(3, 0, tokens(5, 3.0))
    assert cache.keys[0].shape[0] == 6
    assert cache.read(0, 0, 10)[0][0].eq(1).all()
    assert cache.read(2, 0, 5)[0][1].eq(2).all()


def test_growth_copies_seldom_and_keeps_what_was_there() -> None:
    cache, sizes = KVCache(1), set()
    for at in range(1000):
        cache.put(0, at, tokens(1, float(at)))
        sizes.add(cache.keys[0].shape[2])
    assert len(sizes) < 10
    assert cache.read(0, 0, 1000)[0][0][0, :, 0].tolist() == list(range(1000))


def test_near_the_limit_it_grows_by_what_is_needed() -> None:
    cache = KVCache(8, limit_tokens=200)
    cache.put(0, 0, tokens(100, 1.0))
    assert cache.num_reserved <= 200
    cache.put(1, 0, tokens(100, 2.0))
    assert cache.num_reserved <= 2 * 164
    cache.put(0, 100, tokens(90, 3.0))
    assert cache.read(1, 0, 100)[0][0].eq(2).all()


def test_what_a_long_text_left_behind_is_given_back() -> None:
    cache = KVCache(8, limit_tokens=1000)
    cache.put(0, 0, tokens(900, 1.0))
    cache.trim([20], 1)
    assert cache.num_reserved >= 900
    cache.trim([20], 4)
    assert cache.num_reserved == 20
    for slot in (1, 2, 3):
        cache.put(slot, 0, tokens(20, 2.0))
    assert cache.num_reserved <= 1000
    assert cache.read(0, 0, 20)[0][0].eq(1).all()


def test_slots_that_are_copied_to_come_into_being() -> None:
    cache = KVCache(4)
    cache.put(0, 0, tokens(3, 5.0))
    cache.copy_slot(0, [1, 3], 3)
    assert cache.read(3, 0, 3)[0][0].eq(5).all()
