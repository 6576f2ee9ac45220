"""Tool calls and the schemas of their tools: nulls that a table has filled in are taken out.

A table (Parquet, or JSON Lines written from one) gives all rows the keys that any row has. So a
call gets a null for each argument of all other tools, and a schema for each of their parameters.
"""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from kamerton.data.examples import Message
from kamerton.data.values import JSON_DECODER

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

__all__ = ["Tools", "holds_calls", "with_meant_arguments", "without_nulls"]

Tools = Sequence[Mapping[str, Any]]
"""Schemas as `{"type": "function", "function": {...}}`."""

_Kind = TypeVar("_Kind", bound="DataclassInstance")


def holds_calls(value: Any) -> bool:
    """Tell calls of tools from other answers.

    Args:
        value: A list of calls, or JSON text of one.

    Returns:
        Whether each has no more than a name, arguments and an id.
    """
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = JSON_DECODER.decode(value)
        except (ValueError, RecursionError):
            return False
    return isinstance(value, list) and bool(value) and all(map(_is_call, value))


def _is_call(value: Any) -> bool:
    if not isinstance(value, Mapping):
        return False
    named = isinstance(value.get("name"), str) and value.get("arguments") is not None
    return named and value.keys() <= {"name", "arguments", "id", "type"}


def without_nulls(value: Any) -> Any:
    """Take out all keys without a value, as in a schema: there null says nothing.

    Args:
        value: Anything JSON holds.

    Returns:
        A copy; nulls in lists stay.
    """
    if isinstance(value, Mapping):
        return {key: without_nulls(inner) for key, inner in value.items() if inner is not None}
    return [without_nulls(inner) for inner in value] if isinstance(value, list) else value


def with_meant_arguments(example: _Kind, tools: Tools) -> _Kind:
    """Take null arguments out of an example's calls, unless the schema of the tool allows null.

    Args:
        example: A dataclass with tuples of messages in some fields.
        tools: Those of its row; all null arguments of other tools are taken out.

    Returns:
        A copy, or the example itself where it has no calls.
    """
    changed: dict[str, Any] = {}
    for each in fields(example):
        value = getattr(example, each.name)
        if _holds_calls(value):
            changed[each.name] = tuple(_with_meant(message, tools) for message in value)
    return replace(example, **changed) if changed else example


def _holds_calls(value: Any) -> bool:
    return isinstance(value, tuple) and any(
        isinstance(one, Mapping) and "role" in one and one.get("tool_calls") for one in value
    )


def _with_meant(message: Message, tools: Tools) -> Message:
    calls = message.get("tool_calls")
    return {**message, "tool_calls": [_meant(call, tools) for call in calls]} if calls else message


def _meant(call: Mapping[str, Any], tools: Tools) -> dict[str, Any]:
    function = call["function"]
    schemas = (tool["function"] for tool in tools if isinstance(tool.get("function"), Mapping))
    schema = next((one for one in schemas if one.get("name") == function["name"]), None)
    arguments = _allowed(function["arguments"], _parameters(schema))
    return {**call, "function": {**function, "arguments": arguments}}


def _parameters(schema: Mapping[str, Any] | None) -> Any:
    """Give the schema of all arguments; some data sets leave out all but their names."""
    parameters = schema.get("parameters") if schema else None
    plain = isinstance(parameters, Mapping) and not parameters.keys() & {"type", "properties"}
    return {"properties": parameters} if plain else parameters


def _allowed(value: Any, schema: Any) -> Any:
    """Take out what is null where the schema does not allow that."""
    schema = schema if isinstance(schema, Mapping) else {}
    if isinstance(value, list):
        return [_allowed(inner, schema.get("items")) for inner in value]
    if not isinstance(value, Mapping):
        return value
    known = schema.get("properties")
    known = known if isinstance(known, Mapping) else {}
    return {
        key: _allowed(inner, known.get(key))
        for key, inner in value.items()
        if inner is not None or _allows_null(known.get(key))
    }


def _allows_null(schema: Any) -> bool:
    if not isinstance(schema, Mapping):
        return False
    if schema.get("nullable") is True or "$ref" in schema:
        return True
    for name in ("anyOf", "oneOf"):
        if isinstance(schema.get(name), list):
            return any(map(_allows_null, schema[name]))
    for name, null in (("type", "null"), ("enum", None)):
        if name in schema:
            allowed = schema[name]
            return null in allowed if isinstance(allowed, list) else allowed == null
    # A parameter that says nothing about its values takes all of them.
    return True
