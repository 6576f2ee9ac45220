"""Variant folders: written whole or not at all, hashed, and refused for the wrong base.

A folder holds `variant.json` (the manifest), `CARD.md`, `trained_on.txt` (a short hash of every
question that was learned from) and for a trained variant the adapter's files in PEFT's format.
`VariantManifest.identity` says what its content hash covers.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from pydantic import ValidationError

from kamerton.core.errors import VariantError
from kamerton.core.files import atomic_folder, hash_bytes, hash_file, hash_json, write_atomically
from kamerton.core.language import translated
from kamerton.core.settings import suggestion
from kamerton.store.card import make_card
from kamerton.store.manifest import FORMAT_VERSION, VariantManifest

__all__ = [
    "MANIFEST_FILE",
    "TRAINED_ON_FILE",
    "Variant",
    "add_metrics",
    "check_base",
    "find_variant",
    "is_variant_name",
    "list_variants",
    "read_variant",
    "write_variant",
]

MANIFEST_FILE = "variant.json"
TRAINED_ON_FILE = "trained_on.txt"
CARD_FILE = "CARD.md"
_MOST_NAMED = 5
_RUNS = "runs"
"""The folder of runs: a run that stopped has a folder there and no variant yet."""
_SAFE_NAME = re.compile(r"[^\W_][\w.-]{0,99}")


@dataclass(frozen=True, slots=True)
class Variant:
    """A variant on disk.

    Attributes:
        folder: The folder of its files.
        manifest: The manifest of those files.
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


def is_variant_name(name: str) -> bool:
    """Tell whether a text can name a variant, and so its folder.

    Args:
        name: Any text.

    Returns:
        Whether it begins with a letter or digit and has at most 100 letters, digits, "-", "_", ".".
    """
    return _SAFE_NAME.fullmatch(name) is not None


def write_variant(
    folder: Path,
    manifest: VariantManifest,
    files: Mapping[str, bytes],
    *,
    replace: bool = False,
    kept: Callable[[str], None] | None = None,
    trained_on: Iterable[str] | None = None,
) -> Variant:
    """Write a variant's folder so that it appears whole or not at all.

    Where the same content is already there, what was measured of it is kept.

    Args:
        folder: The folder to write; its last part is the variant's name.
        manifest: The manifest; its content hash and file hashes are filled in.
        files: The adapter's files by name.
        replace: Whether other content may be replaced.
        kept: A function for `replace`, told the name under which other content is kept:
            `NAME.1`, `NAME.2` and so on. None throws it away.
        trained_on: Short hashes of what it learned from; None where that is not known.

    Returns:
        The variant.

    Raises:
        VariantError: If the name is unsafe, or other content is there and may not be replaced.
    """
    if not is_variant_name(manifest.name):
        raise VariantError(
            translated(
                "a variant's name must be letters, digits, '-', '_' and '.', got {name!r}",
                name=manifest.name,
            )
        )
    hashed = {name: hash_bytes(content) for name, content in sorted(files.items())}
    record = None if trained_on is None else "".join(f"{one}\n" for one in sorted(trained_on))
    noted = "" if record is None else hash_bytes(record.encode())
    data = manifest.data.model_copy(update={"trained_on": noted})
    complete = manifest.model_copy(
        update={"files": hashed, "data": data, "format_version": FORMAT_VERSION}
    )
    complete = complete.model_copy(update={"content_hash": complete.identity()})
    there = _there(folder, damaged_is_none=replace)
    if there is not None and there.is_same(complete):
        metrics = {**there.metrics, **complete.metrics}
        changes = {"metrics": metrics, "comparison": there.comparison}
        complete = complete.model_copy(update=changes)
    elif not replace and folder.exists():
        raise VariantError(
            translated("{folder} holds another variant", folder=folder),
            hint=translated("choose another name"),
        )
    elif there is not None and kept is not None:
        aside = _free(folder)
        folder.rename(aside)
        kept(aside.name)
    with atomic_folder(folder) as temporary:
        for name, content in files.items():
            (temporary / name).write_bytes(content)
        if record is not None:
            (temporary / TRAINED_ON_FILE).write_bytes(record.encode())
        (temporary / CARD_FILE).write_text(make_card(complete), encoding="utf-8")
        (temporary / MANIFEST_FILE).write_text(_to_json(complete), encoding="utf-8")
    return Variant(folder, complete)


def _free(folder: Path) -> Path:
    """Name a folder beside another that does not exist yet."""
    names = (folder.with_name(f"{folder.name}.{number}") for number in count(1))
    return next(name for name in names if not name.exists())


def _there(folder: Path, *, damaged_is_none: bool) -> VariantManifest | None:
    """Read the manifest of what a new variant would replace."""
    if not folder.exists():
        return None
    try:
        return read_variant(folder).manifest
    except VariantError:
        if damaged_is_none:
            return None
        raise


def read_variant(folder: Path) -> Variant:
    """Read a variant and verify every byte of it.

    Args:
        folder: The variant's folder.

    Returns:
        The variant.

    Raises:
        VariantError: If it is missing, damaged or from a newer version.
    """
    path = folder / MANIFEST_FILE
    try:
        plain = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise VariantError(
            translated(
                "{folder} is not a variant: there is no {MANIFEST_FILE}",
                folder=folder,
                MANIFEST_FILE=MANIFEST_FILE,
            )
        ) from None
    except (OSError, ValueError) as error:
        raise VariantError(
            translated("{path} is damaged: {error}", path=path, error=error)
        ) from None
    version = plain.get("format_version") if isinstance(plain, dict) else None
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise VariantError(
            translated(
                "{path} has format {version}, this version reads up to {FORMAT_VERSION}",
                path=path,
                version=version,
                FORMAT_VERSION=FORMAT_VERSION,
            ),
            hint=translated("update Kamerton"),
        )
    try:
        manifest = VariantManifest.model_validate(plain)
    except ValidationError as error:
        raise VariantError(
            translated(
                "{path} is damaged: {error_count} fields are wrong",
                path=path,
                error_count=error.error_count(),
            )
        ) from None
    for name, expected in manifest.files.items():
        file = folder / name
        if Path(name).name != name or not file.is_file():
            raise VariantError(translated("{folder}: {name} is missing", folder=folder, name=name))
        if hash_file(file) != expected:
            raise VariantError(
                translated("{file} is not the file the variant was written with", file=file),
                hint=translated("it was damaged or changed; make or fetch the variant again"),
            )
    template = manifest.base.templates.get("default")
    kept = template is None or hash_json(template) == manifest.base.template_hash
    if not kept or manifest.identity() != manifest.content_hash:
        raise VariantError(
            translated("{path} was changed after the variant was written", path=path)
        )
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
    changes = {"metrics": merged, "comparison": comparison}
    manifest = variant.manifest.model_copy(update=changes)
    write_atomically(variant.folder / CARD_FILE, make_card(manifest))
    write_atomically(variant.folder / MANIFEST_FILE, _to_json(manifest))
    return Variant(variant.folder, manifest)


def check_base(
    manifest: VariantManifest,
    *,
    base: str,
    weight_hash: str,
    tokenizer_hash: str,
) -> None:
    """Refuse a base that the variant was not made for.

    The chat template is no part of that: a variant keeps the one it learned with.

    Args:
        manifest: The variant's.
        base: The name of the base at hand.
        weight_hash: Its weights'.
        tokenizer_hash: Its tokenizer's.

    Raises:
        VariantError: If anything differs, saying what.
    """
    found = {
        "weights": (manifest.base.weight_hash, weight_hash),
        "tokenizer": (manifest.base.tokenizer_hash, tokenizer_hash),
    }
    other = [what for what, (made_for, here) in found.items() if made_for != here]
    if other:
        raise VariantError(
            translated(
                "'{name}' was made for {id} with other {listed} than {base} has here",
                name=manifest.name,
                id=manifest.base.id,
                listed=" and ".join(other),
                base=base,
            ),
            hint=translated("use the very base it was trained on, or train it again"),
        )


def list_variants(folder: Path) -> tuple[list[Variant], list[str]]:
    """List the variants of a folder.

    Args:
        folder: Usually `variants`.

    Returns:
        Those that are whole, by name, and for each of the others why it cannot be used.
    """
    found, damaged = [], []
    for path in sorted(folder.glob("*")):
        if path.name.startswith(".") or not path.is_dir():
            continue
        try:
            found.append(read_variant(path))
        except VariantError as error:
            damaged.append(error.message)
    return found, damaged


def find_variant(name: str, folder: Path, *, key: str = "") -> Variant:
    """Find a variant by name or path.

    Args:
        name: A name within `folder`, or the path of a variant's folder.
        folder: Usually `variants`.
        key: Key of the recipe in which the name stands; empty when it was given by hand.

    Returns:
        The variant.

    Raises:
        VariantError: If there is none, with the nearest name or a few of those that there are.
    """
    if (folder / name / MANIFEST_FILE).is_file() and is_variant_name(name):
        return read_variant(folder / name)
    if (Path(name) / MANIFEST_FILE).is_file():
        return read_variant(Path(name))
    known = [path.parent.name for path in folder.glob(f"*/{MANIFEST_FILE}")]
    near = suggestion(name, known, _MOST_NAMED)
    hint = None if known else "kamerton train RECIPE makes one; --project FOLDER looks elsewhere"
    if len(known) > _MOST_NAMED and near.startswith("; known"):
        hint = "kamerton variant list shows all"
    if is_variant_name(name) and (folder / name).is_dir():
        hint = f"{folder / name} is no variant: it has no {MANIFEST_FILE}"
    elif is_variant_name(name) and (folder.parent / _RUNS / name).is_dir():
        hint = f"its run is not finished: the same kamerton train goes on in {_RUNS}/{name}"
    place = f"{key}: " if key else ""
    raise VariantError(
        translated(
            "{place}there is no variant '{name}' in {absolute}{near}",
            place=place,
            name=name,
            absolute=folder.absolute(),
            near=near,
        ),
        hint=hint,
    )


def _to_json(manifest: VariantManifest) -> str:
    plain = manifest.model_dump(mode="json")
    return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"
