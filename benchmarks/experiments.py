"""Do the statistics of live experiments keep their promises? Simulation through the real code.

    python benchmarks/experiments.py [--runs 1000] [--seed 0]

Made-up users come, come back and rate; every day each rule looks at the numbers. Printed are false
positives of A/A runs beside the rules that people write themselves, power at the planned units,
coverage, alarms of the sample ratio, and after how many requests a planted bad arm is rolled back.
1,000 runs take about 10 minutes of one core.
"""

import argparse
import math
import sys
import time

import record

from kamerton.experiments.guardrails import Guardrail, units_to_roll_back
from kamerton.experiments.sample_ratio import concentration_for
from kamerton.experiments.sample_size import Method, units_needed
from kamerton.experiments.sequential import ConfidenceSequence
from kamerton.experiments.simulate import (
    RULES,
    Delay,
    simulate_roll_back,
    simulate_rules,
    simulate_sample_ratio,
)
from kamerton.experiments.traffic import Traffic
from kamerton.experiments.variance import unit_variance


def main() -> None:
    """Run all parts and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="experiments per row")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started = time.perf_counter()
    parts = []
    for part in (false_positives, power, sample_ratio, roll_back):
        parts.append(part(options.runs, options.seed))
        print(f"{part.__name__}: {time.perf_counter() - started:.0f} s", file=sys.stderr)
    text = record.header("Statistics of live experiments, by simulation")
    text += "\n\n".join(parts)
    record.write("experiments", text + "\n")


def false_positives(runs: int, seed: int) -> str:
    """A/A runs: whatever is found is false."""
    lines = [
        "## False positives", "",
        f"{runs} A/A runs a row: 40 days, 50 new units a day, a share of 80 %, units come back "
        "over 3 days, a look every day (`group`: 4 looks). Share of runs in which some look saw a "
        f"difference; allowed are 5 % (with {runs} runs up to {_most(0.05, runs):.1%} by chance). "
        "In a closed circle all 300 users come in the first 5 days and go on asking to the end.",
        "", "| requests a unit | ICC | " + " | ".join(f"`{rule}`" for rule in RULES) + " |",
        "| --: | --: |" + " --: |" * len(RULES),
    ]  # fmt: skip
    rows = [
        (str(requests), Traffic(requests_per_unit=requests, icc=icc))
        for requests, icc in ((1, 0.2), (5, 0.2), (10, 0.2), (10, 0.4))
    ]
    circle = Traffic(
        requests_per_unit=20, icc=0.2, units_per_day=60, arrival_days=5.0, stay_days=40.0
    )
    for name, traffic in [*rows, ("20, closed circle", circle)]:
        planned = 300 if traffic.arrival_days else 2000
        found = simulate_rules(traffic, runs, planned_units=planned, seed=seed)
        cells = " | ".join(f"{found[rule].differs:.1%}" for rule in RULES)
        lines.append(f"| {name} | {traffic.icc} | {cells} |")
    lines += [
        "", "For an A/A run coverage is one less the false positives: the truth, 0, lies outside "
        "some interval exactly when a difference is seen.",
    ]  # fmt: skip
    return "\n".join(lines)


def power(runs: int, seed: int) -> str:
    """Runs with the planned difference, up to the planned units."""
    lines = [
        "## Power and coverage", "",
        f"{runs} runs a row up to the planned units (20 days), planned for 80 % power. `covered`: "
        "the true difference lies in the intervals of all looks (95 % promised).",
        "",
        "| difference | requests a unit | method | planned units | saw it | covered | median day |",
        "| --- | --: | --- | --: | --: | --: | --: |",
    ]  # fmt: skip
    methods: tuple[Method, ...] = ("sequence", "group")
    for rates, requests in (((0.8, 0.88), 1), ((0.7, 0.8), 5), ((0.05, 0.12), 1)):
        first, second = (
            unit_variance(rate * (1 - rate), requests_per_unit=requests, icc=0.2) for rate in rates
        )
        difference = rates[1] - rates[0]
        for method in methods:
            units = units_needed(difference, (first, second), method)
            traffic = Traffic(
                units / 20, 20, rates[0], difference, requests_per_unit=requests, stay_days=0.0
            )
            found = simulate_rules(traffic, runs, planned_units=units, seed=seed)[method]
            lines.append(
                f"| {rates[0]:.0%} to {rates[1]:.0%} | {requests} | {method} | {units} | "
                f"{found.differs:.1%} | {found.covered:.1%} | {_number(found.days)} |"
            )
    return "\n".join(lines)


def sample_ratio(runs: int, seed: int) -> str:
    """Alarms of arms that get their shares, and of arms that do not."""
    lines = [
        "## Alarms of the sample ratio", "",
        f"{runs} runs a row of 90 days, arms planned 50/50, alarm below p = 0.01, looked at daily.",
        "", "| units a day | real split | concentration | alarms | median day | 90 % by day |",
        "| --: | --- | --: | --: | --: | --: |",
    ]  # fmt: skip
    for units, share, concentration in (
        (50, 0.5, concentration_for(50)), (50, 0.6, concentration_for(50)), (50, 0.6, 10_000.0),
        (5000, 0.5, concentration_for(5000)), (5000, 0.51, concentration_for(5000)),
    ):  # fmt: skip
        found = simulate_sample_ratio(
            units, share, 90, runs, concentration=concentration, seed=seed
        )
        lines.append(
            f"| {units} | {share * 100:.0f}/{100 - share * 100:.0f} | {concentration:.0f} | "
            + _cells(found)
        )
    return "\n".join(lines)


def roll_back(runs: int, seed: int) -> str:
    """A planted bad arm, and one that is exactly as bad as allowed."""
    runs = max(runs // 5, 20)
    lines = [
        "## Roll-back", "",
        f"{runs} runs a row: refusals of 5 %, margin 3 points, 3 requests a unit (ICC 0.2), 50 "
        "units a day for 20 days, a look after every 20 requests. Delays in requests that the arm "
        "answered. `foretold` is what `units_to_roll_back` says for 80 % of the runs.",
        "", "| arm's refusals | arm's share | foretold | stopped | median | 90 % by |",
        "| --: | --: | --: | --: | --: | --: |",
    ]  # fmt: skip
    guardrail, sequence = Guardrail("refusal", 0.03), ConfidenceSequence(400, fewest_units=25)
    for harm, share in ((0.03, 0.5), (0.15, 0.5), (0.25, 0.5), (0.45, 0.5), (0.45, 0.1)):
        traffic = Traffic(
            days=20, rate=0.05, difference=harm, requests_per_unit=3, icc=0.2, share=share
        )
        found = simulate_roll_back(traffic, guardrail, runs, sequence=sequence, seed=seed)
        rates = (0.05, 0.05 + harm)
        first, second = (
            unit_variance(rate * (1 - rate), requests_per_unit=3, icc=0.2) for rate in rates
        )
        units = units_to_roll_back(harm, 0.03, (first, second), sequence, arm_share=share)
        foretold = "never" if units is None else str(3 * units)
        lines.append(f"| {rates[1]:.0%} | {share:.0%} | {foretold} | " + _cells(found))
    return "\n".join(lines)


def _cells(delay: Delay) -> str:
    return f"{delay.fired:.1%} | {_number(delay.median)} | {_number(delay.late)} |"


def _number(value: float) -> str:
    return "-" if math.isinf(value) else f"{value:.0f}"


def _most(share: float, runs: int) -> float:
    return share + 1.96 * math.sqrt(share * (1 - share) / runs)


if __name__ == "__main__":
    main()
