"""Turns of a conversation in the form chat templates take, whoever wrote them down."""

import ast
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from kamerton.data.examples import Message
from kamerton.data.formats.calls import without_nulls
from kamerton.data.formats.dialogues import dialogue_of
from kamerton.data.formats.speakers import CONTENT_KEYS, Speakers
from kamerton.data.values import (
    JSON_DECODER,
    broken_text,
    is_blank,
    kind_of,
    number_text,
    plain_value,
)

__all__ = [
    "TRAIN_KEYS",
    "Unusable",
    "assistant",
    "decoded",
    "messages_of",
    "tools_of",
    "unused_keys",
    "user",
]

_REASONING_KEYS = ("reasoning_content", "reasoning", "thinking")
_REASONING_PARTS = ("reasoning", "thinking")
# OpenAI's; Telegram's exports cut a text where its form changes.
_TEXT_PARTS = (
    *("text", "input_text", "output_text"),
    *("plain", "bold", "italic", "underline", "strikethrough", "spoiler", "code", "pre"),
    *("blockquote", "link", "text_link", "mention", "mention_name", "hashtag", "cashtag", "phone"),
    *("email", "bot_command", "bank_card", "custom_emoji"),
)
_PART_KEYS = ("text", "value", "thinking", "reasoning")
_CALL_KEYS = ("tool_calls", "function_call")
_KEPT_KEYS = ("name", "tool_call_id")
_WEIGHT_KEYS = ("weight", "loss_weight")
TRAIN_KEYS = (*_WEIGHT_KEYS, "loss", "train", "loss_mask", "trainable")
"""Keys of a turn that say whether it is trained: of OpenAI, LLaMA-Factory, ms-swift, Axolotl."""
_PLAIN_KEYS = frozenset(("role", "content"))
_PYTHON_LIMIT = 1 << 20
_FLAGS = {"1": True, "true": True, "0": False, "false": False}
_EMPTY: tuple[Any, ...] = (None, "", [], {})
_SENTENCE_WORDS = 4


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
        text: Text of the turn.

    Returns:
        The turn.
    """
    return {"role": "user", "content": text}


def assistant(text: str) -> Message:
    """Make an assistant turn.

    Args:
        text: Text of the turn.

    Returns:
        The turn.
    """
    return {"role": "assistant", "content": text}


def messages_of(value: Any, field: str, speakers: Speakers | None = None) -> tuple[Message, ...]:
    """Normalise a conversation.

    Args:
        value: A list of turns, one turn, text of either (as table cells hold it), or a dialogue
            written as text; a turn in the list may be text of one too.
        field: Its name in errors.
        speakers: The roles of speakers; turns that it leaves out are counted there.

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
        turn = _opened(turn, f"{field}.{i}")
        left_out = speakers.leaves_out(turn) if isinstance(turn, Mapping) else ""
        if left_out:
            speakers.left_out[left_out] += 1
        else:
            messages.append(_message(turn, f"{field}.{i}", speakers))
    return tuple(messages)


def unused_keys(turn: Mapping[str, Any], speakers: Speakers) -> list[str]:
    """Name what a turn says and nothing takes.

    Args:
        turn: A turn of a row that `messages_of` takes.
        speakers: The roles of speakers.

    Returns:
        Keys with a value that is neither null nor empty; of turns in messengers' and help desks'
        logs, which are full of dates and numbers, those with a sentence.
    """
    if turn.keys() <= _PLAIN_KEYS or speakers.leaves_out(turn):
        return []
    who, _, role = speakers.who(turn)
    key, said = speakers.said(turn)
    taken = {who.split(".")[0], key.split(".")[0], *_KEPT_KEYS, *TRAIN_KEYS}
    if role not in ("system", "user", "tool"):
        taken.update((*_REASONING_KEYS, *_CALL_KEYS))
    # The same text under another name is not lost.
    taken.update(key for key in CONTENT_KEYS if turn.get(key) == said)
    is_log = speakers.is_log(turn)
    return [
        str(key)
        for key, value in turn.items()
        if key not in taken and value not in _EMPTY and (not is_log or _is_sentence(value))
    ]


def tools_of(value: Any, field: str = "tools") -> tuple[Mapping[str, Any], ...]:
    """Normalise tool schemas.

    Args:
        value: A list of schemas, JSON text of one, or nothing.
        field: Its name in errors.

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
        field: Its name in errors.
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


def _is_sentence(value: Any) -> bool:
    """Tell what somebody wrote from marks; HTML repeats a text, and Telegram has "(File ...)"."""
    is_text = isinstance(value, str) and value.lstrip()[:1] not in ("<", "(")
    return is_text and len(value.split()) >= _SENTENCE_WORDS


def _message(turn: Any, field: str, speakers: Speakers) -> Message:
    if not isinstance(turn, Mapping):
        raise Unusable(field, f"a turn must be an object, got {kind_of(turn)}")
    role = _role(turn, field, speakers)
    key, said = speakers.said(turn)
    content, reasoning = _content(said, f"{field}.{key}")
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
    if role in ("user", "assistant") and is_blank(content) and not calls:
        if said is None and unused_keys(turn, speakers):
            found = ", ".join(map(str, turn))
            raise Unusable(field, f"a turn must have content, found the keys {found}")
        raise Unusable(f"{field}.{key}", f"the {role} turn is empty")
    return message


def _is_trained(turn: Mapping[str, Any], field: str, role: str) -> bool:
    """Read the author's flags; only those of an assistant's turn may ask for training."""
    if turn.keys() <= _PLAIN_KEYS:
        return True
    flags = {key: turn[key] for key in TRAIN_KEYS if turn.get(key) is not None}
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
        kind = (part.get("type") or "text") if isinstance(part, Mapping) else "text"
        text = part
        if isinstance(part, Mapping):
            text = next((part[key] for key in _PART_KEYS if part.get(key) is not None), None)
        if kind not in (*_TEXT_PARTS, *_REASONING_PARTS):
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
