"""The result file of `defaults.py`."""

import math
from collections.abc import Mapping
from typing import Any

import record
from defaults_cells import Bench
from defaults_pairs import DEV, FARTHEST_NATS, REPORT, default_rate
from defaults_tasks import BASES, LARGE, METHODS, NUM_DEV, NUM_REPORT, NUM_TRAIN, TASKS

__all__ = ["write_table"]

_ENOUGH = 1.1
"""Of the best loss: as near should a default come."""
_NEAR = 0.1
"""As near as a measured rate must be to a default to stand for it."""
_NONE = ""


def write_table(bench: Bench) -> None:
    """Write what is known.

    Args:
        bench: With what was measured.
    """
    parts = [
        record.header("Defaults beside the best of a grid"),
        f"{NUM_TRAIN} examples to learn from, three epochs, {NUM_DEV} to choose on, {NUM_REPORT} "
        "to report on (the desk has 56), one seed. Loss in nats a token of the answers on the "
        "reported split, lower is better; the development split chose the best rate of the grid, "
        'and the epoch that is kept. "Default" is what `"auto"` gives at this commit. Everything '
        "beside the rate is default. Compare within a row: tokens differ between bases.\n",
        "## Default beside best\n",
        *_beside_best(bench),
        "\n## LoRA and rsLoRA, each within a tenth of its default rate, and at its best\n",
        *_stabilised(bench),
        f"\n## Prefixes on {LARGE}, beside prompts and LoRA\n",
        *_prefixes(bench),
        "\n## DPO on the desk's English pairs, after a fine-tuned start\n",
        *_pairs(bench),
        "\n## All cells\n",
        "Rate: loss that chooses, loss that is reported.\n",
        *_all(bench),
    ]
    record.write("defaults", "\n".join(parts) + "\n")


def _beside_best(bench: Bench) -> list[str]:
    lines = [
        "| method | base | task | untrained | default rate | loss | best rate | loss "
        "| default / best |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for method in METHODS:
        for base in BASES:
            for task in TASKS:
                found = bench.cells.rates(base, task, method)
                rate = bench.default_rate(base, method)
                if rate not in found or len(found) < 2:
                    continue
                best = _best(found)
                loss, lowest = found[rate]["report"], found[best]["report"]
                ratio = loss / lowest
                mark = "**" if not ratio <= _ENOUGH else ""
                inside = min(found) < best < max(found)
                cells = [
                    method, base, task, _untrained(bench, base, task), f"{rate:g}",
                    f"{loss:.3f}", f"{best:g}{'' if inside else ' (at the edge)'}",
                    f"{lowest:.3f}", f"{mark}{ratio:.2f}{mark}",
                ]  # fmt: skip
                lines.append(f"| {' | '.join(cells)} |")
    return lines


def _stabilised(bench: Bench) -> list[str]:
    lines = [
        "| base | task | LoRA, its default | LoRA, best | rsLoRA, its default | rsLoRA, best |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for base in BASES:
        for task in TASKS:
            cells = [base, task]
            for method in ("LoRA", "rsLoRA"):
                found = bench.cells.rates(base, task, method)
                default = bench.default_rate(base, method)
                at = next((found[r] for r in found if abs(r / default - 1) <= _NEAR), None)
                best = found[_best(found)] if found else None
                cells += [f"{one['report']:.3f}" if one else _NONE for one in (at, best)]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _prefixes(bench: Bench) -> list[str]:
    lines = [f"| what | {' | '.join(TASKS)} |", "| --- |" + " ---: |" * len(TASKS)]
    shots = sorted(
        {cell.method for cell in bench.cells.known if cell.method.endswith("-shot")},
        key=lambda name: int(name.split("-")[0]),
    )
    rows = [(name, 0.0) for name in shots]
    for method in METHODS:
        if method.startswith(("prefix", "prompt")) or method in ("LoRA", "full"):
            rates = {
                rate for task in TASKS for rate in bench.cells.rates(LARGE, task, method)
            }  # fmt: skip
            rows += [(method, rate) for rate in sorted(rates)]
    for method, rate in rows:
        name = f"{method}, {rate:g}" if rate else method
        cells = [name]
        for task in TASKS:
            found = bench.cells.rates(LARGE, task, method).get(rate)
            cells.append(f"{found['report']:.3f}" if found else _NONE)
        if any(cells[1:]):
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _pairs(bench: Bench) -> list[str]:
    lines = [
        f"Farther than {FARTHEST_NATS:.0f} nats an answer from the start is too far.\n",
        "| base | split | rate | loss | pairs ordered rightly | nats from the start |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for base in BASES:
        for task in (DEV, REPORT):
            for rate, found in sorted(bench.cells.rates(base, task, "DPO").items()):
                name = f"{rate:g}" + (" (default)" if rate == default_rate(bench, base) else "")
                cells = [
                    base, task, name, f"{found['dev']:.4f}", f"{100 * found['accuracy']:.0f} %",
                    f"{found['distance']:.1f}",
                ]  # fmt: skip
                lines.append(f"| {' | '.join(cells)} |")
    return lines


def _all(bench: Bench) -> list[str]:
    lines = []
    for base in BASES:
        for method in METHODS:
            for task in TASKS:
                found = bench.cells.rates(base, task, method)
                told = [
                    f"{rate:g}: {one['dev']:.3f}, {one['report']:.3f}"
                    for rate, one in sorted(found.items())
                ]
                if told:
                    lines.append(f"- {base}, {method}, {task}: {'; '.join(told)}")
    return lines


def _best(found: Mapping[float, Mapping[str, Any]]) -> float:
    def loss(rate: float) -> float:
        value = float(found[rate]["dev"])
        return value if math.isfinite(value) else math.inf

    return min(found, key=loss)


def _untrained(bench: Bench, base: str, task: str) -> str:
    found = bench.cells.rates(base, task, "0-shot").get(0.0)
    return f"{found['report']:.3f}" if found else _NONE
