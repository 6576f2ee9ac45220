"""Chats that a messenger wrote out as text."""

import pytest

from kamerton.data.dataset import load_examples
from kamerton.data.settings import DataSettings
from tests.unit.data.files import rows_of, write

IPHONE = """\
[12/11/24, 10:00:30] Tea Shop: \u200eMessages and calls are end-to-end encrypted.
[12/11/24, 10:00:32] Vera: Is the kettle in stock?
Please: today
\u200e[12/11/24, 10:00:40] Vera: \u200eimage omitted
[12/11/24, 10:00:55] Tea Shop: Yes
"""
ANDROID = """\
12.11.2024, 10:00 - Сообщения защищены сквозным шифрованием.
12.11.2024, 10:00 - Vera: Is the kettle in stock?
Please: today
12.11.2024, 10:00 - Vera: <Без медиафайлов>
12.11.2024, 10:01 - Tea Shop: Yes
"""
AMERICAN = ANDROID.replace("12.11.2024, 10:00", "11/12/24, 10:00\u202fPM")


@pytest.mark.parametrize(("text", "without"), [(IPHONE, 2), (ANDROID, 1), (AMERICAN, 1)])
def test_whatsapp_chats_are_conversations(tmp_path, text, without):
    path = write(tmp_path, "chat.txt", text)
    roles = {"user": "Vera", "assistant": "Tea Shop"}
    loaded = load_examples(DataSettings(train=str(path), roles=roles))
    (example,) = loaded.examples
    assert [dict(message) for message in example.messages] == [
        {"role": "user", "content": "Is the kettle in stock?\nPlease: today"},
        {"role": "assistant", "content": "Yes"},
    ]
    assert loaded.notices == (f"{without} messages without text are left out",)


def test_whatsapps_note_of_an_edit_is_not_learned(tmp_path):
    answers = ("Yes \u200e<This message was edited>", "Yes \u200e<Сообщение изменено>", "Yes <b>")
    lines = [f"[12/11/24, 10:00:3{n}] Shop: {answer}\n" for n, answer in enumerate(answers)]
    [row] = rows_of(write(tmp_path, "chat.txt", "".join(lines)))
    assert [turn["text"] for turn in row["messages"]] == ["Yes", "Yes", "Yes <b>"]


@pytest.mark.parametrize(
    "text",
    [
        "Diary\n\n12.11.2024, 10:00 - Vera: rain\n12.11.2024, 11:00 - Vera: sun\n",
        "[12/11/24, 10:00:32] Vera: one line is no chat\n",
        "Note: a\nNote: b\nNote: c\n",
    ],
)
def test_other_texts_stay_texts(tmp_path, text):
    assert all(row.keys() == {"text"} for row in rows_of(write(tmp_path, "a.txt", text)))
