"""Texts that are nearly the same, among up to a million, without comparing all with all.

Two texts are near when at least 85 % of their pieces are shared: runs of five characters in short
texts, of three words in long ones. Candidates come from MinHash signatures (Broder 1997) that are
sorted from several starting columns, so that similar ones come to stand side by side (as in
LSH Forest, Bawa et al. 2005); each candidate is then checked exactly, so that nothing is called
near by chance.
"""

import zlib
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

__all__ = ["NUM_HASHES", "Signer", "are_near", "candidates"]

NUM_HASHES = 32
"""Columns of a signature."""

_THRESHOLD = 0.85
_SHORT = 400
_TEXT_LIMIT = 4_000
_TREE_STEP = 4
_SORTED_BY = 8
_EQUAL_COLUMNS = 3
# A pair at the threshold agrees on fewer columns than this in about one case of a hundred.
_LEAST_AGREEMENT = 0.7
_CHUNK = 1 << 16
_FACTOR = np.uint64(0x9E3779B97F4A7C15)


class Signer:
    """Makes MinHash signatures."""

    def __init__(self) -> None:
        generator = np.random.default_rng(0)
        size = (2, NUM_HASHES)
        self._factors, self._shifts = generator.integers(0, 1 << 64, size, np.uint64) | np.uint64(1)

    def sign(self, text: str) -> NDArray[np.uint32]:
        """Sign a text.

        Args:
            text: In its normal form.

        Returns:
            [NUM_HASHES] uint32; two texts agree in about the share of columns that is the share of
            their pieces in common.
        """
        hashes = _pieces(text)[:, None] * self._factors + self._shifts
        signature: NDArray[np.uint32] = (hashes >> np.uint64(32)).min(0).astype(np.uint32)
        return signature


def are_near(first: str, second: str) -> bool:
    """Compare two texts piece by piece.

    Args:
        first: One text in its normal form.
        second: Likewise.

    Returns:
        Whether at least 85 % of their pieces are shared.
    """
    mine, other = _pieces(first), _pieces(second)
    num_shared = len(np.intersect1d(mine, other, assume_unique=True))
    return num_shared >= _THRESHOLD * (len(mine) + len(other) - num_shared)


def candidates(
    signatures: NDArray[np.uint32],
    known: NDArray[np.bool_] | None = None,
    report: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[int, int]]:
    """Find pairs that are probably near; a few per text, however large a cluster is.

    Args:
        signatures: [N, NUM_HASHES] uint32.
        known: [N] bool; when given, only pairs of one known and one other text are sought.
        report: Called with the number of sorts done, and of all sorts.

    Returns:
        Pairs (lesser index, greater index), each once, in order.
    """
    num_texts = len(signatures)
    found = np.empty(0, np.int64)
    starts = range(0, NUM_HASHES, _TREE_STEP)
    for done, start in enumerate(starts, 1):
        columns = [(start + i) % NUM_HASHES for i in range(_SORTED_BY)]
        keys = np.ascontiguousarray(signatures[:, columns]).view(f"S{4 * _SORTED_BY}").ravel()
        order = np.argsort(keys, kind="stable")
        for left, right in _neighbours(order, known):
            same = np.ones(len(left), np.bool_)
            for column in columns[:_EQUAL_COLUMNS]:
                same &= signatures[left, column] == signatures[right, column]
            left, right = left[same], right[same]
            agreeing = np.zeros(len(left), np.bool_)
            for at in range(0, len(left), _CHUNK):
                part = slice(at, at + _CHUNK)
                equal = signatures[left[part]] == signatures[right[part]]
                agreeing[part] = equal.mean(1) >= _LEAST_AGREEMENT
            left, right = left[agreeing], right[agreeing]
            pairs = np.minimum(left, right) * num_texts + np.maximum(left, right)
            found = np.union1d(found, pairs)
        if report is not None:
            report(done, len(starts))
    return ((int(pair) // num_texts, int(pair) % num_texts) for pair in found)


def _neighbours(
    order: NDArray[np.int64], known: NDArray[np.bool_] | None
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pair each text with the next one; or each unknown text with the known one on either side."""
    if known is None:
        yield order[:-1], order[1:]
        return
    for way in (order, order[::-1]):
        is_known = known[way]
        last_known = np.maximum.accumulate(np.where(is_known, np.arange(len(way)), -1))
        asking = ~is_known & (last_known >= 0)
        yield way[asking], way[last_known[asking]]


def _pieces(text: str) -> NDArray[np.uint64]:
    """Hash the pieces of a text, each once; equal hashes of other pieces are too rare to matter."""
    text = text[:_TEXT_LIMIT]
    words = text.split() if len(text) > _SHORT else []
    if len(words) > 2:
        codes = np.array([zlib.crc32(w.encode("utf-8", "surrogatepass")) for w in words], np.uint64)
        size = 3
    else:
        raw = text.encode("utf-32-le", "surrogatepass")
        codes = np.frombuffer(raw, np.uint32).astype(np.uint64)
        size = 5
    count = max(1, len(codes) - size + 1)
    hashes = np.zeros(count, np.uint64)
    for i in range(min(size, len(codes))):
        hashes = (hashes + codes[i : i + count] + np.uint64(1)) * _FACTOR
        hashes ^= hashes >> np.uint64(29)
    return np.unique(hashes)
