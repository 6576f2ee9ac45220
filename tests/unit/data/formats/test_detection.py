import json

import pytest

from kamerton.core.errors import DataError
from kamerton.data.examples import (
    ChatExample,
    ClassificationExample,
    FeedbackExample,
    PreferenceExample,
    SourceLocation,
    TextExample,
)
from kamerton.data.formats.detection import detect_format, settle_schema
from kamerton.data.formats.parsing import parse_row
from kamerton.data.formats.verdicts import yes_or_no
from kamerton.data.rows import Rejection, Row

LOCATION = SourceLocation("a.jsonl", 1)
Q = {"role": "user", "content": "q"}
A = {"role": "assistant", "content": "a"}
B = {"role": "assistant", "content": "b"}
S = {"role": "system", "content": "s"}


def parse(fields, **options):
    schema = settle_schema([fields], name="a", **options)
    outcome = parse_row(Row(LOCATION, fields), schema)
    if isinstance(outcome, Rejection):
        return outcome
    [example] = outcome
    return example


@pytest.mark.parametrize(
    ("fields", "format"),
    [
        ({"messages": [Q, A]}, "chat"),
        ({"conversations": [Q, A], "tools": "[]"}, "chat"),
        ({"utterances": [{"speaker": "USER", "utterance": "q"}]}, "chat"),
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
    assert example.location == LOCATION


ABOUT = {**Q, "content": "q\n\nThe sheet."}
THOUGHT = {**A, "reasoning_content": "hm"}


@pytest.mark.parametrize(
    ("fields", "messages"),
    [
        ({"question": "q", "context": "The sheet.", "answer": "a"}, (ABOUT, A)),
        ({"instruction": "q", "context": "The sheet.", "response": "a"}, (ABOUT, A)),
        ({"prompt": [S, Q], "passage": "The sheet.", "completion": "a"}, (S, ABOUT, A)),
        ({"prompt": [ABOUT, A, Q], "passage": "The sheet.", "completion": "a"}, (ABOUT, A, Q, A)),
        (
            {"query": "q", "documents": ["Sheet one.", "Sheet two. "], "answer": "a"},
            ({**Q, "content": "q\n\nSheet one.\n\nSheet two."}, A),
        ),
        ({"question": "q", "document": "sheet.pdf", "answer": "a"}, (Q, A)),
        ({"question": "q", "context": "", "answer": "a"}, (Q, A)),
        ({"system_prompt": "s", "question": "q", "response": "a"}, (S, Q, A)),
        ({"question": "q", "reasoning": "hm", "answer": "a"}, (Q, THOUGHT)),
        ({"instruction": "q", "thinking": "hm", "output": "a"}, (Q, THOUGHT)),
        ({"prompt": "q", "reasoning": "hm", "completion": "hm: a"}, (Q, {**A, "content": "hm: a"})),
    ],
)
def test_what_stands_beside_a_question_joins_it(fields, messages):
    assert parse(fields).messages == messages


CALLS = [{"name": "f", "arguments": {"x": 1}}, {"name": "f", "arguments": {"x": 2}}]


@pytest.mark.parametrize("answers", [CALLS, json.dumps(CALLS)])
def test_answers_that_hold_calls_are_no_ranking(answers):
    fields = {"query": "q", "tools": json.dumps([{"name": "f"}]), "answers": answers}
    calls = [{"type": "function", "function": call} for call in CALLS]
    for name in ("answers", "answer"):
        row = {**fields, name: fields["answers"]}
        assert parse(row).messages == (Q, {**A, "content": "", "tool_calls": calls})


def test_json_that_calls_no_tool_of_the_row_is_text():
    row = {"query": "q", "answer": json.dumps(CALLS)}
    for tools in (None, [{"name": "g"}]):
        assert parse({**row, "tools": tools}).messages == (Q, {**A, "content": row["answer"]})


def test_pairs_of_a_service_are_read():
    service = {"messages": [Q], "tools": [], "parallel_tool_calls": True}
    example = parse({"input": service, "preferred_output": [A], "non_preferred_output": [B]})
    assert (example.prompt, example.chosen, example.rejected) == ((Q,), (A,), (B,))


LONG = "word " * 200
STORED = [{"content": LONG, "role": "user"}, {"content": "it's", "role": "assistant"}, Q]


@pytest.mark.parametrize(
    "text",
    [
        json.dumps(STORED),
        f" {STORED!r}\n",
        json.dumps([json.dumps(turn) for turn in STORED]),
        repr([{"value": turn["content"], "from": turn["role"], "x": None} for turn in STORED]),
    ],
)
def test_turns_stored_as_text_are_turns_in_every_column(text):
    wanted = ({**Q, "content": LONG}, {**A, "content": "it's"}, Q)
    assert parse({"messages": text}).messages == wanted
    assert parse({"prompt": text, "completion": "a"}).messages == (*wanted, A)
    assert parse({"prompt": text, "chosen": repr(A), "rejected": json.dumps(B)}).rejected == (B,)
    assert parse({"instruction": "q", "output": "a", "history": text}).messages == (*wanted, Q, A)
    for fields in (
        {"text": text},
        {"text": text, "label": "x"},
        {"instruction": "q", "output": text},
        {"prompt": "q", "completion": "a", "system": text},
    ):
        outcome = parse(fields)
        assert isinstance(outcome, Rejection)
        assert "must be text, got turns: data.columns = { messages = " in outcome.reason


@pytest.mark.parametrize(
    "text",
    [
        '{"from": "ann@x.org", "text": "Hello"}',
        '[{"speaker": "Ann", "text": "Hello"}]',
        '[{"role": "admin", "name": "Ann"}]',
        "{'role': user} is how it begins",
        "[{'role': 'admin', 'age': }]",
        '{"role"',
    ],
)
def test_answers_that_happen_to_be_data_stay_text(text):
    assert parse({"prompt": "q", "completion": text}).messages == (Q, {**A, "content": text})


@pytest.mark.parametrize(
    "text",
    ["[{'role': 'user', 'content': 'q'}\n {'role': 'user'}]", '[{"role": "user", "content"}]'],
)
def test_turns_that_cannot_be_decoded_are_not_trained_as_text(text):
    text = text.replace('"content"}', '"content": }')
    for fields in ({"text": text}, {"prompt": "q", "completion": text}):
        outcome = parse(fields)
        assert isinstance(outcome, Rejection)
        assert outcome.reason == "seems to hold turns, but is neither JSON nor a Python list"


def test_judged_answers_get_the_context_too():
    beside = {"prompt": "q", "context": "The sheet."}
    for answers in (
        {"chosen": [Q, A], "rejected": [Q, B]},
        {"answers": ["a", "b"]},
        {"completion": "a", "label": True},
    ):
        assert parse({**beside, **answers}).prompt == (ABOUT,)
    assert parse({"query": "q", "context": "The sheet.", "label": "x"}).text == ABOUT["content"]


def test_checks_may_look_at_the_context():
    fields = {"question": "q", "context": "The sheet.", "answer": "a", "thinking": "hm"}
    assert parse(fields).extra == {"context": "The sheet.", "thinking": "hm"}


def test_an_empty_column_name_leaves_a_field_out():
    fields = {"question": "q", "context": "The sheet.", "system": "s", "answer": "a"}
    example = parse(fields, columns={"context": "", "system": ""})
    assert example.messages == (Q, A)
    assert example.extra == {"context": "The sheet.", "system": "s"}


def test_functions_are_tools():
    schema = {"name": "f", "parameters": {}}
    example = parse({"messages": [Q, A], "functions": [schema]})
    assert example.tools == ({"type": "function", "function": schema},)


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


@pytest.mark.parametrize(
    ("label", "wanted"),
    [
        *(
            (label, True)
            for label in (True, 1, 1.0, "true", "good", "да", "thumbs_up", "Thumbs Up")
        ),
        *((label, False) for label in (False, 0, -1, "-1", "No", "down", "thumbs-down", "👎")),
    ],
)
def test_feedback(label, wanted):
    good = yes_or_no(label)
    assert good is wanted
    for fields in ({"prompt": "q", "completion": "a"}, {"messages": [Q, A]}):
        example = parse({**fields, "label": label})
        assert isinstance(example, FeedbackExample)
        assert (example.prompt, example.completion, example.is_desirable) == ((Q,), (A,), good)


@pytest.mark.parametrize("column", ["label", "feedback", "thumbs", "vote", "liked"])
def test_a_column_of_thumbs_makes_feedback_under_its_usual_names(column):
    example = parse({"prompt": "q", "completion": "a", column: "👎"})
    assert isinstance(example, FeedbackExample)
    assert example.is_desirable is False


def test_a_column_of_remarks_makes_no_feedback():
    example = parse({"prompt": "q", "completion": "a", "feedback": "Could be shorter."})
    assert isinstance(example, ChatExample)


def test_judged_answer_is_all_after_the_last_user_turn():
    call = {"role": "assistant", "content": "", "tool_calls": [{"name": "f", "arguments": {}}]}
    tool = {"role": "tool", "content": "r"}
    example = parse({"messages": [Q, A, Q, call, tool, B], "label": False})
    assert [m["role"] for m in example.completion] == ["assistant", "tool", "assistant"]
    assert example.prompt == (Q, A, Q)


@pytest.mark.parametrize(
    ("label", "wanted"),
    [
        ("x ", "x"),
        (3, "3"),
        (True, "true"),
        (0.5, "0.5"),
        (12345601.0, "12345601"),
        (0.12345678, "0.12345678"),
        (2.0**60, "1.152921504606847e+18"),
    ],
)
def test_classes_become_text(label, wanted):
    example = parse({"text": "t", "label": label})
    assert example == ClassificationExample(LOCATION, "t", wanted)


@pytest.mark.parametrize("answer", ["\N{THUMBS UP SIGN}", "\u202eabc\u202c", "."])
def test_what_can_be_seen_is_an_answer(answer):
    example = parse({"prompt": "q", "completion": answer})
    assert example.messages[-1] == {"role": "assistant", "content": answer}


def test_plain_text_keeps_other_columns():
    assert parse({"text": " t", "url": "u", "none": None}) == TextExample(
        LOCATION, " t", extra={"url": "u"}
    )


def test_columns_groups_and_nested_values():
    fields = {"meta": {"intent": "x"}, "turns": [{"text": "t"}], "customer": 7}
    columns = {"text": "turns.0.text", "label": "meta.intent"}
    example = parse(fields, columns=columns, group="customer")
    assert example == ClassificationExample(LOCATION, "t", "x", "7", fields)


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
    assert detect_format(rows([1, -1, "1", "-1"])) == "feedback"
    assert detect_format(rows([1, -1, 0, 1])) == "prompt"


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
        (
            {"messages": [Q, A]},
            {"messages": [Q, {**A, "loss": False}]},
            "messages: must have an assistant turn to train, all have the weight 0",
        ),
        ({"prompt": "q", "completion": "a"}, {"prompt": "q"}, "completion: is missing or null"),
        (
            {"prompt": "q", "completion": "a"},
            {"prompt": " ", "completion": "a"},
            "prompt: is empty",
        ),
        (
            {"prompt": "q", "completion": "a"},
            {"prompt": "q", "completion": "\u00a0\u200b\ufeff"},
            "completion: is empty",
        ),
        (
            {"messages": [Q, A]},
            {"messages": [Q, {**A, "content": "\u2060"}]},
            "messages.1.content: the assistant turn is empty",
        ),
        ({"text": "t", "label": "x"}, {"text": "t", "label": "\u200e"}, "label: is empty"),
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
    outcome = parse_row(Row(LOCATION, fields), schema)
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
    (single,) = parse_row(Row(LOCATION, {"text": "d", "label": "x"}), schema)
    assert single.messages[-1]["content"] == '["x"]'


def test_one_class_under_labels_is_a_class():
    example = parse({"text": "late", "labels": "delivery"})
    assert isinstance(example, ClassificationExample)
    assert example.label == "delivery"
