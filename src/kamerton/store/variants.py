"""Variant folders: written whole or not at all, hashed, and refused for the wrong base.

A folder holds `variant.json` (the manifest), `CARD.md`, and for a trained variant the adapter's
files in PEFT's format. The content hash covers what decides the variant's answers: base, prompt,
generation defaults, method and the adapter's files; not its name, date or metrics.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field, ValidationError

from kamerton.core.errors import VariantError
from kamerton.core.files import atomic_folder, hash_bytes, hash_file, hash_json, write_atomically
from kamerton.core.settings import Settings, suggestion

__all__ = [
    "BaseRecord",
    "DataRecord",
    "Variant",
    "VariantManifest",
    "check_base",
    "find_variant",
    "list_variants",
    "read_variant",
    "write_variant",
]

MANIFEST_FILE = "variant.json"
CARD_FILE = "CARD.md"
FORMAT_VERSION = 1
_SAFE_NAME = re.compile(r"[^\W_][\w.-]{0,99}")
_IDENTITY = ("base", "prompt", "generation", "method", "files")


class BaseRecord(Settings):
    """The base a variant was made for."""

    id: str
    """As the recipe named it."""
    architecture: str
    """Transformers class."""
    num_parameters: int
    """Count."""
    weight_hash: str
    """Over its weight files."""
    tokenizer_hash: str
    """Over its tokenizer."""
    template_hash: str
    """Over its chat template."""


class DataRecord(Settings):
    """The examples a variant learned from."""

    place: str
    """As the recipe named them."""
    fingerprint: str
    """Content hash."""
    num_train: int
    """Examples learned from."""
    num_holdout: int
    """Examples kept aside."""


class VariantManifest(Settings):
    """What a variant is and how it was made: `variant.json`."""

    format_version: int = FORMAT_VERSION
    """Of this file."""
    name: str
    """Name."""
    content_hash: str = ""
    """Over what decides its answers; filled in when it is written."""
    base: BaseRecord
    """The base."""
    prompt: dict[str, Any]
    """`system` and `demonstrations`."""
    generation: dict[str, Any] = Field(default_factory=dict)
    """Defaults for generating."""
    method: str
    """Kind of adapter, or "none"."""
    objective: str
    """Kind of objective, or "none"."""
    files: dict[str, str] = Field(default_factory=dict)
    """Hash of every other file of the folder but the card."""
    recipe: dict[str, Any]
    """The recipe as plain values."""
    recipe_folder: str = "."
    """What the recipe's paths are relative to."""
    data: DataRecord
    """The examples."""
    seed: int
    """Of training."""
    metrics: dict[str, float] = Field(default_factory=dict)
    """Measured while training."""
    parents: list[str] = Field(default_factory=list)
    """Content hashes of variants it started from."""
    licence: str = ""
    """Of the variant, if stated."""
    kamerton_version: str
    """That made it."""
    created: str
    """UTC, ISO 8601."""

    def identity(self) -> str:
        """Hash what decides the variant's answers.

        Returns:
            SHA-256 in hex.
        """
        plain = self.model_dump(mode="json")
        # The same weights under another folder or Hub id are the same base.
        base = {key: value for key, value in plain["base"].items() if key.endswith("_hash")}
        return hash_json({**{key: plain[key] for key in _IDENTITY}, "base": base})


@dataclass(frozen=True, slots=True)
class Variant:
    """A variant on disk.

    Attributes:
        folder: Where.
        manifest: What.
    """

    folder: Path
    manifest: VariantManifest

    @property
    def name(self) -> str:
        """Its name."""
        return self.manifest.name

    def files(self) -> dict[str, bytes]:
        """Read the adapter's files.

        Returns:
            Contents by name; empty for a prompt-only variant.
        """
        return {name: (self.folder / name).read_bytes() for name in self.manifest.files}


def write_variant(
    folder: Path, manifest: VariantManifest, files: Mapping[str, bytes], *, replace: bool = False
) -> Variant:
    """Write a variant's folder so that it appears whole or not at all.

    Args:
        folder: Where; its last part is the variant's name.
        manifest: Without content hash and file hashes, which are filled in.
        files: The adapter's files by name.
        replace: Whether other content may be replaced.

    Returns:
        The variant.

    Raises:
        VariantError: If the name is unsafe, or other content is there and may not be replaced.
    """
    if not _SAFE_NAME.fullmatch(manifest.name):
        raise VariantError(
            f"a variant's name must be letters, digits, '-', '_' and '.', got {manifest.name!r}"
        )
    hashed = {name: hash_bytes(content) for name, content in sorted(files.items())}
    complete = manifest.model_copy(update={"files": hashed})
    complete = complete.model_copy(update={"content_hash": complete.identity()})
    if not replace and folder.exists():
        there = read_variant(folder).manifest
        if there.content_hash != complete.content_hash:
            raise VariantError(f"{folder} holds another variant", hint="choose another name")
    with atomic_folder(folder) as temporary:
        for name, content in files.items():
            (temporary / name).write_bytes(content)
        (temporary / CARD_FILE).write_text(_card(complete), encoding="utf-8")
        (temporary / MANIFEST_FILE).write_text(_to_json(complete), encoding="utf-8")
    return Variant(folder, complete)


def read_variant(folder: Path) -> Variant:
    """Read a variant and verify every byte of it.

    Args:
        folder: Where.

    Returns:
        The variant.

    Raises:
        VariantError: If it is missing, damaged or from a newer version.
    """
    path = folder / MANIFEST_FILE
    try:
        plain = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise VariantError(f"{folder} is not a variant: there is no {MANIFEST_FILE}") from None
    except (OSError, ValueError) as error:
        raise VariantError(f"{path} is damaged: {error}") from None
    version = plain.get("format_version") if isinstance(plain, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise VariantError(
            f"{path} has format {version}, this version reads up to {FORMAT_VERSION}",
            hint="update Kamerton",
        )
    try:
        manifest = VariantManifest.model_validate(plain)
    except ValidationError as error:
        raise VariantError(f"{path} is damaged: {error.error_count()} fields are wrong") from None
    for name, expected in manifest.files.items():
        file = folder / name
        if Path(name).name != name or not file.is_file():
            raise VariantError(f"{folder}: {name} is missing")
        if hash_file(file) != expected:
            raise VariantError(
                f"{file} is not the file the variant was written with",
                hint="it was damaged or changed; make or fetch the variant again",
            )
    if manifest.identity() != manifest.content_hash:
        raise VariantError(f"{path} was changed after the variant was written")
    return Variant(folder, manifest)


def add_metrics(variant: Variant, comparison: str, metrics: Mapping[str, float]) -> Variant:
    """Write what was measured into a variant's manifest and card.

    Args:
        variant: The variant.
        comparison: A Markdown table for the card.
        metrics: Numbers by name, added to those that are there.

    Returns:
        The changed variant; its content hash stays the same.
    """
    merged = {**variant.manifest.metrics, **metrics}
    manifest = variant.manifest.model_copy(update={"metrics": merged})
    write_atomically(variant.folder / CARD_FILE, _card(manifest, comparison))
    write_atomically(variant.folder / MANIFEST_FILE, _to_json(manifest))
    return Variant(variant.folder, manifest)


def check_base(
    manifest: VariantManifest, *, weight_hash: str, tokenizer_hash: str, template_hash: str
) -> None:
    """Refuse a base that the variant was not made for.

    Args:
        manifest: The variant's.
        weight_hash: Of the base at hand.
        tokenizer_hash: Of its tokenizer.
        template_hash: Of its chat template.

    Raises:
        VariantError: If anything differs, saying what.
    """
    found = {
        "weights": (manifest.base.weight_hash, weight_hash),
        "tokenizer": (manifest.base.tokenizer_hash, tokenizer_hash),
        "chat template": (manifest.base.template_hash, template_hash),
    }
    other = [what for what, (made_for, here) in found.items() if made_for != here]
    if other:
        raise VariantError(
            f"{manifest.name} was made for other {' and '.join(other)} than "
            f"{manifest.base.id} has here",
            hint="use the very base it was trained on, or train it again",
        )


def list_variants(folder: Path) -> list[Variant]:
    """List the variants of a folder.

    Args:
        folder: Usually `variants`.

    Returns:
        Those that can be read, by name.
    """
    found = []
    for path in sorted(folder.glob(f"*/{MANIFEST_FILE}")):
        if not path.parent.name.startswith("."):
            found.append(read_variant(path.parent))
    return found


def find_variant(name: str, folder: Path) -> Variant:
    """Find a variant by name or path.

    Args:
        name: A name within `folder`, or the path of a variant's folder.
        folder: Usually `variants`.

    Returns:
        The variant.

    Raises:
        VariantError: If there is none, with the nearest name.
    """
    if (folder / name / MANIFEST_FILE).is_file() and _SAFE_NAME.fullmatch(name):
        return read_variant(folder / name)
    if (Path(name) / MANIFEST_FILE).is_file():
        return read_variant(Path(name))
    known = [path.parent.name for path in folder.glob(f"*/{MANIFEST_FILE}")]
    hint = None if known else "kamerton train RECIPE makes one"
    raise VariantError(f"there is no variant '{name}'{suggestion(name, known)}", hint=hint)


def _to_json(manifest: VariantManifest) -> str:
    plain = manifest.model_dump(mode="json")
    return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"


def _card(manifest: VariantManifest, comparison: str = "") -> str:
    data, base = manifest.data, manifest.base
    metrics = "\n".join(f"- {name}: {value:.4g}" for name, value in manifest.metrics.items())
    return f"""# {manifest.name}

A variant of `{base.id}` ({base.architecture}, {base.num_parameters:,} parameters) for one task.

## How it was made

- method: {manifest.method}, objective: {manifest.objective}, seed {manifest.seed}
- examples: `{data.place}`, {data.num_train:,} learned from, {data.num_holdout:,} kept aside
- Kamerton {manifest.kamerton_version}, {manifest.created}
- content hash `{manifest.content_hash}`

## How it compares

{comparison or "Not compared yet: `kamerton evaluate " + manifest.name + "`."}

{metrics}

## Limits

It answers for the task of its examples. It loads only on the base named above, byte for byte.
Licence: {manifest.licence or "not stated; the base's licence and your rights in the data apply"}.
"""
