"""Rendering: every kind of example, and those that cannot be trained."""

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from kamerton.core.errors import RenderingError
from kamerton.data.examples import (
    ClassificationExample,
    FeedbackExample,
    PreferenceExample,
    TextExample,
)
from kamerton.data.rendering.renderer import RenderSettings, chat_of, make_renderer
from tests.unit.data.rendering.cases import CASES, tokenizer_of
from tests.unit.data.rendering.chats import (
    CHAT,
    LOCATION,
    chat,
    message,
    renderer_of,
    text_of,
    trained_texts,
)


def test_weight_zero_leaves_an_answer_out() -> None:
    messages = [*CHAT[:2], {**CHAT[2], "weight": 0}, *CHAT[3:]]
    renderer = renderer_of("chatml")
    assert trained_texts(renderer, renderer.render(chat(messages))) == ["Тоже 🙂<|im_end|>"]


def test_weight_zero_leaves_an_answer_out_where_all_text_is_trained() -> None:
    renderer = renderer_of("chatml", train_on="all")
    marked = [{**CHAT[2], "weight": 0} if i == 2 else message for i, message in enumerate(CHAT)]
    whole, row = renderer.render(chat(CHAT)), renderer.render(chat(marked))
    assert np.array_equal(whole.ids, row.ids)
    left_out = whole.ids[whole.loss_mask & ~row.loss_mask]
    assert renderer.tokenizer.decode(left_out).startswith(str(CHAT[2]["content"]))
    assert row.loss_mask.sum() == whole.loss_mask.sum() - len(left_out) > 0


def test_text_after_the_last_answer_is_left_out() -> None:
    renderer = renderer_of("chatml")
    longer = renderer.render(chat([*CHAT, message("user", "Thanks!")]))
    assert longer.ids.tolist() == renderer.render(chat(CHAT)).ids.tolist()


def test_a_greeting_that_opens_the_chat_is_context() -> None:
    renderer = renderer_of("chatml")
    row = renderer.render(chat([message("assistant", "Hello, shop here."), *CHAT[1:3]]))
    assert trained_texts(renderer, row) == ["Yes, until six.<|im_end|>"]
    assert "Hello, shop here." in text_of(renderer, row)


@pytest.mark.parametrize("case", ["mistral", "gemma"])
def test_a_greeting_is_left_out_where_the_template_begins_with_the_user(case: str) -> None:
    renderer = renderer_of(case)
    row = renderer.render(chat([message("assistant", "Hello, shop here."), *CHAT[1:3]]))
    plain = renderer.render(chat(CHAT[1:3]))
    assert row.ids.tolist() == plain.ids.tolist()
    assert row.notes == (
        "what the assistant says before the first user turn is left out: the chat template begins "
        "with the user",
    )
    assert plain.notes == ()
    asked = [message("assistant", "Hello, shop here."), CHAT[1]]
    assert renderer.prompt_ids(asked) == renderer.prompt_ids(CHAT[1:2])


@pytest.mark.parametrize("case", ["mistral", "gemma"])
def test_later_system_text_goes_to_the_user_turn_beside_it(case: str) -> None:
    renderer = renderer_of(case)
    vip, brief = message("system", "A good customer."), message("system", "Be brief.")
    row = renderer.render(chat([*CHAT[:2], vip, CHAT[2], brief, *CHAT[3:]]))
    joined = [
        CHAT[0],
        message("user", "Is it open?\n\nA good customer."),
        CHAT[2],
        message("user", "Be brief.\n\nА завтра?"),
        CHAT[4],
    ]
    assert row.ids.tolist() == renderer.render(chat(joined)).ids.tolist()
    assert row.notes[0].startswith("later system text is moved into the user turn beside it")


def test_templates_that_take_system_text_anywhere_get_it_there() -> None:
    renderer = renderer_of("chatml")
    row = renderer.render(chat([*CHAT[:2], message("system", "A good customer."), CHAT[2]]))
    assert "<|im_start|>system\nA good customer.<|im_end|>" in text_of(renderer, row)
    assert row.notes == ()


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (CHAT[:2], "must have an answer"),
        ([message("assistant", "Hi")], "must have an answer"),
        ([*CHAT[:2], message("assistant", "  ")], "answer must not be empty"),
        ([*CHAT[:2], {**CHAT[2], "weight": 0}], "must have an answer"),
        ([{"content": "Hi"}, CHAT[2]], "must have a role"),
        ([message("user", [{"type": "image"}]), CHAT[2]], "text or text parts"),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_trained_is_an_error(
    messages: Sequence[dict[str, Any]], reason: str
) -> None:
    with pytest.raises(RenderingError, match=rf"data\.jsonl:7: .*{reason}"):
        renderer_of("chatml").render(chat(messages))


def test_text_parts_are_joined() -> None:
    renderer = renderer_of("chatml")
    parts = [{"type": "text", "text": "Is it "}, {"type": "text", "text": "open?"}]
    row = renderer.render(chat([{"role": "user", "content": parts}, CHAT[2]]))
    assert "user\nIs it open?<|im_end|>" in text_of(renderer, row)


def test_ids_beyond_the_embedding_are_refused() -> None:
    tokenizer = tokenizer_of(CASES["chatml"])
    renderer = renderer_of("chatml", vocab_size=400)
    assert any(str(len(tokenizer)) in notice for notice in renderer.facts.notices)
    with pytest.raises(RenderingError, match="must be below 400"):
        renderer.render(chat(CHAT))
    with pytest.raises(RenderingError, match="must be below 400"):
        renderer.prompt_ids(CHAT[:2])


def test_an_embedding_larger_than_the_vocabulary_is_fine() -> None:
    renderer = renderer_of("chatml", vocab_size=4096)
    assert renderer.facts.notices == ()
    assert renderer.render(chat(CHAT)).loss_mask.any()


def test_overlong_examples_are_dropped_and_reported() -> None:
    renderer = renderer_of("chatml", max_tokens=30)
    short = chat([message("user", "Hi"), message("assistant", "Yes")])
    rows, dropped = renderer.render_all([chat(CHAT), short])
    assert [row.location for row in rows] == [LOCATION]
    assert len(dropped) == 1
    assert "data.jsonl:7: a row must have at most 30 tokens" in str(dropped[0])


def test_no_row_is_longer_than_the_context() -> None:
    whole = renderer_of("chatml").render(chat(CHAT))
    tokenizer = tokenizer_of(CASES["chatml"])
    renderer = make_renderer(tokenizer, RenderSettings(), context=len(whole.ids) - 1)
    with pytest.raises(RenderingError, match=r"the base's context\), found") as caught:
        renderer.render(chat(CHAT))
    assert "longer context" in str(caught.value.hint)
    make_renderer(tokenizer, RenderSettings(), context=len(whole.ids)).render(chat(CHAT))


def test_overlong_examples_can_lose_their_oldest_turns() -> None:
    whole = renderer_of("chatml").render(chat(CHAT))
    renderer = renderer_of("chatml", max_tokens=len(whole.ids) - 1, overlong="shorten")
    row = renderer.render(chat(CHAT))
    limit = len(whole.ids) - 1
    assert row.notes == (f"the 2 oldest messages are left out to fit {limit} tokens",)
    assert trained_texts(renderer, row) == ["Тоже 🙂<|im_end|>"]
    text = text_of(renderer, row)
    assert "Be kind." in text
    assert "Is it open?" not in text
    with pytest.raises(RenderingError, match="even its last turn is longer"):
        renderer_of("chatml", max_tokens=8, overlong="shorten").render(chat(CHAT))


def test_shortening_is_advised_only_where_it_helps() -> None:
    renderer = renderer_of("chatml", max_tokens=30)
    with pytest.raises(RenderingError) as caught:
        renderer.render(chat(CHAT))
    assert "render.overlong" in str(caught.value.hint)
    with pytest.raises(RenderingError) as caught:
        renderer.render_prompt(chat(CHAT))
    assert "render.overlong" not in str(caught.value.hint)
    with pytest.raises(RenderingError) as caught:
        renderer_of("chatml", max_tokens=8).render(chat(CHAT[:3]))
    assert "render.overlong" not in str(caught.value.hint)


def test_plain_text_is_trained_from_its_first_token_to_eos() -> None:
    renderer, tokenizer = renderer_of("llama3"), tokenizer_of(CASES["llama3"])
    row = renderer.render(TextExample(LOCATION, "Да. <|eot_id|>"))
    assert row.ids[0] == tokenizer.bos_token_id
    assert row.ids[-1] == tokenizer.eos_token_id
    assert row.loss_mask.tolist() == [False] + [True] * (len(row.ids) - 1)
    assert tokenizer.decode(row.ids[1:-1]) == "Да. <|eot_id|>"


@pytest.mark.parametrize("case", ["llama3", "chatml", "mistral", "no-template"])
def test_long_plain_text_is_cut_into_windows(case: str) -> None:
    text = "\n\n".join(f"The card {n} was blocked. Please call the bank." for n in range(40))
    renderer = renderer_of(case, max_tokens=64)
    rows = renderer.render_rows(TextExample(LOCATION, text))
    assert len(rows) > 5
    assert all(len(row.ids) <= 64 and row.loss_mask[1:].all() for row in rows)
    eos = renderer.facts.eos_id
    assert [int(row.ids[-1]) == eos for row in rows] == [False] * (len(rows) - 1) + [True]
    assert {renderer.count(row)[0] for row in rows} == {0 if renderer.facts.bos_id is None else 1}
    bos = str(renderer.tokenizer.bos_token)
    written = " ".join(text_of(renderer, row).removeprefix(bos) for row in rows)
    assert written.split() == (text + str(renderer.tokenizer.eos_token)).split()
    notes = {note for row in rows for note in row.notes}
    assert notes == {"the text is longer than 64 tokens and is cut into windows"}


def test_a_class_is_the_answer_to_its_text() -> None:
    renderer = renderer_of("chatml")
    row = renderer.render(ClassificationExample(LOCATION, "My card is gone", "lost_card"))
    assert trained_texts(renderer, row) == ["lost_card<|im_end|>"]


def test_labels_are_scored_as_they_are_trained() -> None:
    renderer = renderer_of("mistral")
    labels = ["lost_card", "top_up"]
    prompt, answers = renderer.answers_ids([message("user", "My card is gone")], labels)
    for label, answer in zip(labels, answers, strict=True):
        row = renderer.render(ClassificationExample(LOCATION, "My card is gone", label))
        assert row.ids.tolist() == prompt + answer


def test_a_prompt_put_before_an_example_is_not_trained() -> None:
    renderer = renderer_of("chatml")
    shown = (CHAT[0], message("user", "Shown?"), message("assistant", "Shown."))
    row = renderer.render(ClassificationExample(LOCATION, "Hi", "greeting"), lambda m: (*shown, *m))
    assert trained_texts(renderer, row) == ["greeting<|im_end|>"]
    assert "Shown." in text_of(renderer, row)


PAIR = PreferenceExample(LOCATION, CHAT[:4], CHAT[4:], (message("assistant", "Go away."),))


@pytest.mark.parametrize("name", CASES)
def test_pairs_share_their_prompt(name: str) -> None:
    renderer = renderer_of(name)
    pair = renderer.render_pair(PAIR)
    assert pair.prompt_ids.tolist() == renderer.prompt_ids(CHAT[:4])
    for row, ids in ((pair.chosen, pair.chosen_ids), (pair.rejected, pair.rejected_ids)):
        assert row.loss_mask.tolist() == [False] * pair.num_prompt + [True] * len(ids)
    assert trained_texts(renderer, pair.rejected) == [CASES[name].answer.format("Go away.")]
    assert renderer.render(PAIR).ids.tolist() == pair.chosen.ids.tolist()


def test_a_pair_of_equal_answers_is_an_error() -> None:
    same = replace(PAIR, rejected=(message("assistant", " Тоже 🙂 "),))
    with pytest.raises(RenderingError, match="must differ"):
        renderer_of("llama3").render_pair(same)


def test_of_feedback_only_the_judged_answer_is_trained() -> None:
    renderer = renderer_of("chatml")
    row = renderer.render(FeedbackExample(LOCATION, CHAT[:4], CHAT[4:], is_desirable=False))
    assert trained_texts(renderer, row) == ["Тоже 🙂<|im_end|>"]


def test_plain_text_is_no_chat() -> None:
    with pytest.raises(RenderingError, match="no chat"):
        chat_of(TextExample(LOCATION, "Once."))


def test_a_bos_that_also_begins_turns_is_counted_at_the_start() -> None:
    renderer = renderer_of(replace(CASES["chatml"], bos="<|im_start|>"))
    assert renderer.facts.bos_in_turns
    assert renderer.count(renderer.render(chat(CHAT))) == (1, 2)
    assert ("BOS", "one, by the template (id 0), which also begins turns") in [
        (name, re.sub(r"id \d+", "id 0", value)) for name, value in renderer.facts.lines()
    ]
    llama = renderer_of("llama3")
    assert not llama.facts.bos_in_turns
    row = llama.render(chat(CHAT))
    doubled = replace(row, ids=np.where(row.loss_mask, llama.facts.bos_id, row.ids))
    assert llama.count(doubled)[0] == 1 + int(row.loss_mask.sum())
