"""Tables of `kamerton experiment`: data on stdout, what explains it on stderr.

Their words are English, so their numbers are too; only decisions are in the language of the user.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from kamerton.cli.console import data_console, harmless, messages, print_table
from kamerton.core.language import Language, speaking, translated

if TYPE_CHECKING:
    from kamerton.experiments.reading import ArmReading, ExperimentReading
    from kamerton.experiments.registered import RegisteredExperiment
    from kamerton.experiments.verdict import MetricReading
    from kamerton.flows.experiment.adaptive import AdaptiveArm
    from kamerton.flows.experiment.planning import ExperimentPlan
    from kamerton.flows.experiment.simulating import Simulated

__all__ = ["print_adaptive", "print_plan", "print_reading", "print_simulated", "print_states"]

_Stopped = Mapping[tuple[str, str], set[str]]


@speaking("en")
def print_plan(found: "ExperimentPlan") -> None:
    """Print what an experiment asks for, and whether to begin.

    Args:
        found: The plan.
    """
    from kamerton.flows.experiment.showing import advice, plan_facts

    table = Table(box=None, pad_edge=False, show_header=False)
    for what, value in plan_facts(found):
        table.add_row(what, value)
    print_table(data_console(), table)
    for line in advice(found):
        messages.print(line, soft_wrap=True)


@speaking("en")
def print_states(
    found: "Sequence[tuple[RegisteredExperiment, ExperimentReading | None]]", stopped: _Stopped
) -> None:
    """Print a line for each experiment.

    Args:
        found: Experiments with what is known of them; None without requests.
        stopped: Arms that were stopped, by name and phase of the experiment.
    """
    from kamerton.flows.experiment.showing import days_of, progress, stopped_of

    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("experiment", "state", "days", "units", "of planned", "known so far"):
        right = column in ("days", "units", "of planned")
        table.add_column(column, justify="right" if right else "left", overflow="fold")
    for one, reading in found:
        table.add_row(
            one.settings.name,
            "runs" if one.is_running else f"stopped, {one.answering} answers",
            f"{days_of(one):.1f}",
            " / ".join(f"{count:,}" for count in reading.num_units) if reading else "0",
            f"{progress(one, reading):.0%}",
            _known(reading, stopped_of(one, stopped))
            if one.settings.shares == "fixed"
            else "adaptive shares: see its report",
        )
    print_table(data_console(), table)


def print_adaptive(experiment: "RegisteredExperiment", arms: "Sequence[AdaptiveArm]") -> None:
    """Print what is known of an experiment whose shares follow the outcomes.

    Args:
        experiment: As it was registered.
        arms: What is known of each arm.
    """
    from kamerton.flows.experiment.adaptive import CAUTIONS, verdict

    table = Table(box=None, pad_edge=False, header_style="bold")
    primary = experiment.settings.primary.metric
    for column in ("arm", "units", "share now", primary, "standard error", "P(best)"):
        table.add_column(column, justify="left" if column == "arm" else "right", overflow="fold")
    for arm in arms:
        table.add_row(
            arm.arm,
            f"{arm.units:,}",
            f"{arm.share:.1%}",
            "-" if arm.estimate is None else f"{arm.estimate:.3f}",
            "-" if arm.standard_error is None else f"{arm.standard_error:.3f}",
            f"{arm.probability_best:.2f}",
        )
    print_table(data_console(), table)
    messages.print(verdict(arms), highlight=False)
    for one in CAUTIONS:
        messages.print(one)


@speaking("en")
def print_reading(
    experiment: "RegisteredExperiment",
    reading: "ExperimentReading",
    stopped: _Stopped,
    language: Language,
) -> None:
    """Print a table for each arm, and what is to be done.

    Args:
        experiment: As it was registered.
        reading: What is known.
        stopped: Arms that were stopped, by name and phase of the experiment.
        language: Of the last line of each arm.
    """
    from kamerton.flows.experiment.showing import stopped_of

    _print_alarm(reading)
    for number, arm in enumerate(reading.arms):
        if number:
            data_console().print()
        _print_arm(reading.control, arm)
    names = (reading.control, *(arm.arm for arm in reading.arms))
    counts = zip(names, reading.num_units, strict=True)
    units = ", ".join(f"{name} {count:,}" for name, count in counts)
    messages.print(
        f"units: {units}; planned are {reading.planned_units:,} of the control and one arm",
        soft_wrap=True,
    )
    if reading.num_in_two_arms:
        messages.print(f"{reading.num_in_two_arms:,} units were seen in two arms and are left out")
    for arm in reading.arms:
        _print_guardrails(arm)
    with speaking(language):
        for arm in reading.arms:
            _print_decision(arm, arm.arm in stopped_of(experiment, stopped))


def print_simulated(lines: "Sequence[Simulated]", runs: int) -> None:
    """Print how often a difference is seen in made-up experiments.

    Args:
        lines: One per kind of experiment.
        runs: Experiments of each kind.
    """
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("what is true")
    for column in ("by unit, as here", "by request, as others do"):
        table.add_column(column, justify="right")
    for line in lines:
        table.add_row(line.truth, f"{line.by_unit:.1%}", f"{line.by_request:.1%}")
    print_table(data_console(), table)
    messages.print(
        f"share of {runs} experiments of {lines[0].days} days that saw a difference at any look",
        soft_wrap=True,
    )


def _print_alarm(reading: "ExperimentReading") -> None:
    ratio = reading.sample_ratio
    if not ratio.fired:
        return
    counts = " / ".join(f"{count:,}" for count in ratio.counts)
    expected = " / ".join(f"{count:,.0f}" for count in ratio.expected)
    messages.print(
        f"the arms are not comparable: {counts} units, and {expected} were planned "
        f"(p = {ratio.p_value:.2g}). Something loses units of one arm; effects are hidden until "
        "it is found.",
        style="bold red",
        soft_wrap=True,
    )


def _print_arm(control: str, arm: "ArmReading") -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("metric")
    for column in (f"{control} (control)", arm.arm, "difference", "interval", "relative"):
        table.add_column(column, justify="right")
    table.add_column("verdict")
    for one in (*arm.metrics, *arm.segments):
        table.add_row(*_cells(one))
    print_table(data_console(), table)


def _cells(one: "MetricReading") -> tuple[str, ...]:
    from kamerton.experiments.amounts import (
        difference_text,
        interval_text,
        percent_text,
        value_text,
    )

    name = one.measure.name + (f" [{harmless(one.segment)}]" if one.segment is not None else "")
    verdict = one.verdict + (" (exploratory)" if one.exploratory else "")
    measure, effect = one.measure, one.effect
    if effect is None:
        return (name, "-", "-", "-", "-", "-", verdict)
    return (
        name,
        value_text(measure, effect.control_value),
        value_text(measure, effect.value),
        difference_text(measure, effect.difference),
        interval_text(measure, one.interval) or "-",
        "-" if one.relative is None else percent_text(one.relative, signed=True),
        verdict,
    )


def _print_guardrails(arm: "ArmReading") -> None:
    from kamerton.experiments.amounts import difference_text, interval_text, percent_text

    measures = {one.measure.name: one.measure for one in arm.metrics}
    for one in arm.guardrails:
        measure = measures[one.guardrail.metric]
        harm = "not known"
        if one.harm is not None:
            harm = f"{difference_text(measure, abs(one.harm)).removeprefix('+')} "
            harm += "worse" if one.harm > 0 else "better"
        margin = difference_text(measure, one.guardrail.margin).removeprefix("+")
        messages.print(
            f"guardrail {measure.name} of {arm.arm}: {one.verdict} ({harm}, {margin} worse is "
            "allowed)",
            soft_wrap=True,
        )
    for metric, missing in arm.missing.items():
        if not missing.comparable:
            rate = missing.rate
            messages.print(
                f"{metric}: {percent_text(rate.control_value, digits=1)} of the control's answers "
                f"are rated, and {percent_text(rate.value, digits=1)} of those of '{arm.arm}': "
                "these ratings cannot be compared; the true difference may be anything from "
                f"{interval_text(measures[metric], missing.interval)}",
                style="yellow",
                soft_wrap=True,
            )


def _print_decision(arm: "ArmReading", is_stopped: bool) -> None:
    from kamerton.experiments.summary import in_short
    from kamerton.experiments.words import decision_word

    decision = decision_word(arm.decision)
    stop = translated("; the arm was stopped") if is_stopped else ""
    messages.print(f"{arm.arm}: {decision} ({in_short(arm)}{stop})", style="bold", soft_wrap=True)


def _known(reading: "ExperimentReading | None", stopped: set[str]) -> str:
    from kamerton.experiments.summary import in_short

    if reading is None:
        return "no request yet"
    if reading.sample_ratio.fired:
        return "the arms are not comparable"
    return "; ".join(
        f"{arm.arm}: {'stopped' if arm.arm in stopped else in_short(arm)}" for arm in reading.arms
    )
