"""`kamerton check DATA`."""

import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.text import Text

from kamerton.cli.audit_table import print_audit
from kamerton.cli.console import (
    busy,
    data_console,
    harmless,
    messages,
    progress_sink,
    say_notice,
)
from kamerton.cli.label_errors import print_label_errors
from kamerton.cli.locations import short_location
from kamerton.cli.options import language_option, set_option
from kamerton.core.language import translated, translated_count

if TYPE_CHECKING:
    from kamerton.data.examples import Example
    from kamerton.flows.label_errors import CheckedLabels
    from kamerton.flows.preview import Shown

__all__ = ["check"]


@click.command()
@click.argument("data")
@set_option
@click.option(
    "--show",
    default=0,
    metavar="N",
    type=click.IntRange(min=0),
    help="Show N examples, trained text marked.",
)
@click.option(
    "--base",
    default=None,
    show_default="the recipe's, or builtin:nano",
    help="Whose template and context length count.",
)
@click.option(
    "--redact", type=click.Path(path_type=Path), help="Write a copy without personal data."
)
@click.option(
    "--labels",
    "labels_by",
    default="",
    metavar="VARIANT",
    help="Let a variant that did not learn these rows look for labels that may be wrong.",
)
@click.option("--strict", is_flag=True, help="Exit with 1 when any row cannot be used.")
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.")
@language_option
def check(
    data: str,
    overrides: tuple[str, ...],
    show: int,
    base: str | None,
    redact: Path | None,
    labels_by: str,
    strict: bool,
    as_json: bool,
) -> None:
    """Audit the examples in DATA: a file, a Hub data set, or a recipe that names one.

    Lists rows that cannot be used with file, line, field and reason; reports duplicates, leakage
    into the holdout, labels, lengths, languages and personal data. With --base, --show or a recipe
    also what would not fit the base's context. A recipe's prompt stands before what is shown.
    --set data.KEY=VALUE and --set render.KEY=VALUE are those of a recipe.
    """
    if as_json and show:
        raise click.UsageError("--json and --show cannot be used together")
    with busy(translated("starting")):
        from kamerton.flows.check import check_data
        from kamerton.flows.checked import read_checked
        from kamerton.flows.preview import show_examples

    wanted = read_checked(data, overrides)
    if redact is not None:
        from kamerton.flows.redact import write_redacted

        with progress_sink() as sink:
            done = write_redacted(wanted.data, redact, sink)
        left_out = f", {done.num_left_out} unreadable ones left out" if done.num_left_out else ""
        messages.print(
            translated(
                "wrote {redact}: {rows}{left_out}, {values} replaced by placeholders",
                redact=redact,
                rows=translated_count(done.num_rows, "row"),
                left_out=left_out,
                values=translated_count(done.num_values, "value"),
            )
        )
    with progress_sink() as sink:
        checked = check_data(wanted.data, sink)
    judged = _check_labels(labels_by, checked.loaded.examples) if labels_by else None
    if as_json:
        found = checked.audit.to_json()
        found |= {"labels": judged.to_json()} if judged else {}
        click.echo(json.dumps(found, ensure_ascii=False, indent=2))
    else:
        print_audit(data_console(), checked.audit)
    if judged is not None and not as_json:
        print_label_errors(judged)
    if (show or base or wanted.base) and not as_json:
        with busy(translated("loading the tokenizer")):
            prompt = wanted.prompt(checked.train)
            from kamerton.variants.load import say_unpacking

            model = base or wanted.base or "builtin:nano"
            say_unpacking(model, say_notice)
            shown = show_examples(
                checked.loaded, model, wanted.render, show, prompt, wanted.new_tokens,
                None if wanted.recipe is None else wanted.recipe.objective,
            )  # fmt: skip
        _print_shown(*shown)
    if checked.audit.num_examples and not as_json:
        following = _next(data, overrides, wanted.recipe is not None, show > 0)
        messages.print(
            translated("next: {following}", following=following), style="dim", soft_wrap=True
        )
    if strict and checked.audit.rejections:
        sys.exit(1)


def _check_labels(name: str, examples: "Sequence[Example]") -> "CheckedLabels":
    with busy("loading PyTorch"):
        from kamerton.flows.label_errors import check_labels
        from kamerton.flows.workspace import Workspace
        from kamerton.store.variants import find_variant

    with progress_sink() as sink:
        return check_labels(find_variant(name, Workspace(Path()).variants), examples, sink)


def _next(data: str, overrides: Sequence[str], is_recipe: bool, seen: bool) -> str:
    """Give the command that follows: look at examples, then train on them."""
    given = "".join(f" --set {shlex.quote(override)}" for override in overrides)
    place = shlex.quote(data)
    if not seen:
        return f"kamerton check {place}{given} --show 3"
    if is_recipe:
        return f"kamerton train {place}{given}"
    return f"kamerton train RECIPE --set data.train={place}{given}"


def _print_shown(facts: list[tuple[str, str]], notices: list[str], shown: "list[Shown]") -> None:
    out = data_console()
    out.print()
    for name, value in facts:
        out.print(Text.assemble((f"{name}: ", "dim"), value))
    for notice in notices:
        out.print(Text(harmless(notice), style="yellow"))
    # Colour marks what is trained; without it, or for eyes that do not tell it, brackets do.
    opened, closed = ("⟦", "⟧") if out.encoding.startswith("utf") else ("[[", "]]")
    marked = not out.color_system
    how = f"in {opened}{closed}" if marked else "green"
    for example in shown:
        out.rule(Text(short_location(example.location)), style="dim")
        if example.problem:
            out.print(Text(harmless(example.problem), style="red"))
            continue
        text = Text()
        for span in example.spans:
            mine = harmless(span.text)
            if span.trained and marked:
                mine = f"{opened}{mine}{closed}"
            text.append(mine, style="bold green" if span.trained else "dim")
        out.print(text)
        if example.columns is None:
            counts = (
                f"{example.num_tokens} tokens, {example.num_trained} trained ({how}); "
                f"BOS {example.num_bos}, trained ends {example.num_ends}"
            )
        else:
            names = ", ".join(map(harmless, example.columns)) or "none"
            counts = (
                f"{example.num_tokens} tokens, none trained: answered by the model; "
                f"BOS {example.num_bos}; other columns for rewards: {names}"
            )
        out.print(counts, style="cyan")
