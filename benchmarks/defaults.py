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
from defaults_table import write_table
from defaults_tasks import LARGE, SMALL, TASKS, write_data

_SHOTS = (0, 4, 16)
_TRIED = ("banking", "frames")
"""Tasks that methods beside LoRA are tried on."""


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
    for task in TASKS:
        bench.grid(LARGE, task, "LoRA", (1.0,))
        bench.grid(LARGE, task, "prefix 32, text", (1.0,))
        for shots in _SHOTS:
            bench.prompt_alone(LARGE, task, shots)
    for task in _TRIED:
        for base in SMALL:
            for method, first in (("full", 4.0), ("IA3", 8.0), ("bottleneck", 2.0)):
                bench.default(base, task, method)
                bench.climb(base, task, method, first)
            bench.climb(base, task, "prefix 32, text")
            bench.climb(base, task, "rsLoRA", 0.5)
    for task in _TRIED:
        bench.grid(LARGE, task, "LoRA", (2.0, 0.5))
        bench.grid(LARGE, task, "rsLoRA", (0.5,))
        bench.grid(LARGE, task, "prefix 32, text", (0.3, 3.0))
        bench.grid(LARGE, task, "full", (1.0, 4.0))


if __name__ == "__main__":
    main()
