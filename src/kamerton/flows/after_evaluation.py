"""Advice after `kamerton evaluate`, about the best of the variants that were named."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from kamerton.advisor.after_evaluation import Judged, LabelCount, advise_after_evaluation
from kamerton.advisor.after_training import TrainCommand
from kamerton.advisor.suggestion import Suggestion
from kamerton.core.errors import KamertonError
from kamerton.core.settings import read_toml
from kamerton.evaluation.results import Comparison
from kamerton.flows.after_training import read_curves
from kamerton.flows.evaluate import Evaluated
from kamerton.flows.workspace import Workspace
from kamerton.store.variants import Variant

__all__ = ["suggest_after_evaluation"]


def suggest_after_evaluation(
    evaluated: Evaluated,
    variants: Sequence[Variant],
    workspace: Workspace,
    train: Callable[[Path, Sequence[str]], TrainCommand],
    in_project: str = "",
    limit: int = 0,
) -> list[Suggestion]:
    """Advise what to do after a comparison.

    Args:
        evaluated: The finished evaluation.
        variants: The variants that were named.
        workspace: The workspace of their runs.
        train: Gives, for a recipe's file and the values of `--set` that are always needed, the
            command that trains it anew with other settings.
        in_project: The words that name the project in other commands; may be empty.
        limit: Most items that were asked, as the settings say; 0 where all were.

    Returns:
        The suggestions, the most pressing first.
    """
    comparison = evaluated.comparison
    best = _best(comparison, variants)
    recipe, is_named = _recipe_file(best)
    judged = Judged(
        name=best.name,
        recipe=shlex.quote(str(recipe)),
        train=train(recipe, () if is_named else (f"name={best.name}",)),
        in_project=in_project,
        rate=read_curves(best, workspace).rate if best.manifest.method != "none" else 0.0,
        num_train=best.manifest.data.num_train,
        limit=limit,
        labels=_count_labels(evaluated, best.name),
    )
    return advise_after_evaluation(comparison, judged)


def _best(comparison: Comparison, variants: Sequence[Variant]) -> Variant:
    """Choose the variant with the best value of the first metric that has a direction."""
    for metric, better in zip(comparison.metrics, comparison.better, strict=True):
        if better != "neither":
            sign = 1 if better == "higher" else -1
            return max(variants, key=lambda one: sign * comparison.measure(metric, one.name).value)
    return variants[-1]


def _recipe_file(variant: Variant) -> tuple[Path, bool]:
    """Find the file that a variant's recipe was read from, and tell whether it has its name."""
    folder = Path(variant.manifest.recipe_folder)
    shown = folder
    if folder.is_relative_to(here := Path.cwd()):
        shown = folder.relative_to(here)
    named: list[Path] = []
    for path in sorted(folder.glob("*.toml")):
        try:
            values: Mapping[str, object] = read_toml(path)
        except (KamertonError, OSError):
            continue
        if values.get("name") == variant.name:
            return shown / path.name, True
        if "data" in values and "name" in values:
            named.append(path)
    # A name that was given with --set stands in no file.
    return (shown / named[0].name, False) if len(named) == 1 else (Path("RECIPE"), False)


def _count_labels(evaluated: Evaluated, name: str) -> dict[str, LabelCount]:
    """Count how often a variant missed each label."""
    items = evaluated.items
    if not items[0].labels or items[0].pair or items[0].is_desirable is not None:
        return {}
    texts = next(one.texts for one in evaluated.answers if one.variant == name)
    found: dict[str, LabelCount] = {}
    for item, text in zip(items, texts, strict=True):
        label = item.reference
        before = found.get(label, LabelCount(0, 0, evaluated.num_by_label.get(label, 0)))
        missed = before.missed + (text != label)
        found[label] = LabelCount(before.asked + 1, missed, before.learned)
    return found
