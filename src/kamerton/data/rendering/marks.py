"""What a template writes around an answer and around reasoning, found by trying it out."""

import re
from collections.abc import Mapping
from typing import Any

from kamerton.core.errors import RenderingError
from kamerton.data.rendering.answers import CONTROL_FIRST, THINK, AnswerMarks, Block
from kamerton.data.rendering.tokens import Decoder
from kamerton.data.rendering.turns import ChatWriter, Turn

__all__ = ["find_marks"]

# Words that no template writes by itself.
_ASK, _ANSWER, _REASON = "Qask", "Qanswer", "Qreason"
_CALLING = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {"id": "Qcallid01", "function": {"name": "Qtool", "arguments": {"Qkey": "Qvalue"}}}
    ],
}


def find_marks(writer: ChatWriter) -> AnswerMarks:
    """Try out what a template writes around an answer and around reasoning.

    Args:
        writer: With its traits.

    Returns:
        The marks.
    """
    ask, answer = {"role": "user", "content": _ASK}, {"role": "assistant", "content": _ANSWER}
    turn = writer.turn(writer.normalise([ask, answer]))
    opening, _, closing = _written(writer, turn).partition(_ANSWER)
    blocks = [THINK]
    own = _block_of(writer.with_thinking(), opening.strip())
    if own is not None:
        blocks.insert(0, own)
    # Where there is nothing to think about, templates may write an empty block.
    for block in blocks:
        if block.end in opening:
            opening = opening.rpartition(block.end)[2].removeprefix(block.tail)
    prompt = turn.prompt.rstrip()
    opened = next((block for block in blocks if prompt.endswith(block.start)), None)
    if opened is not None:
        blocks.remove(opened)
        blocks.insert(0, opened)
    channel = CONTROL_FIRST.match(opening) is not None
    return AnswerMarks(
        opening=opening,
        closing=closing,
        blocks=tuple(blocks),
        opened=opened is not None,
        kept=_kept(writer),
        turn=_wrapped(writer, writer.traits.opening.strip()) if channel else "",
    )


def _written(writer: ChatWriter, turn: Turn) -> str:
    """Decode an answer as generation would, without the token that ends it."""
    encoder = writer.encoder
    ids = encoder.encode(turn.answer, after=turn.prompt)
    if turn.closed:
        ids = ids[:-1]
    decoder = Decoder(writer.tokenizer, encoder)
    return "".join(decoder.add(token) for token in ids) + decoder.finish()


def _wrapped(writer: ChatWriter, text: str) -> str:
    decoder = Decoder(writer.tokenizer, writer.encoder)
    ids = writer.encoder.encode(text, after="\n")
    return "".join(decoder.add(token) for token in ids) + decoder.finish()


def _block_of(writer: ChatWriter, opening: str) -> Block | None:
    """Find what a template writes around reasoning, best before a text, else before a call."""
    for answer in ({"role": "assistant", "content": _ANSWER}, _CALLING):
        reason = {**answer, "reasoning_content": _REASON}
        turn, thought = _attempt(writer, answer), _attempt(writer, reason)
        if turn is None or thought is None:
            continue
        before, found, after = _written(writer, thought).partition(_REASON)
        between, is_text, _ = after.partition(_ANSWER)
        if not is_text:
            between = after.removesuffix(_common_suffix(after, _written(writer, turn)))
        end, tail = between.strip(), between[len(between.rstrip()) :]
        if opening and end.endswith(opening):
            end, tail = end.removesuffix(opening).rstrip(), ""
        # A prompt may have opened the reasoning already.
        start = before.strip() or _last_tag(thought.prompt.rstrip())
        if found and start and end:
            return Block(start, end, tail)
    return None


def _kept(writer: ChatWriter) -> frozenset[str]:
    """Find the control tokens that a call is written with."""
    turn = _attempt(writer, _CALLING) if writer.traits.calls else None
    stops = writer.traits.stops
    return frozenset(
        text
        for text in writer.encoder.control
        if turn is not None and text in turn.answer and text not in stops
    )


def _attempt(writer: ChatWriter, answer: Mapping[str, Any]) -> Turn | None:
    """Split a chat with an answer; None where the template has no place for it."""
    try:
        return writer.turn(writer.normalise([{"role": "user", "content": _ASK}, answer]))
    except RenderingError:
        return None


def _common_suffix(first: str, second: str) -> str:
    same = 0
    for left, right in zip(reversed(first), reversed(second), strict=False):
        if left != right:
            break
        same += 1
    return first[len(first) - same :]


def _last_tag(prompt: str) -> str:
    """Read the tag that a prompt ends with, which has opened the reasoning."""
    found = re.search(r"[<\[][^<>\[\]\s]+[>\]]$", prompt)
    return found[0] if found else ""
