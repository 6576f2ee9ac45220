"""The text of a new project's recipe: every line says what it is for."""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from kamerton.advisor.kinds import Kind

__all__ = ["Plan", "recipe_text"]

_FEW = 1_000


@dataclass(frozen=True, slots=True)
class Plan:
    """What a recipe is written from.

    Attributes:
        name: Name of the variant.
        task: The task in one sentence, as the user gave it; may be empty.
        base: The base.
        train: The data, relative to the recipe.
        columns: Our fields to the columns of the data; empty where they have our names.
        kind: The kind of task.
        num_examples: Usable examples.
        holdout: Share that training measures on.
        test: Share that only `kamerton evaluate` reads.
        unusable: Share of rows that cannot be used.
        system: The instruction.
        max_new_tokens: Longest answer in tokens.
        checks: The checks as TOML, where a business case has its own.
    """

    name: str
    task: str
    base: str
    train: str
    columns: Mapping[str, str]
    kind: Kind
    num_examples: int
    holdout: float
    test: float
    unusable: float
    system: str
    max_new_tokens: int
    checks: str = ""


def recipe_text(plan: Plan) -> str:
    """Write a recipe.

    Args:
        plan: What stands in it.

    Returns:
        TOML with comments.
    """
    kind = plan.kind.name
    lines = [
        f"# {plan.kind.shown}, {plan.num_examples:,} examples",
        f"name = {_text(plan.name)}",
        *([f"purpose = {_text(plan.task)}"] if plan.task else []),
        f"base = {_text(plan.base)}  # a Hub id, a folder or a GGUF file may stand here",
        "",
        "[data]",
        f"train = {_text(plan.train)}  # seen from this file; nothing was copied",
    ]
    if plan.columns:
        pairs = ", ".join(f"{ours} = {_text(theirs)}" for ours, theirs in plan.columns.items())
        lines.append(f"columns = {{ {pairs} }}  # our field = your column")
    lines += [
        f"holdout = {plan.holdout}  # share that chooses which step is kept",
        f"test = {plan.test}  # share that only `kamerton evaluate` reads: its numbers count",
    ]
    if plan.unusable > 0.05:
        lines.append(
            f"max_unusable = {min(1.0, plan.unusable + 0.01):.2f}  # `kamerton check` names the "
            "rows that cannot be used; mend them, then delete this line"
        )
    if plan.system:
        lines += ["", "[prompt]", f"system = {_text(plan.system)}"]
    lines += ["", "[adapter]", 'kind = "lora"', "rank = 16"]
    lines += _OBJECTIVES.get(kind, [])
    epochs = 5 if plan.num_examples < _FEW else 3
    lines += [
        "",
        "[train]",
        f"epochs = {epochs}  # passes over the examples",
        'learning_rate = "auto"  # chosen by method and base, and printed',
        'tokens_per_step = "auto"  # about a hundred steps',
        "",
        "[generation]",
        f"max_new_tokens = {plan.max_new_tokens}  # room for the longest answers of the data",
        "",
        "[evaluate]",
        'shots = "fit"  # prompting with as many examples as fit is what training must beat',
        *(plan.checks.rstrip().splitlines() or _CHECKS.get(kind, [])),
    ]
    return "\n".join(lines) + "\n"


_OBJECTIVES: Mapping[str, list[str]] = {
    "pairs": ["", "[objective]", 'kind = "orpo"  # learns from pairs without a first stage'],
    "thumbs": ["", "[objective]", 'kind = "kto"  # learns from single liked or disliked answers'],
}
_JSON_CHECKS = [
    "",
    "[[evaluate.checks]]",
    'name = "is JSON"',
    'kind = "json"',
    "",
    "[[evaluate.checks]]",
    'name = "all as in the data"',
    'kind = "exact"',
]
_NO_REFUSAL = [
    "",
    "[[evaluate.checks]]",
    'name = "does not refuse"',
    'kind = "refusal"',
    "expect = false",
]
_CHECKS: Mapping[str, list[str]] = {
    "classes": ["# accuracy and macro-F1 are measured for classes, over these labels only"],
    "several classes": _JSON_CHECKS,
    "fields": _JSON_CHECKS,
    "rewriting": _NO_REFUSAL,
    "answers": _NO_REFUSAL,
    "dialogues": _NO_REFUSAL,
    "pairs": ["# how often the better answer is the more probable one is measured for pairs"],
    "thumbs": ["# whether liked answers stand above disliked ones is measured for thumbs"],
}


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
