"""Serving many variants of one base at once: tokens per second, time to tokens, memory.

    python benchmarks/serving.py builtin:nano
    python benchmarks/serving.py builtin:smollm2 --dtype bfloat16 --repeats 2
    python benchmarks/serving.py builtin:smollm2 --quantise int8 --sides base,llama --llama PYTHON

Sides run in turn: our engine with nothing but the base, with 1, 8 and 64 LoRAs, 64 and 1,024
prefixes and a mixture of all kinds, every request naming another variant; Transformers' `generate`
and continuous batching; PEFT's mixed batches (`adapter_names`); llama.cpp where `--llama` names
the Python of an environment that has llama-cpp-python. All read the same prompts, write greedily,
and never stop early. On a CPU the time is the processor's, so that other work on the machine
counts less. Only the sides that are asked for are loaded.
"""

import argparse
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import record
import torch
from serving_sides import (
    MIXTURE,
    RANK,
    Llama,
    Measured,
    Ours,
    add_stirred,
    batched,
    generated,
    make_prompts,
    peft_model,
)

from kamerton.adapters.adapter_set import AdapterSet
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.adapters.virtual.prefix import PrefixSettings
from kamerton.core.requests import ServedModel
from kamerton.models.base import Base
from kamerton.models.gguf.file import write_gguf_model
from kamerton.models.load import load_base
from kamerton.models.packed import pack_linears
from kamerton.serving.names import Names

RESIDENT = (
    "base beside 1,098 adapters", "1 LoRA", "8 LoRAs", "64 LoRAs", "64 prefixes", "1,024 prefixes",
    "mixture",
)  # fmt: skip

Side = Callable[[list[tuple[int, ...]], int], Measured]


def ours(arguments: argparse.Namespace, costs: dict[str, str]) -> Iterator[tuple[str, Side]]:
    """Our engine: the base alone, and another copy of it with everything resident."""

    def load() -> Base:
        base = load_base(
            arguments.base, dtype=arguments.dtype, quantise=arguments.quantise, device="auto"
        )
        pack_linears(base)
        return base

    before = resident_mib()
    alone = Ours(load(), {"base": [-1]}, arguments.requests)
    costs["memory of our base"] = f"{resident_mib() - before:.0f} MiB"
    yield "base", partial(alone.measure, "base")
    if not wanted(arguments, *RESIDENT):
        return
    base = load()
    adapters = AdapterSet(base, fixed=True)
    prefix = PrefixSettings(num_virtual_tokens=arguments.prefix, init="random")
    add = partial(add_stirred, base, adapters)
    before = resident_mib()
    prefixes = [add(prefix, seed) for seed in range(1024)]
    costs["memory of 1,024 prefixes"] = f"{resident_mib() - before:.0f} MiB"
    before = resident_mib()
    loras = [add(LoraSettings(rank=RANK), seed) for seed in range(64)]
    costs["memory of 64 LoRAs"] = f"{resident_mib() - before:.0f} MiB"
    mixture = [add(kind, seed) for seed, kind in enumerate(MIXTURE)]
    many = {
        "base beside 1,098 adapters": [-1],
        "1 LoRA": loras[:1],
        "8 LoRAs": loras[:8],
        "64 LoRAs": loras,
        "64 prefixes": prefixes[:64],
        "1,024 prefixes": prefixes,
        "mixture": [number for one in mixture for number in (one, -1)],
    }
    engine = Ours(base, many, arguments.requests)
    for side in many:
        yield side, partial(engine.measure, side)
    if wanted(arguments, "64 LoRAs"):
        prompts = make_prompts(base, 16, arguments.prompt)
        more = engine.cost_of_others("64 LoRAs", prompts)
        costs["first step in which 16 requests name LoRAs that the step before did not"] = (
            f"{1000 * more:.1f} ms more than the next ones"
        )


def others(arguments: argparse.Namespace, stack: ExitStack) -> Iterator[tuple[str, Side]]:
    """Other libraries over the same weights; int8 weights are ours and llama.cpp's alone."""
    load = partial(load_base, arguments.base, dtype=arguments.dtype, device="auto")
    names = ("Transformers generate, base", "Transformers generate_batch, base")
    if wanted(arguments, *names) and arguments.quantise == "none":
        plain = load().model
        plain.set_attn_implementation("sdpa")
        yield names[0], partial(generated, plain)
        yield names[1], partial(batched, plain)
    for number in (1, 8):
        name = f"PEFT adapter_names, {number} LoRA{'s' * (number > 1)}"
        if wanted(arguments, name) and arguments.quantise == "none":
            model = load()
            model.model.set_attn_implementation("sdpa")
            mixed = peft_model(model, number)

            def peft(prompts: Any, num: int, mixed: Any = mixed, number: int = number) -> Measured:
                names = [str(index % number) for index in range(len(prompts))]
                return generated(mixed, prompts, num, adapter_names=names)

            yield name, peft
    if arguments.llama:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        base, file = load(), Path(folder) / "base.gguf"
        write_gguf_model(base.model, base.tokenizer, file, "base", arguments.dtype)
        forms = {"float32": ["f32"], "bfloat16": ["bf16", "f16"]}[arguments.dtype]
        for form in forms if arguments.quantise == "none" else ["q8_0"]:
            llama = Llama(arguments.llama, file, form, max(arguments.requests), arguments.threads)
            stack.callback(llama.stop)
            yield f"llama.cpp, base in {form}", llama.measure


def wanted(arguments: argparse.Namespace, *names: str) -> bool:
    """Whether one of some sides was asked for, by its name or the beginning of it."""
    begins = arguments.sides.split(",") if arguments.sides else [""]
    return any(
        name == one or (name.startswith(one) and one != "base") for name in names for one in begins
    )


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def pointer_ms() -> float:
    """Milliseconds in which a name among 1,024 comes to mean another resident version."""
    models = [ServedModel(f"v{n}", "lora", f"hash{n}", "base") for n in range(1024)]
    names = Names(models)
    taken = []
    for turn in range(50):
        start = time.perf_counter()
        names.point(ServedModel("v7", "lora", f"hash{100 + turn % 2}", "base"))
        taken.append(time.perf_counter() - start)
    return 1000 * statistics.median(taken)


def quantiles(seconds: list[float]) -> str:
    """The median and the 95th percentile, in milliseconds."""
    if not seconds:
        return "- | -"
    at = sorted(seconds)
    return f"{1000 * statistics.median(at):.0f} | {1000 * at[min(len(at) - 1, int(0.95 * len(at)))]:.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", nargs="?", default="builtin:nano")
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"])
    parser.add_argument("--quantise", default="none", choices=["none", "int8", "nf4"])
    parser.add_argument("--requests", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--prompt", type=int, default=64, help="tokens of a prompt")
    parser.add_argument("--prefix", type=int, default=16, help="tokens of a prefix")
    parser.add_argument("--tokens", type=int, default=32, help="tokens of an answer")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sides", default="", help="only those that begin with one of these, ...")
    parser.add_argument("--llama", default="", metavar="PYTHON", help="has llama-cpp-python")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    prompts = make_prompts(load_base(arguments.base), max(arguments.requests), arguments.prompt)
    found: dict[tuple[int, str], list[Measured]] = {}
    costs: dict[str, str] = {}
    with ExitStack() as stack:
        given = [*ours(arguments, costs), *others(arguments, stack)]
        sides = {name: side for name, side in given if wanted(arguments, name)}
        for name, side in sides.items():
            side(prompts[:2], 3)
            print(f"warm: {name}", file=sys.stderr)
        for _ in range(arguments.repeats):
            for number in arguments.requests:
                for name, side in sides.items():
                    measured = side(prompts[:number], arguments.tokens)
                    found.setdefault((number, name), []).append(measured)
                    print(f"{number} {name}: {measured.rate:.1f} tokens/s", file=sys.stderr)
    costs["a name among 1,024 that comes to mean another resident version"] = (
        f"{pointer_ms():.2f} ms in the gateway"
    )
    costs["peak memory of the process"] = (
        f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB, all sides but "
        "llama.cpp"
    )
    label = arguments.base.rsplit(":", 1)[-1].rsplit("/", 1)[-1]
    form = arguments.dtype if arguments.quantise == "none" else arguments.quantise
    text = record.header(f"Variants of {label} served at once, sides in turn")
    record.write(f"serving_{label}_{form}", text + report(arguments, found, costs))


def report(
    arguments: argparse.Namespace,
    found: dict[tuple[int, str], list[Measured]],
    costs: dict[str, str],
) -> str:
    """Describe the run, and put its numbers into a table."""
    held = "" if arguments.quantise == "none" else f", the base in {arguments.quantise}"
    text = (
        f"{arguments.dtype}{held}, prompts of {arguments.prompt} tokens, answers of "
        f"{arguments.tokens}, greedy, medians of {arguments.repeats}. Times are of the "
        + ("clock" if torch.cuda.is_available() else "processor")
        + "; tokens/s count from when all requests have their first. LoRAs have rank "
        f"{RANK} on all linear layers, prefixes {arguments.prefix} tokens; in the mixture every "
        "second request names the base alone. `generate` and llama.cpp give all first tokens at "
        "once, and `generate` does not tell when the others come.\n\n"
    )
    lines = [
        "| requests at once | side | tokens/s (least to most) | of ours with the base "
        "| first token, ms: p50 | p95 | next token, ms: p50 | p95 |",
        "| ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for (number, name), runs in found.items():
        rates = sorted(one.rate for one in runs)
        against = found.get((number, "base"), runs)
        share = statistics.median(rates) / statistics.median(one.rate for one in against)
        first = quantiles([second for one in runs for second in one.first])
        gaps = quantiles([second for one in runs for second in one.gaps])
        lines.append(
            f"| {number} | {name} | {statistics.median(rates):.1f} ({rates[0]:.1f} to "
            f"{rates[-1]:.1f}) | {share:.0%} | {first} | {gaps} |"
        )
    costs_lines = [f"- {what}: {cost}" for what, cost in costs.items()]
    return text + "\n".join([*lines, "", *costs_lines]) + "\n"


if __name__ == "__main__":
    main()
