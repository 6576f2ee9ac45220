"""`kamerton experiment`: plan, start, status, report and stop live A/B tests."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from kamerton.cli.console import busy, messages, progress_sink
from kamerton.cli.experiment_tables import (
    print_adaptive,
    print_plan,
    print_reading,
    print_simulated,
    print_states,
)
from kamerton.cli.options import ensure_parent, project_option, store_option
from kamerton.core.errors import SettingsError
from kamerton.core.language import Language, current_language, speaking, translated

if TYPE_CHECKING:
    from kamerton.flows.experiment.planning import ExperimentPlan

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
        type=float,
        help="Value of the primary metric today, where nothing is recorded yet.",
    ),
    click.option(
        "--deviation",
        type=click.FloatRange(min=0, min_open=True),
        help="Standard deviation of a number between users, beside --baseline; of a share it is "
        "known.",
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
    deviation: float | None,
    days: int,
    address: str,
    project: Path,
    as_json: bool,
) -> None:
    """Say how long an experiment takes with today's traffic.

    NAME is that of a file in experiments/. Where the recorded traffic cannot decide, the plan says
    what can be done instead.
    """
    found = _plan(name, (units_per_day, baseline, deviation), days, address, project)
    if as_json:
        from kamerton.flows.experiment.showing import plain_plan

        click.echo(json.dumps(plain_plan(found), ensure_ascii=False, indent=2))
        return
    print_plan(found)


@experiment.command()
@click.argument("name")
@_with_baseline
@store_option
@project_option
def start(
    name: str,
    units_per_day: float | None,
    baseline: float | None,
    deviation: float | None,
    address: str,
    project: Path,
) -> None:
    """Register an experiment; its units are assigned from now on.

    A server that records to the store and whose routes name the experiment notices within
    seconds. What is registered is never changed: another file needs another name.
    """
    from kamerton.flows.experiment.registering import read_declared, start_experiment
    from kamerton.flows.recording import project_metrics, store_address
    from kamerton.store.database import open_store

    settings = read_declared(name, project, project_metrics(project).metrics)
    if settings.shares == "adaptive":
        # There is no plan: the least that the settings ask for stands for it.
        with open_store(store_address(address, project)) as store:
            started = start_experiment(store, settings, 2 * settings.min_units, 1.0)
    else:
        found = _plan(name, (units_per_day, baseline, deviation), 28, address, project)
        with open_store(store_address(address, project)) as store:
            started = start_experiment(
                store, found.settings, found.planned_units, found.baseline.units_per_day
            )
        print_plan(found)
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
    from kamerton.flows.experiment.showing import plain_state, stopped_arms, stopped_of
    from kamerton.flows.recording import project_metrics, recorded_store
    from kamerton.store.database import open_store

    metrics, stopped = project_metrics(project).metrics, stopped_arms(project)
    with open_store(recorded_store(address, project)) as store, store.begin() as connection:
        found = [
            (one, read_registered(connection, one, metrics, stopped=stopped_of(one, stopped)))
            for one in list_registered(connection)
        ]
    if as_json:
        plain = [plain_state(one, reading, stopped) for one, reading in found]
        click.echo(json.dumps(plain, ensure_ascii=False, indent=2))
        return
    if not found:
        messages.print("no experiment was started: kamerton experiment start NAME")
        return
    print_states(found, stopped)


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
    show_default="KAMERTON_LANGUAGE, or the locale's",
    help="Of the last lines, and of the page.",
)
@click.option(
    "--html",
    "page",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Writes a page to this file, to be forwarded or printed.",
)
@store_option
@project_option
@click.option("--json", "as_json", is_flag=True, help="Print the numbers as JSON.")
def report(
    name: str,
    segments: str | None,
    language: Language | None,
    page: Path | None,
    address: str,
    project: Path,
    as_json: bool,
) -> None:
    """Say what is known of each arm now.

    Look as often as you like: the intervals allow it.
    """
    from kamerton.experiments.page import write_page
    from kamerton.flows.experiment.adaptive import adaptive_json, read_adaptive
    from kamerton.flows.experiment.reading import find_registered, read_registered
    from kamerton.flows.experiment.showing import plain_reading, stopped_arms, stopped_of
    from kamerton.flows.recording import project_metrics, recorded_store
    from kamerton.store.database import open_store
    from kamerton.store.traffic import now

    metrics = project_metrics(project).metrics
    if page is not None:
        ensure_parent(page, "--html")
    with open_store(recorded_store(address, project)) as store, store.begin() as connection:
        one = find_registered(connection, name)
        stopped = stopped_arms(project)
        if one.settings.shares == "adaptive":
            _refuse_for_adaptive(name, {"--html": page, "--by": segments})
            arms = read_adaptive(connection, one, metrics, stopped=stopped_of(one, stopped))
            if as_json:
                click.echo(json.dumps(adaptive_json(one, arms), ensure_ascii=False, indent=2))
            else:
                print_adaptive(one, arms)
            return
        with busy(translated("reading the recorded requests")):
            reading = read_registered(
                connection,
                one,
                metrics,
                stopped=stopped_of(one, stopped),
                segments=segments or "",
            )
    if reading is None:
        raise SettingsError(
            f"no request has come to '{name}' since {one.started:%Y-%m-%d %H:%M} UTC",
            hint="does a route name it, do requests say their unit, and does the server record to "
            "this store? kamerton route explain ROUTE --unit U shows what is decided",
        )
    if page is not None:
        with speaking(language or current_language()):
            write_page(
                page,
                one,
                reading,
                stopped=stopped_of(one, stopped),
                segments=segments or "",
                made=now(),
            )
        messages.print(f"{page} is written", soft_wrap=True)
    if as_json:
        plain = plain_reading(one, reading, stopped)
        click.echo(json.dumps(plain, ensure_ascii=False, indent=2))
    else:
        print_reading(one, reading, stopped, language or current_language())


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
    from kamerton.flows.experiment.showing import stopped_arms, stopped_of
    from kamerton.flows.recording import project_metrics, recorded_store
    from kamerton.store.database import open_store

    with open_store(recorded_store(address, project)) as store:
        with store.begin() as connection:
            one = find_registered(connection, name)
            if promote not in ("", one.settings.control) and one.is_running and not anyway:
                if one.settings.shares == "adaptive":
                    raise SettingsError(
                        f"'{name}' has adaptive shares, so it has no verdict 'promote'",
                        hint="kamerton experiment report shows which arm is probably the best; "
                        "--anyway promotes it",
                    )
                metrics = project_metrics(project).metrics
                reading = read_registered(
                    connection, one, metrics, stopped=stopped_of(one, stopped_arms(project))
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
    deviation: float | None,
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

    found = _plan(name, (units_per_day, baseline, deviation), days, address, project)
    with progress_sink() as sink:
        lines = simulate_experiment(found, runs, days, sink)
    print_simulated(lines, runs)


def _refuse_for_adaptive(name: str, options: Mapping[str, Any]) -> None:
    given = [option for option, value in options.items() if value is not None]
    if given:
        raise SettingsError(
            f"'{name}' has adaptive shares, and its report has no {' and no '.join(given)}",
            hint="the table and --json show all that is known of it",
        )


def _plan(
    name: str,
    guessed: tuple[float | None, float | None, float | None],
    days: int,
    address: str,
    project: Path,
) -> "ExperimentPlan":
    from kamerton.flows.experiment.adaptive import ensure_fixed
    from kamerton.flows.experiment.planning import Guess, measure_baseline, plan_experiment
    from kamerton.flows.experiment.registering import read_declared
    from kamerton.flows.recording import project_metrics, store_address
    from kamerton.store.database import open_store

    metrics = project_metrics(project).metrics
    settings = read_declared(name, project, metrics)
    ensure_fixed(settings, "forecast of days")
    with open_store(store_address(address, project)) as store:
        today = measure_baseline(
            store,
            settings,
            metrics[settings.primary.metric],
            guess=Guess(*guessed),
        )
    return plan_experiment(settings, today, metrics, days_limit=days)
