"""Short examples behind a common beginning: computed once a row, or again for every example.

    python benchmarks/shared_beginnings.py compare --trl-python PATH

Sides run in turn, each in a process of its own, on the 110-million Llama shape of `sft_speed.py`
with LoRA r16: Kamerton; Kamerton with sharing switched off; TRL + PEFT with the same examples.
"""

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import record
import sft_speed

from kamerton.models.rows import beginnings

SHARED = (30, 300, 1000)
OWN, LEARNED = 60, 24
STEP_TOKENS = 8192


def make_rows(folder: Path, shared: int, num_rows: int) -> None:
    """Write examples of OWN tokens behind the same `shared` tokens."""
    random = np.random.default_rng(0)
    start = random.integers(4, sft_speed.VOCABULARY, shared).tolist()
    rows = []
    for _ in range(num_rows):
        own = random.integers(4, sft_speed.VOCABULARY, OWN).tolist()
        trained = [0] * (shared + OWN - LEARNED) + [1] * LEARNED
        rows.append({"ids": start + own, "trained": trained})
    (folder / "rows.json").write_text(json.dumps(rows))


def unshared(arguments: argparse.Namespace) -> None:
    """Our side as it would be without sharing."""
    beginnings._WORTH_SHARING = 1 << 30
    sft_speed.ours(arguments)


def compare(arguments: argparse.Namespace) -> None:
    """Run all sides for every length and write a table."""
    here = Path(__file__).resolve()
    lines = [
        "| shared tokens | examples a step | side | tokens/s (least to most) | peak RSS MiB "
        "| Kamerton's speed to it |",
        "| ---: | ---: | --- | ---: | ---: | ---: |",
    ]
    losses = []
    for shared in SHARED:
        batch = max(2, STEP_TOKENS // (shared + OWN))
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            sft_speed.make_material(folder, arguments.size, 1, (8, 8))
            make_rows(folder, shared, batch * arguments.steps)
            common = [str(folder), "--steps", str(arguments.steps), "--batch", str(batch)]
            common += ["--dtype", arguments.dtype]
            ours = [sys.executable, str(here.with_name("sft_speed.py")), "ours", *common]
            ours += ["--tokens-per-row", str(STEP_TOKENS)]
            sides = {
                "Kamerton": ours,
                "Kamerton, sharing off": [sys.executable, str(here), "unshared", *ours[3:]],
            }
            if arguments.trl_python:
                trl = str(here.with_name("trl_side.py"))
                sides["TRL + PEFT"] = [arguments.trl_python, trl, *common, "--no-checkpointing"]
            runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
            for _ in range(arguments.repeats):
                for side, command in sides.items():
                    runs[side].append(sft_speed.run_side(command))
                    last = runs[side][-1]
                    rate = last["tokens"] / last["seconds"]
                    print(f"  {shared} {side}: {rate:.0f} tokens/s", file=sys.stderr)
        rates = {s: sorted(r["tokens"] / r["seconds"] for r in done) for s, done in runs.items()}
        first = statistics.median(rates["Kamerton"])
        for side, found in rates.items():
            middle = statistics.median(found)
            lines.append(
                f"| {shared} | {batch} | {side} | {middle:.0f} ({found[0]:.0f} to {found[-1]:.0f}) "
                f"| {sft_speed.median(runs[side], 'peak_rss_mib'):.0f} | {first / middle:.2f} |"
            )
        losses.append(
            f"{shared}: " + ", ".join(f"{s} {done[0]['losses'][0]:.4f}" for s, done in runs.items())
        )
    text = record.header("Common beginnings computed once, one run, sides in turn")
    text += f"Examples of {OWN} tokens, {LEARNED} of them learned, behind the shared ones; tokens "
    text += f"are counted as if nothing were shared. {arguments.dtype}, medians of "
    text += f"{arguments.repeats}, {arguments.steps} steps each, the first not timed.\n\n"
    text += "\n".join(lines) + "\n\nLoss of the first step: " + "; ".join(losses) + ".\n"
    record.write("shared_beginnings", text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(required=True)
    side = verbs.add_parser("unshared")
    side.add_argument("folder", type=Path)
    side.add_argument("--rank", type=int, default=16)
    side.add_argument("--threads", type=int, default=2)
    side.add_argument("--tokens-per-row", type=int, default=2048)
    side.set_defaults(run=unshared, compile=False)
    all_sides = verbs.add_parser("compare")
    all_sides.add_argument("--trl-python", default="")
    all_sides.add_argument("--size", choices=sft_speed.SIZES, default="110M")
    all_sides.add_argument("--repeats", type=int, default=3)
    all_sides.set_defaults(run=compare)
    for one in (side, all_sides):
        one.add_argument("--steps", type=int, default=4)
        one.add_argument("--batch", type=int, default=16)
        one.add_argument("--dtype", default="bfloat16")
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
