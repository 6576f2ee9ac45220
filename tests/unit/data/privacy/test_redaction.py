from kamerton.data.examples import (
    ChatExample,
    ClassificationExample,
    PreferenceExample,
    SourceLocation,
)
from kamerton.data.privacy.redaction import Redactor

LOCATION = SourceLocation("a@b.org.jsonl", 1)


def test_same_value_same_placeholder_whatever_its_spelling():
    redactor = Redactor()
    assert redactor.redact_text("8 916 123-45-67 or x@y.org") == "[PHONE_1] or [EMAIL_1]"
    assert (
        redactor.redact_text("+79161234567, X@Y.org, z@y.org") == "[PHONE_1], [EMAIL_1], [EMAIL_2]"
    )
    assert redactor.counts == {"phone": 1, "email": 2}
    assert redactor.redact_text("nothing here") == "nothing here"


def test_every_text_of_an_example_is_masked():
    call = {"type": "function", "function": {"name": "f", "arguments": {"to": ["x@y.org"]}}}
    example = ChatExample(
        LOCATION,
        (
            {"role": "user", "content": "I am x@y.org"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
        ),
        tools=({"type": "function", "function": {"description": "ask x@y.org"}},),
        group="x@y.org",
        label="x@y.org",
        extra={"mail": "x@y.org", "n": 7},
    )
    redacted = Redactor().redact(example)
    assert redacted.location == LOCATION
    assert "x@y.org" not in repr(redacted)
    assert redacted.extra == {"mail": "[EMAIL_1]", "n": 7}
    assert redacted.group == "[EMAIL_1]"
    assert "x@y.org" in repr(example)


def test_pairs_and_classes_are_masked():
    redactor = Redactor()
    turns = tuple(({"role": "user", "content": f"{name}@y.org"},) for name in "abc")
    redacted = redactor.redact(PreferenceExample(LOCATION, *turns))
    assert redacted.rejected[0]["content"] == "[EMAIL_3]"
    classified = redactor.redact(ClassificationExample(LOCATION, "c@y.org", "x"))
    assert (classified.text, classified.label) == ("[EMAIL_3]", "x")
