"""The HTML report of an evaluation, with the loss curve of the run behind it."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile

from kamerton.advisor.suggestion import Suggestion
from kamerton.core.errors import EvaluationError
from kamerton.core.language import translated
from kamerton.evaluation.report import write_report
from kamerton.flows.evaluate import Evaluated
from kamerton.flows.train import EVENTS_FILE
from kamerton.flows.workspace import Workspace
from kamerton.training.sinks import read_events

__all__ = ["ensure_writable", "write_evaluation_report"]


def ensure_writable(path: Path) -> None:
    """Refuse a place where no report can be written, before hours are spent on what it says.

    Args:
        path: The report's path.

    Raises:
        EvaluationError: If it is a folder, or its folder cannot be made or written to.
    """
    if path.is_dir():
        raise EvaluationError(
            translated("--report {path}: is a folder", path=path),
            hint=translated("name a file, such as {example}", example=path / "report.html"),
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=path.parent):
            pass
        if path.exists():
            path.open("ab").close()
    except OSError as error:
        raise EvaluationError(
            translated(
                "--report {path}: cannot be written: {reason}",
                path=path,
                reason=error.strerror or error,
            ),
            hint=translated("name a file in a folder that you may write to"),
        ) from None


def write_evaluation_report(
    path: Path,
    evaluated: Evaluated,
    workspace: Workspace,
    variant: str,
    suggestions: Sequence[Suggestion] = (),
) -> None:
    """Write one self-contained HTML file.

    Args:
        path: The report's path.
        evaluated: The finished evaluation.
        workspace: The workspace of the run's events.
        variant: The variant whose loss curve is drawn.
        suggestions: What to do next.
    """
    events = read_events(workspace.runs / variant / EVENTS_FILE)
    write_report(
        path,
        evaluated.comparison,
        evaluated.items,
        evaluated.answers,
        checks=evaluated.checks,
        loss_curve=[event for event in events if event["event"] == "StepDone"],
        holdout_curve=[event for event in events if event["event"] == "HoldoutMeasured"],
        title=translated("{variant}: how it compares", variant=variant),
        facts=evaluated.facts,
        prompts=evaluated.prompts,
        advice=[(one.text, one.command) for one in suggestions],
    )
