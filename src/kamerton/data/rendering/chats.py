"""Chats in the form that a given chat template takes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kamerton.core.errors import RenderingError
from kamerton.core.protocols import Chat
from kamerton.data.rendering.tokens import Encoder

__all__ = ["ReasoningKey", "Traits", "changes_of", "normalise", "protect_all"]

ReasoningKey = Literal["reasoning_content", "reasoning", "thinking"]
"""Under which key of a message a template looks for reasoning."""

_KEYS = ("role", "content", "tool_calls", "tool_call_id", "name", "reasoning_content", "weight")


@dataclass(frozen=True, slots=True)
class Traits:
    """What a template can and cannot do, found by trying it.

    Attributes:
        system: False when system text must go into the first user turn.
        late_system: False when system text can stand at the beginning only.
        opens: Whether an assistant's turn can come before the first user's.
        repeats: False when neighbours of one role must be merged.
        calls: How it takes the arguments of tool calls; None when it ignores calls.
        tools: Whether it writes tool schemas.
        reasoning: Where it takes reasoning from: a key of the message, or think tags `inline` in
            the content; None when it writes none.
        opening: What its generation prompt adds to the messages.
        header: What it writes between the messages and an answer, the opening included.
        stops: Control tokens that end an answer, the usual one first.
    """

    system: bool = True
    late_system: bool = True
    opens: bool = True
    repeats: bool = True
    calls: Literal["mapping", "text"] | None = "mapping"
    tools: bool = True
    reasoning: ReasoningKey | Literal["inline"] | None = None
    opening: str = ""
    header: str = ""
    stops: tuple[str, ...] = ()


def normalise(messages: Chat, encoder: Encoder, traits: Traits) -> list[dict[str, Any]]:
    """Bring messages into the form a template takes.

    Args:
        messages: With `role` and `content`, text or text parts; `weight` 0 marks an answer that
            is not to be trained.
        encoder: Hides control tokens that stand in messages.
        traits: Traits of the template.

    Returns:
        New messages: control tokens hidden, arguments of calls parsed; where the template demands
        it, an opening answer left out, and system text and neighbours of one role merged.
    """
    cleaned = [_clean(message, encoder, traits) for message in messages]
    start, end = _opening(cleaned, traits)
    cleaned = cleaned[:start] + cleaned[end:]
    if not (traits.system and traits.late_system):
        cleaned = _without_late_system(cleaned)
    if not traits.system:
        cleaned = _without_system(cleaned)
    return cleaned if traits.repeats else _merge_neighbours(cleaned)


def changes_of(messages: Chat, traits: Traits) -> tuple[str, ...]:
    """Say what a template does not take and a user would miss.

    Args:
        messages: Messages that `normalise` takes.
        traits: Traits of the template.

    Returns:
        A sentence for each kind of change.
    """
    start, end = _opening(messages, traits)
    notes = []
    if start < end:
        notes.append(
            "what the assistant says before the first user turn is left out: the chat template "
            "begins with the user"
        )
    if not traits.late_system and any(
        message["role"] == "system" for message in messages[_num_system(messages) :]
    ):
        notes.append(
            "later system text is moved into the user turn beside it: the chat template takes "
            "system text at the beginning only"
        )
    return tuple(notes)


def protect_all(value: Any, encoder: Encoder) -> Any:
    """Hide control tokens in all texts of a nested value.

    Args:
        value: Anything JSON holds.
        encoder: Hides them.

    Returns:
        A copy.
    """
    if isinstance(value, str):
        return encoder.protect(value)
    if isinstance(value, Mapping):
        return {key: protect_all(item, encoder) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [protect_all(item, encoder) for item in value]
    return value


def _clean(message: Mapping[str, Any], encoder: Encoder, traits: Traits) -> dict[str, Any]:
    if not isinstance(message.get("role"), str):
        raise RenderingError(f"a message must have a role, found keys {sorted(message)}")
    cleaned = {key: message[key] for key in _KEYS if message.get(key) is not None}
    # Templates print a missing content in many ways, an empty one in one.
    cleaned["content"] = encoder.protect(_text_of(message.get("content")))
    if "reasoning_content" in cleaned:
        reasoning = encoder.protect(_text_of(cleaned.pop("reasoning_content")))
        _put_reasoning(cleaned, reasoning, traits)
    if calls := cleaned.get("tool_calls"):
        cleaned["tool_calls"] = [_clean_call(call, encoder, traits) for call in calls]
    return cleaned


def _put_reasoning(message: dict[str, Any], reasoning: str, traits: Traits) -> None:
    """Say the reasoning where the template reads it."""
    if traits.reasoning == "inline":
        # A message that is not the assistant's has none in any template.
        if message["role"] == "assistant" and reasoning.strip():
            before = f"<think>\n{reasoning.strip()}\n</think>\n\n"
            message["content"] = before + message["content"]
        return
    message[traits.reasoning or "reasoning_content"] = reasoning


def _clean_call(call: Mapping[str, Any], encoder: Encoder, traits: Traits) -> dict[str, Any]:
    function = call.get("function") or call
    if not isinstance(function.get("name"), str):
        raise RenderingError("a tool call must name its function")
    arguments = function.get("arguments", {})
    if traits.calls == "text":
        if not isinstance(arguments, str):
            arguments = json.dumps(arguments, ensure_ascii=False)
    elif isinstance(arguments, str):
        arguments = _parsed(arguments)
    name = encoder.protect(function["name"])
    cleaned = {"name": name, "arguments": protect_all(arguments, encoder)}
    identity = {"id": call["id"]} if call.get("id") is not None else {}
    return {"type": "function", **identity, "function": cleaned}


def _text_of(content: Any) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, Sequence):
        texts = [_part(part) for part in content]
        if None not in texts:
            return "".join(text for text in texts if text is not None)
    raise RenderingError("content must be text or text parts; images and sound are not supported")


def _part(part: Any) -> str | None:
    text = part.get("text") if isinstance(part, Mapping) else part
    return text if isinstance(text, str) else None


def _parsed(arguments: str) -> Any:
    try:
        parsed = json.loads(arguments)
    except ValueError:
        return arguments
    return parsed if isinstance(parsed, dict) else arguments


def _num_system(messages: Chat) -> int:
    """Count the system turns at the beginning."""
    found = (i for i, message in enumerate(messages) if message["role"] != "system")
    return next(found, len(messages))


def _opening(messages: Chat, traits: Traits) -> tuple[int, int]:
    """Find the turns to leave out, which stand before the first user's; first and end."""
    start = _num_system(messages)
    first = next((i for i, message in enumerate(messages) if message["role"] == "user"), start)
    return (start, start) if traits.opens else (start, first)


def _without_late_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put system text that is not at the beginning into the user turn before or after it."""
    start = _num_system(messages)
    moved = messages[:start]
    waiting: list[dict[str, Any]] = []
    for message in messages[start:]:
        if message["role"] == "system":
            text = {**message, "role": "user"}
            if moved and moved[-1]["role"] == "user":
                moved[-1] = _join(moved[-1], text)
            else:
                waiting.append(text)
        else:
            if message["role"] == "user":
                for text in reversed(waiting):
                    message = _join(text, message)
            else:
                # An answer follows at once: the text is a turn of its own.
                moved += waiting
            waiting = []
            moved.append(message)
    return moved + waiting


def _without_system(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Put system text in front of the first user turn."""
    system = [m["content"] for m in messages if m["role"] == "system"]
    rest = [m for m in messages if m["role"] != "system"]
    if not system:
        return rest
    first = next((i for i, m in enumerate(rest) if m["role"] == "user"), None)
    if first is None:
        return [{"role": "user", "content": "\n\n".join(system)}, *rest]
    text = "\n\n".join([*system, rest[first]["content"]])
    return [*rest[:first], {**rest[first], "content": text}, *rest[first + 1 :]]


def _merge_neighbours(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join neighbours of one role; turns with tool calls or results stay as they are."""
    merged: list[dict[str, Any]] = []
    for message in messages:
        last = merged[-1] if merged else {}
        alike = last.get("role") == message["role"] and message["role"] != "tool"
        if alike and not last.get("tool_calls") and not message.get("tool_calls"):
            merged[-1] = _join(last, message)
        else:
            merged.append(message)
    return merged


def _join(first: dict[str, Any], second: dict[str, Any]) -> dict[str, Any]:
    joined = {**first, "content": f"{first['content']}\n\n{second['content']}"}
    # Half an answer cannot be trained: one that is left out takes its neighbour with it.
    if 0 in (first.get("weight"), second.get("weight")):
        joined["weight"] = 0
    return joined
