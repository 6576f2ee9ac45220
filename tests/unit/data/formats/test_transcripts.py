import pytest

from kamerton.data.formats.messages import Unusable
from kamerton.data.formats.transcripts import is_open, is_transcript, turns_of


@pytest.mark.parametrize(
    ("text", "transcript", "is_left_open"),
    [
        ("\n\nHuman: q\n\nAssistant: a", True, False),
        ("Human: q\n\nAssistant:", True, True),
        ("Human: q\n\nAssistant: \n", True, True),
        ("Human: q", False, False),
        ("Human: q Assistant: a", False, False),
        ("I said:\n\nHuman: q\n\nAssistant: a", False, False),
        ("", False, False),
    ],
)
def test_transcripts_are_told_from_texts(text, transcript, is_left_open):
    assert (is_transcript(text), is_open(text)) == (transcript, is_left_open)


@pytest.mark.parametrize(
    ("text", "turns"),
    [
        ("\n\nHuman: q\n\nAssistant: a\n\nb ", ["user q", "assistant a\n\nb"]),
        ("Human: q\n\nAssistant: a\n\nAssistant: b", ["user q", "assistant a\n\nb"]),
        ("Human: q\n\nHuman: r\n\nAssistant:", ["user q\n\nr"]),
        ("Human: q\n\nAssistant: a\n\nAssistant:", ["user q", "assistant a"]),
        ("Human: q\n\nAssistant: Human: r", ["user q", "assistant Human: r"]),
    ],
)
def test_turns(text, turns):
    assert [f"{m['role']} {m['content']}" for m in turns_of(text, "f")] == turns


def test_an_empty_turn_is_named():
    with pytest.raises(Unusable, match="chosen: turn 2 is empty"):
        turns_of("Human: q\n\nAssistant: \n\nHuman: r\n\nAssistant: a", "chosen")
