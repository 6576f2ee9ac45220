"""What a model wrote, read back as the answer it means: the inverse of rendering.

A template writes more than the answer's text: the header of a channel, a block of reasoning, a
space. All of that is found once, by trying the template out, and taken away again here, so that
whoever reads answers (checks, rewards, chats, votes) sees what stood in the message.

Control tokens reach the reader as `Decoder` wraps them, so that nobody forges one by spelling it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from kamerton.core.errors import RenderingError
from kamerton.data.rendering.tokens import Decoder, Encoder, unwrapped
from kamerton.data.rendering.turns import ChatWriter, Turn

__all__ = [
    "AnswerMarks",
    "AnswerReader",
    "Block",
    "Written",
    "find_marks",
    "overlap",
    "split_reasoning",
]

# Words that no template writes by itself.
_ASK, _ANSWER, _REASON = "Qask", "Qanswer", "Qreason"
_CALLING = {
    "role": "assistant",
    "content": "",
    "tool_calls": [
        {"id": "Qcallid01", "function": {"name": "Qtool", "arguments": {"Qkey": "Qvalue"}}}
    ],
}
_THOUGHT = re.compile(r"\s*<think>(.*?)</think>\s*", re.DOTALL)
_CONTROL_FIRST = re.compile(r"\s*(\ue0c2[^\ue0c3]*\ue0c3)")


@dataclass(frozen=True, slots=True)
class Written:
    """An answer, or the next piece of one.

    Attributes:
        text: What the user is told; calls of tools stand in it as the template writes them.
        reasoning: What the model thought before.
    """

    text: str = ""
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Block:
    """What stands around reasoning.

    Attributes:
        start: Before it, without white space.
        end: After it, without white space.
        tail: White space between the end and the answer.
    """

    start: str
    end: str
    tail: str = "\n\n"


_THINK = Block("<think>", "</think>")


@dataclass(frozen=True, slots=True)
class AnswerMarks:
    """What a template writes around an answer, control tokens wrapped.

    Attributes:
        opening: Between the prompt, or the reasoning, and the text.
        closing: Between the text and the token that ends the answer.
        blocks: Of reasoning, the template's own first; think tags are known to all.
        opened: Whether the prompt has opened the first of `blocks` already.
        kept: Control tokens that belong to what is said: those of tool calls.
        turn: What begins the assistant's turn, where channels other than the answer's end with it.
    """

    opening: str = ""
    closing: str = ""
    blocks: tuple[Block, ...] = (_THINK,)
    opened: bool = False
    kept: frozenset[str] = frozenset()
    turn: str = ""

    def inside(self, encoder: Encoder) -> frozenset[str]:
        """List control tokens after which an answer goes on: none of them ends one.

        Args:
            encoder: Knows all control tokens.

        Returns:
            Their texts.
        """
        around = [self.opening, self.closing, self.turn]
        around += [text for block in self.blocks for text in (block.start, block.end)]
        return self.kept.union(text for text in encoder.control if text in "".join(around))


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
    blocks = [_THINK]
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
    channel = _CONTROL_FIRST.match(opening) is not None
    return AnswerMarks(
        opening=opening,
        closing=closing,
        blocks=tuple(blocks),
        opened=opened is not None,
        kept=_kept(writer),
        turn=_wrapped(writer, writer.traits.opening.strip()) if channel else "",
    )


class AnswerReader:
    """Reads one answer as it comes.

    Args:
        marks: What the template writes around answers.
    """

    def __init__(self, marks: AnswerMarks) -> None:
        self._marks = marks
        self._held = ""
        self._block = marks.blocks[0]
        self._place: Literal["start", "reasoning", "after", "answer"] = (
            "reasoning" if marks.opened else "start"
        )
        self._thought = False

    def add(self, text: str) -> Written:
        """Take more text.

        Args:
            text: As `Decoder` gives it.

        Returns:
            What is now certain.
        """
        self._held += text
        said, thought = "", ""
        while True:
            place = self._place
            if place == "start":
                self._begin()
            elif place == "after":
                self._leave()
            elif place == "reasoning":
                thought += self._think()
            else:
                said += self._release(overlap(self._held, self._marks.closing))
            if self._place == place:
                return Written(self._clean(said), self._clean(thought))

    def finish(self, *, ended: bool = True) -> Written:
        """End the answer.

        Args:
            ended: Whether the model ended it itself.

        Returns:
            What was held back.
        """
        held, self._held = self._held, ""
        if self._place == "reasoning":
            thought = held[: len(held) - overlap(held, self._block.end)]
            return Written("", self._clean(thought).rstrip())
        if self._place == "after":
            return Written(self._clean(held).lstrip())
        if self._place == "start":
            # Only what may be the beginning of a mark is held; in a cut answer it is one.
            return Written(self._clean(self._without_opening(held)) if ended else "")
        return Written(self._clean(held.removesuffix(self._marks.closing)))

    def _begin(self) -> None:
        """Tell what the answer begins with, as soon as that is certain."""
        text = self._held.lstrip()
        opening = self._marks.opening.lstrip()
        for block in (None, *self._marks.blocks):
            start = opening if block is None else block.start
            if not start:
                continue
            if text.startswith(start):
                self._held = text[len(start) :]
                self._place = "answer" if block is None else "reasoning"
                self._block = block or self._block
                return
            if start.startswith(text):
                return
        if self._marks.turn and self._other_channel(text):
            return
        self._held = self._without_opening(self._held)
        self._place = "answer"

    def _other_channel(self, text: str) -> bool:
        """Take a channel that is not the answer's for reasoning, unless it calls a tool."""
        first = _CONTROL_FIRST.match(self._marks.opening)
        if first is None or not text.startswith(first[1]):
            return False
        name, mark, rest = text[len(first[1]) :].partition("\ue0c2")
        if not mark:
            return True
        if " to=" in name:
            return False
        self._held = rest.partition("\ue0c3")[2]
        self._block = Block("", self._marks.turn, "")
        self._place = "reasoning"
        return True

    def _think(self) -> str:
        """Give the reasoning so far; white space around it is the template's."""
        at = self._held.find(self._block.end)
        if at >= 0:
            thought, self._held = self._held[:at].rstrip(), self._held[at + len(self._block.end) :]
            self._place = "after"
        else:
            held = overlap(self._held, self._block.end)
            before = self._held[: len(self._held) - held]
            thought = self._release(held + len(before) - len(before.rstrip()))
        if not self._thought:
            thought = thought.lstrip()
            self._thought = bool(thought)
        return thought

    def _leave(self) -> None:
        """Take away what the template writes after reasoning, or the white space that is there."""
        tail = self._block.tail
        if self._held.startswith(tail):
            self._held = self._held[len(tail) :]
        elif tail.startswith(self._held):
            return
        else:
            self._held = self._held.lstrip()
        self._place, self._thought = "start", False

    def _without_opening(self, text: str) -> str:
        return text.removeprefix(self._marks.opening)

    def _release(self, held: int) -> str:
        end = len(self._held) - held
        text, self._held = self._held[:end], self._held[end:]
        return text

    def _clean(self, text: str) -> str:
        return unwrapped(text, self._marks.kept)


def split_reasoning(text: str) -> Written:
    """Take an answer apart that has its reasoning in think tags before it.

    Args:
        text: Of a message.

    Returns:
        Text and reasoning; the text as it is where it does not begin with reasoning.
    """
    found = _THOUGHT.match(text)
    return Written(text[found.end() :], found[1].strip()) if found else Written(text)


def overlap(text: str, mark: str) -> int:
    """Count the characters at the end of a text that may be the beginning of a mark.

    Args:
        text: Any.
        mark: What may come.

    Returns:
        The longest such end; the whole mark counts.
    """
    for length in range(min(len(text), len(mark)), 0, -1):
        if mark.startswith(text[-length:]):
            return length
    return 0


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
