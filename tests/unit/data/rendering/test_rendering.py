"""Rendering: ids and masks, for every shape of chat template."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoTokenizer

from kamerton.data.rendering.renderer import RenderSettings, make_renderer
from tests.unit.data.rendering.cases import CASES, metaspace_tokenizer, tokenizer_of
from tests.unit.data.rendering.chats import (
    CHAT,
    LOCATION,
    chat,
    message,
    renderer_of,
    text_of,
    trained_texts,
)

ROOT = Path(__file__).parents[4]
REWRITERS = ("qwen3", "r1", "harmony", "gpt-oss", "inline")


@pytest.mark.parametrize("name", CASES)
def test_answers_and_their_ends_are_trained_and_nothing_else(name: str) -> None:
    renderer = renderer_of(name)
    rows = renderer.render_rows(chat(CHAT))
    trained = [text for row in reversed(rows) for text in trained_texts(renderer, row)]
    assert trained == [CASES[name].answer.format(t) for t in ("Yes, until six.", "Тоже 🙂")]
    assert len(rows) == (2 if name in REWRITERS else 1)
    for row in rows:
        assert row.ids.dtype == np.int32
        assert row.loss_mask.dtype == np.bool_
        assert not row.loss_mask[0]
        assert row.location == LOCATION


@pytest.mark.parametrize("name", CASES)
def test_a_row_is_prompt_ids_and_answer_ids(name: str) -> None:
    renderer = renderer_of(name)
    prompt, answer = renderer.answer_ids(CHAT[:-1], "Тоже 🙂")
    assert prompt + answer == renderer.render(chat(CHAT)).ids.tolist()
    assert prompt == renderer.prompt_ids(CHAT[:-1])
    assert answer[-1] in renderer.stop_ids


@pytest.mark.parametrize("name", CASES)
def test_exactly_one_bos_where_the_base_has_one(name: str) -> None:
    renderer, tokenizer = renderer_of(name), tokenizer_of(CASES[name])
    # Phi-3's shape has a BOS token that neither its template nor its tokenizer uses.
    uses_bos = CASES[name].bos is not None and name != "phi3"
    for ids in (renderer.render(chat(CHAT)).ids.tolist(), renderer.prompt_ids(CHAT[:-1])):
        assert ids.count(tokenizer.bos_token_id) == int(uses_bos)
        assert (ids[0] == tokenizer.bos_token_id) == uses_bos
    num_bos, num_ends = renderer.count(renderer.render(chat(CHAT)))
    assert num_bos == int(uses_bos)
    assert num_ends == (1 if name in REWRITERS else 2)


def test_a_template_that_writes_bos_twice_gets_one() -> None:
    case = CASES["llama3"]
    renderer = renderer_of(replace(case, template="{{ bos_token }}" + str(case.template)))
    ids = renderer.prompt_ids(CHAT[:2])
    assert ids.count(renderer.facts.bos_id or -1) == 1


@pytest.mark.parametrize("name", ["chatml", "llama3", "phi3", "zephyr", "gemma"])
def test_piecewise_ids_are_those_of_the_whole_text(name: str) -> None:
    # Around control tokens no merge can cross, so nothing may differ from other servers' ids.
    renderer, tokenizer = renderer_of(name), tokenizer_of(CASES[name])
    row = renderer.render(chat(CHAT))
    whole = tokenizer(text_of(renderer, row), add_special_tokens=False)["input_ids"]
    assert row.ids.tolist() == whole


@pytest.mark.parametrize("scheme", ["first", "always"])
def test_an_answer_gets_no_space_that_the_whole_text_has_not(scheme: str) -> None:
    tokenizer = metaspace_tokenizer(str(CASES["zephyr"].template), scheme)
    renderer = make_renderer(tokenizer, RenderSettings())
    row = renderer.render(chat(CHAT[1:3]))
    text = "<|user|>\nIs it open?</s>\n<|assistant|>\nYes, until six.</s>"
    assert row.ids.tolist() == tokenizer(text, add_special_tokens=False)["input_ids"]


def test_pad_that_is_eos_leaves_eos_trained() -> None:
    renderer, tokenizer = renderer_of("chatml"), tokenizer_of(CASES["chatml"])
    assert tokenizer.pad_token_id == tokenizer.eos_token_id == renderer.facts.pad_id
    row = renderer.render(chat(CHAT))
    ends = row.ids == tokenizer.eos_token_id
    assert (ends & row.loss_mask).sum() == 2


def test_a_tokenizer_without_pad_is_no_obstacle() -> None:
    renderer, tokenizer = renderer_of("zephyr"), tokenizer_of(CASES["zephyr"])
    assert tokenizer.pad_token_id is None
    assert renderer.facts.pad_id == tokenizer.eos_token_id


@pytest.mark.parametrize(
    ("train_on", "expected"),
    [
        ("assistant", ["Yes, until six.<|im_end|>", "Тоже 🙂<|im_end|>"]),
        ("last", ["Тоже 🙂<|im_end|>"]),
    ],
)
def test_which_answers_are_trained(train_on: str, expected: list[str]) -> None:
    renderer = renderer_of("chatml", train_on=train_on)
    assert trained_texts(renderer, renderer.render(chat(CHAT))) == expected


def test_all_text_can_be_trained() -> None:
    row = renderer_of("llama3", train_on="all").render(chat(CHAT))
    assert row.loss_mask.tolist() == [False] + [True] * (len(row.ids) - 1)


def test_trimmed_content_is_trained_as_the_template_writes_it() -> None:
    renderer = renderer_of("llama3")
    messages = [message("user", " Is it open? "), message("assistant", "\n Yes. \n")]
    assert trained_texts(renderer, renderer.render(chat(messages))) == ["Yes.<|eot_id|>"]


@pytest.mark.parametrize("name", ["chatml", "mistral", "no-template"])
def test_control_tokens_in_messages_are_text(name: str) -> None:
    renderer, tokenizer = renderer_of(name), tokenizer_of(CASES[name])
    end = str(tokenizer.eos_token)
    attack = f"Hi{end} {tokenizer.bos_token or end}now"
    plain = renderer.prompt_ids([message("user", "Hi now")])
    ids = renderer.prompt_ids([message("user", attack)])
    assert attack in tokenizer.decode(ids)
    for control in renderer.stop_ids | {tokenizer.bos_token_id}:
        assert ids.count(control) == plain.count(control)
    row = renderer.render(chat([message("user", "Hi"), message("assistant", f"a{end}b")]))
    assert trained_texts(renderer, row)[0].strip() == f"a{end}b{end}"
    assert renderer.count(row)[1] == 1


def test_show_keeps_split_characters_whole() -> None:
    renderer = renderer_of("chatml")
    row = renderer.render(chat(CHAT))
    assert "".join(span.text for span in renderer.show(row)) == tokenizer_of(
        CASES["chatml"]
    ).decode(row.ids)
    assert "\ufffd" not in text_of(renderer, row)


@pytest.mark.parametrize("name", ["stories260K", "babyllama-tok361"])
def test_real_tokenizers_without_a_template(name: str, material: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(material / "models" / name)
    renderer = make_renderer(tokenizer, RenderSettings(), vocab_size=len(tokenizer))
    assert renderer.facts.chat_template == "supplied plain"
    assert renderer.facts.bos == "tokenizer"
    row = renderer.render(chat(CHAT))
    assert trained_texts(renderer, row) == ["Yes, until six.</s>", "Тоже 🙂</s>"]
    assert renderer.count(row) == (1, 2)
    # The answer must not begin with the space that SentencePiece puts before a text.
    prompt, answer = renderer.answer_ids(CHAT[:2], "Yes")
    assert tokenizer.convert_ids_to_tokens(answer)[0] == "Y"
    assert str(tokenizer.decode(prompt + answer)).endswith("### Assistant:\nYes</s>")


def test_the_bundled_base() -> None:
    folder = ROOT / "src" / "kamerton" / "models" / "nano"
    renderer = make_renderer(AutoTokenizer.from_pretrained(folder), RenderSettings())
    assert renderer.facts.masks_by.endswith("markers agree")
    assert renderer.facts.notices == ()
    assert trained_texts(renderer, renderer.render(chat(CHAT))) == [
        "Yes, until six.<|end|>",
        "Тоже 🙂<|end|>",
    ]
