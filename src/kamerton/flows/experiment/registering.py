"""Starts and stops experiments: the store says which ones run, whatever files say later."""

import getpass
from collections.abc import Mapping
from pathlib import Path

from kamerton.core.errors import SettingsError
from kamerton.core.settings import suggestion
from kamerton.evaluation.live_metrics import LiveMetric
from kamerton.experiments.reading import ExperimentReading
from kamerton.experiments.registered import RegisteredExperiment
from kamerton.experiments.settings import ExperimentSettings, read_experiment
from kamerton.flows.experiment.reading import check_metrics, find_registered
from kamerton.store.database import Store
from kamerton.store.experiments import (
    ExperimentEvent,
    ExperimentRow,
    add_experiment,
    add_experiment_event,
    experiment_rows,
    update_experiment,
)
from kamerton.store.traffic import now

__all__ = ["ensure_promotable", "read_declared", "start_experiment", "stop_experiment"]


def read_declared(
    name: str, project: Path, metrics: Mapping[str, LiveMetric]
) -> ExperimentSettings:
    """Read an experiment that a project declares.

    Args:
        name: Its name, or its file.
        project: Folder of the project.
        metrics: Known ones.

    Returns:
        The experiment.

    Raises:
        SettingsError: If its file is missing or wrong, or names a metric that is none.
    """
    folder = project / "experiments"
    place = Path(name) if name.endswith(".toml") else folder / f"{name}.toml"
    if not place.exists():
        known = [one.stem for one in sorted(folder.glob("*.toml"))]
        declared = f"declared are {', '.join(known)}"
        raise SettingsError(
            f"{place} is not there{suggestion(name, known)}",
            hint=declared if known else "docs/live.md shows how to write one",
        )
    found = read_experiment(place)
    check_metrics(found, metrics)
    return found


def start_experiment(
    store: Store, settings: ExperimentSettings, planned_units: int, units_per_day: float
) -> RegisteredExperiment:
    """Register an experiment: from now on its units are assigned.

    Args:
        store: The store that the server records to.
        settings: What is declared.
        planned_units: Units of the control and one arm at which the analysis is tightest.
        units_per_day: New units a day that the plan counts with.

    Returns:
        The experiment.

    Raises:
        SettingsError: If the name was used before.
    """
    started = now()
    made = RegisteredExperiment(
        settings, settings.registration[:16], planned_units, units_per_day, started
    )
    row = ExperimentRow(
        settings.name, made.version, made.plain(), settings.phase, "running", started
    )
    with store.begin() as connection:
        before = experiment_rows(connection, settings.name)
        if before:
            state = "runs" if before[-1].ended is None else "was stopped"
            raise SettingsError(
                f"an experiment '{settings.name}' {state} already: what is registered stays",
                hint="give the next one another name; units then get new arms",
            )
        add_experiment(connection, row)
        detail = {
            "registration": made.registration,
            "version": made.version,
            "planned_units": planned_units,
        }
        add_experiment_event(
            connection, ExperimentEvent(settings.name, "started", getpass.getuser(), detail)
        )
    return made


def stop_experiment(
    store: Store, name: str, *, promoted: str = "", why: str = ""
) -> RegisteredExperiment:
    """Stop an experiment: from now on all units get one arm.

    Args:
        store: The store that the server records to.
        name: The experiment.
        promoted: The arm that all units get; empty for the control.
        why: The reason, for the audit.

    Returns:
        The experiment as it was when it was stopped.

    Raises:
        SettingsError: If it does not run, or has no such arm.
    """
    with store.begin() as connection:
        found = find_registered(connection, name)
        if found.ended is not None:
            raise SettingsError(
                f"'{name}' was stopped on {found.ended:%Y-%m-%d %H:%M} UTC",
                hint=f"'{found.answering}' answers all units since; kamerton experiment report "
                f"{name} still tells what is known",
            )
        arms = found.settings.arms
        if promoted and promoted not in arms:
            raise SettingsError(
                f"'{name}' has no arm '{promoted}'{suggestion(promoted, arms)}",
                hint=f"its arms are {', '.join(arms)}",
            )
        update_experiment(connection, name, found.version, status="stopped", ended=now())
        detail = {"registration": found.registration, "promoted": promoted, "why": why}
        add_experiment_event(
            connection, ExperimentEvent(name, "stopped", getpass.getuser(), detail)
        )
        return find_registered(connection, name)


def ensure_promotable(reading: ExperimentReading | None, arm: str) -> None:
    """Make sure that the numbers speak for an arm.

    Args:
        reading: The experiment as it stands; None without requests.
        arm: The arm that somebody wants to promote.

    Raises:
        SettingsError: If they do not.
    """
    if reading is None:
        raise SettingsError(
            "no request has come: nothing speaks for any arm",
            hint="--anyway promotes it all the same",
        )
    for one in reading.arms:
        if one.arm == arm and one.decision != "promote":
            raise SettingsError(
                f"the numbers say '{one.decision}' of the arm '{arm}', not 'promote'",
                hint="kamerton experiment report shows why; --anyway promotes it all the same",
            )
