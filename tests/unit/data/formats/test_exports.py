"""Exports of messengers and help desks in the shape that each of them writes."""

import json

import pytest

from kamerton.core.errors import DataError
from kamerton.data.dataset import load_examples
from kamerton.data.settings import DataSettings
from tests.unit.data.files import load, write
from tests.unit.data.formats.test_speakers import QA, messages

DISCORD = {
    "guild": {"id": "1"},
    "messages": [
        {"type": "Default", "timestamp": "2025-03-01T10:00:00+00:00", "content": said,
         "author": {"id": number, "name": name, "isBot": False}}
        for number, name, said in (("7", "vera", "q"), ("5", "teashop", "a"))
    ],
}  # fmt: skip
AMOCRM = {
    "_embedded": {
        "messages": [
            {"chat_id": "c1", "created_at": n, "author": {"id": kind, "type": kind}, "text": said}
            for n, (kind, said) in enumerate((("contact", "q"), ("user", "a")))
        ]
    }
}
VK = {
    "response": {
        "count": 2,
        "items": [
            {"peer_id": 9, "from_id": -5, "out": 1, "date": 1730000050, "text": "a"},
            {"peer_id": 9, "from_id": 9, "out": 0, "date": 1730000000, "text": "q"},
        ],
    }
}
SLACK = [
    {"type": "message", "user": "U1", "text": "q", "ts": "1.1", "thread_ts": "1.1"},
    {"type": "message", "subtype": "channel_join", "user": "U3", "text": "joined", "ts": "1.2"},
    {"type": "message", "user": "U2", "text": "a", "ts": "1.3", "thread_ts": "1.1"},
]


@pytest.mark.parametrize(
    ("export", "roles", "proposal"),
    [
        (DISCORD, {"user": "*", "assistant": "teashop"}, '"vera", assistant = "teashop"'),
        (AMOCRM, {"user": "contact", "assistant": "user"}, '"contact", assistant = "user"'),
        (SLACK, {"user": "*", "assistant": "U2"}, '"U1", assistant = "U2"'),
        (VK, {}, ""),
    ],
    ids=["discord", "amocrm", "slack", "vk"],
)
def test_documents(tmp_path, export, roles, proposal):
    path = write(tmp_path, "export.json", json.dumps(export))
    if proposal:
        with pytest.raises(DataError, match="who is the user and who answers") as error:
            load_examples(DataSettings(train=str(path)))
        assert f"user = {proposal}" in str(error.value.hint)
    assert messages(load_examples(DataSettings(train=str(path), roles=roles))) == [QA]


def test_slack_without_threads_is_refused(tmp_path):
    rows = [{k: v for k, v in row.items() if k != "thread_ts"} for row in SLACK]
    with pytest.raises(DataError, match="each row is one message"):
        load(tmp_path, rows)


def test_a_bot_of_slack_is_a_speaker(tmp_path):
    reminder = {**SLACK[2], "subtype": "bot_message", "bot_id": "B1", "text": "third", "ts": "1.4"}
    del reminder["user"]
    roles = {"user": "*", "assistant": "U2", "ignore": "B1"}
    loaded = load(tmp_path, [*SLACK, reminder], roles=roles)
    assert messages(loaded) == [QA]
    assert "1 turns of speakers that data.roles ignores are left out" in loaded.notices


def test_avito_says_who_speaks_by_direction(tmp_path):
    turns = [
        {"author_id": 7, "direction": "in", "created": 1, "content": {"text": "q"}},
        {"author_id": 5, "direction": "out", "created": 2, "content": {"text": "a"}},
    ]
    assert messages(load(tmp_path, [{"chat_id": "u", "messages": turns}])) == [QA]


def test_freshdesk_says_who_speaks_by_a_flag(tmp_path):
    turns = [
        {"user_id": 7, "incoming": True, "private": False, "body": "<p>q</p>", "body_text": "q"},
        {"user_id": 5, "incoming": False, "private": True, "body_text": "third case"},
        {"user_id": 5, "incoming": False, "private": False, "body_text": "a"},
    ]
    loaded = load(tmp_path, [{"id": 1, "conversations": turns}])
    assert messages(loaded) == [QA]
    assert loaded.notices == ("1 internal notes are left out",)


def test_the_first_message_of_a_ticket_of_freshdesk_is_its_description(tmp_path):
    turns = [{"user_id": 5, "incoming": False, "body_text": "a"}]
    loaded = load(tmp_path, [{"id": 1, "description_text": "q", "conversations": turns}])
    assert messages(loaded) == [QA]


def test_a_conversation_of_intercom_begins_with_its_source(tmp_path):
    def part(kind, role, body):
        author = {"type": role, "id": "9", "name": "Ann"}
        return {"part_type": kind, "author": author, "body": body, "created_at": 1730000000}

    parts = [
        part("note", "admin", "<p>third case</p>"),
        part("comment", "admin", "<p>Yes &amp; no</p><p>Two<br>left</p>"),
        part("close", "admin", None),
    ]
    row = {"id": 1, "source": part("", "user", "<p>q</p>"),
           "conversation_parts": {"conversation_parts": parts}}  # fmt: skip
    loaded = load(tmp_path, [row])
    answer = {"role": "assistant", "content": "Yes & no\nTwo\nleft"}
    assert messages(loaded) == [[QA[0], answer]]
    assert loaded.notices == (
        "1 internal notes are left out",
        "1 messages without text are left out",
    )


def test_excels_unicode_text_is_a_table(tmp_path):
    text = 'prompt\tcompletion\r\nq\ta\r\nq, r\t"a; ""b""\nover two lines"\r\n'
    path = write(tmp_path, "table.txt", text.encode("utf-16"))
    loaded = load_examples(DataSettings(train=str(path)))
    assert messages(loaded)[0] == QA
    [_, [_, answer]] = messages(loaded)
    assert answer["content"] == 'a; "b"\nover two lines'


def test_an_office_file_says_how_to_save_it(tmp_path):
    with pytest.raises(DataError, match="unknown kind of file") as error:
        load_examples(str(write(tmp_path, "a.xlsx", b"PK\x03\x04")))
    assert "save it as CSV" in str(error.value.hint)
