"""The real base: packed rows, LoRA, prefix, generation and GGUF against the libraries of others.

`make base` brings it. Tiny random models agree more easily than 135 million trained weights do.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForCausalLM

from kamerton.adapters.adapter import Adapter
from kamerton.adapters.catalogue import attach
from kamerton.adapters.formats.gguf_lora import read_gguf_lora, write_gguf_lora
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.adapters.virtual.prefix import PrefixSettings
from kamerton.core.errors import ModelError
from kamerton.core.protocols import Generation
from kamerton.data.rendering.renderer import RenderSettings
from kamerton.inference.engine import EmbeddedEngine
from kamerton.models.attention.layout import Layout
from kamerton.models.base import Base
from kamerton.models.gguf.file import read_gguf_model, write_gguf_model
from kamerton.models.heads import token_logprobs
from kamerton.models.load import load_base
from kamerton.models.smollm2 import SMOLLM2, find_smollm2
from kamerton.variants.rendering import renderer_of

pytestmark = pytest.mark.slow
TEXTS = (
    "The capital of France is Paris, and the capital of Germany is Berlin.",
    "Our desk opens at 9.30 and closes at 17; order 4417 arrives on Tuesday.",
    "Once upon a time, in a village by the sea, there lived a clockmaker.",
)
QUESTIONS = ("What is the capital of Italy?", "Name three colours.", "Say hello to a customer.")


@pytest.fixture(scope="module")
def base() -> Base:
    try:
        find_smollm2()
    except ModelError as error:
        if os.environ.get("CI"):
            pytest.fail(f"{error.message}: {error.hint}")
        pytest.skip(f"{error.message}: {error.hint}")
    return load_base(SMOLLM2, dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def plain(base: Base) -> Any:
    """The same weights, with Transformers' own modules and attention."""
    model: Any = AutoModelForCausalLM.from_pretrained(base.identity.folder, dtype=torch.float32)
    return model.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def rows(base: Base) -> list[Tensor]:
    return [torch.tensor(base.tokenizer(text)["input_ids"]) for text in TEXTS]


@pytest.fixture(params=["lora", "prefix"])
def adapter(base: Base, request: pytest.FixtureRequest) -> Iterator[Adapter]:
    """An adapter of each kind, moved away from where it began."""
    kinds = {
        "lora": LoraSettings(rank=8),
        "prefix": PrefixSettings(num_virtual_tokens=8, init="random"),
    }
    one = attach(base, kinds[request.param], 0)
    torch.manual_seed(1)
    for parameter in one.parameters().values():
        parameter.data += 0.02 * torch.randn_like(parameter)
    yield one
    one.detach()


@torch.no_grad()
def packed(base: Base, rows: list[Tensor]) -> Tensor:
    ids, layout = torch.cat(rows), Layout.of_lengths([len(row) for row in rows])
    return base.head.logits(base.hidden(ids, layout))


@torch.no_grad()
def one_by_one(model: Any, rows: list[Tensor]) -> Tensor:
    return torch.cat([model(input_ids=row[None]).logits[0] for row in rows])


def assert_equal(ours: Tensor, theirs: Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-4 * float(theirs.abs().max()))


def test_packed_rows_are_the_untouched_model(base: Base, plain: Any, rows: list[Tensor]) -> None:
    assert base.ragged
    assert_equal(packed(base, rows), one_by_one(plain, rows))


def test_adapters_are_those_of_peft(
    base: Base, rows: list[Tensor], adapter: Adapter, tmp_path: Path
) -> None:
    ours = packed(base, rows)
    with adapter.disabled():
        assert (ours - packed(base, rows)).abs().max() > 0.5
    for name, content in adapter.files().items():
        (tmp_path / name).write_bytes(content)
    untouched = AutoModelForCausalLM.from_pretrained(base.identity.folder, dtype=torch.float32)
    model = PeftModel.from_pretrained(untouched, tmp_path).eval()
    assert_equal(ours, one_by_one(model, rows))


def test_gradients_are_those_of_plain_rows(
    base: Base, rows: list[Tensor], adapter: Adapter
) -> None:
    ids, layout = torch.cat(rows), Layout.of_lengths([len(row) for row in rows])
    targets = ids.roll(-1)
    parameters = list(adapter.parameters().values())
    found = []
    for hidden in (base.hidden(ids, layout), base.plain_hidden(ids, layout)):
        loss = token_logprobs(hidden, targets, base.head).sum()
        found.append(torch.autograd.grad(loss, parameters))
    for ours, theirs in zip(*found, strict=True):
        scale = theirs.abs().max()
        torch.testing.assert_close(ours / scale, theirs / scale, rtol=0, atol=1e-3)


def test_answers_are_those_of_generate(base: Base, plain: Any) -> None:
    engine = EmbeddedEngine(base, renderer_of(base, RenderSettings()))
    chats = [({"role": "user", "content": question},) for question in QUESTIONS]
    texts = [""] * len(chats)
    for event in engine.stream(chats, Generation(max_tokens=24)):
        texts[event.index] += event.text
    for chat, text in zip(chats, texts, strict=True):
        ids = base.tokenizer.apply_chat_template(
            [dict(message) for message in chat], add_generation_prompt=True, return_tensors="pt",
            return_dict=True,
        )["input_ids"]  # fmt: skip
        written = plain.generate(ids, max_new_tokens=24, do_sample=False)[0, ids.shape[1] :]
        assert text == base.tokenizer.decode(written, skip_special_tokens=True)


def test_gguf_files_hold_the_same_model(
    base: Base, plain: Any, rows: list[Tensor], tmp_path: Path
) -> None:
    write_gguf_model(plain, base.tokenizer, tmp_path / "one.gguf", "one", "float32")
    assert_equal(
        one_by_one(read_gguf_model(tmp_path / "one.gguf", plain.config), rows),
        one_by_one(plain, rows),
    )


def test_a_lora_goes_onto_the_file_as_others_run_it(
    base: Base, rows: list[Tensor], tmp_path: Path
) -> None:
    lora: Any = attach(base, LoraSettings(rank=8), 0)
    for layer in lora.layers.values():
        torch.nn.init.normal_(layer.b, std=0.02)
    wanted = packed(base, rows)
    write_gguf_lora(base, lora, tmp_path / "lora.gguf", "lora", "float32")
    lora.detach()
    again = read_gguf_lora(base, tmp_path / "lora.gguf")
    assert_equal(packed(base, rows), wanted)
    again.detach()
