"""How far the reading of a base's weights is, for whoever waits for it."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kamerton.core.events import Progress, Sink

__all__ = ["ReadingProgress", "weight_files"]

_FIRST_S, _EVERY_S = 0.5, 0.1


class ReadingProgress:
    """Counts the bytes of files that are read, and tells a sink now and then.

    Args:
        task: What is done with the files, as a participle.
        files: The files.
        sink: Receives the events.
    """

    def __init__(self, task: str, files: Iterable[Path], sink: Sink) -> None:
        self._task, self._sink = task, sink
        self._total = sum(file.stat().st_size for file in files)
        self._done = 0.0
        self._next = time.monotonic() + _FIRST_S
        self._has_told = False

    def add(self, num_bytes: float) -> None:
        """Note that more was read.

        Args:
            num_bytes: How much.
        """
        self._done += num_bytes
        if time.monotonic() >= self._next:
            self.tell()

    def tell(self) -> None:
        """Tell how far the reading is; without it the first half second tells nothing."""
        self._next, self._has_told = time.monotonic() + _EVERY_S, True
        # What tells the end comes once, and `finish` sends it.
        done = min(self._done, self._total - 1)
        self._sink(Progress(self._task, done, self._total, "bytes"))

    def finish(self) -> None:
        """Tell the end, where anything was told before."""
        if self._has_told:
            self._sink(Progress(self._task, self._total, self._total, "bytes"))

    @contextmanager
    def of_transformers(self) -> Iterator[None]:
        """Count what Transformers reads meanwhile: each tensor as an equal share of the bytes.

        Older versions of Transformers tell nobody how far they are, so neither does this.

        Yields:
            Nothing.
        """
        from transformers.utils import logging

        set_hook: Callable[[Any], Any] | None = getattr(logging, "set_tqdm_hook", None)
        if set_hook is None:
            yield
            return

        def count(make: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            if args and kwargs.get("desc") == "Loading weights":
                args = (self._counted(args[0]), *args[1:])
            return make(*args, **kwargs)

        before = set_hook(count)
        try:
            yield
        finally:
            set_hook(before)

    def _counted(self, tensors: Any) -> Iterator[Any]:
        for tensor in tensors:
            yield tensor
            self.add(self._total / len(tensors))


def weight_files(folder: Path) -> list[Path]:
    """List the files that hold a base's weights.

    Args:
        folder: The base's folder.

    Returns:
        Its safetensors files, without the makers' own format, which holds the same weights again.
    """
    return sorted(set(folder.glob("*.safetensors")) - set(folder.glob("consolidated*")))
