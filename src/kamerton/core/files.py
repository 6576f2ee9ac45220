"""Files: atomic writes and content hashes."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

__all__ = [
    "atomic_file",
    "atomic_folder",
    "canonical_json",
    "hash_bytes",
    "hash_file",
    "hash_json",
    "write_atomically",
]

_CHUNK_BYTES = 1 << 20


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
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
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
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
        old = None
        if path.exists():
            old = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.old."))
            os.replace(path, old)
        os.replace(temporary, path)
        if old is not None:
            shutil.rmtree(old)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    _sync_folder(path.parent)


def hash_bytes(data: bytes) -> str:
    """Hash bytes.

    Args:
        data: Anything.

    Returns:
        SHA-256 in hex, 64 characters.
    """
    return hashlib.sha256(data).hexdigest()


def hash_file(path: Path) -> str:
    """Hash a file without reading it whole.

    Args:
        path: The file.

    Returns:
        SHA-256 in hex, 64 characters.
    """
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


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
