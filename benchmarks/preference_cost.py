"""Time and memory of a step of each objective, and of TRL's DPO: `preferences.py cost`.

Every measurement is a process of its own; sides run in turn, and medians are over the repeats.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import record
import torch
from sft_speed import TRL_LIBRARIES, VOCABULARY, make_material, output_of, peak_mib, run_side

from kamerton.adapters.adapter import Adapter
from kamerton.adapters.lora.lora import LoraSettings, attach_lora
from kamerton.core.events import Event, StepDone
from kamerton.data.rendering.tokenized import (
    TokenizedExample,
    TokenizedPair,
    TrainingExample,
    num_tokens,
)
from kamerton.models.base import Base
from kamerton.models.load import load_base
from kamerton.objectives.dpo import Dpo, DpoSettings
from kamerton.objectives.objective import Objective
from kamerton.objectives.orpo import Orpo, OrpoSettings
from kamerton.objectives.sft import Sft
from kamerton.objectives.simpo import Simpo, SimpoSettings
from kamerton.training.loop import train
from kamerton.training.plan import plan_run
from kamerton.training.scoring import References, reference_sums
from kamerton.training.settings import TrainSettings
from kamerton.training.task import Task

SHAPES = {"small": "110M", "nano": "12M"}
NUM_PROMPT, NUM_ANSWER = 256, 64
SIDES = {
    "sft": "SFT on the same tokens",
    "dpo": "DPO, reference kept",
    "dpo-compiled": "DPO, reference kept, `train.compile`",
    "dpo-live": "DPO, reference asked in every step",
    "dpo-apart": "DPO, reference kept, prompt computed twice",
    "simpo": "SimPO",
    "orpo": "ORPO",
}
TRL_SIDES = {
    "TRL DPO + PEFT, its defaults": [],
    "TRL DPO + PEFT, no checkpointing": ["--no-checkpointing"],
    "TRL DPO + PEFT, no checkpointing, reference kept": ["--no-checkpointing", "--precompute"],
}


class LiveReference(Sequence[Sequence[float]]):
    """Asks the reference again in every step, with the adapter off, as others do."""

    def __init__(
        self,
        base: Base,
        adapter: Adapter,
        examples: Sequence[TrainingExample],
        settings: TrainSettings,
    ) -> None:
        self._base, self._adapter, self._examples = base, adapter, examples
        self._steps = plan_run([num_tokens(example) for example in examples], settings)
        self._known: dict[int, Sequence[float]] = {}

    def __getitem__(self, index: Any) -> Any:
        if index not in self._known:
            step = next(step for step in self._steps if index in step)
            with self._adapter.disabled():
                sums = reference_sums(self._base, [self._examples[one] for one in step])
            self._known = dict(zip(step, sums, strict=True))
        return self._known[index]

    def __iter__(self) -> Iterator[Sequence[float]]:
        return (self[index] for index in range(len(self)))

    def __len__(self) -> int:
        return len(self._examples)


def add_to(verbs: Any) -> None:
    """Add the verbs `cost` and `cost-side`."""
    cost = verbs.add_parser("cost")
    cost.add_argument("--trl-python", help="an interpreter with TRL, PEFT and datasets")
    cost.add_argument("--shape", choices=SHAPES, default="small")
    cost.add_argument("--varied", action="store_true", help="lengths as varied as real ones")
    cost.add_argument("--repeats", type=int, default=3)
    cost.set_defaults(run=measure_cost)
    side = verbs.add_parser("cost-side", help="one measurement, by `cost`")
    side.add_argument("folder", type=Path)
    side.add_argument("--side", choices=SIDES, required=True)
    side.add_argument("--rank", type=int, default=16)
    side.add_argument("--dtype", default="bfloat16")
    side.set_defaults(run=lambda arguments: print(json.dumps(cost_of(arguments))))
    for each in (cost, side):
        each.add_argument("--steps", type=int, default=4)
        each.add_argument("--batch", type=int, default=4)
        each.add_argument("--threads", type=int, default=2)


def measure_cost(arguments: argparse.Namespace) -> None:
    """Run all sides in turn and write a table."""
    here = Path(__file__).resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_pairs(folder, arguments.shape, arguments.batch * arguments.steps, arguments.varied)
        own = [sys.executable, str(here.with_name("preferences.py")), "cost-side", name, "--side"]
        commands = {title: [*own, side] for side, title in SIDES.items()}
        if arguments.trl_python:
            trl = [arguments.trl_python, str(here.with_name("trl_dpo_side.py")), name]
            commands |= {title: [*trl, *options] for title, options in TRL_SIDES.items()}
        common = [
            f"--{option}={getattr(arguments, option)}" for option in ("steps", "batch", "threads")
        ]
        runs: dict[str, list[dict[str, Any]]] = {title: [] for title in commands}
        for _ in range(arguments.repeats):
            for title, command in commands.items():
                runs[title].append(run_side([*command, *common]))
                print(f"  {title}: {runs[title][-1]['seconds']:.2f} s a step", file=sys.stderr)
        parameters = load_base(str(folder / "model"), weights=False).identity.num_parameters
    text = record.header("What a step of each preference objective costs")
    if arguments.trl_python:
        ask = "import sys, importlib.metadata as m; print(*map(m.version, sys.argv[1:]))"
        found = output_of([arguments.trl_python, "-c", ask, *TRL_LIBRARIES]).split()
        versions = ", ".join(map(" ".join, zip(TRL_LIBRARIES, found, strict=True)))
        text += f"TRL's environment: {versions}. "
    lengths = f"a prompt of {NUM_PROMPT} tokens and answers of {NUM_ANSWER}"
    if arguments.varied:
        lengths += " on average, between a quarter and seven quarters of it"
    text += (
        f"{parameters:,} parameters, random weights, bf16, LoRA of rank 16 on all linear layers; "
        f"{arguments.batch} pairs a step on average, {lengths}; medians of {arguments.repeats} "
        "processes, sides in turn.\n\n"
    )
    theme = f"preference_cost_{arguments.shape}" + ("_varied" if arguments.varied else "")
    record.write(theme, text + table(runs))


def write_pairs(folder: Path, shape: str, num_pairs: int, varied: bool) -> None:
    """Write a random Llama, a tokenizer of whole words, and pairs of fixed or varied lengths."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    make_material(folder, SHAPES[shape], 1, (32, 64))
    words = {"<pad>": 0, "<bos>": 1, "<eos>": 2, "<unk>": 3}
    words |= {f"w{number}": number for number in range(4, VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", bos_token="<bos>", eos_token="<eos>",
        unk_token="<unk>",
    ).save_pretrained(folder / "model")  # fmt: skip
    random = np.random.default_rng(0)

    def words_of(mean: int) -> str:
        count = random.integers(mean // 4, 2 * mean - mean // 4 + 1) if varied else mean
        return "".join(f" w{number}" for number in random.integers(4, VOCABULARY, count))

    # TRL puts the end behind each answer by itself.
    rows = [
        {
            "prompt": words_of(NUM_PROMPT),
            "chosen": words_of(NUM_ANSWER - 1),
            "rejected": words_of(NUM_ANSWER - 1),
        }
        for _ in range(num_pairs)
    ]
    (folder / "pairs.json").write_text(json.dumps(rows))


def cost_of(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train a few steps of one of our sides."""
    torch.set_num_threads(arguments.threads)
    base = load_base(str(arguments.folder / "model"), dtype=arguments.dtype)
    adapter = attach_lora(base, LoraSettings(rank=arguments.rank), seed=0)
    rows = json.loads((arguments.folder / "pairs.json").read_text())
    pairs = [
        _pair(base.tokenizer, row, arguments.side)
        for row in rows[: arguments.batch * arguments.steps]
    ]
    settings = TrainSettings(
        epochs=1, tokens_per_step=sum(map(num_tokens, pairs)) // arguments.steps,
        learning_rate=1e-4, tokens_per_row=2048, checkpoint_every_s=1e9,
        gradient_checkpointing="none", compile=arguments.side == "dpo-compiled",
    )  # fmt: skip
    objective = _objective(arguments.side)
    references: tuple[References, References] | None = None
    asking = 0.0
    if arguments.side == "dpo-live":
        references = LiveReference(base, adapter, pairs, settings), ()
    elif objective.needs_reference:
        began = time.perf_counter()
        with adapter.disabled():
            references = reference_sums(base, pairs), ()
        asking = (time.perf_counter() - began) / arguments.steps
    steps: list[StepDone] = []
    marks: list[float] = []

    def sink(event: Event) -> None:
        if isinstance(event, StepDone):
            steps.append(event)
            marks.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as name:
        task = Task(
            "bench", base, adapter, objective, pairs, (), settings, Path(name), "b", references
        )
        train(task, sink)
    # The first step is not counted; the others may hold more or fewer tokens than the mean one.
    share = sum(step.num_tokens for step in steps[1:]) / sum(map(num_tokens, pairs))
    return {
        "seconds": (marks[-1] - marks[0]) / share / arguments.steps,
        "tokens": sum(map(num_tokens, pairs)) / arguments.steps,
        "asking": asking,
        "peak_rss_mib": peak_mib(),
        "losses": [step.loss for step in steps],
    }


def _objective(side: str) -> Objective:
    match side:
        case "sft":
            return Sft()
        case "simpo":
            return Simpo(SimpoSettings())
        case "orpo":
            return Orpo(OrpoSettings())
        case _:
            return Dpo(DpoSettings())


def _pair(tokenizer: Any, row: dict[str, str], side: str) -> TrainingExample:
    """The ids that TRL makes of the same texts."""
    sides = ("prompt", "chosen", "rejected")
    prompt, better, worse = (tokenizer(row[name])["input_ids"] for name in sides)
    if side == "sft":
        answers = [*better, tokenizer.eos_token_id, *worse, tokenizer.eos_token_id]
        return _rendered(prompt, answers)
    chosen, rejected = (
        _rendered(prompt, [*answer, tokenizer.eos_token_id]) for answer in (better, worse)
    )
    return TokenizedPair(0 if side == "dpo-apart" else len(prompt), chosen, rejected)


def _rendered(prompt: list[int], answer: list[int]) -> TokenizedExample:
    ids = np.array([*prompt, *answer], np.int32)
    return TokenizedExample(ids, np.arange(len(ids)) >= len(prompt))


def table(runs: dict[str, list[dict[str, Any]]]) -> str:
    """Medians with their spread, and ratios to DPO with a kept reference."""
    first = SIDES["dpo"]
    tokens = runs[first][0]["tokens"]
    seconds = {title: sorted(run["seconds"] for run in found) for title, found in runs.items()}
    middle = {title: statistics.median(found) for title, found in seconds.items()}
    peaks = {
        title: statistics.median(run["peak_rss_mib"] for run in found)
        for title, found in runs.items()
    }
    lines = [
        "| side | s a step (least to most) | tokens/s | peak RSS MiB | time to DPO's "
        "| memory to DPO's |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for title in runs:
        lines.append(
            f"| {title} | {middle[title]:.2f} ({seconds[title][0]:.2f} to "
            f"{seconds[title][-1]:.2f}) | {tokens / middle[title]:.0f} | {peaks[title]:.0f} "
            f"| {middle[title] / middle[first]:.2f} | {peaks[title] / peaks[first]:.2f} |"
        )
    asking = statistics.median(run["asking"] for run in runs[first])
    live, simpo = SIDES["dpo-live"], SIDES["simpo"]
    losses = {title: found[0]["losses"][0] for title, found in runs.items()}
    lines += [
        "",
        "Tokens/s count a prompt once on every side. Asking the reference once before the first "
        f"step takes {asking:.2f} s for the pairs of a step, once for all epochs. TRL computes "
        "each prompt twice.",
        "",
        "Published: SimPO takes about 20 % less time and 10 % less memory than DPO "
        "(arXiv 2405.14734, on GPUs, DPO asking its reference in every step). Here it takes "
        f"{middle[simpo] / middle[live]:.2f} of that form's time and "
        f"{peaks[simpo] / peaks[live]:.2f} of its memory; of DPO with a kept reference "
        f"{middle[simpo] / middle[first]:.2f} and {peaks[simpo] / peaks[first]:.2f}.",
        "",
        "Loss of the first step: "
        + ", ".join(f"{title} {loss:.3f}" for title, loss in losses.items())
        + ".",
    ]
    return "\n".join(lines) + "\n"
