"""Loading a variant's base: the very one that it was made for, with its own chat template."""

import copy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from kamerton.core.errors import ModelError
from kamerton.core.events import Notice, Sink
from kamerton.models.base import Base
from kamerton.models.dtype import DType
from kamerton.models.load import all_files_hash, file_to_unpack, load_base
from kamerton.models.quantised.codecs import Quantisation
from kamerton.store.variants import Variant, check_base

__all__ = [
    "Opening",
    "ensure_same_base",
    "load_base_for",
    "reopened",
    "say_other_template",
    "say_unpacking",
    "with_template_of",
]


@dataclass(frozen=True, slots=True)
class Opening:
    """The way a variant's base is opened where its manifest is not to decide.

    Attributes:
        base: The folder or Hub id of the base now; empty for the manifest's.
        device: The device that it computes on; empty for the manifest's.
        dtype: The dtype of weights and computation; None for the manifest's.
        sink: Receives warnings, and how far the reading of the weights is.
    """

    base: str = ""
    device: str = ""
    dtype: DType | None = None
    sink: Sink = lambda event: None


def reopened(variant: Variant, opening: Opening) -> Variant:
    """Let a variant's manifest, in memory only, say otherwise how its base is opened.

    Args:
        variant: The variant.
        opening: The values that replace the manifest's.

    Returns:
        The variant with a changed manifest; its folder stays as it is.
    """
    wanted = {"id": opening.base, "device": opening.device, "dtype": opening.dtype or ""}
    changed = {key: value for key, value in wanted.items() if value}
    manifest = variant.manifest
    if opening.base:
        # Another place has commits of its own.
        changed["commit"] = ""
    base = manifest.base.model_copy(update=changed)
    return replace(variant, manifest=manifest.model_copy(update={"base": base}))


def load_base_for(
    variant: Variant,
    opening: Opening | None = None,
    *,
    dtype: DType | None = None,
    quantise: Quantisation | None = None,
) -> Base:
    """Load a variant's base, verify that it is the very one, and give it the variant's template.

    Args:
        variant: The variant.
        opening: The way the base is opened; None takes it from the manifest.
        dtype: A dtype in the place of the opening's and the manifest's.
        quantise: A form of the weights in the place of the manifest's.

    Returns:
        The base, without adapter.

    Raises:
        ModelError: If it cannot be loaded.
        VariantError: If it is another one.
    """
    opening = opening or Opening()
    variant = reopened(variant, opening)
    record = variant.manifest.base
    place = record.id
    say_unpacking(place, opening.sink)
    try:
        base = load_base(
            place,
            dtype=dtype or cast(DType, record.dtype),
            device=record.device,
            quantise=quantise or cast(Quantisation, record.quantise),
            commit=record.commit,
            sink=opening.sink,
        )
    except ModelError as error:
        if opening.base or place.startswith("builtin:") or Path(place).expanduser().exists():
            raise
        hint = f"{error.hint}; --base PLACE says where the base is now"
        raise ModelError(error.message, hint=hint) from error
    ensure_same_base(variant, base)
    say_other_template(variant, base, opening.sink)
    return with_template_of(variant, base)


def say_unpacking(name: str, sink: Sink) -> None:
    """Say that a GGUF file is unpacked before anything else happens, where it is.

    Args:
        name: The base's name.
        sink: Receives the notice.
    """
    if (file := file_to_unpack(name)) is not None:
        size = file.stat().st_size / 2**20
        sink(
            Notice(f"unpacking {file.name} ({size:,.0f} MiB) once; this can take a minute or more")
        )


def ensure_same_base(variant: Variant, base: Base) -> None:
    """Refuse to use a variant over another base than its own.

    Args:
        variant: The variant.
        base: The base as it was loaded, in whatever rounding.

    Raises:
        VariantError: If they differ.
    """
    manifest, identity = variant.manifest, base.identity
    weights = identity.weight_hash
    if manifest.format_version == 1 and weights != manifest.base.weight_hash:
        weights = all_files_hash(identity.folder)
    check_base(
        manifest,
        base=identity.id,
        weight_hash=weights,
        tokenizer_hash=identity.tokenizer_hash,
    )


def say_other_template(variant: Variant, base: Base, sink: Sink) -> None:
    """Warn where a base has another chat template than a variant learned with.

    Args:
        variant: The variant.
        base: The base as it was loaded.
        sink: Receives the warning.
    """
    record = variant.manifest.base
    if record.template_hash != base.identity.template_hash:
        found = (
            f"{base.identity.id} has another chat template than '{variant.name}' was trained with"
        )
        so = (
            "the variant's own is used for it"
            if record.templates
            else "the variant keeps none, so its answers may change: train it again"
        )
        sink(Notice(f"{found}: {so}", "warning"))


def with_template_of(variant: Variant, base: Base) -> Base:
    """Give a base the chat template that a variant learned with.

    Args:
        variant: The variant.
        base: Its base.

    Returns:
        The same base where it has that template already, or where the variant keeps none; else
        one that shares its model and has a tokenizer of its own.
    """
    record = variant.manifest.base
    if not record.templates or record.template_hash == base.identity.template_hash:
        return base
    tokenizer: Any = copy.deepcopy(base.tokenizer)
    only_one = record.templates.keys() == {"default"}
    tokenizer.chat_template = record.templates["default"] if only_one else dict(record.templates)
    identity = replace(base.identity, template_hash=record.template_hash)
    return replace(base, tokenizer=tokenizer, identity=identity)
