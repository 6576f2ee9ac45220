"""Serving many variants of one base at once: tokens per second and time to the first token.

    python benchmarks/serving.py builtin:nano
    python benchmarks/serving.py builtin:smollm2 --repeats 2

Sides run in turn in one process: our engine with nothing but the base, with 1, 8 and 64 LoRAs, 64
prefixes and a mixture of all kinds, every request naming another variant; Transformers' `generate`;
PEFT's mixed batches (`adapter_names`). All read the same prompts, write greedily, and never stop
early. On a CPU the time is the processor's, so that other work on the machine counts less.
"""

import argparse
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import record
import torch

from kamerton.adapters.adapter_set import AdapterSet
from kamerton.adapters.bottleneck.bottleneck import BottleneckSettings
from kamerton.adapters.catalogue import attach
from kamerton.adapters.ia3 import Ia3Settings
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.adapters.virtual.prefix import PrefixSettings
from kamerton.adapters.virtual.prompt import PromptTuningSettings
from kamerton.core.protocols import Generation
from kamerton.core.requests import AnswerRequest, ServedModel
from kamerton.data.rendering.renderer import make_renderer
from kamerton.data.rendering.tokenized import RenderSettings
from kamerton.inference.continuous_engine import ContinuousEngine, LoadedVariant
from kamerton.models.base import Base
from kamerton.models.load import load_base
from kamerton.prompting.prompt import Prompt

RANK = 8
MIXTURE: tuple[Any, ...] = (
    LoraSettings(rank=4),
    LoraSettings(rank=8),
    LoraSettings(rank=16),
    LoraSettings(rank=32, rank_stabilised=True),
    LoraSettings(rank=8, dora=True),
    Ia3Settings(),
    PrefixSettings(num_virtual_tokens=16, init="random"),
    PrefixSettings(num_virtual_tokens=32, init="random"),
    PromptTuningSettings(num_virtual_tokens=16, init="vocabulary"),
    BottleneckSettings(reduction=8),
)
"""Kinds of a mixture; as many requests again as there are kinds name the base alone."""

Measured = tuple[float, float]
"""Seconds to the first token, mean over requests; tokens per second after the first."""


class Endless:
    """A renderer whose answers nothing ends, so that all sides write the same number of tokens."""

    stop_ids = frozenset[int]()

    def __init__(self, renderer: Any) -> None:
        self._renderer = renderer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._renderer, name)


def clock() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def make_prompts(base: Base, number: int, length: int) -> list[tuple[int, ...]]:
    generator = torch.Generator().manual_seed(0)
    size = base.identity.vocab_size
    return [
        tuple(torch.randint(10, size, (length,), generator=generator).tolist())
        for _ in range(number)
    ]


def add_stirred(base: Base, adapters: AdapterSet, settings: Any, seed: int) -> int:
    """Add an adapter that changes something."""

    def make() -> Any:
        adapter = attach(base, settings, seed)
        generator = torch.Generator().manual_seed(seed)
        for parameter in adapter.parameters().values():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data += 0.01 * noise.to(parameter.device)
        return adapter

    return adapters.add(make)


class Ours:
    """The engine with variants by side."""

    def __init__(self, base: Base, sides: dict[str, list[int]], requests: Sequence[int]) -> None:
        renderer: Any = Endless(make_renderer(base.tokenizer, RenderSettings(), ends=base.ends))
        variants, self.names = [], dict[str, list[str]]()
        for side, adapters in sides.items():
            for index, adapter in enumerate(adapters):
                name = f"{side} {index}"
                # The engine takes variants of one content hash for one variant.
                model = ServedModel(name, "", name, base.identity.id)
                variants.append(LoadedVariant(model, renderer, Prompt(), adapter))
                self.names.setdefault(side, []).append(model.name)
        # The prompts come again in every repeat: no side may remember them.
        self.engine = ContinuousEngine(base, variants, num_slots=max(requests), beginnings_mib=0)

    def measure(self, side: str, prompts: list[tuple[int, ...]], num_tokens: int) -> Measured:
        names, how = self.names[side], Generation(max_tokens=num_tokens)
        start, first = clock(), dict[str, float]()
        for number, prompt in enumerate(prompts):
            name = names[number % len(names)]
            self.engine.add(AnswerRequest(str(number), name, how, prompt=prompt))
        written, since = 0, start
        while not self.engine.is_idle:
            updates, now = self.engine.step(), clock()
            if len(first) == len(prompts):
                written += len(updates)
            for update in updates:
                assert not update.error, update.error
                first.setdefault(update.id, now)
            if not written:
                since = now
        return statistics.mean(first.values()) - start, written / (now - since)


def generated(
    model: Any, prompts: list[tuple[int, ...]], num_tokens: int, **given: Any
) -> Measured:
    """Measure `generate` of Transformers or PEFT."""
    ids = torch.tensor(prompts, device=model.device)

    def seconds(number: int) -> float:
        start = clock()
        found = model.generate(
            input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, pad_token_id=0,
            min_new_tokens=number, max_new_tokens=number, **given,
        )  # fmt: skip
        assert found.shape[1] == ids.shape[1] + number
        return clock() - start

    first = seconds(1)
    return first, len(prompts) * (num_tokens - 1) / (seconds(num_tokens) - first)


def peft_model(base: Base, number: int) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=RANK, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(base.model, config, adapter_name="0")
    for index in range(1, number):
        model.add_adapter(str(index), config)
    return model.eval()


def all_sides(arguments: argparse.Namespace) -> dict[str, Callable[..., Measured]]:
    """Load every side; each has its own copy of the base where it changes it."""

    def load() -> Base:
        return load_base(arguments.base, dtype=arguments.dtype)

    alone = Ours(load(), {"base": [-1]}, arguments.requests)
    base = load()
    adapters = AdapterSet(base, fixed=True)
    loras = [add_stirred(base, adapters, LoraSettings(rank=RANK), seed) for seed in range(64)]
    prefix = PrefixSettings(num_virtual_tokens=32, init="random")
    prefixes = [add_stirred(base, adapters, prefix, seed) for seed in range(64)]
    mixture = [add_stirred(base, adapters, kind, seed) for seed, kind in enumerate(MIXTURE)]
    many = {
        "base beside 138 adapters": [-1],
        "1 LoRA": loras[:1],
        "8 LoRAs": loras[:8],
        "64 LoRAs": loras,
        "64 prefixes": prefixes,
        "mixture": [number for one in mixture for number in (one, -1)],
    }
    ours = Ours(base, many, arguments.requests)
    sides: dict[str, Callable[..., Measured]] = {
        "base": lambda *given: alone.measure("base", *given)
    }
    for side in many:
        sides[side] = lambda *given, side=side: ours.measure(side, *given)
    plain = load()
    plain.model.set_attn_implementation("sdpa")
    sides["Transformers generate, base"] = lambda *given: generated(plain.model, *given)
    for number in (1, 8):
        model = load()
        model.model.set_attn_implementation("sdpa")
        mixed = peft_model(model, number)

        def peft(prompts: Any, num: int, mixed: Any = mixed, number: int = number) -> Measured:
            names = [str(index % number) for index in range(len(prompts))]
            return generated(mixed, prompts, num, adapter_names=names)

        sides[f"PEFT adapter_names, {number} LoRA{'s' * (number > 1)}"] = peft
    return sides


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("base", nargs="?", default="builtin:nano")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--requests", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--prompt", type=int, default=64, help="tokens of a prompt")
    parser.add_argument("--tokens", type=int, default=32, help="tokens of an answer")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--sides", default="", help="only those that begin with one of these, ...")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    sides = all_sides(arguments)
    wanted = tuple(arguments.sides.split(",")) if arguments.sides else ("",)
    sides = {name: side for name, side in sides.items() if name.startswith(wanted)}
    prompts = make_prompts(load_base(arguments.base), max(arguments.requests), arguments.prompt)
    found: dict[tuple[int, str], list[Measured]] = {}
    for name, side in sides.items():
        side(prompts[:2], 3)
        print(f"warm: {name}", file=sys.stderr)
    for _ in range(arguments.repeats):
        for number in arguments.requests:
            for name, side in sides.items():
                measured = side(prompts[:number], arguments.tokens)
                found.setdefault((number, name), []).append(measured)
                print(f"{number} {name}: {measured[1]:.1f} tokens/s", file=sys.stderr)
    lines = [
        "| requests at once | side | tokens/s (least to most) | of ours with the base "
        "| first token, s |",
        "| ---: | --- | ---: | ---: | ---: |",
    ]
    for (number, name), runs in found.items():
        rates = sorted(rate for _, rate in runs)
        against = found.get((number, "base"), runs)
        share = statistics.median(rates) / statistics.median(rate for _, rate in against)
        first = statistics.median(first for first, _ in runs)
        lines.append(
            f"| {number} | {name} | {statistics.median(rates):.1f} ({rates[0]:.1f} to "
            f"{rates[-1]:.1f}) | {share:.0%} | {first:.3f} |"
        )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    label = arguments.base.rsplit(":", 1)[-1].rsplit("/", 1)[-1]
    text = record.header(f"Variants of {label} served at once, sides in turn")
    text += f"{arguments.dtype}, prompts of {arguments.prompt} tokens, answers of "
    text += f"{arguments.tokens}, greedy, medians of {arguments.repeats}. Seconds are "
    text += ("of the clock" if torch.cuda.is_available() else "of the processor") + "; tokens/s "
    text += "count from when all requests have their first. LoRAs have rank 8 on all linear "
    text += "layers, prefixes 32 tokens; in the mixture every second request names the base alone."
    text += f" All sides stood in one process, with a peak of {peak:.0f} MiB.\n\n"
    record.write(f"serving_{label}", text + "\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
