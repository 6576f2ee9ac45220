"""Files: atomic writes and content hashes."""

import ctypes
import hashlib
import json
import os
import secrets
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

__all__ = [
    "atomic_file",
    "atomic_folder",
    "cache_folder",
    "canonical_json",
    "hash_bytes",
    "hash_file",
    "hash_json",
    "hash_large_file",
    "write_atomically",
]

_CHUNK_BYTES = 1 << 20
_LARGE_BYTES = 64 << 20


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write a file so that a reader, or a crash, sees the old content or the new, never a part.

    Args:
        path: Where to write; the folder is made.
        content: Bytes, or text to be stored as UTF-8.
    """
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Write a file piece by piece so that it appears at `path` whole, or not at all.

    Args:
        path: Where to write; the folder is made.

    Yields:
        A temporary file beside it to write into.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    name = _beside(path)
    try:
        with _named(path), name.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        name.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Fill a folder so that it appears at `path` whole, or not at all.

    Args:
        path: Where the folder goes; what was there before is replaced.

    Yields:
        A temporary folder beside it to write into.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _beside(path)
    temporary.mkdir()
    try:
        with _named(path):
            yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
        if path.exists():
            _swap(temporary, path)
        else:
            os.replace(temporary, path)
    finally:
        # Now the old folder, or what was not finished.
        shutil.rmtree(temporary, ignore_errors=True)
    _sync_folder(path.parent)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Say which file did not fit: the system's word about a full disk names none."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


def _beside(path: Path) -> Path:
    """Name something hidden and new in a path's folder; it gets the permissions users expect."""
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}")


def _swap(new: Path, old: Path) -> None:
    """Exchange two folders, in one step where the system can, so that no crash finds neither."""
    if _exchange(new, old):
        return
    aside = _beside(old)
    os.replace(old, aside)
    try:
        os.replace(new, old)
    except BaseException:
        os.replace(aside, old)
        raise
    os.replace(aside, new)


def _exchange(one: Path, other: Path) -> bool:
    """Ask Linux to exchange two paths; False where the system or its file system cannot."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
    if rename is None:
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(rename(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


def hash_bytes(data: bytes) -> str:
    """Hash bytes.

    Args:
        data: Anything.

    Returns:
        SHA-256 in hex, 64 characters.
    """
    return hashlib.sha256(data).hexdigest()


def hash_file(path: Path, read: Callable[[int], None] = lambda num_bytes: None) -> str:
    """Hash a file without reading it whole.

    Args:
        path: The file.
        read: Is told how many bytes more were read.

    Returns:
        SHA-256 in hex, 64 characters.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            read(len(chunk))
    return digest.hexdigest()


def hash_large_file(path: Path, read: Callable[[int], None] = lambda num_bytes: None) -> str:
    """Hash a file that hardly changes, remembering it by path, size and modification time.

    Args:
        path: The file.
        read: Is told how many bytes more were read; a file that is remembered is not read.

    Returns:
        SHA-256 in hex, 64 characters.
    """
    stat = path.stat()
    if stat.st_size < _LARGE_BYTES:
        return hash_file(path, read)
    key = f"{path.resolve()}:{stat.st_size}:{stat.st_mtime_ns}"
    known = cache_folder("hashes") / hash_bytes(key.encode())
    if known.is_file():
        return known.read_text()
    digest = hash_file(path, read)
    # A cache that cannot be written to costs a reading each time, no more.
    with suppress(OSError):
        write_atomically(known, digest)
    return digest


def cache_folder(name: str) -> Path:
    """Name a folder for what can be made again.

    Args:
        name: Name of its content.

    Returns:
        In the user's cache (`XDG_CACHE_HOME`, or `~/.cache`); it need not exist yet.
    """
    chosen = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    # What has no home keeps it among the files that the system clears away.
    return Path(chosen if os.path.isabs(chosen) else tempfile.gettempdir()) / "kamerton" / name


def canonical_json(value: Any) -> str:
    """Write a JSON value in one way only: sorted keys, no spaces, no escapes.

    Args:
        value: Anything JSON holds; NaN and infinity are refused.

    Returns:
        The text.
    """
    return json.dumps(
        value, sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False
    )


def hash_json(value: Any) -> str:
    """Hash a JSON value by its canonical text.

    Args:
        value: Anything JSON holds.

    Returns:
        SHA-256 in hex, 64 characters.
    """
    return hash_bytes(canonical_json(value).encode("utf-8", "surrogatepass"))


def _sync_folder(folder: Path) -> None:
    # A rename is only durable once its folder is.
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
