"""`kamerton evaluate VARIANT...`."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from kamerton.cli.console import busy, data_console, messages, print_table, progress_sink
from kamerton.cli.options import (
    base_option,
    device_option,
    dtype_option,
    in_project,
    language_option,
    project_option,
    set_option,
)
from kamerton.cli.suggestions import print_suggestions, train_command
from kamerton.core.language import translated

__all__ = ["evaluate"]


@click.command()
@click.argument("variants", nargs=-1, required=True)
@click.option(
    "--data", help="File to measure on; the variant's own test set or holdout when left out."
)
@click.option("--report", type=click.Path(path_type=Path), help="Write an HTML report.")
@click.option(
    "--votes",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Votes that `kamerton chat A B` took: how often the answers of B were preferred.",
)
@click.option(
    "--judge",
    metavar="URL|NAME",
    help="A model that compares each variant's answers with the best baseline's: the address of "
    "an OpenAI-compatible engine, or a variant or base.",
)
@click.option("--judge-model", default="", help="Which model of that engine judges.")
@click.option(
    "--judge-key",
    default="",
    envvar="KAMERTON_JUDGE_KEY",
    help="Key that the engine asks for; also in the environment variable KAMERTON_JUDGE_KEY.",
)
@click.option(
    "--judge-sees-texts",
    is_flag=True,
    help="Let an engine on another machine see the questions and answers.",
)
@set_option
@base_option
@device_option
@dtype_option
@project_option
@click.option("--json", "as_json", is_flag=True, help="Print the comparison as JSON.")
@language_option
def evaluate(
    variants: tuple[str, ...],
    data: str | None,
    report: Path | None,
    votes: Path | None,
    judge: str | None,
    judge_model: str,
    judge_key: str,
    judge_sees_texts: bool,
    overrides: tuple[str, ...],
    base: str,
    device: str,
    dtype: Any,
    project: Path,
    as_json: bool,
) -> None:
    """Compare VARIANTS with zero-shot and few-shot prompting, and with what they went on from.

    --set evaluate.KEY=VALUE changes how, as in a recipe; --set data.KEY=VALUE how the file of
    --data is read, such as data.columns.text=question.
    """
    if not judge and (judge_model or judge_sees_texts):
        raise click.UsageError(translated("--judge-model and --judge-sees-texts need --judge"))
    with busy(translated("loading PyTorch")):
        from kamerton.cli.verdict import print_headline, print_pairs
        from kamerton.evaluation.headline import headline
        from kamerton.evaluation.per_label import per_label, per_label_table
        from kamerton.evaluation.side_by_side import side_by_side
        from kamerton.evaluation.table import terminal_table
        from kamerton.flows.after_evaluation import suggest_after_evaluation
        from kamerton.flows.evaluate import evaluate_variants, evaluation_settings
        from kamerton.flows.judge_engine import JudgeOptions
        from kamerton.flows.report import ensure_writable, write_evaluation_report
        from kamerton.flows.workspace import Workspace
        from kamerton.store.variants import find_variant
        from kamerton.variants.load import Opening

    workspace = Workspace(project)
    found = [find_variant(name, workspace.variants) for name in variants]
    settings, reading = evaluation_settings(found[0], overrides, data)
    if report is not None:
        ensure_writable(report)
    judges = JudgeOptions(judge, judge_model, judge_key, judge_sees_texts) if judge else None
    with progress_sink() as sink:
        opening = Opening(base, device, dtype, sink)
        evaluated = evaluate_variants(
            found, workspace, sink, data=data, reading=reading, settings=settings,
            opening=opening, votes=votes, judge=judges,
        )  # fmt: skip
    suggestions = suggest_after_evaluation(
        evaluated,
        found,
        workspace,
        lambda recipe, always: train_command(recipe, always, project),
        in_project(project),
        settings.limit,
    )
    if as_json:
        advice = [asdict(suggestion) for suggestion in suggestions]
        plain = {**evaluated.comparison.to_json(), "advice": advice}
        click.echo(json.dumps(plain, ensure_ascii=False))
    else:
        out, comparison = data_console(), evaluated.comparison
        print_headline(out, headline(comparison))
        pairs = side_by_side(comparison, evaluated.items, evaluated.answers, evaluated.checks)
        print_pairs(out, pairs)
        print_table(out, terminal_table(comparison))
        if (found_labels := per_label(evaluated.items, evaluated.answers)) is not None:
            print_table(out, per_label_table(found_labels))
        print_suggestions(suggestions)
    if report is not None:
        with busy(translated("writing the report")):
            write_evaluation_report(report, evaluated, workspace, found[0].name, suggestions)
        messages.print(translated("report: {report}", report=report), soft_wrap=True)
