"""Messages to text, turn by turn: what the model is shown and what it must then write.

For an assistant's turn the prompt is the template's text of the messages before it, with the
generation prompt; the answer is what the template writes after exactly that text. So the mask
follows from the construction and needs no search for the answer inside the whole text.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from kamerton.core.errors import RenderingError
from kamerton.core.protocols import Chat
from kamerton.data.rendering.chats import Traits, normalise, protect_all
from kamerton.data.rendering.templates import Tokenizer, template_of, with_date
from kamerton.data.rendering.tokens import Encoder

__all__ = ["ChatWriter", "Tools", "Turn"]

Tools = Sequence[Mapping[str, Any]]
"""Schemas of the functions a model may call."""

_OPEN_THINKING = re.compile(r"<think>\s*$")
_CLOSED_THINKING = re.compile(r"</think>\s*$")
_THINKING_TAGS = re.compile(r"</?think>")
_THINKING_HINT = "if the answer holds reasoning, set render.thinking = true or remove it"


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer of the assistant and all that stands before it.

    Attributes:
        index: Which message it is.
        prompt: The text before it, generation prompt included.
        answer: Its text to the end-of-turn token.
        closed: False when the template ends the turn with no control token: EOS is to be added.
    """

    index: int
    prompt: str
    answer: str
    closed: bool

    @property
    def text(self) -> str:
        """All text to the end of the turn."""
        return self.prompt + self.answer


@dataclass(frozen=True)
class ChatWriter:
    """Writes messages through a chat template.

    Attributes:
        tokenizer: Owns the template.
        encoder: Hides control tokens that stand in messages.
        thinking: Passed to templates that have a thinking switch.
        traits: Traits of the template.
        arguments: What else templates are given, by name.
        date: What they take for today, such as "2026-11-30"; empty for the day that it is.
    """

    tokenizer: Tokenizer
    encoder: Encoder
    thinking: bool
    traits: Traits = field(default_factory=Traits)
    arguments: Mapping[str, Any] = field(default_factory=dict)
    date: str = ""

    def template(self, *, tools: bool = False) -> str:
        """Give the chat template, with its date.

        Args:
            tools: Whether the chat offers tools.

        Returns:
            Jinja text.
        """
        template = template_of(self.tokenizer, tools=tools)
        return with_date(template, self.date) if self.date else template

    @property
    def given(self) -> dict[str, Any]:
        """What every call of the template is given beside messages."""
        return {**self.arguments, "enable_thinking": self.thinking, "thinking": self.thinking}

    def with_thinking(self) -> "ChatWriter":
        """Give a writer that lets templates think, to see what they write then."""
        return replace(self, thinking=True)

    def normalise(self, messages: Chat) -> list[dict[str, Any]]:
        """Bring messages into the form the template takes.

        Args:
            messages: As people write them.

        Returns:
            New messages, which the other methods take.
        """
        return normalise(messages, self.encoder, self.traits)

    def write(self, messages: Chat, tools: Tools = (), *, opening: bool) -> str:
        """Call the template.

        Args:
            messages: Normalised.
            tools: Schemas.
            opening: Whether to add the generation prompt.

        Returns:
            The text, with placeholders for hidden control tokens.

        Raises:
            RenderingError: If the template refuses; with its own words.
        """
        plain = [{k: v for k, v in message.items() if k != "weight"} for message in messages]
        try:
            return str(
                self.tokenizer.apply_chat_template(
                    plain,
                    tools=[protect_all(tool, self.encoder) for tool in tools] or None,
                    chat_template=self.template(tools=bool(tools)),
                    add_generation_prompt=opening,
                    tokenize=False,
                    **self.given,
                )
            )
        # A template is somebody's program: anything may come out of it.
        except Exception as error:
            reason = str(error).strip() or type(error).__name__
            raise RenderingError(f"the chat template refuses the messages: {reason}") from error

    def prompt(self, messages: Chat, tools: Tools = ()) -> str:
        """Write what the model sees before it answers.

        Args:
            messages: Normalised.
            tools: Schemas.

        Returns:
            The text, generation prompt included, also where the template leaves that out.

        Raises:
            RenderingError: If the template refuses, or deletes a user's or the system's text.
        """
        if not messages:
            raise RenderingError("a chat must have a message before the answer, found none")
        if tools and not self.traits.tools:
            raise RenderingError(
                "the chat template has no place for tools",
                hint="describe the tools in the system text, or take a base that knows tools",
            )
        text = self.write(messages, tools, opening=True)
        for message in messages:
            content = str(message["content"]).strip()
            if message["role"] in ("system", "user") and content not in text:
                raise RenderingError(
                    f"the chat template deletes {message['role']} text: {_short(content)!r}"
                )
        # Spaces before an answer belong to its first token.
        return text if self.traits.opening else text + self.traits.header.rstrip(" ")

    def turn(self, messages: Chat, tools: Tools = (), *, prompt: str | None = None) -> Turn:
        """Split a chat that ends with an answer into prompt and answer.

        Args:
            messages: Normalised; the last is the assistant's.
            tools: Schemas.
            prompt: What `prompt` wrote for the messages before the answer, where it is known.

        Returns:
            The last turn.

        Raises:
            RenderingError: If the answer is empty, or the template deletes a part of it.
        """
        message = messages[-1]
        calls = message.get("tool_calls") or ()
        if calls and not self.traits.calls:
            raise RenderingError(
                "the chat template has no place for tool calls",
                hint="write the call into the answer's text",
            )
        if not calls and not str(message["content"]).strip():
            raise RenderingError("an answer must not be empty")
        prompt = self.prompt(messages[:-1], tools) if prompt is None else prompt
        full = self.write(messages, tools, opening=False)
        if full.startswith(prompt):
            answer = full[len(prompt) :]
        else:
            answer = self._answer_after(prompt, full, message)
        if _CLOSED_THINKING.search(prompt) and answer.lstrip().startswith("<think>"):
            raise RenderingError(
                "an answer must hold no reasoning where its prompt has closed the thinking block",
                hint=_THINKING_HINT,
            )
        answer, closed = self._close(answer)
        _check_nothing_deleted(answer, message, self._reasoning_of(message))
        return Turn(len(messages) - 1, prompt, answer, closed)

    def _answer_after(self, prompt: str, full: str, message: Mapping[str, Any]) -> str:
        """Take the answer from a text that does not begin with its prompt."""
        start = prompt.removesuffix(self.traits.opening) + self.traits.header
        if not full.startswith(start):
            raise RenderingError(
                "the chat template must write an answer after its generation prompt, "
                "found another text there",
                hint=_THINKING_HINT,
            )
        answer = full[len(start) :]
        if not _OPEN_THINKING.search(prompt):
            return answer
        # The prompt has opened a block which the template leaves out of a finished answer.
        if answer.startswith("<think>"):
            return answer.removeprefix("<think>").lstrip("\n")
        reasoning = self._reasoning_of(message)
        written = str(message["content"])
        if "</think>" in written and not reasoning:
            reasoning = written.rpartition("</think>")[0].rpartition("<think>")[2]
        return reasoning.strip("\n") + "\n</think>\n\n" + answer.lstrip("\n")

    def _reasoning_of(self, message: Mapping[str, Any]) -> str:
        return str(message.get(self.traits.reasoning or "reasoning_content") or "")

    @cached_property
    def _controls(self) -> tuple[str, ...]:
        return tuple(sorted(self.encoder.control, key=len, reverse=True))

    def _close(self, answer: str) -> tuple[str, bool]:
        """Cut an answer after its end-of-turn token; what follows belongs to the next prompt."""
        cut = None
        rest = answer.rstrip()
        while rest.endswith(self._controls):
            control = next(text for text in self._controls if rest.endswith(text))
            if control in self.traits.stops:
                cut = len(rest)
            rest = rest.removesuffix(control).rstrip()
        return (answer[:cut], True) if cut is not None else (answer.rstrip(), False)


def _check_nothing_deleted(answer: str, message: Mapping[str, Any], reasoning: str) -> None:
    parts = _THINKING_TAGS.split(str(message["content"]))
    parts += _THINKING_TAGS.split(reasoning)
    parts += [call["function"]["name"] for call in message.get("tool_calls") or ()]
    missing = next((part.strip() for part in parts if part.strip() not in answer), None)
    if missing is not None:
        raise RenderingError(
            f"the chat template deletes a part of the answer: {_short(missing)!r}",
            hint=_THINKING_HINT,
        )


def _short(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
