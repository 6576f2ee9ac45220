"""The sides of `serving.py`: our engine, Transformers, PEFT and llama.cpp, on the same prompts."""

import json
import statistics
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
from kamerton.prompting.prompt import Prompt

RANK = 8
_STRIDE = 61
"""Between the variants of neighbouring requests; prime, so that all have their turn."""
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


@dataclass(frozen=True, slots=True)
class Measured:
    """A side's answers to some requests at once.

    Attributes:
        rate: Tokens per second of all requests together, once each has its first.
        first: Seconds to the first token: of each request, or one number for all.
        gaps: Seconds from each token to the next; empty where a side does not tell.
    """

    rate: float
    first: Sequence[float]
    gaps: Sequence[float] = field(default=())


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
        self._asked = 0
        # The prompts come again in every repeat: no side may remember them.
        self.engine = ContinuousEngine(base, variants, num_slots=max(requests), beginnings_mib=0)

    def measure(self, side: str, prompts: list[tuple[int, ...]], num_tokens: int) -> Measured:
        names, how = self.names[side], Generation(max_tokens=num_tokens)
        start, first, gaps = clock(), dict[str, float](), []
        for number, prompt in enumerate(prompts):
            # Of a thousand, not always the first ones.
            name = names[(self._asked + number) * _STRIDE % len(names)]
            self.engine.add(AnswerRequest(str(number), name, how, prompt=prompt))
        self._asked += len(prompts)
        written, before = 0, start
        while not self.engine.is_idle:
            are_all_there = len(first) == len(prompts)
            updates, now = self.engine.step(), clock()
            for update in updates:
                assert not update.error, update.error
                first.setdefault(update.id, now - start)
            if are_all_there:
                written += len(updates)
                gaps.append(now - before)
            before = now
        return Measured(written / sum(gaps), list(first.values()), gaps)

    def cost_of_others(self, side: str, prompts: list[tuple[int, ...]]) -> float:
        """Seconds that the first step takes longer in which all requests name other variants."""
        steps = []
        for _ in range(6):
            gaps = self.measure(side, prompts, 8).gaps
            steps.append(gaps[0] - statistics.median(gaps[1:]))
        return statistics.median(steps)


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
    return Measured(len(prompts) * (num_tokens - 1) / (seconds(num_tokens) - first), [first])


def batched(model: Any, prompts: list[tuple[int, ...]], num_tokens: int) -> Measured:
    """Measure Transformers' continuous batching; its tokens come from a thread of this process."""
    from transformers import GenerationConfig
    from transformers.generation.configuration_utils import ContinuousBatchingConfig

    pages = ContinuousBatchingConfig(
        num_blocks=64, max_batch_tokens=512, use_cuda_graph=False, use_async_batching=False
    )

    def seconds(number: int) -> float:
        how = GenerationConfig(
            max_new_tokens=number, do_sample=False, pad_token_id=0, eos_token_id=-1
        )
        start = clock()
        found = model.generate_batch(
            [list(prompt) for prompt in prompts],
            generation_config=how, continuous_batching_config=pages, warmup=False,
        )  # fmt: skip
        assert all(len(one.generated_tokens) == number for one in found.values())
        return clock() - start

    first = seconds(1)
    return Measured(len(prompts) * (num_tokens - 1) / (seconds(num_tokens) - first), [first])


def peft_model(base: Base, number: int) -> Any:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=RANK, target_modules="all-linear", init_lora_weights=False)
    model = get_peft_model(base.model, config, adapter_name="0")
    for index in range(1, number):
        model.add_adapter(str(index), config)
    return model.eval()


class Llama:
    """llama.cpp in a process of its own environment.

    Args:
        python: Python of an environment with llama-cpp-python.
        file: GGUF file of the base.
        form: In which the weights are held: "f32", "bf16", "f16" or "q8_0".
        most: Most requests at once.
        threads: Threads of a product.
    """

    def __init__(self, python: str, file: Path, form: str, most: int, threads: int) -> None:
        script = Path(__file__).with_name("serving_llama.py")
        self._process = subprocess.Popen(
            [python, str(script), str(file), form, str(most), str(threads)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )  # fmt: skip

    def measure(self, prompts: list[tuple[int, ...]], num_tokens: int) -> Measured:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([prompts, num_tokens]) + "\n")
        self._process.stdin.flush()
        found = json.loads(self._process.stdout.readline())
        gaps = found["gaps"]
        return Measured(len(prompts) * len(gaps) / sum(gaps), [found["first"]], gaps)

    def stop(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=30)
