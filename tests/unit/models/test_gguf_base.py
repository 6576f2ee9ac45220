"""A GGUF file as a base: unpacked once, it computes what was written, stretched rotations too."""

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from transformers import LlamaConfig

from kamerton.adapters.formats.gguf_lora import read_gguf_lora, write_gguf_lora
from kamerton.adapters.lora.lora import attach_lora
from kamerton.adapters.lora.settings import LoraSettings
from kamerton.core.errors import ModelError
from kamerton.core.events import Event, Notice
from kamerton.core.files import hash_file, hash_json
from kamerton.flows.chat import Conversation
from kamerton.flows.workspace import Workspace
from kamerton.models.gguf.file import write_gguf_model
from kamerton.models.gguf.unpack import SOURCE_FILE, unpacked_folder
from kamerton.models.load import find_base, load_base, load_tokenizer
from kamerton.models.smollm2 import find_smollm2
from kamerton.variants.load import Opening
from tests.contract.test_adapters import logits
from tests.shapes import _SIZE
from tests.unit.models.test_gguf import SHAPES, base_of

LLAMA31 = {
    "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
}  # fmt: skip
TEMPLATE = "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def _shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHAPES, "llama-3.1", lambda: LlamaConfig(**_SIZE, rope_parameters=LLAMA31))


def written(shape: str, folder: Path) -> Path:
    base, path = base_of(shape), folder / f"{shape}.gguf"
    base.tokenizer.chat_template = TEMPLATE
    write_gguf_model(base.model, base.tokenizer, path, "one", "float32")
    return path


@pytest.mark.parametrize("shape", ["llama", "llama-biases", "llama-3.1", "qwen2", "qwen3"])
def test_it_computes_what_was_written(shape: str, tmp_path: Path) -> None:
    path = written(shape, tmp_path)
    base = load_base(str(path), dtype="float32", device="cpu")
    wanted = logits(base_of(shape))
    scale = float(wanted.abs().max())
    torch.testing.assert_close(logits(base), wanted, rtol=0, atol=1e-5 * scale)
    assert base.notice is None
    if shape == "llama-3.1":
        assert base.model.config.rope_parameters["rope_type"] == "llama3"
    assert base.tokenizer.chat_template == TEMPLATE
    assert base.tokenizer("abab")["input_ids"] == base_of(shape).tokenizer("abab")["input_ids"]


def test_it_is_unpacked_once_and_known_by_its_file(tmp_path: Path) -> None:
    path = written("llama", tmp_path)
    folder = find_base(str(path))
    assert folder == unpacked_folder(path)
    before = (folder / "model.safetensors").stat().st_mtime_ns
    assert find_base(str(path)) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == before
    first = load_base(str(path), dtype="float32", device="cpu").identity
    assert first.weight_hash == hash_json(hash_file(path))
    # The same content elsewhere is the same base; other content under the same name is not.
    moved = tmp_path / "moved"
    moved.mkdir()
    (moved / "llama.gguf").write_bytes(path.read_bytes())
    assert find_base(str(moved / "llama.gguf")) == folder
    renamed = (moved / "llama.gguf").rename(moved / "model.gguf")
    assert find_base(str(renamed)) == folder
    other = base_of("llama-biases")
    write_gguf_model(other.model, other.tokenizer, moved / "llama.gguf", "one", "float32")
    second = load_base(str(moved / "llama.gguf"), dtype="float32", device="cpu").identity
    assert second.weight_hash != first.weight_hash


def test_it_is_held_in_few_bits(tmp_path: Path) -> None:
    path = written("llama", tmp_path)
    base = load_base(str(path), dtype="float32", device="cpu", quantise="nf4")
    assert base.identity.quantise == "nf4"
    assert base.identity.weight_hash == hash_json(hash_file(path))


def test_a_lora_over_it_goes_onto_the_very_file(tmp_path: Path) -> None:
    path = written("llama", tmp_path)
    base = load_base(str(path), dtype="float32", device="cpu")
    lora = attach_lora(base, LoraSettings(rank=4, alpha=6), seed=1)
    for layer in lora.layers.values():
        torch.nn.init.normal_(layer.b, std=0.3)
    wanted = logits(base)
    write_gguf_lora(base, lora, tmp_path / "lora.gguf", "lora", "float32")
    lora.detach()
    names = {tensor.name for tensor in gguf.GGUFReader(path).tensors}
    put_on = {
        tensor.name.rsplit(".", 1)[0] for tensor in gguf.GGUFReader(tmp_path / "lora.gguf").tensors
    }
    assert put_on <= names
    read_gguf_lora(base, tmp_path / "lora.gguf")
    torch.testing.assert_close(logits(base), wanted, rtol=0, atol=1e-4)


def test_every_end_that_the_file_names_is_kept(tmp_path: Path) -> None:
    path = written("llama", tmp_path)
    more = tmp_path / "ends.gguf"
    reader = gguf.GGUFReader(path)
    writer = gguf.GGUFWriter(more, "llama")
    _copy(reader, writer)
    writer.add_eot_token_id(7)
    for step in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{step}_to_file")()
    writer.close()
    config = json.loads((find_base(str(more)) / "generation_config.json").read_text())
    assert config["eos_token_id"] == [2, 7]


def _copy(reader: Any, writer: Any) -> None:
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(name, field.contents(), kind, sub_type=inner)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)


def test_one_talks_to_it_as_it_is(tmp_path: Path) -> None:
    path = str(written("llama", tmp_path))
    said: list[Event] = []
    for _ in range(2):
        opening = Opening(dtype="float32", device="cpu", sink=said.append)
        made = Conversation.open([path], Workspace(tmp_path), max_tokens=2, opening=opening)
        assert list(made.ask("ab")) == [path]
    # Unpacking takes a minute for a small model, and is said once.
    (notice,) = said
    assert isinstance(notice, Notice)
    assert notice.message.startswith("unpacking llama.gguf (")


def test_the_tokenizer_alone_is_read_from_it(tmp_path: Path) -> None:
    tokenizer, rows = load_tokenizer(str(written("llama", tmp_path)))
    assert tokenizer.chat_template == TEMPLATE
    assert rows == SHAPES["llama"]().vocab_size


def test_what_cannot_be_read_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="there is no file"):
        find_base(str(tmp_path / "none.gguf"))
    for name, content, message in (
        ("web.gguf", b"<html>", "no GGUF file"),
        ("m-00001-of-00002.gguf", b"GGUF", "one part of several"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=message):
            find_base(str(tmp_path / name))
    with pytest.raises(ModelError, match="not a Transformers model") as folder:
        find_base(str(tmp_path))
    assert folder.value.hint == f"name its GGUF file: {tmp_path / 'm-00001-of-00002.gguf'}"
    path = written("llama", tmp_path)
    path.write_bytes(path.read_bytes()[:-20_000])
    with pytest.raises(ModelError, match="cannot be read") as caught:
        find_base(str(path))
    assert "\n" not in caught.value.message
    assert not [f for f in tmp_path.glob("cache/kamerton/bases/*") if (f / SOURCE_FILE).exists()]
    with pytest.raises(ModelError, match="hub:owner/name:file.gguf"):
        find_base("hub:owner/name.gguf")


def test_positions_stretched_in_another_way_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="stretched in a way that is not Llama 3's"):
        find_base(str(written("llama-stretched", tmp_path)))


def test_numbers_without_a_place_in_the_model_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written("llama", tmp_path)
    more = tmp_path / "more.gguf"
    writer = gguf.GGUFWriter(more, "llama")
    _copy(gguf.GGUFReader(path), writer)
    writer.add_tensor("blk.0.ffn_gate.bias", torch.ones(96).numpy())
    for step in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{step}_to_file")()
    writer.close()
    with pytest.raises(ModelError, match=r"numbers, LlamaForCausalLM takes"):
        find_base(str(more))


def test_the_real_base_names_the_command_that_brings_it() -> None:
    with pytest.raises(ModelError, match="not on this machine") as caught:
        find_smollm2()
    assert "make base" in str(caught.value.hint)
    with pytest.raises(ModelError, match="builtin:smollm2"):
        find_base("builtin:smollm2")
