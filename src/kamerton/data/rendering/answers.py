"""What a model wrote, read back as the answer it means: the inverse of rendering.

A template writes more than the answer's text: the header of a channel, a block of reasoning, a
space. All of that is found once, by trying the template out, and taken away again here, so that
whoever reads answers (checks, rewards, chats, votes) sees what stood in the message.

Control tokens reach the reader as `Decoder` wraps them, so that nobody forges one by spelling it.
"""

import re
from dataclasses import dataclass
from typing import Literal

from kamerton.data.rendering.tokens import Encoder, unwrapped

__all__ = [
    "CONTROL_FIRST",
    "THINK",
    "AnswerMarks",
    "AnswerReader",
    "Block",
    "Written",
    "overlap",
    "split_reasoning",
]

_THOUGHT = re.compile(r"\s*<think>(.*?)</think>\s*", re.DOTALL)
CONTROL_FIRST = re.compile(r"\s*(\ue0c2[^\ue0c3]*\ue0c3)")
"""Matches a wrapped control token that a text begins with."""


@dataclass(frozen=True, slots=True)
class Written:
    """An answer, or the next piece of one.

    Attributes:
        text: The answer that the user sees; calls of tools stand in it as the template writes them.
        reasoning: The reasoning before the answer.
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


THINK = Block("<think>", "</think>")
"""Tags that models write whatever their template says."""


@dataclass(frozen=True, slots=True)
class AnswerMarks:
    """What a template writes around an answer, control tokens wrapped.

    Attributes:
        opening: Between the prompt, or the reasoning, and the text.
        closing: Between the text and the token that ends the answer.
        blocks: Blocks of reasoning, the template's own first; think tags are known to all.
        opened: Whether the prompt has opened the first of `blocks` already.
        kept: Control tokens that belong to what is said: those of tool calls.
        turn: What begins the assistant's turn, where channels other than the answer's end with it.
    """

    opening: str = ""
    closing: str = ""
    blocks: tuple[Block, ...] = (THINK,)
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


class AnswerReader:
    """Reads one answer as it comes.

    Args:
        marks: Marks that the template writes around answers.
    """

    def __init__(self, marks: AnswerMarks) -> None:
        self._marks = marks
        self._held = ""
        self._block = marks.blocks[0]
        self._state: Literal["start", "reasoning", "after", "answer"] = (
            "reasoning" if marks.opened else "start"
        )
        self._thought = False

    def add(self, text: str) -> Written:
        """Take more text.

        Args:
            text: Text that `Decoder` gives.

        Returns:
            What is now certain.
        """
        self._held += text
        said, thought = "", ""
        while True:
            state = self._state
            if state == "start":
                self._begin()
            elif state == "after":
                self._leave()
            elif state == "reasoning":
                thought += self._think()
            else:
                said += self._release(overlap(self._held, self._marks.closing))
            if self._state == state:
                return Written(self._clean(said), self._clean(thought))

    def finish(self, *, ended: bool = True) -> Written:
        """End the answer.

        Args:
            ended: Whether the model ended it itself.

        Returns:
            What was held back.
        """
        held, self._held = self._held, ""
        if self._state == "reasoning":
            thought = held[: len(held) - overlap(held, self._block.end)]
            return Written("", self._clean(thought).rstrip())
        if self._state == "after":
            return Written(self._clean(held).lstrip())
        if self._state == "start":
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
                self._state = "answer" if block is None else "reasoning"
                self._block = block or self._block
                return
            if start.startswith(text):
                return
        if self._marks.turn and self._other_channel(text):
            return
        self._held = self._without_opening(self._held)
        self._state = "answer"

    def _other_channel(self, text: str) -> bool:
        """Take a channel that is not the answer's for reasoning, unless it calls a tool."""
        first = CONTROL_FIRST.match(self._marks.opening)
        if first is None or not text.startswith(first[1]):
            return False
        name, mark, rest = text[len(first[1]) :].partition("\ue0c2")
        if not mark:
            return True
        if " to=" in name:
            return False
        self._held = rest.partition("\ue0c3")[2]
        self._block = Block("", self._marks.turn, "")
        self._state = "reasoning"
        return True

    def _think(self) -> str:
        """Give the reasoning so far; white space around it is the template's."""
        at = self._held.find(self._block.end)
        if at >= 0:
            thought, self._held = self._held[:at].rstrip(), self._held[at + len(self._block.end) :]
            self._state = "after"
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
        self._state, self._thought = "start", False

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
        text: Text of a message.

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
