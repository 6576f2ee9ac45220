"""Reading calls of functions back from a text that a model wrote.

How a base writes calls is learnt from its chat template: a made-up call is rendered, and the name
and the arguments are looked up in what came out. There are three ways to write one:

- one JSON object with the name and the arguments (Hermes, Qwen, Llama 3, Mistral, Cohere);
- the name, and after it the arguments as a JSON object (newer Mistral, DeepSeek, gpt-oss);
- the name, and after it each argument in marks of its own (Qwen3-Coder, GLM).

A model that was not trained on its template's way often writes plain JSON, or a call as Python
has it: both are read as well where nothing else is found.
"""

import ast
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kamerton.core.errors import RenderingError
from kamerton.core.protocols import ToolCall
from kamerton.data.rendering.renderer import Renderer
from kamerton.data.rendering.turns import Tools

__all__ = ["CallForm", "answer_ids", "calls_of", "find_call_form"]

# Words that no template writes by itself.
_NAME, _KEYS, _VALUES = "qtool_name", ("qkey_one", "qkey_two"), ("qvalue_one", "qvalue_two")
_ARGUMENTS = dict(zip(_KEYS, _VALUES, strict=True))
_TOOL = {
    "type": "function",
    "function": {
        "name": _NAME,
        "description": _NAME,
        "parameters": {
            "type": "object",
            "properties": {key: {"type": "string", "description": key} for key in _KEYS},
        },
    },
}
_CALL = {"id": "qcallid01", "function": {"name": _NAME, "arguments": _ARGUMENTS}}
_NAME_KEYS = ("name", "tool_name", "function")
_ARGUMENT_KEYS = ("arguments", "parameters", "args")
_WORD = r"[\w.\-]"
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class CallForm:
    """How a base writes calls.

    Attributes:
        name_key: Key of the function's name in a JSON object; empty when the name stands before.
        arguments_key: Key of the arguments in that object.
        lead: What stands before a name that is no part of a JSON object.
        between: What stands between such a name and its arguments, white space at its ends left
            out.
        argument: Matches one marked argument as (key, value); None when arguments are JSON.
    """

    name_key: str = ""
    arguments_key: str = ""
    lead: str = ""
    between: str = ""
    argument: re.Pattern[str] | None = None

    def read(self, text: str) -> tuple[ToolCall, ...]:
        """Read the calls in a text.

        Args:
            text: What a model wrote, without special tokens.

        Returns:
            The calls in their order; none when the text holds none.
        """
        if self.argument is not None and (found := tuple(self._marked(text))):
            return found
        return tuple(self._in_json(text)) or tuple(_in_python(text))

    def _marked(self, text: str) -> Iterator[ToolCall]:
        assert self.argument is not None
        for part in text.split(self.mark)[1:]:
            name = re.match(rf"\s*({_WORD}+)", part)
            if name is not None:
                found = self.argument.findall(part[name.end() :])
                yield _call(name[1], {key.strip(): _value(value) for key, value in found})

    def _in_json(self, text: str) -> Iterator[ToolCall]:
        at = 0
        for start, end, value in _json_values(text):
            before, at = text[at:start], end
            calls = list(_calls_in(value, self.name_key, self.arguments_key))
            if not calls and self._name_first and isinstance(value, Mapping):
                name = self._name_at_end(before)
                calls = [_call(name, value)] if name else []
            yield from calls

    def _name_at_end(self, before: str) -> str:
        """Read the name that stands before arguments."""
        before = before.rstrip()
        if not before.endswith(self.between):
            return ""
        before = before.removesuffix(self.between).rstrip()
        # Without its special tokens, a mark may touch the name.
        found = re.search(rf"{re.escape(self.mark)}\s*({_WORD}+)$", before)
        return found[1] if found else ""

    @property
    def _name_first(self) -> bool:
        return not self.name_key and self.argument is None

    @property
    def mark(self) -> str:
        """What stands right before a name that is no part of a JSON object; empty for one."""
        return (self.lead.split() or [""])[-1]


def find_call_form(renderer: Renderer, read: Callable[[Sequence[int]], str]) -> CallForm | None:
    """Find out how a base writes calls, by rendering one.

    Args:
        renderer: Renderer of the base.
        read: Turns the ids of an answer into text, as it is done with those that a model writes.

    Returns:
        The form; None when the template writes no calls or in a way that is not known.
    """
    chat: list[dict[str, Any]] = [
        {"role": "user", "content": "qask"},
        {"role": "assistant", "content": "", "tool_calls": [_CALL]},
    ]
    try:
        written = read(answer_ids(renderer, chat, (_TOOL,) if renderer.facts.tools else ()))
    except RenderingError:
        return None
    form = _json_form(written) or _marked_form(written)
    return form if form and form.read(written) == calls_of(chat[-1]) else None


def answer_ids(
    renderer: Renderer, messages: Sequence[Mapping[str, Any]], tools: Tools
) -> list[int]:
    """Make the ids that a model should write as the last answer of a chat.

    Args:
        renderer: Renderer of the base.
        messages: The last is the assistant's.
        tools: Schemas.

    Returns:
        Ids up to the one that ends the answer.

    Raises:
        RenderingError: If it cannot be rendered.
    """
    prompt = renderer.prompt_ids(messages[:-1], tools)
    ids: list[int] = renderer.render_chat(messages, tools).ids.tolist()
    if ids[: len(prompt)] != prompt:
        raise RenderingError("the answer must go on from its prompt, found other text there")
    return ids[len(prompt) :]


def calls_of(message: Mapping[str, Any]) -> tuple[ToolCall, ...]:
    """Give the calls of a message in the form in which they are compared.

    Args:
        message: Message of an assistant.

    Returns:
        Its calls in their order.
    """
    functions = [call.get("function") or call for call in message.get("tool_calls") or ()]
    return tuple(_call(one["name"], one.get("arguments", {})) for one in functions)


def _json_form(written: str) -> CallForm | None:
    """Recognise a call whose arguments are a JSON object."""
    for _, _, value in _json_values(written):
        for found in _mappings(value):
            name = next((key for key, inner in found.items() if inner == _NAME), "")
            arguments = next((k for k, v in found.items() if _arguments(v) == _ARGUMENTS), "")
            if name and arguments:
                return CallForm(name, arguments)
            if found == _ARGUMENTS and _NAME in written:
                before = written[: next(s for s, _, v in _json_values(written) if v == value)]
                lead, _, between = before.rpartition(_NAME)
                return CallForm(lead=lead, between=between.strip())
    return None


def _marked_form(written: str) -> CallForm | None:
    """Recognise a call whose arguments stand in marks, one by one."""
    words = (_NAME, _KEYS[0], _VALUES[0], _KEYS[1], _VALUES[1])
    found = re.search("(.*?)".join(map(re.escape, words)), written, re.DOTALL)
    if found is None:
        return None
    lead = written[: found.start()]
    opening, middle, following = found[1], found[2], found[3]
    shared = 0
    while shared < min(map(len, (opening, following))) and (
        opening[-1 - shared] == following[-1 - shared]
    ):
        shared += 1
    mark, end = following[len(following) - shared :], following[: len(following) - shared]
    if not (lead.strip() and mark.strip() and end.strip() and middle.strip()):
        return None
    pattern = "(.*?)".join(map(_loose, (mark, middle, end)))
    return CallForm(lead=lead, argument=re.compile(pattern, re.DOTALL))


def _loose(literal: str) -> str:
    """Make a pattern of a text that does not mind how much white space there is."""
    return r"\s*".join(map(re.escape, literal.split()))


def _json_values(text: str) -> Iterator[tuple[int, int, Any]]:
    """Find the JSON objects and lists in a text: first, end and value of each."""
    at = 0
    while found := re.compile(r"[{\[]").search(text, at):
        try:
            value, end = _DECODER.raw_decode(text, found.start())
        except (ValueError, RecursionError):
            at = found.start() + 1
        else:
            yield found.start(), end, value
            at = end


def _mappings(value: Any) -> Iterator[Mapping[str, Any]]:
    """Walk through all objects of a value, the outer ones first."""
    if isinstance(value, Mapping):
        yield value
    inner = value.values() if isinstance(value, Mapping) else value
    if isinstance(value, Mapping | list):
        for one in inner:
            yield from _mappings(one)


def _calls_in(value: Any, name_key: str, arguments_key: str) -> Iterator[ToolCall]:
    """Read the calls that a JSON value is or lists."""
    if isinstance(value, list):
        for one in value:
            yield from _calls_in(one, name_key, arguments_key)
    if not isinstance(value, Mapping):
        return
    for key in ("tool_calls", "function", "function_call"):
        if isinstance(value.get(key), Mapping | list):
            yield from _calls_in(value[key], name_key, arguments_key)
            return
    names = [value[key] for key in (name_key, *_NAME_KEYS) if isinstance(value.get(key), str)]
    given = [value[key] for key in (arguments_key, *_ARGUMENT_KEYS) if key in value]
    if names and given:
        yield _call(names[0], given[0])


def _in_python(text: str) -> Iterator[ToolCall]:
    """Read calls such as `[get_weather(city="Paris")]`, where they are the whole text."""
    try:
        body = ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for call in body.elts if isinstance(body, ast.List | ast.Tuple) else [body]:
        if not isinstance(call, ast.Call) or call.args:
            continue
        try:
            pairs = {str(one.arg): ast.literal_eval(one.value) for one in call.keywords}
            yield _call(ast.unparse(call.func), pairs)
        except (ValueError, TypeError):
            continue


def _call(name: str, arguments: Any) -> ToolCall:
    plain = json.dumps(_plain(_arguments(arguments)), ensure_ascii=False, sort_keys=True)
    return ToolCall(name, plain)


def _arguments(value: Any) -> Any:
    """Read arguments that were written as JSON text once more."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def _plain(value: Any) -> Any:
    """Write numbers alike: 1.0 is 1."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _value(text: str) -> Any:
    """Read a marked argument: JSON where it is some, else text."""
    return _arguments(text.strip())
