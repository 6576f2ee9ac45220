"""What is exported says of itself what training used: the chat template and every end."""

import json
import shutil
from pathlib import Path
from typing import Any

import gguf
import pytest
from transformers import AutoTokenizer

from kamerton.data.rendering.templates import PLAIN_TEMPLATE
from kamerton.flows.recipe import Recipe, recipe_of
from kamerton.flows.train import make_variant
from kamerton.flows.workspace import Workspace
from kamerton.models.load import find_base
from kamerton.store.variants import Variant
from kamerton.variants.export import export_variant
from kamerton.variants.load import load_base_for
from kamerton.variants.rendering import renderer_of
from tests.e2e.project import make_project


def rewrite(path: Path, **changes: Any) -> None:
    plain = {**json.loads(path.read_text()), **changes}
    path.write_text(json.dumps({key: value for key, value in plain.items() if value is not None}))


def made_over(folder: Path, *more: str, **tokenizer: Any) -> Variant:
    """A variant over the bundled base with another tokenizer configuration."""
    shutil.copytree(find_base("builtin:nano"), folder / "base")
    rewrite(folder / "base/tokenizer_config.json", **tokenizer)
    path = make_project(folder, num_rows=12)
    options = ("train.max_steps=2", "train.learning_rate=1e-2", f"base.id={folder / 'base'}", *more)
    recipe = Recipe.read(path, options)
    return make_variant(recipe, folder, Workspace(folder), lambda event: None).variant


@pytest.fixture(scope="module")
def two_ends(tmp_path_factory) -> Variant:
    """Its template ends answers with <|end|> (1), its tokenizer names <|pad|> (2)."""
    return made_over(tmp_path_factory.mktemp("ends"), eos_token="<|pad|>")


@pytest.fixture(scope="module")
def without_template(tmp_path_factory) -> Variant:
    return made_over(tmp_path_factory.mktemp("plain"), chat_template=None)


def test_a_merged_model_names_every_end(two_ends: Variant, tmp_path: Path) -> None:
    export_variant(two_ends, tmp_path / "out", "merged")
    for name in ("config.json", "generation_config.json"):
        assert json.loads((tmp_path / "out" / name).read_text())["eos_token_id"] == [1, 2], name
    assert AutoTokenizer.from_pretrained(tmp_path / "out").eos_token == "<|end|>"


@pytest.mark.parametrize("format", ["merged", "peft"])
def test_the_template_of_training_is_saved(
    without_template: Variant, tmp_path: Path, format: str
) -> None:
    export_variant(without_template, tmp_path / "out", format)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.chat_template == "{{ bos_token }}" + PLAIN_TEMPLATE
    # That template writes the tokenizer's EOS: another would be another text.
    assert tokenizer.eos_token == "<|end|>"


def test_llama_cpp_stops_at_both(two_ends: Variant, tmp_path: Path) -> None:
    export_variant(two_ends, tmp_path / "out", "gguf")
    (file,) = (tmp_path / "out").iterdir()
    fields = gguf.GGUFReader(file).fields
    found = [int(fields[f"tokenizer.ggml.{name}_token_id"].contents()) for name in ("eos", "eot")]
    assert found == [2, 1]


THINKING = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>"
    "{% if enable_thinking is defined and not enable_thinking %}<think></think>{% endif %}"
    "{% if tone == 'kind' %}Dear{% endif %}{% endif %}"
)


def test_its_template_writes_the_prompt_that_training_read(tmp_path: Path) -> None:
    """Without arguments, and with the BOS that this template leaves to the tokenizer."""
    options = ("render.template_arguments={tone='kind'}",)
    variant = made_over(tmp_path, *options, chat_template=THINKING)
    export_variant(variant, tmp_path / "out", "merged")
    chat = [{"role": "user", "content": "Which colour has box 4?"}]
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    written = tokenizer.apply_chat_template(chat, add_generation_prompt=True)["input_ids"]
    assert written == prompt_of(variant, chat)
    assert tokenizer.decode(written).startswith("<|bos|><|user|>")
    assert tokenizer.decode(written).endswith("<think></think>Dear")
    told = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, tokenize=False, enable_thinking=True
    )
    assert told.endswith("<|assistant|>Dear")


def prompt_of(variant: Variant, chat: list[dict[str, str]]) -> list[int]:
    recipe = recipe_of(variant)
    return renderer_of(
        load_base_for(variant), recipe.render, recipe.adapter.added_tokens
    ).prompt_ids(chat)
