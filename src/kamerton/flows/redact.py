"""`kamerton check --redact`: a copy of the examples without personal data."""

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

from kamerton.core.files import write_atomically
from kamerton.data.dataset import Loaded
from kamerton.data.examples import Example
from kamerton.data.redaction import Redactor

__all__ = ["write_redacted"]


def write_redacted(loaded: Loaded, path: Path) -> int:
    """Write examples as JSONL with e-mails, phone numbers and the like replaced.

    Args:
        loaded: The data set.
        path: Where to write.

    Returns:
        How many different values were replaced.
    """
    redactor = Redactor()
    lines = [
        json.dumps(_plain(redactor.redact(example)), ensure_ascii=False)
        for example in loaded.examples
    ]
    write_atomically(path, "".join(line + "\n" for line in lines))
    return sum(redactor.counts.values())


def _plain(example: Example) -> dict[str, Any]:
    """Give an example as a row that the readers take back."""
    row = {f.name: getattr(example, f.name) for f in fields(example)}
    row.pop("place")
    extra = row.pop("extra")
    kept = {key: value for key, value in row.items() if value not in (None, ())}
    if "good" in row:
        kept["label"] = kept.pop("good")
    return {**kept, **extra}
