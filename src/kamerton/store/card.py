"""The card of a variant: its manifest in words, for people."""

from collections.abc import Mapping
from typing import Any

from kamerton.core.generation import GenerationSettings
from kamerton.store.manifest import BaseRecord, DataRecord, VariantManifest

__all__ = ["make_card"]


def make_card(manifest: VariantManifest) -> str:
    """Word a manifest as Markdown.

    Args:
        manifest: The complete manifest.

    Returns:
        The card's text: what the variant is for, how it was made, how it compares, what it forgot,
        its limits.
    """
    data, base = manifest.data, manifest.base
    return f"""# {manifest.name}

A variant of `{base.id}` ({base.architecture}, {base.num_parameters:,} parameters{_held(base)}).

## What it is for

{manifest.recipe.get("purpose") or "Its recipe does not say (`purpose`)."}

## How it was made

- adapter: {_listed(manifest.recipe.get("adapter", {}), manifest.method)}
- prompt: {_prompt(manifest.prompt)}
- answers: {_answers(manifest.generation)}
- objective: {manifest.objective}, seed {manifest.seed}{_training(manifest)}
- examples: `{data.place}`, {_counts(data)}
- Kamerton {manifest.kamerton_version}, {manifest.created}
- content hash `{manifest.content_hash}`
{_combination(manifest.combination)}
## How it compares

{_held_out_loss(manifest.metrics)}{manifest.comparison or _uncompared(manifest)}

## What it forgot

{_forgotten(manifest)}

## Limits

It answers for the task of its examples. It loads only on the base named above, byte for byte.
Licence: {manifest.licence or "not stated; the base's licence and your rights in the data apply"}.
"""


def _combination(combination: Mapping[str, Any]) -> str:
    if not combination:
        return ""
    given = ", ".join(
        f"{key} {value}" for key, value in combination.items() if key not in ("of", "notes")
    )
    lines = [f"- combined from {', '.join(combination['of'])}: {given}"]
    return "\n".join([*lines, *(f"- {note}" for note in combination["notes"])]) + "\n"


def _held(base: BaseRecord) -> str:
    return "" if base.quantise == "none" else f", held in {base.quantise}"


def _listed(settings: Mapping[str, Any], kind: str) -> str:
    given = (f"{key} {value}" for key, value in settings.items() if key != "kind")
    return ", ".join([kind, *given])


def _prompt(prompt: Mapping[str, Any]) -> str:
    num = len(prompt.get("demonstrations") or ())
    system = "system text" if prompt.get("system") else "no system text"
    nearest = prompt.get("nearest")
    return f"{system}, {f'the {nearest} nearest of ' if nearest else ''}{num} worked examples"


def _answers(generation: Mapping[str, Any]) -> str:
    settings = GenerationSettings.parse_stored(generation, source="generation")
    drawn = f"drawn at temperature {settings.temperature:g}" if settings.temperature else "greedy"
    return f"{drawn}, at most {settings.max_new_tokens:,} tokens"


def _training(manifest: VariantManifest) -> str:
    metrics = manifest.metrics
    if "steps" not in metrics:
        return ""
    seconds = metrics.get("train_seconds", 0.0)
    return f", {metrics['steps']:.0f} steps kept, {seconds:,.0f} s of training"


def _counts(data: DataRecord) -> str:
    counts = f"{data.num_train:,} learned from, {data.num_holdout:,} kept aside"
    return f"{counts}, {data.num_test:,} more for comparisons alone" if data.num_test else counts


def _held_out_loss(metrics: Mapping[str, float]) -> str:
    if "holdout_loss" not in metrics:
        return ""
    loss = f"Held-out loss, mean over tokens: {metrics['holdout_loss']:.4f}"
    alone = metrics.get("holdout_loss_base")
    return loss + (f"; the base alone has {alone:.4f}.\n\n" if alone is not None else ".\n\n")


def _uncompared(manifest: VariantManifest) -> str:
    return f"Not compared with prompting yet: `kamerton evaluate {manifest.name}`."


def _forgotten(manifest: VariantManifest) -> str:
    if manifest.method == "none":
        return "Nothing: its weights are the base's own."
    loss = manifest.metrics.get("general_loss")
    alone = manifest.metrics.get("general_loss_base")
    if loss is None or alone is None:
        return f"Not measured yet: `kamerton evaluate {manifest.name}`."
    return (
        f"On 32 sentences of general text that have nothing to do with its task its loss is "
        f"{loss:.3f}; the base alone has {alone:.3f} ({loss - alone:+.3f}). Other abilities were "
        "not measured."
    )
