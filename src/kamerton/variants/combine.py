"""Combining: several variants of one base and method become one."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import torch

from kamerton import __version__
from kamerton.adapters.catalogue import combine, load, ways_to_combine
from kamerton.adapters.combine import CombineSettings
from kamerton.core.audience import shared_audience
from kamerton.core.errors import VariantError
from kamerton.core.files import hash_json
from kamerton.store.manifest import DataRecord, VariantManifest
from kamerton.store.trained_on import trained_on_any
from kamerton.store.variants import Variant, write_variant
from kamerton.variants.load import Opening, load_base_for
from kamerton.variants.opening import ensure_writes, renderer_for
from kamerton.variants.probe import probe_logits

__all__ = ["combined"]

_SAME = ("weight_hash", "tokenizer_hash", "quantise")


def combined(
    variants: Sequence[Variant],
    name: str,
    folder: Path,
    settings: CombineSettings,
    opening: Opening | None = None,
) -> Variant:
    """Combine variants and write the result as a variant.

    Prompt, rendering and recipe are the first one's.

    Args:
        variants: At least two variants of one base and one method.
        name: The new variant's name; must not be taken.
        folder: The folder of variants.
        settings: How the adapters are combined.
        opening: The way the base is opened; None takes it from the first one's manifest.

    Returns:
        The variant; its notes say what combining may have broken.

    Raises:
        VariantError: If they are not of one method and the same base, held alike.
        AdapterError: If their adapters cannot be combined so.
        SettingsError: If nobody may use all of them.
    """
    _check(variants)
    files = [variant.files() for variant in variants]
    made = combine(variants[0].manifest.method, files, settings)
    _check_answers(variants[0], made.files, opening)
    notes = [*made.notes, *_notes(variants)]
    manifest = _manifest(variants, name, made.facts, settings, notes)
    learned = trained_on_any(variants, ())
    return write_variant(folder / name, manifest, made.files, trained_on=learned)


def _check(variants: Sequence[Variant]) -> None:
    if len({variant.manifest.content_hash for variant in variants}) < max(2, len(variants)):
        raise VariantError("combine needs at least two different variants")
    first = variants[0].manifest
    for variant in variants:
        ensure_writes(variant, "combined")
        if not ways_to_combine(variant.manifest.method):
            raise VariantError(
                f"{variant.name} is '{variant.manifest.method}', which cannot be combined"
            )
        if variant.manifest.method != first.method:
            raise VariantError(
                f"{variant.name} is '{variant.manifest.method}' and {first.name} "
                f"'{first.method}': only variants of one method are combined"
            )
        other = [
            field for field in _SAME
            if getattr(variant.manifest.base, field) != getattr(first.base, field)
        ]  # fmt: skip
        if other:
            raise VariantError(
                f"{variant.name} was made for another base than {first.name} "
                f"({', '.join(other)}): their updates mean nothing to each other",
                hint="train both on the same base, held alike",
            )


@torch.no_grad()
def _check_answers(first: Variant, files: Mapping[str, bytes], opening: Opening | None) -> None:
    """Attach the result to the base: it must fit, and change finite answers."""
    base = load_base_for(first, opening)
    renderer = renderer_for(first, base)
    before = probe_logits(renderer, base)
    load(base, first.manifest.method, files)
    after = probe_logits(renderer, base)
    if not torch.isfinite(after).all() or torch.equal(before, after):
        raise VariantError(
            "the combined variant has no finite answers, or those of the base",
            hint="choose other weights",
        )


def _notes(variants: Sequence[Variant]) -> list[str]:
    """Say what holds for every combination."""
    notes = []
    if any(one.manifest.prompt != variants[0].manifest.prompt for one in variants):
        notes.append(f"the prompts differ: it answers with that of {variants[0].name}")
    templates = {one.manifest.base.template_hash for one in variants}
    if len(templates) > 1:
        notes.append(f"the chat templates differ: it answers with that of {variants[0].name}")
    for key, what in (("render", "renderings"), ("generation", "generation defaults")):
        if any(
            getattr(one.manifest, key) != getattr(variants[0].manifest, key) for one in variants
        ):
            notes.append(f"the {what} differ: it answers with those of {variants[0].name}")
    notes.append("it was not trained as a whole: evaluate it beside its parents on each one's data")
    return notes


def _manifest(
    variants: Sequence[Variant],
    name: str,
    facts: Mapping[str, float],
    settings: CombineSettings,
    notes: list[str],
) -> VariantManifest:
    manifests = [variant.manifest for variant in variants]
    first = manifests[0]
    data = DataRecord(
        place=", ".join(dict.fromkeys(one.data.place for one in manifests)),
        fingerprint=hash_json([one.data.fingerprint for one in manifests]),
        num_train=sum(one.data.num_train for one in manifests),
        num_holdout=first.data.num_holdout,
    )
    how = settings.model_dump(mode="json", exclude_defaults=True)
    changes = {
        "name": name,
        "content_hash": "",
        "files": {},
        "recipe": {**first.recipe, "name": name},
        "data": data,
        "audience": shared_audience([one.audience for one in manifests]),
        "metrics": {},
        "comparison": "",
        "parents": [one.content_hash for one in manifests],
        "combination": {
            "of": [one.name for one in manifests],
            **how,
            "how": settings.how,
            **facts,
            "notes": notes,
        },
        "kamerton_version": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }
    return first.model_copy(update=changes)
