"""The HTML report of an evaluation, with the loss curve of the run behind it."""

from pathlib import Path

from kamerton.evaluation.report import write_report
from kamerton.flows.evaluate import Evaluated
from kamerton.flows.train import EVENTS_FILE
from kamerton.flows.workspace import Workspace
from kamerton.training.sinks import read_events

__all__ = ["write_evaluation_report"]


def write_evaluation_report(
    path: Path, evaluated: Evaluated, workspace: Workspace, variant: str
) -> None:
    """Write one self-contained HTML file.

    Args:
        path: Where.
        evaluated: What was measured.
        workspace: Where the run's events are.
        variant: Whose loss curve is drawn.
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
        title=f"{variant}: how it compares",
        facts=evaluated.facts,
    )
