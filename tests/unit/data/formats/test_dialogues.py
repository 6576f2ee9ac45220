"""Dialogues written as text."""

import pytest

from kamerton.data.dataset import load_examples
from kamerton.data.formats.dialogues import dialogue_of
from kamerton.data.formats.speakers import Speakers
from kamerton.data.settings import DataSettings
from tests.unit.data.files import load, write
from tests.unit.data.formats.test_speakers import QA, messages

SAID = "Клиент: q\nОператор: a"


def test_turns_go_on_over_lines_and_other_names_are_text():
    turns = dialogue_of("User: q\nPS: one\n\nAssistant:\na: b", Speakers())
    assert turns == [
        {"role": "User", "content": "q\nPS: one"},
        {"role": "Assistant", "content": "a: b"},
    ]


@pytest.mark.parametrize("text", ["", "q\nUser: q\nBot: a", "User: q\nUser: r", "Анна: q\nПётр: a"])
def test_other_texts_are_no_dialogues(text):
    assert dialogue_of(text, Speakers()) is None


def test_a_column_of_dialogues_is_a_chat(tmp_path):
    rows = [{"id": 1, "dialog": SAID}, {"id": 2, "dialog": SAID}]
    assert messages(load(tmp_path, rows)) == [QA, QA]
    roles = {"user": "Анна", "assistant": "Пётр"}
    assert messages(load(tmp_path, [{"log": "Анна: q\nПётр: a"}], roles=roles)) == [QA]


def test_a_text_file_of_dialogues_is_a_chat_and_says_so(tmp_path):
    path = write(tmp_path, "a.txt", f"{SAID}\n\n{SAID}\n")
    loaded = load_examples(DataSettings(train=str(path)))
    assert messages(loaded) == [QA, QA]
    assert 'data.format = "text" keeps them texts' in loaded.notices[0]
    plain = load_examples(DataSettings(train=str(path), format="text"))
    assert plain.schema.format == "text"
    mixed = write(tmp_path, "b.txt", f"{SAID}\n\nA text.\n")
    assert load_examples(DataSettings(train=str(mixed))).schema.format == "text"
