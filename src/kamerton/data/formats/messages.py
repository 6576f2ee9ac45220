"""Turns of a conversation in the form chat templates take, whoever wrote them down."""

import ast
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from kamerton.data.examples import Message
from kamerton.data.formats.calls import without_nulls
from kamerton.data.values import JSON_DECODER, broken_text, kind_of, number_text, plain_value

__all__ = [
    "Unusable",
    "assistant",
    "decoded",
    "is_role",
    "messages_of",
    "tools_of",
    "unused_keys",
    "user",
]

_ROLES = {
    "system": ("system", "developer", "система"),
    "user": ("user", "human", "customer", "client", "prompter", "пользователь", "клиент"),
    "assistant": (
        "assistant",
        "gpt",
        "chatgpt",
        "model",
        "bot",
        "chatbot",
        "ai",
        "agent",
        "operator",
        "ассистент",
        "оператор",
        "бот",
    ),
    "tool": ("tool", "function", "observation", "tool_response", "function_response"),
    "tool_call": ("tool_call", "function_call"),
}
_ROLE_OF = {alias: role for role, aliases in _ROLES.items() for alias in aliases}
_ROLE_KEYS = ("role", "from", "speaker", "author")
_CONTENT_KEYS = ("content", "value", "text", "utterance", "phrase")
_REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
_TEXT_PARTS = ("text", "input_text", "output_text")
_PART_KEYS = ("text", "value", "thinking", "reasoning")
_CALL_KEYS = ("tool_calls", "function_call")
_KEPT_KEYS = ("name", "tool_call_id")
# OpenAI, LLaMA-Factory; ms-swift, Axolotl and others: whether a turn is trained.
_WEIGHT_KEYS = ("weight", "loss_weight")
_TRAIN_KEYS = (*_WEIGHT_KEYS, "loss", "train", "loss_mask", "trainable")


_PLAIN_KEYS = frozenset(("role", "content"))
_PYTHON_LIMIT = 1 << 20
_FLAGS = {"1": True, "true": True, "0": False, "false": False}
_EMPTY: tuple[Any, ...] = (None, "", [], {})


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


def messages_of(value: Any, field: str) -> tuple[Message, ...]:
    """Normalise a conversation.

    Args:
        value: A list of turns, one turn, or text of either (as table cells hold it); a turn in the
            list may be such text too.
        field: What errors call it.

    Returns:
        Turns with the roles system, user, assistant and tool. A tool call written as a turn of its
        own becomes an assistant turn with `tool_calls`.

    Raises:
        Unusable: If a turn is broken, its role unknown, or its content missing or not text.
    """
    value = decoded(value, field)
    if isinstance(value, Mapping):
        value = [value]
    if not isinstance(value, list):
        raise Unusable(field, f"must be a list of turns, got {kind_of(value)}")
    return tuple(
        _message(_opened(turn, f"{field}.{i}"), f"{field}.{i}") for i, turn in enumerate(value)
    )


def is_role(name: Any) -> bool:
    """Tell the name of a speaker in a conversation from other values.

    Args:
        name: Such as "user" or "gpt".

    Returns:
        Whether it is a known one.
    """
    return isinstance(name, str) and name.strip().casefold() in _ROLE_OF


def unused_keys(turn: Mapping[str, Any]) -> list[str]:
    """Name what a turn says and nothing takes.

    Args:
        turn: As it stands in a row; one that `messages_of` takes.

    Returns:
        Keys with a value that is neither null nor empty.
    """
    if turn.keys() <= _PLAIN_KEYS:
        return []
    speaker = _key(turn, _ROLE_KEYS) or "role"
    role = _ROLE_OF.get(str(turn.get(speaker)).strip().casefold())
    said = _key(turn, _CONTENT_KEYS) or "content"
    taken = {speaker, said, *_KEPT_KEYS}
    # The same text under another name is not lost.
    taken.update(key for key in _CONTENT_KEYS if turn.get(key) == turn.get(said))
    if role not in ("system", "user", "tool"):
        taken.update((*_REASONING_KEYS, *_CALL_KEYS))
    taken.update(_TRAIN_KEYS)
    return [str(key) for key, value in turn.items() if key not in taken and value not in _EMPTY]


def tools_of(value: Any, field: str = "tools") -> tuple[Mapping[str, Any], ...]:
    """Normalise tool schemas.

    Args:
        value: A list of schemas, JSON text of one, or nothing.
        field: What errors call it.

    Returns:
        Schemas as `{"type": "function", "function": {...}}`, without keys that are null.

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
    schemas = map(without_nulls, value)
    return tuple(
        tool if "function" in tool else {"type": "function", "function": tool} for tool in schemas
    )


def decoded(value: Any, field: str, *, always: bool = False) -> Any:
    """Decode what was stored as text, as table cells hold it: JSON, or Python's way to write it.

    Args:
        value: Text is decoded, anything else stays as it is.
        field: What errors call it.
        always: Whether text may be any value, not only a list or an object.

    Returns:
        The value.

    Raises:
        Unusable: If text is no such value.
    """
    if not isinstance(value, str):
        return value
    if always or value.lstrip()[:1] in ("[", "{"):
        try:
            found = JSON_DECODER.decode(value)
        except (ValueError, RecursionError):
            found = _of_python(value)
            if found is None:
                raise Unusable(field, "must be JSON, cannot be decoded") from None
        fault = broken_text({field: found})
        if fault:
            raise Unusable(*fault)
        return found
    raise Unusable(field, "must be a list or an object, or JSON text of one, got other text")


def _of_python(text: str) -> Any:
    """Decode literals in Python's notation, as `str` of a list writes them; None if it is none."""
    if len(text) > _PYTHON_LIMIT:
        return None
    with warnings.catch_warnings():
        # Backslashes that escape nothing are the author's own.
        warnings.simplefilter("ignore")
        try:
            return plain_value(ast.literal_eval(text.strip()))
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None


def _opened(turn: Any, field: str) -> Any:
    """Decode a turn that is stored as text in a list."""
    is_object = isinstance(turn, str) and turn.lstrip().startswith("{")
    return decoded(turn, field) if is_object else turn


def _message(turn: Any, field: str) -> Message:
    if not isinstance(turn, Mapping):
        raise Unusable(field, f"a turn must be an object, got {kind_of(turn)}")
    role = _role(turn, field)
    key = _key(turn, _CONTENT_KEYS) or "content"
    content, reasoning = _content(turn.get(key), f"{field}.{key}")
    message: dict[str, Any] = {"role": role, "content": content}
    calls = next((turn[key] for key in _CALL_KEYS if turn.get(key)), None)
    if role == "tool_call":
        message = {"role": "assistant", "content": ""}
        calls = decoded(content, f"{field}.{key}")
    if calls or role == "tool_call":
        message["tool_calls"] = _calls(calls, f"{field}.tool_calls")
    answers = message["role"] == "assistant"
    if reasoning and not answers:
        raise Unusable(f"{field}.{key}", f"reasoning must be the assistant's, found the {role}'s")
    if answers and (thoughts := _thoughts(turn, reasoning)):
        message["reasoning_content"] = thoughts
    for kept in _KEPT_KEYS:
        if isinstance(turn.get(kept), str) and turn[kept]:
            message[kept] = turn[kept]
    if not _is_trained(turn, field, message["role"]):
        message["weight"] = 0
    if role in ("user", "assistant") and not content.strip() and not calls:
        if key not in turn and unused_keys(turn):
            found = ", ".join(map(str, turn))
            raise Unusable(field, f"a turn must have content, found the keys {found}")
        raise Unusable(f"{field}.{key}", f"the {role} turn is empty")
    return message


def _key(turn: Mapping[str, Any], keys: Sequence[str]) -> str | None:
    """Find the first key that has a value; tables fill the others with null."""
    for key in keys:
        if turn.get(key) is not None:
            return key
    return None


def _is_trained(turn: Mapping[str, Any], field: str, role: str) -> bool:
    """Read the author's flags; of a turn that is not the assistant's none may ask for training."""
    if turn.keys() <= _PLAIN_KEYS:
        return True
    flags = {key: turn[key] for key in _TRAIN_KEYS if turn.get(key) is not None}
    read = {}
    for key, value in flags.items():
        word = number_text(value) if isinstance(value, int | float) else value
        flag = _FLAGS.get(word.strip().casefold()) if isinstance(word, str) else None
        if flag is None:
            raise Unusable(f"{field}.{key}", f"must be 0 or 1, got {_shown(word)}")
        read[key] = flag
    if len(set(read.values())) > 1:
        said = ", ".join(f"{key} = {str(flag).lower()}" for key, flag in read.items())
        raise Unusable(field, f"flags must agree whether the turn is trained, found {said}")
    # A weight of 1 says nothing; exports give it to every turn.
    asking = next((key for key, flag in read.items() if flag and key not in _WEIGHT_KEYS), None)
    if role != "assistant" and asking:
        raise Unusable(
            f"{field}.{asking}", f"must be false: the {role}'s turn is never an answer to learn"
        )
    return role != "assistant" or all(read.values())


def _thoughts(turn: Mapping[str, Any], in_parts: str) -> str:
    """Join what was thought before an answer; servers say the same under several names."""
    found = [in_parts, *(turn.get(key) for key in _REASONING_KEYS)]
    texts = [text for text in found if isinstance(text, str) and text.strip()]
    return "\n\n".join(dict.fromkeys(texts))


def _role(turn: Mapping[str, Any], field: str) -> str:
    key = _key(turn, _ROLE_KEYS)
    if key is None:
        raise Unusable(
            field, f"a turn must have a role, found the keys {', '.join(map(str, turn))}"
        )
    name = turn[key]
    # In dialogue corpora the speakers are USER and SYSTEM, and SYSTEM is the one who answers.
    if key == "speaker" and isinstance(name, str) and name.strip().casefold() == "system":
        return "assistant"
    role = _ROLE_OF.get(name.strip().casefold()) if isinstance(name, str) else None
    if role is None:
        raise Unusable(
            f"{field}.{key}", f"must be system, user, assistant or tool, got {_shown(name)}"
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
        kind = (part.get("type") or "text") if isinstance(part, Mapping) else None
        text = part
        if isinstance(part, Mapping):
            text = part.get(_key(part, _PART_KEYS) or "text")
        if kind not in (None, *_TEXT_PARTS, "reasoning", "thinking"):
            raise Unusable(f"{field}.{i}", f"only text can be used, got a part of type '{kind}'")
        if not isinstance(text, str):
            raise Unusable(f"{field}.{i}", f"must be text, got {kind_of(text)}")
        (texts if kind in (None, *_TEXT_PARTS) else reasonings).append(text)
    return "".join(texts), "".join(reasonings)


def _calls(value: Any, field: str) -> list[dict[str, Any]]:
    calls: Sequence[Any] = value if isinstance(value, list) else [value]
    if not calls:
        raise Unusable(field, "must hold a tool call, found none")
    normal = []
    for i, call in enumerate(calls):
        function = (call.get("function") or call) if isinstance(call, Mapping) else None
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise Unusable(f"{field}.{i}", "a tool call must be an object with a name")
        arguments = function.get("arguments")
        arguments = {} if arguments is None else arguments
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
