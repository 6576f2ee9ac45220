"""Rows that are single messages become conversations."""

import pytest

from kamerton.core.errors import DataError
from kamerton.data.dataset import load_examples
from kamerton.data.settings import DataSettings
from tests.unit.data.files import load, write
from tests.unit.data.formats.test_speakers import QA, messages


def message(number, parent, role, text, **others):
    return {"message_id": number, "parent_id": parent, "role": role, "text": text, **others}


def test_a_message_tree_becomes_conversations(tmp_path):
    rows = [
        message("u0", None, "prompter", "q", rank=None),
        message("u1", None, "prompter", "other", rank=None),
        message("a1", "u1", "assistant", "yes", rank=0),
        message("a0", "u0", "assistant", "a", rank=0),
    ]
    loaded = load(tmp_path, rows)
    assert messages(loaded)[0] == QA
    assert len(loaded.examples) == loaded.num_rows == 2
    assert loaded.notices == ("4 messages are joined into 2 conversations by 'parent_id'",)


def test_of_ranked_answers_the_best_goes_on(tmp_path):
    rows = [
        message("u0", None, "prompter", "q", rank=None),
        message("a0", "u0", "assistant", "worse", rank=1),
        message("a1", "u0", "assistant", "a", rank=0),
    ]
    loaded = load(tmp_path, rows)
    assert messages(loaded) == [QA]
    assert loaded.notices[1].startswith("1 messages (and what follows them) are left out")


def test_what_was_deleted_is_left_out_with_all_that_follows(tmp_path):
    rows = [
        message("u0", None, "prompter", "q", rank=None, deleted=False),
        message("a0", "u0", "assistant", "spam", rank=0, deleted=True),
        message("u2", "a0", "prompter", "and then?", rank=0, deleted=False),
        message("a2", "u2", "assistant", "more", rank=0, deleted=False),
        message("a1", "u0", "assistant", "a", rank=1, deleted=False),
    ]
    loaded = load(tmp_path, rows)
    assert messages(loaded) == [QA]
    assert loaded.notices[1] == "1 deleted messages (and what follows them) are left out"


def test_deleted_messages_of_a_table_are_left_out(tmp_path):
    rows = [
        {"chat_id": 1, "author": "client", "text": "q", "deleted": False},
        {"chat_id": 1, "author": "agent", "text": "wrong", "deleted": True},
        {"chat_id": 1, "author": "agent", "text": "a", "deleted": False},
    ]
    loaded = load(tmp_path, rows)
    assert messages(loaded) == [QA]
    assert "1 deleted messages are left out" in loaded.notices


@pytest.mark.parametrize(
    ("dates", "turned"),
    [
        ((1730000070, 1730000060, 1730000060, 1730000000), True),
        (("2025-03-01T10:03:00Z", "2025-03-01T10:02:00Z", *["2025-03-01T10:00:00Z"] * 2), True),
        ((1730000000, 1730000060, 1730000070, 1730000080), False),
        ((1730000070, 1730000080, 1730000060, 1730000000), False),
        ((1730000000,) * 4, False),
    ],
)
def test_a_list_with_its_newest_message_first_is_turned_round(tmp_path, dates, turned):
    order = ("last", "third", "second", "first") if turned else ("first", "second", "third", "last")
    flags = (1, 0, 1, 0) if turned else (0, 1, 0, 1)
    items = [
        {"out": out, "from_id": 5, "date": date, "text": text}
        for out, date, text in zip(flags, dates, order, strict=True)
    ]
    loaded = load(tmp_path, [{"peer_id": 1, "items": items}])
    [found] = messages(loaded)
    assert [m["content"] for m in found] == ["first", "second", "third", "last"]
    assert [m["role"] for m in found] == ["user", "assistant"] * 2
    notice = "1 conversation stands newest message first: the oldest is read first"
    assert (notice in loaded.notices) is turned


def test_of_unranked_branches_each_answer_is_trained_once_and_they_stay_together(tmp_path):
    rows = [
        message(1, None, "user", "q"),
        message(2, 1, "assistant", "a", train=True),
        message(3, 2, "user", "x"),
        message(4, 3, "assistant", "ax"),
        message(5, 2, "user", "y"),
        message(6, 5, "assistant", "ay"),
    ]
    loaded = load(tmp_path, rows)
    contents = [[m["content"] for m in one] for one in messages(loaded)]
    assert contents == [["q", "a", "x", "ax"], ["q", "a", "y", "ay"]]
    trained = [
        [m["content"] for m in one if m["role"] == "assistant" and m.get("weight") != 0]
        for one in messages(loaded)
    ]
    assert trained == [["a", "ax"], ["ay"]]
    assert {example.group for example in loaded.examples} == {"1"}


def test_a_table_of_messages_is_joined_by_its_conversation(tmp_path):
    rows = [
        {"ticket_id": 1, "sender": "client", "text": "q", "product": "tea"},
        {"ticket_id": 2, "sender": "client", "text": "q", "product": "cup"},
        {"ticket_id": 1, "sender": "operator", "text": "a", "product": "tea"},
        {"ticket_id": 2, "sender": "operator", "text": "a", "product": "cup"},
    ]
    loaded = load(tmp_path, rows)
    assert messages(loaded) == [QA, QA]
    assert [example.extra["product"] for example in loaded.examples] == ["tea", "cup"]


def test_messages_with_dates_are_put_in_order(tmp_path):
    rows = [
        {"chat_id": 1, "author": "agent", "text": "a", "date": "2025-03-01T10:01:00"},
        {"chat_id": 1, "author": "client", "text": "q", "date": "2025-03-01T10:00:00"},
    ]
    assert messages(load(tmp_path, rows)) == [QA]


def test_columns_name_the_conversation(tmp_path):
    text = "Диалог;Кто;Что\n1;Анна;q\n1;Магазин;a\n2;Пётр;q\n2;Магазин;a\n"
    path = write(tmp_path, "chats.csv", text)
    columns = {"conversation": "Диалог", "role": "Кто", "content": "Что"}
    roles = {"assistant": "Магазин", "user": "*"}
    loaded = load_examples(DataSettings(train=str(path), columns=columns, roles=roles))
    assert messages(loaded) == [QA, QA]


def test_messages_that_nothing_joins_are_refused(tmp_path):
    rows = [{"role": "user", "text": "q"}, {"role": "assistant", "text": "a"}]
    with pytest.raises(DataError, match="each row is one message") as error:
        load(tmp_path, rows)
    assert 'data.columns = { conversation = "ticket" }' in str(error.value.hint)
    assert len(load(tmp_path, rows, format="text").examples) == 2


@pytest.mark.parametrize(
    "rows",
    [
        [{"text": f"news {i}", "author": "agent"} for i in range(4)],
        [{"text": f"post {i}", "author": f"a{i}", "thread_id": i} for i in range(4)],
        [{"text": f"t {i}", "user": "client", "ticket_id": 1, "label": "x"} for i in range(4)],
    ],
)
def test_texts_with_authors_stay_texts(tmp_path, rows):
    loaded = load(tmp_path, rows)
    assert loaded.schema.format in ("text", "classification")
    assert len(loaded.examples) == 4
