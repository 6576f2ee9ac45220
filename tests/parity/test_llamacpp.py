"""GGUF files for llama.cpp, with what our side computes: `make llamacpp` compares.

Without KAMERTON_INTEROP (a folder) everything is written to a temporary one, which tests writing.
`scripts/peers/llamacpp.py` loads what is written there.
"""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from kamerton.adapters.formats.gguf_lora import write_gguf_lora
from kamerton.adapters.lora.lora import attach_lora
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.models.attention.layout import Layout
from kamerton.models.base import Base
from kamerton.models.gguf.file import write_gguf_model
from kamerton.models.load import load_base
from tests.unit.models.test_gguf import SHAPES, base_of

TEXTS = (
    "Once upon a time, there was a little girl named Lily.",
    "The desk opens at 9 and closes at 17.30",
    "Когда придёт мой заказ 4417?",
    "two  spaces, it's\n\na new line",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(os.environ.get("KAMERTON_INTEROP", tmp_path))


@torch.no_grad()
def logits(base: Base, ids: torch.Tensor) -> torch.Tensor:
    return base.head.logits(base.hidden(ids, Layout.of_lengths([len(ids)])))


def write(base: Base, folder: Path, ids: torch.Tensor, texts: tuple[str, ...]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_gguf_model(base.model, base.tokenizer, folder / "base.gguf", "base", "float32")
    wanted = {"ids": ids, "base": logits(base, ids)}
    lora = attach_lora(base, LoraSettings(rank=4, alpha=6), seed=1)
    for layer in lora.layers.values():
        torch.nn.init.normal_(layer.b, std=0.3)
    wanted["lora"] = logits(base, ids)
    assert (wanted["lora"] - wanted["base"]).abs().max() > 0.1
    write_gguf_lora(base, lora, folder / "lora.gguf", "lora", "float32")
    lora.detach()
    save_file({name: value.contiguous() for name, value in wanted.items()}, folder / "wanted.st")
    read = {text: base.tokenizer(text)["input_ids"] for text in texts}
    (folder / "texts.json").write_text(json.dumps(read))


@pytest.mark.parametrize("shape", SHAPES)
def test_tiny_bases_are_written(shape: str, folder: Path) -> None:
    base = base_of(shape)
    write(base, folder / shape, torch.arange(9, 33), ())
    assert len(list((folder / shape).iterdir())) == 4


def test_the_bundled_base_is_written(folder: Path) -> None:
    base = load_base("builtin:nano", dtype="float32")
    ids = torch.tensor(base.tokenizer(" ".join(TEXTS))["input_ids"])
    # Its way to split texts is none of llama.cpp's: only logits are compared.
    write(base, folder / "nano", ids, ())


def test_a_real_base_is_written(material: Path, folder: Path) -> None:
    base = load_base(str(material / "models" / "stories260K"), dtype="float32")
    ids = torch.tensor(base.tokenizer(" ".join(TEXTS[:2]))["input_ids"])
    write(base, folder / "stories260K", ids, TEXTS)
