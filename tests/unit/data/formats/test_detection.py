import pytest

from kamerton.core.errors import DataError
from kamerton.data.examples import (
    ChatExample,
    ClassificationExample,
    FeedbackExample,
    Place,
    PreferenceExample,
    TextExample,
)
from kamerton.data.formats.detection import detect_format, settle_schema, yes_or_no
from kamerton.data.formats.parsing import parse_row
from kamerton.data.rows import Rejection, Row

PLACE = Place("a.jsonl", 1)
Q = {"role": "user", "content": "q"}
A = {"role": "assistant", "content": "a"}
B = {"role": "assistant", "content": "b"}
S = {"role": "system", "content": "s"}


def parse(fields, **options):
    schema = settle_schema([fields], name="a", **options)
    outcome = parse_row(Row(PLACE, fields), schema)
    if isinstance(outcome, Rejection):
        return outcome
    [example] = outcome
    return example


@pytest.mark.parametrize(
    ("fields", "format"),
    [
        ({"messages": [Q, A]}, "chat"),
        ({"conversations": [Q, A], "tools": "[]"}, "chat"),
        ({"messages": [Q, A], "label": "billing"}, "chat"),
        ({"messages": [Q, A], "label": True}, "feedback"),
        ({"prompt": "q", "completion": "a"}, "prompt"),
        ({"question": "q", "answer": "a"}, "prompt"),
        ({"input": "q", "output": "a"}, "prompt"),
        ({"prompt": "q", "completion": "a", "label": "billing"}, "prompt"),
        ({"prompt": "q", "completion": "a", "label": False}, "feedback"),
        ({"prompt": "q", "completion": "a", "label": "0"}, "feedback"),
        ({"messages": [Q, A], "kto_tag": True}, "feedback"),
        ({"instruction": "q", "input": "", "output": "a", "text": "all"}, "alpaca"),
        ({"instruction": "q", "response": "a", "intent": "i"}, "alpaca"),
        ({"text": "t", "label": 1}, "classification"),
        ({"text": "t", "category": "c"}, "classification"),
        ({"query": "t", "intent": "c"}, "classification"),
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, "preference"),
        ({"chosen_messages": [Q, A], "rejected_messages": [Q, B]}, "preference"),
        ({"prompt": "q", "answers": ["a", "b"]}, "ranking"),
        ({"question": "q", "responses": '["a", "b"]', "ranks": "[1, 2]"}, "ranking"),
        ({"messages": [Q], "completions": ["a", "b"], "scores": [1, 2]}, "ranking"),
        ({"prompt": "q", "answer": "a", "answers": [{"text": "a", "rank": 1}]}, "ranking"),
        ({"prompt": "q", "answer": "a", "answers": ["a", "b"]}, "prompt"),
        ({"question": "q", "answers": ["a", "b"], "label": 1}, "classification"),
        ({"question": "q", "answers": {"text": ["a"], "start": [0]}}, None),
        ({"prompt": "q", "completion": "a", "rating": 4}, "prompt"),
        ({"text": "t", "url": "u"}, "text"),
        ({"sentence": "t"}, None),
        ({"messages": None}, None),
        ({}, None),
    ],
)
def test_formats_are_told_by_fields(fields, format):
    assert detect_format([fields]) == format


@pytest.mark.parametrize(
    ("fields", "messages"),
    [
        ({"messages": [Q, A]}, (Q, A)),
        ({"messages": [Q, A, Q], "system": "s"}, (S, Q, A, Q)),
        ({"messages": [S, Q, A], "system": "other"}, (S, Q, A)),
        ({"prompt": "q", "completion": "a"}, (Q, A)),
        ({"prompt": [S, Q], "completion": [A]}, (S, Q, A)),
        ({"prompt": '[{"role": "user", "content": "q"}]', "completion": "a"}, (Q, A)),
        ({"prompt": "q", "completion": '[{"x": 1}]'}, (Q, {**A, "content": '[{"x": 1}]'})),
        ({"instruction": "q", "input": "", "output": "a"}, (Q, A)),
        ({"instruction": "q", "input": "i", "output": "a"}, ({**Q, "content": "q\n\ni"}, A)),
        (
            {"instruction": "q", "output": "a", "history": [["q", "b"]], "system": "s"},
            (S, Q, B, Q, A),
        ),
    ],
)
def test_conversations(fields, messages):
    example = parse(fields)
    assert isinstance(example, ChatExample)
    assert example.messages == messages
    assert example.place == PLACE


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"prompt": "q", "chosen": "a", "rejected": "b"}, ((Q,), (A,), (B,))),
        ({"prompt": [Q], "chosen": A, "rejected": [B]}, ((Q,), (A,), (B,))),
        ({"prompt": "q", "chosen": [Q, A], "rejected": [Q, B]}, ((Q,), (A,), (B,))),
        ({"chosen": [S, Q, A], "rejected": [S, Q, B]}, ((S, Q), (A,), (B,))),
        ({"chosen": [Q, A], "rejected": [Q, A]}, ((Q,), (A,), (A,))),
        (
            {"chosen": [Q, A, Q, A, Q, B], "rejected": [Q, A, Q, A, Q, A]},
            ((Q, A, Q, A, Q), (B,), (A,)),
        ),
        (
            {
                "conversations": [{"from": "human", "value": "q"}],
                "chosen": {"from": "gpt", "value": "a"},
                "rejected": {"from": "gpt", "value": "b"},
            },
            ((Q,), (A,), (B,)),
        ),
        (
            {"instruction": "q", "input": "i", "chosen": "a", "rejected": "b"},
            (({**Q, "content": "q\n\ni"},), (A,), (B,)),
        ),
        (
            {
                "chosen": "\n\nHuman: hi\n\nAssistant: yes?\n\nHuman: q\n\nAssistant: a",
                "rejected": "\n\nHuman: hi\n\nAssistant: yes?\n\nHuman: q\n\nAssistant: b",
            },
            (({**Q, "content": "hi"}, {**A, "content": "yes?"}, Q), (A,), (B,)),
        ),
        (
            {
                "prompt": "\n\nHuman: hi\n\nAssistant: yes?\n\nHuman: q\n\nAssistant:",
                "chosen": " a",
                "rejected": "Human: hi\n\nAssistant: yes?\n\nHuman: q\n\nAssistant: b",
            },
            (
                ({**Q, "content": "hi"}, {**A, "content": "yes?"}, Q),
                (A,),
                (B,),
            ),
        ),
    ],
)
def test_pairs(fields, expected):
    example = parse(fields)
    assert isinstance(example, PreferenceExample)
    assert (example.prompt, example.chosen, example.rejected) == expected


@pytest.mark.parametrize("label", [True, False, 1, 0, 1.0, "true", "No", "good", "down", "да"])
def test_feedback(label):
    good = yes_or_no(label)
    for fields in ({"prompt": "q", "completion": "a"}, {"messages": [Q, A]}):
        example = parse({**fields, "label": label})
        assert isinstance(example, FeedbackExample)
        assert (example.prompt, example.completion, example.good) == ((Q,), (A,), good)


def test_judged_answer_is_all_after_the_last_user_turn():
    call = {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {}}]}
    tool = {"role": "tool", "content": "r"}
    example = parse({"messages": [Q, A, Q, call, tool, B], "label": False})
    assert [m["role"] for m in example.completion] == ["assistant", "tool", "assistant"]
    assert example.prompt == (Q, A, Q)


@pytest.mark.parametrize(("label", "wanted"), [("x ", "x"), (3, "3"), (True, "true"), (0.5, "0.5")])
def test_classes_become_text(label, wanted):
    example = parse({"text": "t", "label": label})
    assert example == ClassificationExample(PLACE, "t", wanted)


def test_plain_text_keeps_other_columns():
    assert parse({"text": " t", "url": "u", "none": None}) == TextExample(
        PLACE, " t", extra={"url": "u"}
    )


def test_columns_groups_and_nested_values():
    fields = {"meta": {"intent": "x"}, "turns": [{"text": "t"}], "customer": 7}
    columns = {"text": "turns.0.text", "label": "meta.intent"}
    example = parse(fields, columns=columns, group="customer")
    assert example == ClassificationExample(PLACE, "t", "x", "7", fields)


def test_named_columns_decide_the_format():
    fields = {"messages": [Q, A], "question": "q", "reply": "a"}
    example = parse(fields, columns={"prompt": "question", "completion": "reply"})
    assert example.messages == (Q, A)
    assert example.extra == {"messages": [Q, A]}
    assert isinstance(parse({"text": "t", "label": "x"}, format="text"), TextExample)


def test_a_few_wrong_verdicts_make_no_prompts_of_feedback():
    def rows(labels):
        return [{"prompt": "q", "completion": "a", "label": label} for label in labels]

    assert detect_format(rows([True, False, True, "no", "maybe"])) == "feedback"
    assert detect_format(rows(["yes", "no", "orders", "refunds"])) == "prompt"
    assert detect_format(rows([0, 1, 2])) == "prompt"


def test_a_mixture_is_called_one():
    rows = [
        {"prompt": "q", "chosen": "a", "rejected": "b"},
        {"question": "q", "reply": "a"},
        {"prompt": "q", "completion": "a"},
        {"text": "t", "label": "x"},
    ]
    with pytest.raises(DataError, match="several kinds in one file: classification, pref.*prompt"):
        settle_schema(rows, name="mixed.jsonl")


@pytest.mark.parametrize(
    ("fields", "options", "problem"),
    [
        ({"sentence": "t"}, {}, "cannot tell what the rows are; columns found: sentence"),
        ({"a": {"text": "t"}}, {}, "columns found: a.text"),
        ({"text": "t"}, {"columns": {"text": "txet"}}, "no row has the column 'txet'; did you"),
        (
            {"a": {"tags": [{"name": "x"}]}, "text": "t"},
            {"columns": {"label": "a.tags.0.nam"}},
            "no row has the column 'a.tags.0.nam'; did you mean 'a.tags.0.name'",
        ),
        ({"text": "t"}, {"group": "customer"}, "no row has the column 'customer'"),
        (
            {"text": "t"},
            {"format": "chat", "columns": {"text": "text"}},
            "rows of the format 'chat' have no field 'text'",
        ),
    ],
)
def test_what_cannot_be_settled_is_an_error(fields, options, problem):
    with pytest.raises(DataError, match=problem) as caught:
        parse(fields, **options)
    assert caught.value.hint


NESTED: list = []
for _ in range(200):
    NESTED = [NESTED]


@pytest.mark.parametrize(
    ("sample", "fields", "problem"),
    [
        ({"messages": [Q, A]}, {"messages": None}, "messages: is missing or null"),
        ({"messages": [Q, A]}, {"messages": [Q]}, "messages: must have an assistant turn"),
        ({"messages": [Q, A]}, {"messages": []}, "messages: must have an assistant turn"),
        ({"prompt": "q", "completion": "a"}, {"prompt": "q"}, "completion: is missing or null"),
        (
            {"prompt": "q", "completion": "a"},
            {"prompt": " ", "completion": "a"},
            "prompt: is empty",
        ),
        (
            {"prompt": "q", "completion": "a"},
            {"prompt": "q", "completion": {"x": 1}},
            "completion.*: a turn must have a role",
        ),
        (
            {"prompt": "q", "completion": "a"},
            {"prompt": "q", "completion": 7},
            "completion: must be text, got a number",
        ),
        ({"text": "t", "label": "x"}, {"text": "t", "label": ["x"]}, "label: must be one class"),
        ({"text": "t", "label": "x"}, {"text": "t", "label": ""}, "label: is empty"),
        ({"text": "t", "label": "x"}, {"text": "a\0b", "label": "x"}, "text: holds a NUL"),
        ({"text": "t"}, {"text": "\udfff"}, "text: holds half a character .*U.DFFF"),
        ({"text": "t"}, {"text": "t", "deep": NESTED}, "deep: nested deeper than 100 levels"),
        ({"text": "t"}, {"text": "t", "x": {"\ud800": 1}}, "x: a name in it holds half"),
        (
            {"prompt": "q", "chosen": "a", "rejected": "b"},
            {"prompt": "q", "chosen": "a", "rejected": ""},
            "rejected: is empty",
        ),
        (
            {"chosen": "a", "rejected": "b"},
            {"chosen": "a", "rejected": "b"},
            "prompt: is missing, and the answers share no prompt",
        ),
        (
            {"chosen": [Q, A], "rejected": [Q, B]},
            {"chosen": [A], "rejected": [B]},
            "prompt: is missing, and the answers share no prompt",
        ),
        (
            {"chosen": [Q, A], "rejected": [Q, B]},
            {"chosen": [Q, A, Q], "rejected": [Q, B]},
            "chosen: must be the assistant's answer",
        ),
        (
            {"messages": [Q, A], "label": True},
            {"messages": [Q, A], "label": "perhaps"},
            "label: must be true or false",
        ),
        (
            {"messages": [Q, A], "label": True},
            {"messages": [Q, A, Q], "label": True},
            "messages: must be the assistant's answer",
        ),
        (
            {"instruction": "q", "output": "a", "history": []},
            {"instruction": "q", "output": "a", "history": [["q"]]},
            "history.0: must be .question, answer.",
        ),
    ],
)
def test_unusable_rows_name_field_and_reason(sample, fields, problem):
    schema = settle_schema([sample], name="a")
    outcome = parse_row(Row(PLACE, fields), schema)
    assert isinstance(outcome, Rejection)
    import re

    assert re.match(rf"a\.jsonl:1: {problem}", str(outcome)), str(outcome)


def test_conversations_with_two_prompts_are_rejected():
    for chosen, rejected in (
        ([Q, A], [{**Q, "content": "r"}, A]),
        ("Human: q\n\nAssistant: a", "Human: r\n\nAssistant: a"),
    ):
        outcome = parse({"chosen": chosen, "rejected": rejected})
        assert isinstance(outcome, Rejection)
        assert str(outcome).endswith("rejected: has another prompt than the chosen answer")


def test_answers_to_an_earlier_turn_may_go_on_where_they_are_turns():
    example = parse({"chosen": [Q, A, Q, A], "rejected": [Q, B, Q, B]})
    assert (example.prompt, example.chosen) == ((Q,), (A, Q, A))


def test_transcripts_that_differ_early_are_rejected():
    first = "\n\nHuman: q\n\nAssistant: a\n\nHuman: r\n\nAssistant: b"
    second = "\n\nHuman: q\n\nAssistant: c\n\nHuman: r\n\nAssistant: d"
    outcome = parse({"chosen": first, "rejected": second})
    assert isinstance(outcome, Rejection)
    assert outcome.reason == "has another prompt than the chosen answer"


@pytest.mark.parametrize("column", ["label", "labels"])
def test_several_classes_of_one_text_are_a_list_as_the_answer(column):
    example = parse({"text": "late and broken", column: ["delivery", "возврат"]})
    assert isinstance(example, ChatExample)
    assert [message["content"] for message in example.messages] == [
        "late and broken",
        '["delivery", "возврат"]',
    ]
    assert example.label == '["delivery", "возврат"]'
    assert example.extra == {}
    empty = parse({"text": "hello", column: []})
    assert empty.messages[-1]["content"] == "[]"
    (wrong,) = [parse({"text": "hello", column: ["a", {"b": 1}]})]
    assert isinstance(wrong, Rejection)
    assert wrong.field == f"{column}.1"


def test_rows_of_one_and_of_several_classes_are_read_alike():
    rows = [{"text": "a", "label": ["x", "y"]}, {"text": "b", "label": ["x"]}, {"text": "c"}]
    schema = settle_schema(rows, name="a")
    (single,) = parse_row(Row(PLACE, {"text": "d", "label": "x"}), schema)
    assert single.messages[-1]["content"] == '["x"]'


def test_one_class_under_labels_is_a_class():
    example = parse({"text": "late", "labels": "delivery"})
    assert isinstance(example, ClassificationExample)
    assert example.label == "delivery"
