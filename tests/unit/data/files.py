"""Write small data files and read them back."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kamerton.data.dataset import Loaded, load_examples
from kamerton.data.reading.readers import read_rows
from kamerton.data.rows import Rejection, Row
from kamerton.data.settings import DataSettings


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def write_jsonl(folder: Path, rows: Iterable[Any], name: str = "rows.jsonl") -> Path:
    return write(folder, name, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def rows_of(path: Path | str, **options: Any) -> list[dict[str, Any]]:
    found = list(read_rows(path, **options))
    assert all(isinstance(row, Row) for row in found), found
    return [dict(row.fields) for row in found if isinstance(row, Row)]


def rejections_of(path: Path) -> list[Rejection]:
    return [row for row in read_rows(path) if isinstance(row, Rejection)]


def load(folder: Path, rows: Iterable[Any], **settings: Any) -> Loaded:
    path = write_jsonl(folder, rows)
    return load_examples(DataSettings(train=str(path), **settings))
