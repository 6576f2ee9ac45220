"""The row that a request leaves, made of its record."""

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

from kamerton.core.requests import AnswerRequest, Grammar
from kamerton.core.routing import Decision
from kamerton.evaluation.checks import is_json
from kamerton.evaluation.refusals import is_refusal
from kamerton.serving.record import AnswerTimes, RequestRecord
from kamerton.store.traffic import RequestRow

__all__ = ["row_of"]


def row_of(
    record: RequestRecord,
    latency_s: float,
    *,
    hide: Callable[[str], str] = str,
    shadow_of: str | None = None,
) -> RequestRow:
    """Make a row.

    Args:
        record: Of a request that asks for answers.
        latency_s: How long it took.
        hide: Gives what is stored for the id of a unit or a conversation.
        shadow_of: The completion that the client got, where this is a mirrored one.

    Returns:
        The row, with texts of prompt and answer.
    """
    decision = record.decision or Decision(record.model)
    caller, answers = record.caller, record.answers
    texts = ["".join(answer.pieces) for answer in answers]
    # Whoever got a part of an answer, or calls of functions, was not refused.
    whole = [text for text, answer in zip(texts, answers, strict=True) if answer.finish_reason]
    return RequestRow(
        id=record.completion_id or record.id,
        variant=record.model or decision.variant,
        content_hash=record.requests[0].artefact if record.requests else "",
        created=datetime.fromtimestamp(record.came_at, UTC).replace(tzinfo=None),
        route=decision.route,
        rule=decision.rule,
        experiment=decision.experiment,
        arm=decision.arm,
        propensity=decision.propensity,
        routing_version=decision.version,
        unit=hide(caller.unit),
        conversation=hide(caller.conversation),
        segment=caller.segment,
        tenant=caller.tenant,
        language=caller.language,
        key_name=record.key,
        latency_s=latency_s,
        first_token_s=record.time_to_first_token_s,
        prompt_tokens=record.num_prompt_tokens,
        answer_tokens=record.num_tokens,
        finish_reason=answers[0].finish_reason if answers else "",
        status=record.status,
        refusal=all(map(is_refusal, whole)) if whole else None,
        format_valid=_is_valid(record.requests, answers, texts),
        prompt=_prompt_text(record.requests),
        answer=_answer_text(answers, texts),
        shadow_of=shadow_of,
    )


def _is_valid(
    requests: Sequence[AnswerRequest], answers: Sequence[AnswerTimes], texts: Sequence[str]
) -> bool | None:
    """Whether all answers follow what was asked for; None where nothing was, or none is whole."""
    told = [
        _follows(request.grammar, text, answer.finish_reason)
        for request, answer, text in zip(requests, answers, texts, strict=False)
        # Cut by the limit of tokens, it is no valid JSON, which is what the metric is to show.
        if request.grammar is not None and answer.finish_reason
    ]
    return all(told) if told else None


def _follows(grammar: Grammar, text: str, finish_reason: str) -> bool:
    """The engine keeps to the grammar: what can go wrong is that the answer was cut."""
    if grammar.kind == "choice":
        return text.strip() in json.loads(grammar.text)
    if grammar.kind == "regex":
        return finish_reason == "stop"
    return is_json(text)


def _prompt_text(requests: Sequence[AnswerRequest]) -> str | None:
    if not requests:
        return None
    chat, prompt = requests[0].chat, requests[0].prompt
    if chat is None and isinstance(prompt, str):
        return prompt
    return json.dumps(prompt if chat is None else chat, ensure_ascii=False)


def _answer_text(answers: Sequence[AnswerTimes], texts: Sequence[str]) -> str | None:
    if not answers or not (answers[0].finish_reason or answers[0].pieces):
        return None
    if not (calls := answers[0].tool_calls):
        return texts[0]
    made = [{"type": "function", "function": json.loads(str(call))} for call in calls]
    return json.dumps({"content": texts[0], "tool_calls": made}, ensure_ascii=False)
