"""SFT + LoRA: Kamerton beside TRL + PEFT, on the same model, rows, rank and machine.

    python benchmarks/sft_speed.py compare --trl-python PATH   all sides, in turn
    python benchmarks/sft_speed.py growth                      by row length, data, model
    python benchmarks/sft_speed.py parts                       where the time of our step goes

Every measurement is a process of its own, so that peak memory is its own. Medians are over the
repeats; ratios are within one run of this script.
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import record
import torch

from kamerton.adapters.lora.lora import LoraSettings, attach_lora
from kamerton.core.events import Event, StepDone
from kamerton.data.rendering.renderer import TokenizedExample
from kamerton.models.dtype import dtype_name, pick_dtype
from kamerton.models.load import load_base
from kamerton.objectives.sft import Sft
from kamerton.training.loop import train
from kamerton.training.settings import TrainSettings
from kamerton.training.task import Task

SIZES = {
    "110M": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12},
    "40M": {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8},
    "12M": {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 6},
}
VOCABULARY = 32_000


def make_material(folder: Path, size: str, num_rows: int, lengths: tuple[int, int]) -> None:
    """Write a random Llama, a tokenizer that fits it, and rows of chat-like lengths."""
    from tokenizers import Tokenizer, models
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    shape = SIZES[size]
    heads = shape["hidden_size"] // 64
    config = LlamaConfig(
        vocab_size=VOCABULARY, num_attention_heads=heads, num_key_value_heads=max(1, heads // 3),
        max_position_embeddings=8192, tie_word_embeddings=True, pad_token_id=0, bos_token_id=1,
        eos_token_id=2, **shape,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    words = {f"w{i}": i for i in range(VOCABULARY)}
    PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w3")),
        pad_token="w0", bos_token="w1", eos_token="w2", unk_token="w3",
    ).save_pretrained(folder / "model")  # fmt: skip
    random = np.random.default_rng(0)
    rows = []
    for _ in range(num_rows):
        # Log-normal, as lengths of real chats are; about 60 % prompt, 40 % answer.
        low, high = lengths
        length = int(np.clip(random.lognormal(np.log((low * high) ** 0.5), 0.5), low, high))
        num_prompt = max(1, int(length * 0.6))
        ids = random.integers(4, VOCABULARY, length).tolist()
        rows.append({"ids": ids, "trained": [0] * num_prompt + [1] * (length - num_prompt)})
    (folder / "rows.json").write_text(json.dumps(rows))


def make_task(arguments: argparse.Namespace, folder: Path) -> Task:
    """The run of our side: the same rows, batches, rank and dtype as TRL's."""
    torch.set_num_threads(arguments.threads)
    rows = json.loads((arguments.folder / "rows.json").read_text())
    used = rows[: arguments.batch * arguments.steps]
    rendered = [
        TokenizedExample(np.array(row["ids"], np.int32), np.array(row["trained"], bool))
        for row in used
    ]
    base = load_base(str(arguments.folder / "model"), dtype=arguments.dtype)
    tokens = sum(len(r.ids) for r in rendered)
    settings = TrainSettings(
        epochs=1, tokens_per_step=tokens // arguments.steps + 1, learning_rate=2e-4,
        tokens_per_row=arguments.tokens_per_row, checkpoint_every_s=1e9,
        gradient_checkpointing="none", compile=arguments.compile,
    )  # fmt: skip
    adapter = attach_lora(base, LoraSettings(rank=arguments.rank), seed=0)
    return Task("bench", base, adapter, Sft(), rendered, (), settings, folder, "b")


def ours(arguments: argparse.Namespace) -> None:
    """Train with Kamerton's own loop and print what it took."""
    steps: list[StepDone] = []
    marks = []

    def sink(event: Event) -> None:
        if isinstance(event, StepDone):
            steps.append(event)
            marks.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as name:
        task = make_task(arguments, Path(name))
        before = peak_mib()
        train(task, sink)
    result = {
        "seconds": marks[-1] - marks[0],
        "tokens": sum(step.num_tokens for step in steps[1:]),
        "labelled": sum(step.num_labelled for step in steps[1:]),
        "peak_rss_mib": peak_mib(),
        "rss_before_mib": before,
        "losses": [step.loss for step in steps],
    }
    print(json.dumps(result))


def parts(arguments: argparse.Namespace) -> None:
    """Say where the time of our steps goes, by kind of operation."""
    sums: Counter[str] = Counter()
    started = 0.0
    profiler = torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True
    )

    def sink(event: Event) -> None:
        nonlocal started
        if isinstance(event, StepDone) and event.step == 1:
            profiler.start()
            started = time.perf_counter()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_material(folder, "110M", arguments.batch * arguments.steps, (32, 384))
        arguments.folder = folder
        train(make_task(arguments, folder), sink)
        seconds = time.perf_counter() - started
        profiler.stop()
    for event in profiler.key_averages(group_by_input_shape=True):
        sums[_part(event.key, event.input_shapes, arguments.rank)] += event.self_cpu_time_total
    print("| part of our step | share |")
    print("| --- | ---: |")
    for part, microseconds in sums.most_common():
        print(f"| {part} | {microseconds / 1e6 / seconds:.0%} |")


def _part(name: str, shapes: list[Any], rank: int) -> str:
    sizes = {size for shape in shapes if isinstance(shape, list) for size in shape}
    if name in ("aten::mm", "aten::addmm_", "aten::addmm"):
        if VOCABULARY in sizes:
            return "matrix products of the head"
        return "matrix products of LoRA" if rank in sizes else "matrix products of the base"
    if "flash_attention" in name:
        return "attention"
    return "elementwise work, copies, bookkeeping, optimiser"


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def matmul_rate(threads: int, dtype_name: str) -> float:
    """Measure the machine's matrix-product rate in GFLOP/s, best of ten."""
    torch.set_num_threads(threads)
    dtype = getattr(torch, dtype_name)
    a, b = torch.randn(2048, 1024, dtype=dtype), torch.randn(1024, 1024, dtype=dtype)
    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return 2 * 2048 * 1024 * 1024 / best / 1e9


def run_side(command: list[str]) -> dict[str, Any]:
    """Run one side in a process of its own."""
    result: dict[str, Any] = json.loads(output_of(command).strip().splitlines()[-1])
    return result


def output_of(command: list[str]) -> str:
    """Run a command and return what it prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{command[1]} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def median(runs: list[dict[str, Any]], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def compare(arguments: argparse.Namespace) -> None:
    """Alternate all sides and write a table."""
    here = Path(__file__).resolve()
    trl = str(here.with_name("trl_side.py"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_material(folder, arguments.size, arguments.batch * arguments.steps, (32, 384))
        own = [sys.executable, str(here), "ours", str(folder)]
        theirs = [arguments.trl_python, trl, str(folder)]
        sides = {
            "Kamerton": own,
            "TRL + PEFT, its defaults": theirs,
            "TRL + PEFT, no checkpointing": [*theirs, "--no-checkpointing"],
        }
        # Both sides compute in what this machine is faster in.
        dtype = dtype_name(pick_dtype("auto", torch.device("cpu")))
        common = ["--steps", str(arguments.steps), "--batch", str(arguments.batch)]
        common += ["--dtype", dtype]
        runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
        for _ in range(arguments.repeats):
            for side, command in sides.items():
                last = run_side([*command, *common])
                runs[side].append(last)
                print(f"  {side}: {last['tokens'] / last['seconds']:.0f} tokens/s", file=sys.stderr)
        parameters = load_base(str(folder / "model"), weights=False).identity.num_parameters
    ask = "import sys, importlib.metadata as m; print(*map(m.version, sys.argv[1:]))"
    found = output_of([arguments.trl_python, "-c", ask, *TRL_LIBRARIES]).split()
    text = record.header("SFT + LoRA beside TRL + PEFT, one run, sides in turn")
    text += "TRL's environment: " + ", ".join(map(" ".join, zip(TRL_LIBRARIES, found, strict=True)))
    text += f"; rank 16 on all linear layers, {dtype}, {parameters:,} parameters, random weights, "
    text += f"{arguments.batch} rows of 32-384 tokens a step, medians of {arguments.repeats}.\n\n"
    text += table(runs, parameters)
    shares = output_of([sys.executable, str(here), "parts", *common])
    record.write("sft_speed", f"{text}\n{shares[shares.index('| part') :]}")


TRL_LIBRARIES = ("trl", "peft", "transformers", "torch")


def table(runs: dict[str, list[dict[str, Any]]], parameters: int) -> str:
    """Medians with their spread, ratios of the first side to each, and what the machine allows."""
    rates = {
        side: sorted(run["tokens"] / run["seconds"] for run in results)
        for side, results in runs.items()
    }
    peaks = {side: median(results, "peak_rss_mib") for side, results in runs.items()}
    first = next(iter(runs))
    lines = [
        "| side | tokens/s (least to most) | labelled/s | peak RSS MiB | Kamerton's speed to it "
        "| Kamerton's memory to it |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for side, results in runs.items():
        speed = statistics.median(rates[side])
        labelled = statistics.median(run["labelled"] / run["seconds"] for run in results)
        lines.append(
            f"| {side} | {speed:.0f} ({rates[side][0]:.0f} to {rates[side][-1]:.0f}) "
            f"| {labelled:.0f} | {peaks[side]:.0f} "
            f"| {statistics.median(rates[first]) / speed:.2f} | {peaks[first] / peaks[side]:.2f} |"
        )
    rate = {dtype: matmul_rate(2, dtype) for dtype in ("float32", "bfloat16")}
    flops = 4 * parameters * statistics.median(rates[first]) / 1e9
    losses = {side: results[0]["losses"][0] for side, results in runs.items()}
    lines += [
        "",
        f"Measured matrix products: fp32 {rate['float32']:.0f}, bf16 {rate['bfloat16']:.0f} "
        f"GFLOP/s. At 4 FLOPs per parameter and token Kamerton uses {flops:.0f} GFLOP/s, "
        f"{flops / max(rate.values()):.0%} of the better rate.",
        "",
        "Loss of the first step: "
        + ", ".join(f"{side} {loss:.3f}" for side, loss in losses.items())
        + ".",
    ]
    return "\n".join(lines) + "\n"


def growth(arguments: argparse.Namespace) -> None:
    """Write time and memory by row length, number of rows and model size."""
    here = str(Path(__file__).resolve())
    lines = [
        "| model | example tokens | row tokens | examples | tokens/s | peak RSS MiB |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    grid = [
        ("40M", length, max(length, 4096), 16384 // length)
        for length in (256, 512, 1024, 2048, 4096)
    ]
    grid += [("40M", 256, row, 64) for row in (256, 1024, 4096)]
    grid += [("40M", 256, 4096, count) for count in (32, 128)]
    grid += [(size, 256, 4096, 48) for size in SIZES]
    for size, length, row, count in grid:
        speeds, peaks = [], []
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            steps = 4
            batch = max(1, count // steps)
            make_material(folder, size, batch * steps, (length, length))
            options = ["--steps", str(steps), "--batch", str(batch), "--tokens-per-row", str(row)]
            for _ in range(arguments.repeats):
                result = run_side([sys.executable, here, "ours", str(folder), *options])
                speeds.append(result["tokens"] / result["seconds"])
                peaks.append(result["peak_rss_mib"])
        lines.append(
            f"| {size} | {length} | {row} | {batch * steps} | {statistics.median(speeds):.0f} "
            f"| {statistics.median(peaks):.0f} |"
        )
        print(lines[-1], file=sys.stderr)
    text = record.header("SFT + LoRA: time and memory by row length, data and model")
    text += f"Medians of {arguments.repeats} processes each, four steps.\n\n"
    record.write("sft_growth", text + "\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(required=True)
    side = verbs.add_parser("ours")
    side.add_argument("folder", type=Path)
    side.set_defaults(run=ours)
    both = verbs.add_parser("compare")
    both.add_argument("--trl-python", required=True)
    both.add_argument("--size", choices=SIZES, default="110M")
    both.set_defaults(run=compare)
    where = verbs.add_parser("parts")
    where.set_defaults(run=parts)
    for one in (side, both, where):
        one.add_argument("--steps", type=int, default=5)
        one.add_argument("--batch", type=int, default=16)
    for one in (side, where):
        one.add_argument("--rank", type=int, default=16)
        one.add_argument("--threads", type=int, default=2)
        one.add_argument("--dtype", default="auto")
        one.add_argument("--tokens-per-row", type=int, default=2048)
        one.add_argument("--compile", action="store_true")
    grow = verbs.add_parser("growth")
    grow.set_defaults(run=growth)
    for one in (both, grow):
        one.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
