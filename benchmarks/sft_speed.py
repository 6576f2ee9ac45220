"""SFT + LoRA: Kamerton beside TRL + PEFT, on the same model, rows, rank and machine.

    python benchmarks/sft_speed.py compare --trl-python PATH   both sides, in turn
    python benchmarks/sft_speed.py growth     time and memory by row length, data, model

Every measurement is a process of its own, so that peak memory is its own. Medians are over the
repeats; ratios are within one run of this script.
"""

import argparse
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SIZES = {
    "110M": {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12},
    "40M": {"hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8},
    "12M": {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 6},
}
VOCABULARY = 32_000


def make_material(folder: Path, size: str, num_rows: int, lengths: tuple[int, int]) -> None:
    """Write a random Llama, a tokenizer that fits it, and rows of chat-like lengths."""
    import numpy as np
    import torch
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


def ours(arguments: argparse.Namespace) -> None:
    """Train with Kamerton's own loop and print what it took."""
    import numpy as np
    import torch

    from kamerton.adapters.lora import LoraSettings, attach_lora
    from kamerton.core.events import Event, StepDone
    from kamerton.data.rendering import Rendered
    from kamerton.models.load import load_base
    from kamerton.objectives.sft import Sft
    from kamerton.training.loop import Task, train
    from kamerton.training.settings import TrainSettings

    torch.set_num_threads(arguments.threads)
    rows = json.loads((arguments.folder / "rows.json").read_text())
    used = rows[: arguments.batch * arguments.steps]
    rendered = [
        Rendered(np.array(row["ids"], np.int32), np.array(row["trained"], bool)) for row in used
    ]
    base = load_base(str(arguments.folder / "model"), dtype=arguments.dtype)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    adapter = attach_lora(base, LoraSettings(rank=arguments.rank), seed=0)
    tokens = sum(len(r.ids) for r in rendered)
    settings = TrainSettings(
        epochs=1, tokens_per_step=tokens // arguments.steps + 1, learning_rate=2e-4,
        tokens_per_row=arguments.tokens_per_row, checkpoint_every_s=1e9, recompute="none",
    )  # fmt: skip
    steps: list[StepDone] = []
    marks = []

    def sink(event: Event) -> None:
        if isinstance(event, StepDone):
            steps.append(event)
            marks.append(time.perf_counter())

    with tempfile.TemporaryDirectory() as folder:
        train(Task("bench", base, adapter, Sft(), rendered, (), settings, Path(folder), "b"), sink)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        json.dumps(
            {
                "seconds": marks[-1] - marks[0],
                "tokens": sum(step.num_tokens for step in steps[1:]),
                "labelled": sum(step.num_labelled for step in steps[1:]),
                "peak_rss_mib": peak / 1024,
                "rss_before_mib": before / 1024,
                "losses": [step.loss for step in steps],
            }
        )
    )


def matmul_rate(threads: int, dtype_name: str) -> float:
    """Measure the machine's matrix-product rate in GFLOP/s, best of ten."""
    import torch

    torch.set_num_threads(threads)
    dtype = getattr(torch, dtype_name)
    a, b = torch.randn(2048, 1024, dtype=dtype), torch.randn(1024, 1024, dtype=dtype)
    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        a @ b
        best = min(best, time.perf_counter() - start)
    return 2 * 2048 * 1024 * 1024 / best / 1e9


def run_side(python: str, script: str, extra: list[str]) -> dict[str, Any]:
    """Run one side in a process of its own."""
    done = subprocess.run([python, script, *extra], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{script} failed:\n{done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def median(runs: list[dict[str, Any]], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def compare(arguments: argparse.Namespace) -> None:
    """Alternate both sides and print a table and JSON."""
    here = Path(__file__).resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_material(folder, arguments.size, arguments.batch * arguments.steps, (32, 384))
        sides: dict[str, tuple[str, str, list[str]]] = {
            "kamerton (auto dtype)": (sys.executable, str(here), ["ours", str(folder)]),
        }
        common = ["--steps", str(arguments.steps), "--batch", str(arguments.batch)]
        for dtype in arguments.trl_dtypes.split(","):
            trl = str(here.with_name("trl_side.py"))
            options = [str(folder), "--dtype", dtype]
            sides[f"TRL + PEFT ({dtype})"] = (arguments.trl_python, trl, options)
        runs: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
        for _ in range(arguments.repeats):
            for side, (python, script, options) in sides.items():
                runs[side].append(run_side(python, script, [*options, *common]))
                last = runs[side][-1]
                print(f"  {side}: {last['tokens'] / last['seconds']:.0f} tokens/s", file=sys.stderr)
        parameters = _parameters(folder)
    report(arguments, runs, parameters)


def _parameters(folder: Path) -> int:
    from kamerton.models.load import load_base

    return load_base(str(folder / "model"), weights=False).identity.num_parameters


def report(
    arguments: argparse.Namespace, runs: dict[str, list[dict[str, Any]]], parameters: int
) -> None:
    import torch

    rate = {dtype: matmul_rate(2, dtype) for dtype in ("float32", "bfloat16")}
    first = next(iter(runs))
    print(f"machine: {platform.processor() or platform.machine()}, torch {torch.__version__}")
    print(f"matmul: fp32 {rate['float32']:.0f}, bf16 {rate['bfloat16']:.0f} GFLOP/s")
    print(f"model: {arguments.size} ({parameters:,} parameters), batch {arguments.batch}")
    print("| side | tokens/s | labelled/s | peak RSS MiB | speed ratio | memory ratio |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    own_rate = 0.0
    for side, results in runs.items():
        speed = statistics.median(r["tokens"] / r["seconds"] for r in results)
        labelled = statistics.median(r["labelled"] / r["seconds"] for r in results)
        peak = median(results, "peak_rss_mib")
        if side == first:
            own_rate, own_peak = speed, peak
        print(
            f"| {side} | {speed:.0f} | {labelled:.0f} | {peak:.0f} "
            f"| {own_rate / speed:.2f} | {own_peak / peak:.2f} |"
        )
    flops = 4 * parameters * own_rate / 1e9
    best = max(rate.values())
    print(
        f"4 FLOPs per parameter and token: {flops:.0f} GFLOP/s, {flops / best:.0%} of the best rate"
    )
    print(json.dumps({"runs": runs, "matmul": rate, "parameters": parameters}))


def growth(arguments: argparse.Namespace) -> None:
    """Print time and memory by row length, number of rows and model size."""
    here = str(Path(__file__).resolve())
    print("| model | example tokens | row tokens | examples | tokens/s | peak RSS MiB |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    grid = [
        ("40M", length, max(length, 4096), 16384 // length)
        for length in (256, 512, 1024, 2048, 4096)
    ]
    grid += [("40M", 256, row, 64) for row in (256, 1024, 4096)]
    grid += [("40M", 256, 4096, count) for count in (32, 128)]
    grid += [(size, 256, 4096, 48) for size in SIZES]
    for size, length, row, count in grid:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            steps = 4
            batch = max(1, count // steps)
            make_material(folder, size, batch * steps, (length, length))
            options = ["ours", str(folder), "--steps", str(steps), "--batch", str(batch)]
            result = run_side(sys.executable, here, [*options, "--tokens-per-row", str(row)])
        speed = result["tokens"] / result["seconds"]
        print(
            f"| {size} | {length} | {row} | {batch * steps} | {speed:.0f} "
            f"| {result['peak_rss_mib']:.0f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    verbs = parser.add_subparsers(required=True)
    side = verbs.add_parser("ours")
    side.add_argument("folder", type=Path)
    side.set_defaults(run=ours)
    both = verbs.add_parser("compare")
    both.add_argument("--trl-python", required=True)
    both.add_argument("--trl-dtypes", default="bfloat16,float32")
    both.add_argument("--repeats", type=int, default=3)
    both.add_argument("--size", choices=SIZES, default="110M")
    both.set_defaults(run=compare)
    for one in (side, both):
        one.add_argument("--steps", type=int, default=4)
        one.add_argument("--batch", type=int, default=16)
    side.add_argument("--rank", type=int, default=16)
    side.add_argument("--threads", type=int, default=2)
    side.add_argument("--dtype", default="auto")
    side.add_argument("--tokens-per-row", type=int, default=2048)
    grow = verbs.add_parser("growth")
    grow.set_defaults(run=growth)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
