"""Texts are split before BPE as the GGUF file says, and as it says when it is written."""

import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import pytest
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from kamerton.core.errors import ModelError
from kamerton.models.gguf.file import write_gguf_model
from kamerton.models.load import find_base, load_tokenizer
from tests.unit.models.test_gguf import base_of
from tests.unit.models.test_gguf_base import TEMPLATE, _copy

TEXT = "a  121"
GPT2 = ["a", "Ġ", "Ġ", "121"]
DIGITS = ["a", "ĠĠ", "1", "2", "1"]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def written(folder: Path, pre: Any) -> Path:
    """A base whose tokenizer is byte-level and splits texts in a given way."""
    words = ["<unk>", "<s>", "</s>", "Ġ", "1", "2", "a", "ĠĠ", "12", "121"]
    model = BPE({w: n for n, w in enumerate(words)}, [("Ġ", "Ġ"), ("1", "2"), ("12", "1")])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(model), bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.backend_tokenizer.pre_tokenizer = pre
    tokenizer.chat_template = TEMPLATE
    base, path = base_of("llama"), folder / "one.gguf"
    write_gguf_model(base.model, tokenizer, path, "one", "float32")
    return path


def renamed(path: Path, name: str) -> Path:
    """The same file under another name of its splitting."""
    other = path.with_name(f"{name}.gguf")
    reader, writer = gguf.GGUFReader(path), gguf.GGUFWriter(other, "llama")
    _copy(reader, writer)
    writer.kv_data[0]["tokenizer.ggml.pre"].value = name
    for step in ("header", "kv_data", "tensors"):
        getattr(writer, f"write_{step}_to_file")()
    writer.close()
    return other


BYTES = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
EVERY_DIGIT = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), BYTES])


@pytest.mark.parametrize(
    ("pre", "name", "tokens"), [(BYTES, "gpt-2", GPT2), (EVERY_DIGIT, "smollm", DIGITS)]
)
def test_what_is_written_is_read_back(pre: Any, name: str, tokens: list[str], tmp_path) -> None:
    path = written(tmp_path, pre)
    assert gguf.GGUFReader(path).fields["tokenizer.ggml.pre"].contents() == name
    assert load_tokenizer(str(path))[0].tokenize(TEXT) == tokens


@pytest.mark.parametrize("name", ["starcoder", "glm4", "hunyuan", "mpt"])
def test_other_names_are_known(name: str, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(str(renamed(written(tmp_path, BYTES), name)))[0]
    split = [piece for piece, _ in tokenizer.backend_tokenizer.pre_tokenizer.pre_tokenize_str(TEXT)]
    assert (
        split
        == {
            "starcoder": ["a", "ĠĠ", "1", "2", "1"],
            "glm4": ["a", "Ġ", "Ġ", "121"],
            "hunyuan": ["a", "Ġ", "Ġ", "1", "2", "1"],
            "mpt": ["a", "Ġ", "Ġ121"],
        }[name]
    )


def test_an_unknown_way_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="splits texts as 'mystery', which is not known"):
        find_base(str(renamed(written(tmp_path, BYTES), "mystery")))


def test_files_of_another_model_beside_it_are_not_read(tmp_path: Path) -> None:
    path = written(tmp_path, BYTES)
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        shutil.copy(find_base("builtin:nano") / name, tmp_path / name)
    folder = find_base(str(path))
    assert json.loads((folder / "config.json").read_text())["num_hidden_layers"] == 3
    tokenizer = load_tokenizer(str(path))[0]
    assert (tokenizer.eos_token, tokenizer.chat_template) == ("</s>", TEMPLATE)
    assert tokenizer.tokenize(TEXT) == GPT2
