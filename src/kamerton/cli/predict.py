"""`kamerton predict VARIANT FILE --to OUT`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kamerton.cli.console import busy, harmless, messages, progress_sink
from kamerton.cli.options import (
    base_option,
    device_option,
    dtype_option,
    ensure_parent,
    project_option,
    set_option,
)
from kamerton.core.wording import counted

if TYPE_CHECKING:
    from kamerton.flows.predict import Predicted

__all__ = ["predict"]

_SHOWN_PROBLEMS = 20


@click.command()
@click.argument("variant")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--to",
    required=True,
    metavar="OUT",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File to write: .csv, .tsv, .jsonl or .parquet.",
)
@click.option(
    "--labels",
    default="",
    metavar="A,B,...",
    show_default="those that the variant learned",
    help="Labels to choose from.",
)
@click.option(
    "--only-uncertain",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="CONFIDENCE",
    help="Write only rows of lower confidence, the least certain first.",
)
@set_option
@base_option
@device_option
@dtype_option
@project_option
@click.option("--json", "as_json", is_flag=True, help="Print a summary as JSON.")
def predict(
    variant: str,
    file: Path,
    to: Path,
    labels: str,
    only_uncertain: float | None,
    overrides: tuple[str, ...],
    base: str,
    device: str,
    dtype: Any,
    project: Path,
    as_json: bool,
) -> None:
    """Apply VARIANT to every row of FILE: labels with confidence, JSON fields, or answers.

    The same command goes on after a stop. --set data.KEY=VALUE changes how FILE is read, such as
    data.columns.text=question; --set generation.KEY=VALUE how answers are written.
    """
    with busy("loading PyTorch"):
        from kamerton.flows.predict import predict as predict_file
        from kamerton.flows.workspace import Workspace
        from kamerton.store.variants import find_variant
        from kamerton.variants.load import Opening

    ensure_parent(to, "--to")
    found = find_variant(variant, Workspace(project).variants)
    with progress_sink() as sink:
        done = predict_file(
            found,
            file,
            to,
            sink,
            overrides=overrides,
            labels=[name.strip() for name in labels.split(",") if name.strip()],
            only_uncertain=only_uncertain,
            opening=Opening(base, device, dtype, sink),
        )
    _say(done, only_uncertain)
    if as_json:
        click.echo(json.dumps(done.to_json(), ensure_ascii=False))


def _say(done: "Predicted", only_uncertain: float | None) -> None:
    for problem in done.problems[:_SHOWN_PROBLEMS]:
        messages.print(f"no answer: {harmless(problem)}", style="yellow", soft_wrap=True)
    if (more := len(done.problems) - _SHOWN_PROBLEMS) > 0:
        messages.print(f"and {more:,} more; --json lists all", style="yellow")
    if done.num_cut:
        messages.print(
            f"{counted(done.num_cut, 'answer was', 'answers were')} cut; "
            "--set generation.max_new_tokens=N allows longer ones",
            style="yellow",
        )
    repeats = f", {done.num_repeats:,} of them repeats of others" if done.num_repeats else ""
    told = f"{done.num_answered:,} of {counted(done.num_rows, 'row')} answered{repeats}"
    messages.print(f"{told}: {done.to}", soft_wrap=True)
    if only_uncertain is not None:
        messages.print(
            f"{counted(done.num_written, 'row')} below a confidence of {only_uncertain:g} written"
        )
    if done.calibration is not None and done.calibration.num_items:
        messages.print(
            f"confidence is calibrated on {done.calibrated_on} "
            f"(temperature {done.calibration.temperature:.2f})",
            soft_wrap=True,
        )
