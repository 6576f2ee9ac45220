"""`kamerton experiment`: plan, start, status, report and stop live A/B tests."""

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.table import Table

from kamerton.cli.console import data_console, harmless, messages, print_table
from kamerton.cli.options import project_option, store_option
from kamerton.core.errors import SettingsError

if TYPE_CHECKING:
    from kamerton.experiments.reading import ArmReading, ExperimentReading
    from kamerton.experiments.registered import RegisteredExperiment
    from kamerton.experiments.verdict import MetricReading
    from kamerton.flows.experiment.planning import ExperimentPlan
    from kamerton.flows.experiment.showing import Stopped

__all__ = ["experiment"]


@click.group()
def experiment() -> None:
    """Compare variants on live traffic: plan, start, status, report, stop."""


_baseline_options = [
    click.option(
        "--units-per-day",
        type=click.FloatRange(min=0, min_open=True),
        help="New users (or what else the unit is) a day, where nothing is recorded yet.",
    ),
    click.option(
        "--baseline",
        type=click.FloatRange(min=0, max=1, min_open=True, max_open=True),
        help="Share of the primary metric today, where nothing is recorded yet.",
    ),
]


def _with_baseline(command: Any) -> Any:
    for option in reversed(_baseline_options):
        command = option(command)
    return command


@experiment.command()
@click.argument("name")
@_with_baseline
@click.option(
    "--days",
    default=28,
    show_default=True,
    type=click.IntRange(min=1),
    help="Days that you are willing to wait.",
)
@store_option
@project_option
@click.option("--json", "as_json", is_flag=True, help="Print the plan as JSON.")
def plan(
    name: str,
    units_per_day: float | None,
    baseline: float | None,
    days: int,
    address: str,
    project: Path,
    as_json: bool,
) -> None:
    """Say how long an experiment takes with today's traffic.

    NAME is that of a file in experiments/. Where the recorded traffic cannot decide, the plan says
    what can be done instead.
    """
    found = _plan(name, units_per_day, baseline, days, address, project)
    if as_json:
        from kamerton.flows.experiment.showing import plain_plan

        click.echo(json.dumps(plain_plan(found), ensure_ascii=False, indent=2))
        return
    _print_plan(found)


@experiment.command()
@click.argument("name")
@_with_baseline
@store_option
@project_option
def start(
    name: str, units_per_day: float | None, baseline: float | None, address: str, project: Path
) -> None:
    """Register an experiment; its units are assigned from now on.

    A server that records to the store and whose routes name the experiment notices within
    seconds. What is registered is never changed: another file needs another name.
    """
    from kamerton.flows.experiment.registering import start_experiment
    from kamerton.flows.recording import store_address
    from kamerton.store.database import open_store

    found = _plan(name, units_per_day, baseline, 28, address, project)
    with open_store(store_address(address, project)) as store:
        started = start_experiment(
            store, found.settings, found.planned_units, found.baseline.units_per_day
        )
    _print_plan(found)
    messages.print(
        f"\n'{started.settings.name}' runs since {started.started:%Y-%m-%d %H:%M} UTC, "
        f"registered as {started.version}"
    )
    messages.print(f"kamerton experiment report {started.settings.name}", highlight=False)


@experiment.command()
@store_option
@project_option
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
def status(address: str, project: Path, as_json: bool) -> None:
    """List all experiments with what is known of each."""
    from kamerton.flows.experiment.reading import list_registered, read_registered
    from kamerton.flows.experiment.showing import days_of, plain_state, stopped_arms
    from kamerton.flows.recording import project_metrics, store_address
    from kamerton.store.database import open_store

    metrics, stopped = project_metrics(project).metrics, stopped_arms(project)
    with open_store(store_address(address, project)) as store, store.begin() as connection:
        found = [
            (one, read_registered(connection, one, metrics, stopped=_of(one, stopped)))
            for one in list_registered(connection)
        ]
    if as_json:
        plain = [plain_state(one, reading, stopped) for one, reading in found]
        click.echo(json.dumps(plain, ensure_ascii=False, indent=2))
        return
    if not found:
        messages.print("no experiment was started: kamerton experiment start NAME")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("experiment", "state", "days", "units", "of planned", "known so far"):
        right = column in ("days", "units", "of planned")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for one, reading in found:
        units = reading.num_units if reading else ()
        share = f"{sum(units) / one.planned_units:.0%}" if one.planned_units else "-"
        table.add_row(
            one.settings.name,
            "runs" if one.is_running else f"stopped, {one.answering} answers",
            f"{days_of(one):.1f}",
            " / ".join(f"{count:,}" for count in units) or "0",
            share,
            _known(reading, _of(one, stopped)),
        )  # fmt: skip
    print_table(data_console(), table)


@experiment.command()
@click.argument("name")
@click.option(
    "--by",
    "segments",
    type=click.Choice(["segment", "language", "tenant"]),
    help="Adds the primary metric by segment; exploratory.",
)
@click.option(
    "--language",
    type=click.Choice(["en", "ru"]),
    default="en",
    show_default=True,
    help="Of the last lines.",
)
@store_option
@project_option
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
def report(
    name: str,
    segments: str | None,
    language: Any,
    address: str,
    project: Path,
    as_json: bool,
) -> None:
    """Say what is known of each arm now.

    Look as often as you like: the intervals allow it.
    """
    from kamerton.experiments.reading import as_json as plain_reading
    from kamerton.flows.experiment.reading import find_registered, read_registered
    from kamerton.flows.experiment.showing import stopped_arms
    from kamerton.flows.recording import project_metrics, store_address
    from kamerton.store.database import open_store

    metrics = project_metrics(project).metrics
    with open_store(store_address(address, project)) as store, store.begin() as connection:
        one = find_registered(connection, name)
        stopped = _of(one, stopped_arms(project))
        reading = read_registered(
            connection, one, metrics, stopped=stopped, segments=segments or ""
        )
    if reading is None:
        raise SettingsError(
            f"no request has come to '{name}' since {one.started:%Y-%m-%d %H:%M} UTC",
            hint="does a route name it, do requests say their unit, and does the server record to "
            "this store? kamerton route explain ROUTE --unit U shows what is decided",
        )
    if as_json:
        click.echo(json.dumps(plain_reading(reading), ensure_ascii=False, indent=2))
    else:
        _print_reading(reading, stopped, language)


@experiment.command()
@click.argument("name")
@click.option(
    "--promote", metavar="ARM", default="", help="The arm that all units get from now on."
)
@click.option("--why", default="", help="The reason, for the audit.")
@click.option("--anyway", is_flag=True, help="Promotes an arm for which the numbers do not speak.")
@store_option
@project_option
def stop(
    name: str, promote: str, why: str, anyway: bool, address: str, project: Path
) -> None:  # fmt: skip
    """End an experiment and promote an arm, or none.

    All units get the control, or the promoted arm. A server notices within seconds. The report
    stays.
    """
    from kamerton.flows.experiment.reading import find_registered, read_registered
    from kamerton.flows.experiment.registering import ensure_promotable, stop_experiment
    from kamerton.flows.experiment.showing import stopped_arms
    from kamerton.flows.recording import project_metrics, store_address
    from kamerton.store.database import open_store

    with open_store(store_address(address, project)) as store:
        with store.begin() as connection:
            one = find_registered(connection, name)
            if promote not in ("", one.settings.control) and one.is_running and not anyway:
                metrics = project_metrics(project).metrics
                reading = read_registered(
                    connection, one, metrics, stopped=_of(one, stopped_arms(project))
                )
                ensure_promotable(reading, promote)
        stopped = stop_experiment(store, name, promoted=promote, why=why)
    messages.print(f"'{name}' is stopped; '{stopped.answering}' answers all units")


@experiment.command()
@click.argument("name")
@_with_baseline
@click.option(
    "--runs", default=200, show_default=True, type=click.IntRange(20, 5000),
    help="Simulated experiments of each kind.",
)  # fmt: skip
@click.option(
    "--days", default=28, show_default=True, type=click.IntRange(2, 366), help="Of each experiment."
)
@store_option
@project_option
def simulate(
    name: str,
    units_per_day: float | None,
    baseline: float | None,
    runs: int,
    days: int,
    address: str,
    project: Path,
) -> None:
    """Try the analysis on made-up traffic like yours.

    Shows how often a difference is seen where there is none (allowed is alpha), and how often the
    smallest effect is seen where it is there, with a look every day. The primary metric must be a
    share.
    """
    from kamerton.flows.experiment.simulating import simulate_experiment

    found = _plan(name, units_per_day, baseline, days, address, project)
    told = simulate_experiment(found, runs, days)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("what is true")
    for column in ("by unit, as here", "by request, as others do"):
        table.add_column(column, justify="right")
    for line in told:
        table.add_row(line.truth, *(f"{share:.1%}" for share in (line.by_unit, line.by_request)))
    print_table(data_console(), table)
    messages.print(f"share of {runs} experiments of {days} days that saw a difference at any look")


def _of(one: "RegisteredExperiment", stopped: "Stopped") -> set[str]:
    return stopped.get((one.settings.name, one.settings.phase), set())


def _plan(
    name: str,
    units_per_day: float | None,
    baseline: float | None,
    days: int,
    address: str,
    project: Path,
) -> "ExperimentPlan":
    from kamerton.flows.experiment.planning import measure_baseline, plan_experiment
    from kamerton.flows.experiment.registering import read_declared
    from kamerton.flows.recording import project_metrics, store_address
    from kamerton.store.database import open_store

    metrics = project_metrics(project).metrics
    settings = read_declared(name, project, metrics)
    with open_store(store_address(address, project)) as store:
        today = measure_baseline(
            store,
            settings,
            metrics[settings.primary.metric],
            units_per_day=units_per_day,
            value=baseline,
        )
    return plan_experiment(settings, today, metrics, days_limit=days)


def _print_plan(found: "ExperimentPlan") -> None:
    from kamerton.flows.experiment.showing import advice, plan_facts

    table = Table(box=None, pad_edge=False, show_header=False)
    for what, value in plan_facts(found):
        table.add_row(what, value)
    print_table(data_console(), table)
    for line in advice(found):
        messages.print(line, highlight=False)


def _print_reading(reading: "ExperimentReading", stopped: set[str], language: Any) -> None:
    from kamerton.experiments.summary import in_short

    if reading.sample_ratio.fired:
        counts = " / ".join(f"{count:,}" for count in reading.sample_ratio.counts)
        expected = " / ".join(f"{count:,.0f}" for count in reading.sample_ratio.expected)
        messages.print(
            f"the arms are not comparable: {counts} units, and {expected} were planned "
            f"(p = {reading.sample_ratio.p_value:.2g}). Something loses units of one arm; effects "
            "are hidden until it is found.",
            style="bold red",
        )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("arm", "metric", reading.control, "arm ", "difference", "verdict"):
        right = column not in ("arm", "metric", "verdict")
        table.add_column(column, justify="right" if right else "left")
    for arm in reading.arms:
        for one in (*arm.metrics, *arm.segments):
            table.add_row(arm.arm, *_cells(one))
    print_table(data_console(), table)
    counts = ", ".join(
        f"{arm} {count:,}" for arm, count in zip(
            (reading.control, *(arm.arm for arm in reading.arms)), reading.num_units, strict=True
        )
    )  # fmt: skip
    messages.print(f"units: {counts}; planned {reading.planned_units:,} for two arms")
    if reading.num_in_two_arms:
        messages.print(f"{reading.num_in_two_arms:,} units were seen in two arms and are left out")
    for arm in reading.arms:
        _print_guardrails(arm)
        stop = "; it was stopped" if arm.arm in stopped else ""
        messages.print(f"{arm.arm}: {in_short(arm, language)}: {arm.decision}{stop}", style="bold")


def _print_guardrails(arm: "ArmReading") -> None:
    for one in arm.guardrails:
        harm = "not known yet" if one.harm is None else f"{one.harm:+.3g} worse"
        messages.print(
            f"guardrail {one.guardrail.metric} of {arm.arm}: {one.verdict} ({harm}, "
            f"{one.guardrail.margin:g} allowed)"
        )
    for metric, missing in arm.missing.items():
        if not missing.comparable:
            messages.print(
                f"{metric}: the arm '{arm.arm}' is rated {missing.rate.difference:+.1%} as often: "
                f"its ratings cannot be compared; the true difference may be anything from "
                f"{missing.interval.low:+.3g} to {missing.interval.high:+.3g}",
                style="yellow",
            )


def _cells(one: "MetricReading") -> tuple[str, ...]:
    name = one.measure.name + (f" [{harmless(one.segment)}]" if one.segment is not None else "")
    verdict = one.verdict + (" (exploratory)" if one.exploratory else "")
    effect = one.effect
    if effect is None:
        return (name, "-", "-", "-", verdict)
    low, high = one.interval.low, one.interval.high
    bounds = f" ({low:+.3g} to {high:+.3g})" if math.isfinite(low) else ""
    return (
        name,
        f"{effect.control_value:.3g}",
        f"{effect.value:.3g}",
        f"{effect.difference:+.3g}{bounds}",
        verdict,
    )


def _known(reading: "ExperimentReading | None", stopped: set[str]) -> str:
    from kamerton.experiments.summary import in_short

    if reading is None:
        return "no request yet"
    if reading.sample_ratio.fired:
        return "the arms are not comparable"
    return "; ".join(
        f"{arm.arm}: {'stopped' if arm.arm in stopped else in_short(arm)}" for arm in reading.arms
    )
