"""Advice after `kamerton train`, from what the run wrote down."""

from kamerton.advisor.after_training import RunCurves, TrainCommand, advise_after_training
from kamerton.advisor.suggestion import Suggestion
from kamerton.flows.recipe import recipe_of
from kamerton.flows.train import EVENTS_FILE, Made
from kamerton.flows.workspace import Workspace
from kamerton.objectives.dpo import DpoSettings
from kamerton.objectives.kto import KtoSettings
from kamerton.objectives.online import OnlineSettings
from kamerton.objectives.settings import ObjectiveSettings
from kamerton.objectives.simpo import SimpoSettings
from kamerton.store.variants import Variant
from kamerton.training.sinks import read_events

__all__ = ["falls_with_distance", "read_curves", "suggest_after_training"]


def suggest_after_training(
    made: Made, workspace: Workspace, command: TrainCommand
) -> list[Suggestion]:
    """Advise what to change about a run.

    Args:
        made: The variant and the outcome of its run.
        workspace: The workspace of the run's events.
        command: Gives the command that trains anew with other settings.

    Returns:
        The suggestions, the most pressing first; none for a prompt-only variant.
    """
    if made.outcome is None:
        return []
    return advise_after_training(read_curves(made.variant, workspace), command)


def read_curves(variant: Variant, workspace: Workspace) -> RunCurves:
    """Read the curves of the run that made a variant.

    Args:
        variant: The variant.
        workspace: The workspace of the run's events.

    Returns:
        The curves; without steps where the run is not in this workspace.
    """
    manifest, recipe = variant.manifest, recipe_of(variant)
    events = read_events(workspace.runs / manifest.name / EVENTS_FILE)
    steps = [event for event in events if event["event"] == "StepDone"]
    return RunCurves(
        losses=[event["loss"] for event in steps],
        held_out=[(e["step"], e["loss"]) for e in events if e["event"] == "HoldoutMeasured"],
        num_held_out=manifest.data.num_holdout,
        epochs=recipe.train.epochs,
        max_steps=recipe.train.max_steps,
        rate=max((event["learning_rate"] for event in steps), default=0.0),
        keeps_best=recipe.train.keep == "best",
        loss_of_base=manifest.metrics.get("holdout_loss_base"),
        general_loss=manifest.metrics.get("general_loss"),
        general_loss_of_base=manifest.metrics.get("general_loss_base"),
        scores_labels=bool(manifest.data.labels),
        is_relative=falls_with_distance(recipe.objective),
        is_minimised=not isinstance(recipe.objective, OnlineSettings),
    )


def falls_with_distance(objective: ObjectiveSettings) -> bool:
    """Tell whether a loss falls the further answers move from their start, good or not.

    Args:
        objective: The objective's settings.

    Returns:
        True for preferences without a likelihood of the better answer in their loss.
    """
    return isinstance(objective, DpoSettings | SimpoSettings | KtoSettings)
