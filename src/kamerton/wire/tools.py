"""Functions that a chat may call: what clients offer, ask for and get."""

import json
import secrets
import string
from collections.abc import Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from kamerton.core.protocols import ToolCall
from kamerton.core.requests import Grammar

__all__ = [
    "Function",
    "FunctionName",
    "NamedTool",
    "Tool",
    "ToolChoice",
    "forced_calls",
    "written_calls",
]

_ID_LENGTH = 9
"""Templates of Mistral refuse any other."""


class Function(BaseModel):
    """A function that may be called."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(min_length=1)
    """Its name."""
    parameters: dict[str, Any] | None = None
    """JSON schema of its arguments."""


class Tool(BaseModel):
    """An entry of `tools`."""

    model_config = ConfigDict(extra="allow")

    type: Literal["function"]
    """Other tools cannot be called."""
    function: Function
    """The function."""


class FunctionName(BaseModel):
    """Names a function."""

    name: str
    """Its name."""


class NamedTool(BaseModel):
    """A `tool_choice` that names the function to be called."""

    type: Literal["function"]
    """Other tools cannot be called."""
    function: FunctionName
    """The function."""


ToolChoice = Literal["none", "auto", "required"] | NamedTool
"""Whether functions may be called, must be, or which must be."""


def forced_calls(tools: Sequence[Tool], *, several: bool) -> Grammar:
    """Make the grammar of an answer that must call functions.

    Args:
        tools: Those that it may choose from.
        several: Whether it may make more than one call.

    Returns:
        JSON: a list of calls.
    """
    calls = [
        {
            "type": "object",
            "properties": {
                "name": {"const": tool.function.name},
                "arguments": tool.function.parameters or {"type": "object"},
            },
            "required": ["name", "arguments"],
            "additionalProperties": False,
        }
        for tool in tools
    ]
    schema: dict[str, Any] = {"type": "array", "items": {"anyOf": calls}, "minItems": 1}
    if not several:
        schema["maxItems"] = 1
    return Grammar("json_schema", json.dumps(schema, ensure_ascii=False))


def written_calls(calls: Sequence[ToolCall], *, numbered: bool = False) -> list[dict[str, Any]]:
    """Write calls as clients read them.

    Args:
        calls: In their order.
        numbered: Whether each says its place, as in a chunk of a stream.

    Returns:
        OpenAI's `tool_calls`, with new ids.
    """
    return [
        {
            **({"index": index} if numbered else {}),
            "id": _new_id(),
            "type": "function",
            "function": {"name": call.name, "arguments": call.arguments},
        }
        for index, call in enumerate(calls)
    ]


def _new_id() -> str:
    letters = string.ascii_letters + string.digits
    return "".join(secrets.choice(letters) for _ in range(_ID_LENGTH))
