"""Exports over all template families: the saved tokenizer writes the prompts of training."""

from pathlib import Path

import pytest
from transformers import AutoTokenizer

from kamerton.data.rendering.standalone import end_ids, self_describing_tokenizer
from tests.unit.data.rendering.cases import CASES
from tests.unit.data.rendering.chats import message, renderer_of

QUESTION = (message("user", "Is it open?"),)


@pytest.mark.parametrize("case", CASES)
def test_a_saved_tokenizer_writes_the_prompts_of_training(case: str, tmp_path: Path) -> None:
    renderer = renderer_of(case)
    self_describing_tokenizer(renderer).save_pretrained(tmp_path)
    saved = AutoTokenizer.from_pretrained(tmp_path)
    written = saved.apply_chat_template([dict(m) for m in QUESTION], add_generation_prompt=True)
    prompt = renderer.prompt_ids(QUESTION)
    if case == "no-opening":
        # Known gap: this template never opens an answer, and the export adds no opening to it.
        assert prompt[: len(written["input_ids"])] == written["input_ids"] != prompt
    else:
        assert written["input_ids"] == prompt
    assert saved.convert_tokens_to_ids(saved.eos_token) in end_ids(renderer)
