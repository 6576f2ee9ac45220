"""Whether the defaults work: "auto" alone, beside the best of a grid of learning rates.

    python benchmarks/defaults.py measure --material DIR --work DIR
    python benchmarks/defaults.py table --material DIR --work DIR

Three bases (the bundled one, stories260K of `--material`, SmolLM2 from `make base`) learn three
small tasks of 160 examples in three epochs. The default is what `"auto"` gives; the grid holds a
quarter and four times its rate, then halves and doubles around the best, until the best is inside.
The loss on a development split chooses (which epoch is kept, too); what is told is the loss on
another split, in nats a token of the answers. All else is default.

`measure` writes each cell to `cells.jsonl` in `--work` as it ends and goes on after a cut.
"""

import argparse
from pathlib import Path

from defaults_cells import Bench, Cells
from defaults_pairs import measure_pairs
from defaults_table import write_table
from defaults_tasks import LARGE, METHODS, SMALL, TASKS, write_data

_SHOTS = (0, 16, 4)
_OTHERS = {"full": (1.0, 4.0), "IA3": (10.0, 30.0, 1.0), "bottleneck": (4.0, 16.0, 1.0)}
"""Methods beside LoRA, with the first rates to try."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("part", choices=("measure", "table"))
    parser.add_argument("--material", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    bench = Bench(arguments.material, arguments.work, Cells(arguments.work / "cells.jsonl"))
    if arguments.part == "table":
        write_table(bench)
        return
    write_data(arguments.material / "data", arguments.work)
    measure(bench)


def measure(bench: Bench) -> None:
    """Measure what is not known yet, what decides most first."""
    for base in SMALL:
        for task in TASKS:
            bench.prompt_alone(base, task, 0)
            bench.climb(base, task, "LoRA")
            bench.grid(base, task, "LoRA", (0.25, 4.0))
            bench.grid(base, task, "rsLoRA", (1.0, 0.5, 0.25))
    bench.grid(LARGE, "desk", "LoRA", (1.0,))
    bench.grid(LARGE, "desk", "prefix 32, text", (1.0,))
    bench.grid(LARGE, "banking", "LoRA", (1.0, 2.0))
    bench.grid(LARGE, "banking", "prefix 32, text", (1.0,))
    for method, factors in _OTHERS.items():
        for base in SMALL:
            bench.grid(base, "banking", method, factors)
    bench.grid(LARGE, "banking", "rsLoRA", (0.5,))
    for base in SMALL:
        for method in _OTHERS:
            bench.default(base, "banking", method)
        for task in TASKS:
            bench.default(base, task, "LoRA")
    for shots in _SHOTS:
        bench.prompt_alone(LARGE, "banking", shots)
    bench.default(LARGE, "banking", "IA3")
    bench.default(LARGE, "frames", "LoRA")
    bench.default(LARGE, "banking", "bottleneck")
    bench.grid(LARGE, "frames", "LoRA", (0.5,))
    bench.grid(LARGE, "banking", "LoRA", (0.5,))
    for base in SMALL:
        measure_pairs(bench, base, (1.0,))
    bench.grid(LARGE, "banking", "prefix 32, text", (3.0,))
    bench.grid(LARGE, "banking", "full", (4.0,))
    bench.grid(LARGE, "banking", "prefix 32, text", (0.3,))
    bench.grid(LARGE, "banking", "full", (1.0,))
    bench.grid(LARGE, "frames", "prefix 32, text", (1.0,))
    bench.grid("nano", "banking", "prefix 32, text, network", (1.0, 10.0))
    for task in TASKS:
        for shots in _SHOTS:
            bench.prompt_alone(LARGE, task, shots)
    bench.grid(LARGE, "frames", "LoRA", (0.25, 2.0))
    for method in METHODS:
        if method.startswith("prefix"):
            bench.grid(LARGE, "banking", method, (1.0,))
    measure_pairs(bench, LARGE, (1.0, 0.25, 4.0))
    bench.grid(LARGE, "frames", "prefix 32, text", (3.0, 0.3))
    bench.grid(LARGE, "desk", "LoRA", (2.0, 0.5))
    for base in SMALL:
        for task in ("banking", "frames"):
            for method in ("LoRA+", "norms and biases", "prefix 32, text, network"):
                bench.climb(base, task, method)
    for method, factors in _OTHERS.items():
        bench.grid(LARGE, "banking", method, factors)


if __name__ == "__main__":
    main()
