"""Text that the base cannot read is said, and refused when it is much of the data."""

from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tokenizers import Tokenizer
from tokenizers.decoders import ByteFallback
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from kamerton.core.errors import DataError
from kamerton.core.events import Notice
from kamerton.data.examples import SourceLocation
from kamerton.data.rendering.tokenized import TokenizedExample
from kamerton.data.rendering.unknown import say_unknown
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import make_variant
from kamerton.flows.workspace import Workspace
from tests.e2e.project import make_project
from tests.shapes import tiny_base

UNKNOWN = 0


def row(prompt: list[int], answer: list[int]) -> TokenizedExample:
    loss_mask = np.array([False] * len(prompt) + [True] * len(answer))
    return TokenizedExample(
        np.array([*prompt, *answer], np.int32), loss_mask, SourceLocation("d.jsonl", 3)
    )


def said(tokenizer, rows: list[TokenizedExample]) -> list[Notice]:
    seen: list[Notice] = []
    say_unknown(tokenizer, rows, seen.append)
    return seen


def test_the_share_is_named_and_too_much_is_refused() -> None:
    tokenizer = tiny_base("llama").tokenizer
    known = row([5] * 50, [6] * 50)
    assert said(tokenizer, [known]) == []
    # One of 200 learned tokens, of 400 in all.
    (notice,) = said(tokenizer, [known] * 3 + [row([5] * 50, [6] * 49 + [UNKNOWN])])
    assert (notice.level, notice.message[:24]) == ("info", "0.5 % of the tokens are ")
    assert "d.jsonl:3" in notice.message
    (notice,) = said(tokenizer, [row([5] * 50, [6] * 45 + [UNKNOWN] * 5)])
    assert (notice.level, notice.message[:5]) == ("warning", "10 % ")
    for much in (row([5] * 90, [6] * 7 + [UNKNOWN] * 3), row([UNKNOWN] * 30, [6] * 70)):
        with pytest.raises(DataError, match="30 % of the tokens are w0"):
            said(tokenizer, [much])


def test_what_also_ends_texts_stands_for_no_character() -> None:
    """GPT-2 names one token for both; it writes everything as bytes."""
    tokenizer = tiny_base("llama").tokenizer
    tokenizer.add_special_tokens({"eos_token": "w0"})
    assert said(tokenizer, [row([5, 5], [6, UNKNOWN])]) == []
    without = SimpleNamespace(unk_token_id=None)
    assert said(without, [row([5, 5], [6, UNKNOWN])]) == []


def test_bytes_are_not_unknown() -> None:
    vocabulary = {"<unk>": UNKNOWN, "</s>": 1} | {f"<0x{n:02X}>": n + 2 for n in range(256)}
    model = Tokenizer(BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    model.decoder = ByteFallback()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=model, unk_token="<unk>", eos_token="</s>")
    ids = tokenizer("Привет")["input_ids"]
    assert len(ids) == 12
    assert said(tokenizer, [row(ids, ids)]) == []


def test_a_run_on_unknown_text_does_not_begin(tmp_path: Path) -> None:
    recipe = make_project(tmp_path, num_rows=12)
    base = tmp_path / "base"
    base.mkdir()
    nano = files("kamerton.models") / "nano"
    for name in ("config.json", "model.safetensors"):
        (base / name).symlink_to(str(nano / name))
    tokenizer = tiny_base("llama").tokenizer
    tokenizer.add_special_tokens({"eos_token": "w2", "pad_token": "w1"})
    tokenizer.save_pretrained(base)
    made = Recipe.read(recipe, (f"base.id={base}",))
    with pytest.raises(DataError, match="the base's tokenizer does not know"):
        make_variant(made, tmp_path, Workspace(tmp_path), lambda event: None)
