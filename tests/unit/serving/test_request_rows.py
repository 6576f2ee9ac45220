"""The row of a request says who decided, and what was asked and answered."""

import json

from kamerton.core.protocols import Generation, ToolCall
from kamerton.core.requests import AnswerRequest, AnswerUpdate, Grammar
from kamerton.core.routing import Caller, Decision
from kamerton.serving.record import AnswerTimes, RequestRecord
from kamerton.serving.request_rows import row_of

CHAT = [{"role": "user", "content": "Привет"}]


def record_of(*texts, **request):
    """Make a record with an answer of each text, `num_prompts` by the request's prompts."""
    prompts = request.pop("prompts", None)
    requests = tuple(
        AnswerRequest(f"c-{n}", "shop", Generation(5), artefact="hash", **request)
        if prompts is None
        else AnswerRequest(f"c-{n}", "shop", Generation(5), prompt=prompts[n], **request)
        for n in range(len(texts))
    )
    answers = tuple(AnswerTimes() for _ in texts)
    for answer, (text, reason, calls) in zip(answers, texts, strict=True):
        answer.add(
            AnswerUpdate(
                "c", text, finish_reason=reason, num_prompt_tokens=4, num_tokens=2, tool_calls=calls
            )
        )
    made = RequestRecord("req-1", "POST", "/v1/chat/completions", status=200, operation="chat")
    made.completion_id, made.model = "chatcmpl-1", "shop"
    made.requests, made.answers = requests, answers
    made.num_prompts = len(prompts) if prompts else 1
    return made


def test_the_decision_is_the_routers_and_the_caller_is_hidden_by_the_policy():
    record = record_of(("Да", "stop", ()), chat=CHAT)
    record.caller = Caller(key="web", unit="ann", conversation="t", segment="vip", tenant="acme")
    record.key = "web"
    record.decision = Decision(
        "shop", "experiment", "support", "vips", "tone", "lora", 0.25, (), "v7"
    )
    row = row_of(record, 0.5, hide=lambda unit: f"<{unit}>")
    assert (row.route, row.rule, row.experiment, row.arm) == ("support", "vips", "tone", "lora")
    assert (row.propensity, row.routing_version) == (0.25, "v7")
    assert (row.unit, row.conversation, row.segment) == ("<ann>", "<t>", "vip")
    assert (row.tenant, row.key_name, row.content_hash) == ("acme", "web", "hash")
    assert (json.loads(row.prompt), row.answer) == (CHAT, "Да")
    assert (row.latency_s, row.prompt_tokens, row.answer_tokens) == (0.5, 4, 2)


def test_a_shadows_row_names_the_answer_that_the_client_got():
    assert row_of(record_of(("x", "stop", ())), 1.0, shadow_of="c9").shadow_of == "c9"


def test_calls_of_functions_are_kept_and_refuse_nothing():
    call = ToolCall("find", '{"id": 1}')
    row = row_of(record_of(("", "tool_calls", (call,)), chat=CHAT), 1.0)
    function = {"name": "find", "arguments": {"id": 1}}
    assert json.loads(row.answer) == {
        "content": "",
        "tool_calls": [{"type": "function", "function": function}],
    }
    assert row.refusal is False


def test_of_several_answers_the_first_is_kept_and_all_must_refuse():
    refusal = "I cannot help with that."
    both = row_of(record_of((refusal, "stop", ()), (refusal, "stop", ())), 1.0)
    one = row_of(record_of((refusal, "stop", ()), ("Sure.", "stop", ())), 1.0)
    assert (both.refusal, one.refusal) == (True, False)
    assert one.answer == refusal
    several = row_of(record_of(("x", "stop", ()), ("y", "stop", ()), prompts=["a", "b"]), 1.0)
    assert (several.prompt, several.prompt_tokens, several.answer_tokens) == ("a", 8, 4)


def test_an_answer_that_was_cut_breaks_its_format():
    schema = Grammar("json_schema", '{"type": "object"}')
    choice, pattern = Grammar("choice", '["yes", "no"]'), Grammar("regex", "a+")
    told = [
        row_of(record_of((text, reason, ()), grammar=grammar), 1.0).format_valid
        for text, reason, grammar in (
            ('{"a": 1}', "stop", schema),
            ('{"a": ', "length", schema),
            ("yes", "stop", choice),
            ("ye", "length", choice),
            ("aaa", "stop", pattern),
            ("aaa", "length", pattern),
            ("aaa", None, pattern),
            ("free", "stop", None),
        )
    ]
    assert told == [True, False, True, False, True, False, None, None]
