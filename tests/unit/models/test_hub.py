"""Bases of the Hub: each weight is fetched once; what fails is said in one line."""

import shutil
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import LocalEntryNotFoundError
from huggingface_hub.utils import filter_repo_objects

from kamerton.core.errors import ModelError
from kamerton.models.hub import from_hub
from kamerton.models.load import ensure_here, find_base, load_base, pick_device


def test_weights_are_fetched_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    there = [
        "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
        "chat_template.jinja", "additional_chat_templates/tool_use.jinja", "merges.txt",
        "tokenizer.model", "model.safetensors.index.json", "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]  # fmt: skip
    more = [
        "consolidated.safetensors", "consolidated-00001-of-00002.safetensors",
        "consolidated.safetensors.index.json", "original/model.safetensors",
        "original/params.json", "original/tokenizer.model", "onnx/config.json", "README.md",
        "pytorch_model.bin", "original/consolidated.00.pth",
    ]  # fmt: skip
    fetched: list[str] = []

    def download(name: str, **options: Any) -> str:
        assert options["revision"] is None
        patterns = {key: options[key] for key in ("allow_patterns", "ignore_patterns")}
        fetched.extend(filter_repo_objects([*there, *more], **patterns))
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert from_hub("acme/small") == tmp_path
    assert fetched == there


def test_weights_that_are_there_twice_are_hashed_once(tmp_path: Path) -> None:
    shutil.copytree(find_base("builtin:nano"), tmp_path / "base")
    before = load_base(str(tmp_path / "base"), weights=False).identity.weight_hash
    (tmp_path / "base/consolidated.safetensors").write_bytes(b"the same once more")
    assert load_base(str(tmp_path / "base"), weights=False).identity.weight_hash == before


def test_what_cannot_be_fetched_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def offline(name: str, **options: Any) -> str:
        raise LocalEntryNotFoundError("Cannot find an appropriate cached snapshot folder. " * 4)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError) as caught:
        from_hub("acme/small")
    assert caught.value.message == (
        "base: acme/small is no local folder and cannot be fetched from the Hub: it is not in the "
        "cache and HF_HUB_OFFLINE is set"
    )
    assert "unset HF_HUB_OFFLINE" in str(caught.value.hint)


@pytest.mark.parametrize(("device", "said"), [("gpu", "there is no 'gpu'"), ("cuda:x", "no 'cuda")])
def test_an_unknown_device_is_one_line(device: str, said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        pick_device(device)
    assert len(caught.value.message) < 80
    assert "cuda" in str(caught.value.hint)


@pytest.mark.skipif(torch.backends.mps.is_available(), reason="there is such a device here")
def test_a_device_that_is_absent_is_one_line() -> None:
    with pytest.raises(ModelError, match="^device: mps cannot be used here: ") as caught:
        pick_device("mps")
    assert len(caught.value.message) < 140
    assert "cpu" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("builtin:typo", "there is no builtin:typo"),
        ("typo.gguf", "there is no file typo.gguf"),
        ("./bases/typo", "neither a folder, a Hub id nor a builtin"),
    ],
)
def test_a_mistyped_base_is_found_without_the_hub(name: str, said: str) -> None:
    with pytest.raises(ModelError, match=said):
        ensure_here(name, "cpu")


@pytest.mark.parametrize("name", ["builtin:nano", "acme/small", "hub:acme/small:model.gguf"])
def test_what_may_be_at_the_hub_is_left_to_loading(name: str) -> None:
    ensure_here(name, "auto")
