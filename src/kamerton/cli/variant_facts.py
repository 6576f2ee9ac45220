"""The facts of a variant as a table for people: what it is, and how it was made."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rich.table import Table

from kamerton.cli.console import harmless
from kamerton.core.wording import counted
from kamerton.store.manifest import VariantManifest

__all__ = ["variant_facts"]

_LONGEST = 300
"""Characters of a text that are shown; the manifest has all of them."""


def variant_facts(manifest: VariantManifest, names: Mapping[str, str]) -> Table:
    """Show a manifest to people.

    Args:
        manifest: The manifest.
        names: Names of the project's variants by content hash, for its parents.

    Returns:
        A table of two columns without a head.
    """
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _facts(manifest, names):
        if text:
            table.add_row(name, harmless(text))
    return table


def _facts(manifest: VariantManifest, names: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Give name and value of each fact; an empty value is not shown."""
    base, data = manifest.base, manifest.data
    yield "name", manifest.name
    yield "purpose", _shortened(str(manifest.recipe.get("purpose") or ""))
    held = "" if base.quantise == "none" else f", held in {base.quantise}"
    yield "base", f"{base.id} ({base.architecture}, {base.num_parameters:,} parameters{held})"
    yield "computation", f"dtype {base.dtype}, device {base.device}"
    yield "method", _method(manifest)
    yield "new tokens", ", ".join(manifest.new_tokens)
    yield "objective", f"{manifest.objective}, seed {manifest.seed}"
    yield "system text", _shortened(str(manifest.prompt.get("system") or ""))
    shown = len(manifest.prompt.get("demonstrations") or ())
    nearest = manifest.prompt.get("nearest")
    told = f"the {nearest} nearest of {shown}" if nearest else str(shown)
    yield "demonstrations", told if shown else ""
    yield "rendering", _listed(manifest.render)
    yield "generation", _listed(manifest.generation)
    yield "data", data.place
    counts = f"{counted(data.num_train, 'example')} learned from, {data.num_holdout:,} held out"
    yield "examples", counts + (f", {data.num_test:,} for tests" if data.num_test else "")
    yield "parents", ", ".join(names.get(one, one[:12]) for one in manifest.parents)
    combined = {k: v for k, v in manifest.combination.items() if k not in ("of", "notes")}
    yield "combined", _listed(combined)
    audience = manifest.audience
    yield "for customers", ", ".join(audience.tenants)
    yield "for keys", ", ".join(audience.keys)
    yield "licence", manifest.licence
    yield (
        "made",
        f"{manifest.created[:16].replace('T', ' ')} UTC, Kamerton {manifest.kamerton_version}",
    )
    yield "content hash", manifest.content_hash
    for number, (name, value) in enumerate(sorted(manifest.metrics.items())):
        yield "" if number else "metrics", f"{name.replace('_', ' ')}: {value:,.6g}"


def _method(manifest: VariantManifest) -> str:
    """Name the method, with the settings that the recipe gives."""
    if manifest.method == "none":
        return "none: the prompt alone"
    given = manifest.recipe.get("adapter", {})
    settings = {key: value for key, value in given.items() if key not in ("kind", "new_tokens")}
    return ", ".join([manifest.method, *([_listed(settings)] if settings else [])])


def _listed(values: Mapping[str, Any]) -> str:
    """Name settings as recipes do; what is off or empty is left out."""
    given = {key: value for key, value in values.items() if value or type(value) in (int, float)}
    return ", ".join(f"{key} {_plain(value)}" for key, value in given.items())


def _plain(value: Any) -> str:
    if isinstance(value, str):
        return value
    # As JSON, so that line feeds in stop texts can be seen.
    return json.dumps(value, ensure_ascii=False)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST].rstrip()} …"
