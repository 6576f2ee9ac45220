"""Chats of messengers are divided at pauses."""

import pytest

from kamerton.data.dataset import load_examples
from kamerton.data.settings import DataSettings
from tests.unit.data.files import load, write
from tests.unit.data.formats.test_speakers import QA, messages

SHOP = {"user": "Vera", "assistant": "Shop"}


def turns(*said):
    return [
        {"type": "message", "from": who, "date": f"2025-03-{date}:00", "text": text}
        for date, who, text in said
    ]


DAYS = turns(
    ("01T10:00", "Vera", "q"),
    ("01T10:01", "Shop", "a"),
    ("02T10:00", "Vera", "q"),
    # A night of waiting is no new conversation.
    ("03T09:00", "Shop", "a"),
    ("04T10:00", "Vera", "q"),
    ("04T10:05", "Shop", "a"),
    ("09T10:00", "Vera", "never answered"),
)


def test_a_pause_before_the_user_begins_a_conversation(tmp_path):
    loaded = load(tmp_path, [{"id": 3, "messages": DAYS}], roles=SHOP)
    assert messages(loaded) == [QA, QA, [*QA, {"role": "user", "content": "never answered"}]]
    assert [example.extra["id"] for example in loaded.examples] == [3, 3, 3]
    assert loaded.notices == (
        "1 chats are divided into 3 conversations at pauses of 6 hours (data.pause_hours)",
    )


@pytest.mark.parametrize(("hours", "number"), [(0, 1), (23, 3), (24, 2), (1000, 1)])
def test_the_recipe_says_how_long_a_pause_is(tmp_path, hours, number):
    loaded = load(tmp_path, [{"messages": DAYS}], roles=SHOP, pause_hours=hours)
    assert len(loaded.examples) == number


def test_tickets_of_a_help_desk_stay_whole(tmp_path):
    comments = [
        {"author": turn["from"], "created_at": turn["date"], "body": turn["text"]} for turn in DAYS
    ]
    assert len(load(tmp_path, [{"comments": comments}], roles=SHOP).examples) == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("31.01.2025, 23:59", "01.02.2025, 12:00"),
        ("1/31/25, 11:59 PM", "2/1/25, 12:00 PM"),
        ("2025-01-31, 23:59", "2025-02-01, 12:00"),
    ],
)
def test_dates_of_whatsapp_are_understood(tmp_path, first, second):
    lines = [f"{date} - {who}: {text}" for date in (first, second) for who, text in
             (("Vera", "q"), ("Shop", "a"))]  # fmt: skip
    path = write(tmp_path, "chat.txt", "\n".join(lines))
    loaded = load_examples(DataSettings(train=str(path), roles=SHOP))
    assert messages(loaded) == [QA, QA]
    assert (
        len(load_examples(DataSettings(train=str(path), roles=SHOP, pause_hours=13)).examples) == 1
    )
