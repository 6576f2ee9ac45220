"""The text of a new project's recipe: every line says what it is for."""

from collections.abc import Mapping
from dataclasses import dataclass

from kamerton.advisor.checks import checks_of
from kamerton.advisor.kinds import Kind
from kamerton.core.language import translated, translated_count
from kamerton.core.settings import toml_value

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
        holdout: Share, or file, that training measures on.
        test: Share, or file, that only `kamerton evaluate` reads.
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
    holdout: float | str
    test: float | str
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
        f"# {plan.kind.shown}, {translated_count(plan.num_examples, 'example')}",
        f"name = {toml_value(plan.name)}",
        *([f"purpose = {toml_value(plan.task)}"] if plan.task else []),
        _line("base", plan.base, translated("a Hub id, a folder or a GGUF file may stand here")),
        "",
        "[data]",
        _line("train", plan.train, translated("seen from this file; nothing was copied")),
    ]
    if plan.columns:
        pairs = ", ".join(f"{ours} = {toml_value(theirs)}" for ours, theirs in plan.columns.items())
        lines.append(f"columns = {{ {pairs} }}  # " + translated("our field = your column"))
    lines += [
        _line(
            "holdout",
            plan.holdout,
            translated("file that chooses which step is kept")
            if isinstance(plan.holdout, str)
            else translated("share that chooses which step is kept"),
        ),
        _line(
            "test",
            plan.test,
            translated("file that only `kamerton evaluate` reads: its numbers count")
            if isinstance(plan.test, str)
            else translated("share that only `kamerton evaluate` reads: its numbers count"),
        ),
    ]
    if plan.unusable > 0.05:
        lines.append(
            _line(
                "max_unusable",
                round(min(1.0, plan.unusable + 0.01), 2),
                translated(
                    "`kamerton check` names the rows that cannot be used; mend them, then delete "
                    "this line"
                ),
            )
        )
    if plan.system:
        lines += ["", "[prompt]", f"system = {toml_value(plan.system)}"]
    lines += ["", "[adapter]", 'kind = "lora"', "rank = 16"]
    if kind == "pairs":
        note = translated("learns from pairs without a first stage")
        lines += ["", "[objective]", _line("kind", "orpo", note)]
    elif kind == "thumbs":
        note = translated("learns from single liked or disliked answers")
        lines += ["", "[objective]", _line("kind", "kto", note)]
    epochs = 5 if plan.num_examples < _FEW else 3
    lines += [
        "",
        "[train]",
        _line("epochs", epochs, translated("passes over the examples")),
        _line("learning_rate", "auto", translated("chosen by method and base, and printed")),
        _line("tokens_per_step", "auto", translated("about a hundred steps")),
        "",
        "[generation]",
        _line(
            "max_new_tokens",
            plan.max_new_tokens,
            translated("room for the longest answers of the data"),
        ),
        "",
        "[evaluate]",
        _line(
            "shots",
            "fit",
            translated("prompting with as many examples as fit is what training must beat"),
        ),
        *(plan.checks.rstrip().splitlines() or checks_of(plan.kind)),
    ]
    return "\n".join(lines) + "\n"


def _line(key: str, value: float | str, note: str) -> str:
    return f"{key} = {toml_value(value)}  # {note}"
