"""What a teacher over HTTP is asked, and how its answer is read."""

import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kamerton.data.identity import normal_text
from kamerton.labelling.given_answers import Tokens
from kamerton.labelling.settings import TeacherSettings
from kamerton.labelling.teacher import Fault, Verdict

__all__ = ["most_tokens", "read_body", "request_body", "verdict_of"]

_AROUND = " \t\r\n\"'`*_.«»“”"
_PREFIX = re.compile(r"^(?:label|answer|метка|ответ)\s*:\s*", re.IGNORECASE)
_TOKENS_OF_MESSAGE = 8
_TOKENS_OF_TEMPLATE = 64
_MOST_SAID = 200


def request_body(
    text: str, labels: Sequence[str], settings: TeacherSettings, model: str, sample: int
) -> dict[str, Any]:
    """Write the request for one label of one text.

    Args:
        text: The text.
        labels: The labels to choose from.
        settings: How the teacher is asked.
        model: Its name at the endpoint.
        sample: Number of the sample, from 0: it is the seed.

    Returns:
        The body of `POST /v1/chat/completions`.
    """
    messages = [{"role": "user", "content": text}]
    if settings.instruction:
        named = "\n".join(f"- {name}" for name in labels)
        told = f"{settings.instruction}\n\nLabels:\n{named}\n\nAnswer with one label and no more."
        # Small models answer a bare text instead of labelling it.
        asked = {"role": "user", "content": f"Text:\n{text}\n\nLabel:"}
        messages = [{"role": "system", "content": told}, asked]
    alone = settings.samples == 1
    body: dict[str, Any] = {
        "model": model,
        "messages": messages,
        "max_tokens": settings.max_tokens,
        "temperature": 0.0 if alone else settings.temperature,
        "seed": sample,
    }
    body |= {"logprobs": True} if alone else {}
    body |= {"structured_outputs": {"choice": list(labels)}} if settings.only_labels else {}
    body |= settings.body
    return {name: value for name, value in body.items() if value != ""}


def most_tokens(body: Mapping[str, Any], settings: TeacherSettings, overhead: int) -> Tokens:
    """Bound what a request may cost before it is sent.

    Args:
        body: The request.
        settings: Give the most tokens of an answer, unless the request says another number.
        overhead: Tokens by which earlier prompts were longer than this bound without it.

    Returns:
        Of the prompt, a token for each byte of UTF-8 and what a template adds: no byte-level
        tokenizer makes more.
    """
    sizes = [len(str(one["content"]).encode()) + _TOKENS_OF_MESSAGE for one in body["messages"]]
    named = [body[name] for name in ("max_tokens", "max_completion_tokens") if name in body]
    return Tokens(
        sum(sizes) + _TOKENS_OF_TEMPLATE + overhead,
        max(named, default=settings.max_tokens) * int(body.get("n", 1)),
    )


def read_body(body: Any) -> tuple[dict[str, Any], Tokens | None]:
    """Read the body of an answer.

    Args:
        body: As JSON has it; a text where it is none.

    Returns:
        `text` with `logprob` (natural-log probability of the whole text; None where the server
        does not say), or `refusal`, or `malformed`; and what it cost, None where it does not say.
    """
    used = None
    try:
        counted = body.get("usage") or {}
        if "prompt_tokens" in counted and "completion_tokens" in counted:
            used = Tokens(int(counted["prompt_tokens"]), int(counted["completion_tokens"]))
        choice = body["choices"][0]
        message = choice["message"]
        if message.get("refusal"):
            return {"refusal": str(message["refusal"])[:_MOST_SAID]}, used
        if not isinstance(message["content"], str):
            raise TypeError
        tokens = (choice.get("logprobs") or {}).get("content") or []
        logprob = sum(float(one["logprob"]) for one in tokens) if tokens else None
        return {"text": message["content"], "logprob": logprob}, used
    except (AttributeError, KeyError, IndexError, TypeError, ValueError):
        return {"malformed": str(body)[:_MOST_SAID]}, used


def verdict_of(
    answers: Sequence[Mapping[str, Any]],
    labels: Sequence[str],
    is_refusal: Callable[[str], bool],
) -> Verdict:
    """Make a verdict of one answer, or of several samples.

    Args:
        answers: As `read_body` gives them.
        labels: The labels to choose from.
        is_refusal: Tells whether a text declines to answer.

    Returns:
        Of one answer, its label with the probability of its text. Of several, the label that most
        of them name, with their share (self-consistency, Wang et al. 2022, arXiv:2203.11171).
    """
    known = {normal_text(name): name for name in labels}
    found = [_label_of(one.get("text", ""), known) for one in answers]
    named = [name for name in found if name]
    if not named:
        said = next((text for one in answers if (text := _said(one))), "")
        refused = any("refusal" in one or is_refusal(one.get("text", "")) for one in answers)
        fault: Fault = "refusal" if refused else "format"
        return Verdict(fault=fault, said=said[:_MOST_SAID])
    best, votes = Counter(named).most_common(1)[0]
    if len(answers) > 1:
        return Verdict(best, votes / len(answers))
    logprob = answers[0].get("logprob")
    assert logprob is not None, "whoever asks once has made sure of it"
    return Verdict(best, min(math.exp(logprob), 1.0))


def _said(answer: Mapping[str, Any]) -> str:
    return str(answer.get("text") or answer.get("refusal") or answer.get("malformed") or "")


def _label_of(text: str, known: Mapping[str, str]) -> str:
    """Find the label that a text is, up to case, quotes and a full stop; nothing elsewhere."""
    # What a reasoning model thinks first may stand in the text.
    said = text.rpartition("</think>")[2]
    plain = said.strip(_AROUND)
    # A label may end with a full stop of its own.
    for one in (said.strip(), plain, _PREFIX.sub("", plain).strip(_AROUND)):
        if (name := known.get(normal_text(one))) is not None:
            return name
    return ""
