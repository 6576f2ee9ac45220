"""What an answer must follow, in the fields of OpenAI and of vLLM."""

import json
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from kamerton.core.requests import Grammar

__all__ = ["JsonSchema", "ResponseFormat", "StructuredOutputs"]

_MOST_CHOICES = 1024


class JsonSchema(BaseModel):
    """OpenAI's `json_schema`."""

    model_config = ConfigDict(extra="allow", populate_by_name=True)

    name: str = ""
    """Of the schema; not used."""
    schema_: dict[str, Any] = Field(alias="schema")
    """The schema; it is always kept to, whatever `strict` says."""


class ResponseFormat(BaseModel):
    """OpenAI's `response_format`."""

    model_config = ConfigDict(extra="allow")

    type: Literal["text", "json_object", "json_schema"]
    """Free text, any JSON object, or JSON that follows a schema."""
    json_schema: JsonSchema | None = None
    """The schema."""

    @model_validator(mode="after")
    def _has_schema(self) -> Self:
        if self.type == "json_schema" and self.json_schema is None:
            raise ValueError("json_schema is needed for the type json_schema")
        return self

    @property
    def grammar(self) -> Grammar | None:
        """What the answer must follow."""
        if self.type == "text":
            return None
        found = self.json_schema.schema_ if self.json_schema else {"type": "object"}
        return Grammar("json_schema", json.dumps(found, ensure_ascii=False))


class StructuredOutputs(BaseModel):
    """vLLM's `structured_outputs`; its older fields `guided_...` have the same meaning."""

    json_: dict[str, Any] | str | None = Field(default=None, alias="json")
    """A JSON schema."""
    regex: str | None = Field(default=None, min_length=1)
    """A regular expression for the whole answer."""
    choice: list[str] | None = Field(default=None, min_length=1, max_length=_MOST_CHOICES)
    """Texts of which the answer is one."""
    json_object: bool | None = None
    """Whether the answer is any JSON object."""
    grammar_: str | None = Field(default=None, alias="grammar")
    """Cannot be followed."""

    @model_validator(mode="after")
    def _can_be_done(self) -> Self:
        if self.grammar_ is not None:
            raise ValueError("a grammar cannot be followed: give json, regex or choice")
        if self.choice is not None and not all(self.choice):
            raise ValueError("choice must have no empty text")
        if len(self.grammars) > 1:
            raise ValueError("only one of json, regex, choice and json_object can be followed")
        return self

    @property
    def grammars(self) -> list[Grammar]:
        """All that is given."""
        found = []
        if self.json_ is not None:
            schema = self.json_ if isinstance(self.json_, str) else json.dumps(self.json_)
            found.append(Grammar("json_schema", schema))
        if self.regex is not None:
            found.append(Grammar("regex", self.regex))
        if self.choice is not None:
            found.append(Grammar("choice", json.dumps(self.choice, ensure_ascii=False)))
        if self.json_object:
            found.append(Grammar("json_schema", '{"type": "object"}'))
        return found
