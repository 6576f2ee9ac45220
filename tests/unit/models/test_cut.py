"""Bases that are cut to some of their blocks."""

from pathlib import Path

import pytest
import torch

from kamerton.core.errors import ModelError, SettingsError
from kamerton.flows.recipe import Recipe
from kamerton.models.attention.layout import Layout
from kamerton.models.cut import cut_name, split_name
from kamerton.models.load import load_base

IDS = torch.arange(5, 25)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def hidden(name: str) -> torch.Tensor:
    base = load_base(name, dtype="float32", device="cpu")
    with torch.no_grad():
        return base.hidden(IDS, Layout.of_lengths([len(IDS)]))


def test_keeping_all_blocks_changes_nothing() -> None:
    torch.testing.assert_close(hidden("builtin:nano#layers=0,1,2,3,4,5"), hidden("builtin:nano"))


def test_the_first_blocks_alone_are_those_of_the_whole_base() -> None:
    whole = load_base("builtin:nano", dtype="float32", device="cpu")
    cut = load_base("builtin:nano#layers=0,2,5", dtype="float32", device="cpu")
    assert cut.model.config.num_hidden_layers == 3
    assert cut.identity.num_parameters < whole.identity.num_parameters
    assert cut.identity.weight_hash != whole.identity.weight_hash
    assert cut.identity.tokenizer_hash == whole.identity.tokenizer_hash
    own = dict(whole.model.named_parameters())
    for name, parameter in cut.model.named_parameters():
        for new, old in ((1, 2), (2, 5)):
            if f"layers.{new}." in name:
                name = name.replace(f"layers.{new}.", f"layers.{old}.")
                break
        torch.testing.assert_close(parameter, own[name])


def test_a_block_that_is_not_there_is_refused() -> None:
    with pytest.raises(ModelError, match="blocks 0 to 5, and 9 is named"):
        load_base("builtin:nano#layers=0,9")


def test_a_recipe_names_the_cut_base() -> None:
    plain = {"name": "s", "data": {"train": "a.jsonl"}}
    made = Recipe.parse({**plain, "base": {"id": "builtin:nano", "layers": "0, 3"}}, source="test")
    assert made.base.id == "builtin:nano#layers=0,3"
    assert Recipe.parse(made.to_plain(), source="test") == made
    for wrong in ("3,0", "1,1", "all"):
        with pytest.raises(SettingsError, match="ascending numbers"):
            Recipe.parse({**plain, "base": {"layers": wrong}}, source="test")


def test_names_go_there_and_back() -> None:
    assert split_name(cut_name("owner/name", "0,1")) == ("owner/name", "0,1")
    assert split_name(cut_name("owner/name", "")) == ("owner/name", "")
    with pytest.raises(ValueError, match="says already"):
        cut_name("a#layers=0", "1")
