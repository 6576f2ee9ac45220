"""The README of a new project: what it has, the next commands, and what to decide by."""

from kamerton.advisor.kinds import TaskKind
from kamerton.advisor.project import Plan
from kamerton.core.language import translated, translated_count

__all__ = ["readme_text"]


def readme_text(plan: Plan, forecast: str = "") -> str:
    """Write the page, in the current language.

    Args:
        plan: What stands in the recipe.
        forecast: Time and memory in a sentence; empty where nothing was measured.

    Returns:
        Markdown.
    """
    applied = f"$ kamerton predict {plan.name} FILE --to OUT.csv"
    lines = [
        f"# {plan.name}",
        "",
        plan.task or f"{plan.kind.shown[0].upper()}{plan.kind.shown[1:]}.",
        "",
        translated(
            "{examples} of `{train}`: {test} kept for evaluation, {holdout} kept to choose the "
            "step. The base is `{base}`; `recipe.toml` says the rest.",
            examples=translated_count(plan.num_examples, "example"),
            train=plan.train,
            test=_part(plan.test),
            holdout=_part(plan.holdout),
            base=plan.base,
        ),
        "",
        *([forecast, ""] if forecast else []),
        translated("In this folder:"),
        "",
        "```console",
        "$ kamerton check recipe.toml --show 3",
        "$ kamerton train recipe.toml",
        f"$ kamerton evaluate {plan.name} --report report.html",
        *([applied] if plan.kind.name in _APPLIED else []),
        "```",
        "",
        translated(
            "`check` lists faults of the data and shows what is learned, `train` goes on after "
            "Ctrl-C with the same command, `evaluate` compares the result with prompting."
        ),
        "",
        f"## {translated('What to decide by')}",
        "",
        _decision(plan.kind.name),
    ]
    return "\n".join(lines) + "\n"


_APPLIED: tuple[TaskKind, ...] = ("classes", "several classes", "fields", "rewriting", "answers")
"""Kinds whose answers to a file's rows stand beside them in a table."""


def _part(part: float | str) -> str:
    if isinstance(part, str):
        return translated("`{file}` is", file=part)
    return translated("{share} are", share=f"{part:.0%}")


def _decision(kind: TaskKind) -> str:
    """Say which number decides, and where numbers do not."""
    match kind:
        case "classes":
            return translated(
                "`accuracy` is the share of texts with the right label, `macro-F1` counts rare "
                "labels as much as common ones. Where the best prompt is as good, no training is "
                "needed. Where training is better and still not good enough, `kamerton predict` "
                "with `--only-uncertain 0.8` writes the doubtful rows for a person to sort."
            )
        case "several classes":
            return translated(
                "`all labels right` is the share of texts whose labels are all right and none too "
                "many; `labels F1` counts single labels. Where the best prompt is as good, no "
                "training is needed."
            )
        case "fields":
            return translated(
                "Each field has a value of its own beside `all fields right`. Automate the fields "
                "that are right often enough, and let a person fill in the others."
            )
        case "pairs":
            return translated(
                "The share of pairs whose better answer is also the more probable one. It does not "
                "say how well answers are written: compare some with `kamerton chat`."
            )
        case "thumbs":
            return translated(
                "Whether answers that were liked are more probable than those that were not. It "
                "does not say how well answers are written: compare some with `kamerton chat`."
            )
        case "texts":
            return translated(
                "How much less unseen texts of yours surprise the model than before, and beside it "
                "`general loss`: what it forgot of other texts. Texts alone teach style and words, "
                "not answers."
            )
        case _:
            return translated(
                "No number says whether a text is good. The report says how close answers come to "
                "yours, and shows them side by side: read ten pairs, then decide."
            )
