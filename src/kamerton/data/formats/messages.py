"""Turns of a conversation in the form chat templates take, whoever wrote them down."""

from collections.abc import Mapping, Sequence
from typing import Any

from kamerton.data.examples import Message
from kamerton.data.formats.dialogues import dialogue_of
from kamerton.data.formats.speakers import Speakers
from kamerton.data.values import JSON_DECODER, broken_text, kind_of

__all__ = ["Unusable", "assistant", "decoded", "messages_of", "tools_of", "user"]

_KEPT_KEYS = ("name", "tool_call_id", "reasoning_content")
_REASONING_PARTS = ("reasoning", "thinking")
# Telegram's exports cut a text where its form changes.
_TEXT_PARTS = (
    *("text", "plain", "bold", "italic", "underline", "strikethrough", "spoiler", "code", "pre"),
    *("blockquote", "link", "text_link", "mention", "mention_name", "hashtag", "cashtag", "phone"),
    *("email", "bot_command", "bank_card", "custom_emoji"),
)


class Unusable(Exception):
    """A field of a row cannot be used; becomes a `Rejection`.

    Args:
        field: Dotted.
        reason: What must hold and what was found.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


def user(text: str) -> Message:
    """Make a user turn.

    Args:
        text: What is said.

    Returns:
        The turn.
    """
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    """Make an assistant turn.

    Args:
        text: What is said.

    Returns:
        The turn.
    """
    return {"role": "assistant", "content": text}


def messages_of(value: Any, field: str, speakers: Speakers | None = None) -> tuple[Message, ...]:
    """Normalise a conversation.

    Args:
        value: A list of turns, one turn, JSON text of either (as table cells hold it), or a
            dialogue written as text.
        field: What errors call it.
        speakers: Says who is who; turns that it leaves out are counted there.

    Returns:
        Turns with the roles system, user, assistant and tool. A tool call written as a turn of its
        own becomes an assistant turn with `tool_calls`.

    Raises:
        Unusable: If a turn is broken, its role unknown, or its content missing or not text.
    """
    speakers = speakers or Speakers()
    written = dialogue_of(value, speakers) if isinstance(value, str) else None
    value = written or decoded(value, field)
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list):
        raise Unusable(field, f"must be a list of turns, got {kind_of(value)}")
    messages = []
    for i, turn in enumerate(value):
        left_out = speakers.leaves_out(turn) if isinstance(turn, Mapping) else ""
        if left_out:
            speakers.left_out[left_out] += 1
        else:
            messages.append(_message(turn, f"{field}.{i}", speakers))
    return tuple(messages)


def tools_of(value: Any, field: str = "tools") -> tuple[Mapping[str, Any], ...]:
    """Normalise tool schemas.

    Args:
        value: A list of schemas, JSON text of one, or nothing.
        field: What errors call it.

    Returns:
        Schemas as `{"type": "function", "function": {...}}`.

    Raises:
        Unusable: If it is neither.
    """
    if value is None or (isinstance(value, str) and not value.strip()):
        return ()
    value = decoded(value, field)
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list) or not all(isinstance(tool, Mapping) for tool in value):
        raise Unusable(field, "must be a list of tool schemas")
    return tuple(
        tool if "function" in tool else {"type": "function", "function": tool} for tool in value
    )


def decoded(value: Any, field: str, *, always: bool = False) -> Any:
    """Decode JSON that was stored as text, as table cells hold it.

    Args:
        value: Text is decoded, anything else stays as it is.
        field: What errors call it.
        always: Whether text may be any JSON, not only a list or an object.

    Returns:
        The value.

    Raises:
        Unusable: If text is not such JSON.
    """
    if not isinstance(value, str):
        return value
    if always or value.lstrip()[:1] in ("[", "{"):
        try:
            found = JSON_DECODER.decode(value)
        except (ValueError, RecursionError):
            raise Unusable(field, "must be JSON, cannot be decoded") from None
        fault = broken_text({field: found})
        if fault:
            raise Unusable(*fault)
        return found
    raise Unusable(field, "must be a list or an object, or JSON text of one, got other text")


def _message(turn: Any, field: str, speakers: Speakers) -> Message:
    if not isinstance(turn, Mapping):
        raise Unusable(field, f"a turn must be an object, got {kind_of(turn)}")
    role = _role(turn, field, speakers)
    key, said = speakers.said(turn)
    content, reasoning = _content(said, f"{field}.{key}")
    message: dict[str, Any] = {"role": role, "content": content}
    calls = turn.get("tool_calls") or turn.get("function_call")
    if role == "tool_call":
        message = {"role": "assistant", "content": ""}
        calls = decoded(content, f"{field}.{key}")
    if calls or role == "tool_call":
        message["tool_calls"] = _calls(calls, f"{field}.tool_calls")
    if reasoning:
        message["reasoning_content"] = reasoning
    for kept in _KEPT_KEYS:
        if isinstance(turn.get(kept), str) and turn[kept]:
            message[kept] = turn[kept]
    weight = turn.get("weight", turn.get("loss_weight"))
    if message["role"] == "assistant" and weight is not None and weight != 1:
        # OpenAI's and LLaMA-Factory's way to leave a turn untrained.
        if weight != 0:
            raise Unusable(f"{field}.weight", f"must be 0 or 1, got {weight!r}")
        message["weight"] = 0
    if role in ("user", "assistant") and not content.strip() and not calls:
        raise Unusable(f"{field}.{key}", f"the {role} turn is empty")
    return message


def _role(turn: Mapping[str, Any], field: str, speakers: Speakers) -> str:
    key, speaker, role = speakers.who(turn)
    if not key:
        raise Unusable(
            field, f"a turn must have a role, found the keys {', '.join(map(str, turn))}"
        )
    if role is None:
        raise Unusable(
            f"{field}.{key}",
            f"must be system, user, assistant or tool, got {_shown(speaker)}; "
            "data.roles says who is who",
        )
    return role


def _content(value: Any, field: str) -> tuple[str, str]:
    """Give text and reasoning of plain or typed content."""
    if value is None:
        return "", ""
    if isinstance(value, str):
        return value, ""
    if not isinstance(value, list):
        raise Unusable(field, f"must be text, got {kind_of(value)}")
    texts: list[str] = []
    reasonings: list[str] = []
    for i, part in enumerate(value):
        kind = part.get("type", "text") if isinstance(part, Mapping) else None
        text = part.get("text", part.get("value")) if isinstance(part, Mapping) else part
        if kind is not None and kind not in (*_TEXT_PARTS, *_REASONING_PARTS):
            raise Unusable(f"{field}.{i}", f"only text can be used, got a part of type '{kind}'")
        if not isinstance(text, str):
            raise Unusable(f"{field}.{i}", f"must be text, got {kind_of(text)}")
        (reasonings if kind in _REASONING_PARTS else texts).append(text)
    return "".join(texts), "".join(reasonings)


def _calls(value: Any, field: str) -> list[dict[str, Any]]:
    calls: Sequence[Any] = value if isinstance(value, list) else [value]
    if not calls:
        raise Unusable(field, "must hold a tool call, found none")
    normal = []
    for i, call in enumerate(calls):
        function = call.get("function", call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise Unusable(f"{field}.{i}", "a tool call must be an object with a name")
        arguments = function.get("arguments", {})
        if isinstance(arguments, str):
            # Chat templates write arguments as JSON themselves; text would be escaped twice.
            arguments = decoded(arguments or "{}", f"{field}.{i}.arguments", always=True)
        if not isinstance(arguments, Mapping):
            raise Unusable(f"{field}.{i}.arguments", f"must be an object, got {kind_of(arguments)}")
        normal.append(
            {
                **({"id": call["id"]} if isinstance(call.get("id"), str) else {}),
                "type": "function",
                "function": {"name": function["name"], "arguments": dict(arguments)},
            }
        )
    return normal


def _shown(value: Any) -> str:
    return f"'{value[:40]}'" if isinstance(value, str) else kind_of(value)
