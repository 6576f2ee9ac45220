"""Variants of a project as `kamerton serve` puts them on its base and takes them off again."""

import json
from collections.abc import Mapping
from datetime import datetime
from functools import partial
from pathlib import Path

import torch

from kamerton.adapters.adapter_set import AdapterSet
from kamerton.adapters.catalogue import load
from kamerton.core.errors import AdapterError, VariantError
from kamerton.core.events import Sink
from kamerton.core.files import hash_bytes
from kamerton.core.generation import GenerationSettings
from kamerton.core.requests import ServedModel
from kamerton.data.rendering.renderer import Renderer
from kamerton.inference.held_variants import LoadedVariant
from kamerton.models.attention.layout import Layout, Segment
from kamerton.models.base import Base
from kamerton.store.variants import MANIFEST_FILE, Variant, read_variant
from kamerton.variants.load import ensure_same_base, say_other_template, with_template_of
from kamerton.variants.opening import ensure_writes, prompt_of, renderer_for
from kamerton.variants.probe import largest_change, probe_ids

__all__ = ["ServedVariants", "find_version"]


class ServedVariants:
    """Puts variants on a base that many requests use.

    Args:
        base: Without an adapter, on packed rows.
        folder: The project's variants; an earlier version may lie there under another name.
        tell: Receives notices.
    """

    def __init__(self, base: Base, folder: Path, tell: Sink) -> None:
        self._base, self._folder, self._tell = base, folder, tell
        self._adapters = AdapterSet(base, fixed=True)

    def open(self, place: str, content_hash: str = "") -> LoadedVariant:
        """Read a variant and put it on the base.

        Args:
            place: Its folder.
            content_hash: What must be there; empty for whatever is there.

        Returns:
            The variant.

        Raises:
            VariantError: If it is damaged, another one, made for another base, or a judge.
            AdapterError: If it does not fit, changes nothing, or cannot share rows; the base and
                its other adapters are as they were.
        """
        return self.put_on(find_version(Path(place), content_hash, self._folder))

    def put_on(self, variant: Variant) -> LoadedVariant:
        """Put a variant on the base.

        Args:
            variant: The variant.

        Returns:
            The variant, with the number of its adapter.

        Raises:
            VariantError: If it is damaged, made for another base, or a judge.
            AdapterError: If it does not fit, changes nothing, or cannot share rows; the base and
                its other adapters are as they were.
        """
        ensure_writes(variant, "served")
        ensure_same_base(variant, self._base)
        say_other_template(variant, self._base, self._tell)
        renderer = renderer_for(variant, with_template_of(variant, self._base))
        manifest, files = variant.manifest, _whole_files(variant)
        number, num_bytes = -1, 0
        if files:
            number = self._add(variant, files, renderer)
            tensors = self._adapters[number].parameters().values()
            num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in tensors)
        folder = variant.folder.resolve()
        model = ServedModel(
            # An earlier version that training kept has a folder of its own and the same manifest.
            folder.name,
            manifest.method if files else "prompt only",
            manifest.content_hash,
            self._base.identity.id,
            num_bytes,
            int(datetime.fromisoformat(manifest.created).timestamp()),
            GenerationSettings.model_validate(manifest.generation).generation(),
            str(folder),
            manifest.audience,
        )
        return LoadedVariant(model, renderer, prompt_of(variant), number)

    def close(self, variant: LoadedVariant) -> None:
        """Take a variant off the base.

        Args:
            variant: As `open` gave it; no request may use it.
        """
        if variant.adapter >= 0:
            self._adapters.remove(variant.adapter)

    def _add(self, variant: Variant, files: Mapping[str, bytes], renderer: Renderer) -> int:
        """Attach an adapter and make sure that it does something."""
        try:
            number = self._adapters.add(partial(load, self._base, variant.manifest.method, files))
        except AdapterError as error:
            raise AdapterError(f"{variant.name}: {error.message}", hint=error.hint) from error
        try:
            _ensure_it_changes(variant, self._base, renderer, number)
        except BaseException:
            self._adapters.remove(number)
            raise
        return number


def find_version(place: Path, content_hash: str, folder: Path) -> Variant:
    """Read a variant, or the version of it that was kept beside it.

    Args:
        place: Its folder.
        content_hash: What must be there; empty for whatever is there.
        folder: Where an earlier version may lie under another name.

    Returns:
        The variant.

    Raises:
        VariantError: If it is damaged, or other content is there and what is wanted is nowhere.
    """
    if content_hash in ("", _hash_at(place)):
        return read_variant(place)
    for other in sorted(folder.glob(f"*/{MANIFEST_FILE}")):
        if _hash_at(other.parent) == content_hash:
            return read_variant(other.parent)
    raise VariantError(
        f"{place} holds another version than {content_hash[:12]}, which is nowhere in {folder}",
        hint="load the name again to serve what is there now",
    )


def _hash_at(place: Path) -> str:
    """The hash that a manifest states; empty where there is none."""
    try:
        plain = json.loads((place / MANIFEST_FILE).read_bytes())
    except (OSError, ValueError):
        return ""
    return str(plain.get("content_hash", "")) if isinstance(plain, dict) else ""


def _whole_files(variant: Variant) -> dict[str, bytes]:
    """Read an adapter's files; the very bytes that are used are hashed.

    A folder may be replaced after it was verified and before it is read.
    """
    try:
        files = variant.files()
    except OSError as error:
        raise VariantError(f"{variant.folder} cannot be read: {error.strerror}") from None
    if {name: hash_bytes(content) for name, content in files.items()} != variant.manifest.files:
        raise VariantError(f"{variant.folder} was changed while it was read", hint="try it again")
    return files


@torch.no_grad()
def _ensure_it_changes(variant: Variant, base: Base, renderer: Renderer, number: int) -> None:
    """Refuse an adapter without effect: its answers would be the base's under another name."""
    ids = torch.tensor(probe_ids(renderer), device=base.device)
    logits = []
    for adapter in (number, -1):
        layout = Layout((Segment(0, len(ids), adapter=adapter),))
        logits.append(base.head_of(adapter).logits(base.hidden(ids, layout)))
    if not logits[0].isfinite().all():
        raise AdapterError(
            f"{variant.name} does not compute numbers: some of its logits are NaN or infinite",
            hint="train it again with a smaller train.learning_rate",
        )
    if largest_change(logits[0], logits[1]) == 0:
        raise AdapterError(
            f"{variant.name} answers exactly like its base: the adapter does nothing",
            hint="train it again; the file may have been written before training",
        )
