"""Rows that judge answers: a better and a worse one, or one with a thumb up or down."""

from kamerton.data.examples import FeedbackExample, Message, PreferenceExample
from kamerton.data.formats.fields import Fields, check_answer, continuation, said
from kamerton.data.formats.messages import Unusable, assistant, messages_of, user
from kamerton.data.formats.transcripts import is_open, is_transcript, turns_of
from kamerton.data.formats.verdicts import yes_or_no

__all__ = ["feedback", "preference"]


def preference(fields: Fields) -> PreferenceExample:
    """Read a pair.

    Args:
        fields: Fields of a row with `chosen` and `rejected`; without `prompt` it is what both
            share.

    Returns:
        The pair.

    Raises:
        Unusable: If there is no prompt, or an answer is none.
    """
    if fields.value("prompt") is None:
        prompt, chosen, rejected = _common_prompt(fields)
    else:
        prompt = fields.turns("prompt", user)
        chosen, rejected = (
            continuation(
                fields.value(name),
                fields.source(name),
                fields.value("prompt"),
                prompt,
                fields.schema.speakers,
            )
            for name in ("chosen", "rejected")
        )
    for name, answer in (("chosen", chosen), ("rejected", rejected)):
        check_answer(answer, fields.source(name))
    if not prompt:
        given = fields.value("prompt") is not None
        reason = "is empty" if given else "is missing, and the answers share no prompt"
        raise Unusable(fields.source("prompt"), reason)
    prompt = fields.asked(prompt)
    return PreferenceExample(
        fields.row.location, prompt, chosen, rejected, fields.group, fields.extra
    )


def feedback(fields: Fields) -> FeedbackExample:
    """Read an answer with a verdict.

    Args:
        fields: Fields of a row with `label` and either `messages` or `prompt` and `completion`.

    Returns:
        The answer.

    Raises:
        Unusable: If the verdict is neither, there is no prompt, or the answer is none.
    """
    is_desirable = yes_or_no(fields.value("label"))
    if is_desirable is None:
        raise Unusable(fields.source("label"), "must be true or false")
    if fields.value("messages") is not None:
        source = fields.source("messages")
        messages = messages_of(fields.value("messages"), source, fields.schema.speakers)
        # The judged answer is all that follows the last turn of the user.
        start = max((i + 1 for i, m in enumerate(messages) if m["role"] == "user"), default=0)
        prompt, completion = messages[:start], messages[start:]
    else:
        source = fields.source("completion")
        prompt = fields.turns("prompt", user)
        completion = fields.turns("completion", assistant)
    check_answer(completion, source)
    if not prompt:
        raise Unusable(source, "no prompt before the answer")
    prompt = fields.asked(prompt)
    return FeedbackExample(
        fields.row.location, prompt, completion, is_desirable, fields.group, fields.extra
    )


def _conversation(fields: Fields, name: str) -> tuple[Message, ...]:
    value, source = fields.value(name), fields.source(name)
    if isinstance(value, str) and is_transcript(value):
        if is_open(value):
            raise Unusable(source, "the answer is empty")
        return turns_of(value, source)
    return said(value, source, assistant, fields.schema.speakers)


def _common_prompt(
    fields: Fields,
) -> tuple[tuple[Message, ...], tuple[Message, ...], tuple[Message, ...]]:
    """Split two whole conversations into what they share and how they end."""
    chosen, rejected = (_conversation(fields, name) for name in ("chosen", "rejected"))
    # Equal answers share everything; the last turn is then the answer.
    most = max(0, min(len(chosen), len(rejected)) - 1)
    shared = next((i for i in range(most) if chosen[i] != rejected[i]), most)
    for turns in (chosen, rejected):
        asks_on = any(turn["role"] == "user" for turn in turns[shared:-1])
        written = isinstance(fields.value("chosen"), str)
        if asks_on and (written or turns[shared]["role"] == "user"):
            raise Unusable(fields.source("rejected"), "has another prompt than the chosen answer")
    return chosen[:shared], chosen[shared:], rejected[shared:]
