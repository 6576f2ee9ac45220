"""Examples kept on disk and read back as they are needed, so that memory need not hold them all."""

import pickle
import tempfile
import weakref
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Generic, TypeVar, overload

from kamerton.data.examples import Example

__all__ = ["ExamplesOnDisk", "Picked"]

_MEMORY_BYTES = 1 << 25
_BLOCK_BYTES = 1 << 20


_Kept = TypeVar("_Kept")


class ExamplesOnDisk(Sequence[_Kept], Generic[_Kept]):
    """Examples in a temporary file without a name; up to 32 MiB of them stay in memory.

    The file lies in the folder that `TMPDIR` names, is as large as the data set, and goes when the
    spool goes.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_MEMORY_BYTES)  # noqa: SIM115
        self._ends = array("Q", [0])
        weakref.finalize(self, self._file.close)

    def append(self, example: _Kept) -> None:
        """Add an example at the end.

        Args:
            example: Any kind.
        """
        self._file.seek(self._ends[-1])
        self._ends.append(self._ends[-1] + self._file.write(pickle.dumps(example, 5)))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> _Kept: ...
    @overload
    def __getitem__(self, index: slice) -> list[_Kept]: ...
    def __getitem__(self, index: int | slice) -> _Kept | list[_Kept]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        at = range(len(self))[index]
        return self._block(at, at + 1)[0]

    def __iter__(self) -> Iterator[_Kept]:
        start = 0
        while start < len(self):
            # One large example, or as many small ones as a megabyte holds.
            limit = bisect_right(self._ends, self._ends[start] + _BLOCK_BYTES) - 1
            stop = max(start + 1, limit)
            yield from self._block(start, stop)
            start = stop

    def _block(self, start: int, stop: int) -> list[_Kept]:
        ends = self._ends[start : stop + 1]
        self._file.seek(ends[0])
        data = memoryview(self._file.read(ends[-1] - ends[0]))
        # The file is our own: nobody else could write into it what `pickle` should not load.
        return [pickle.loads(data[a - ends[0] : b - ends[0]]) for a, b in pairwise(ends)]


class Picked(Sequence[Example]):
    """Some examples of a sequence, read from it as they are needed.

    Args:
        whole: All examples.
        indices: Which of them, in order.
    """

    def __init__(self, whole: Sequence[Example], indices: Iterable[int]) -> None:
        self._whole = whole
        self._indices = array("Q", indices)

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> "Picked": ...
    def __getitem__(self, index: int | slice) -> "Example | Picked":
        if isinstance(index, slice):
            return Picked(self._whole, self._indices[index])
        return self._whole[self._indices[index]]
