"""Bodies of `/tokenize`, `/detokenize` and `/v1/embeddings`, as vLLM and OpenAI have them."""

import base64
import struct
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictInt, model_validator

from kamerton.wire.bodies import ChatMessage

__all__ = ["DetokenizeBody", "EmbeddingsBody", "TokenizeBody", "embeddings_answer"]

_MOST_INPUTS = 2048


class TokenizeBody(BaseModel):
    """Body of `POST /tokenize`: a text or a chat."""

    model_config = ConfigDict(extra="allow")

    model: str = ""
    """Whose prompt and chat template; the base's where it is not given."""
    prompt: str | None = None
    """A text."""
    messages: list[ChatMessage] | None = Field(default=None, min_length=1)
    """A chat that ends with the turn to be answered."""
    tools: list[dict[str, Any]] | None = None
    """Functions that may be called."""
    add_special_tokens: bool = True
    """Whether a text gets the tokens that the tokenizer adds; a chat has its template's."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("either prompt or messages is needed")
        return self


class DetokenizeBody(BaseModel):
    """Body of `POST /detokenize`."""

    model_config = ConfigDict(extra="allow")

    model: str = ""
    """Whose tokenizer; the base's where it is not given."""
    tokens: list[StrictInt]
    """Token ids."""


class EmbeddingsBody(BaseModel):
    """Body of `POST /v1/embeddings`."""

    model_config = ConfigDict(extra="allow")

    model: str
    """Name of a variant, or of the base: each has its own numbers."""
    input: str | list[str] | list[StrictInt] | list[list[StrictInt]] = Field(max_length=1 << 22)
    """A text, token ids, or several of either."""
    encoding_format: Literal["float", "base64"] = "float"
    """Numbers as JSON, or as the bytes of 32-bit floats."""
    dimensions: int | None = None
    """Must be left out: a part of these vectors means nothing."""

    @model_validator(mode="after")
    def _what_can_be_done(self) -> Self:
        if self.dimensions is not None:
            raise ValueError("dimensions must be left out: the vectors cannot be shortened")
        if not self.inputs or not all(self.inputs):
            raise ValueError("every input needs at least one token")
        if len(self.inputs) > _MOST_INPUTS:
            raise ValueError(f"input: at most {_MOST_INPUTS} at once, got {len(self.inputs)}")
        return self

    @property
    def inputs(self) -> list[str | tuple[int, ...]]:
        """The inputs, each a text or token ids."""
        given = self.input
        if isinstance(given, str):
            return [given]
        if given and isinstance(given[0], int):
            return [tuple(token for token in given if isinstance(token, int))]
        return [each if isinstance(each, str) else tuple(each) for each in given]  # type: ignore[arg-type]


def embeddings_answer(
    model: str, vectors: Sequence[Sequence[float]], num_tokens: int, encoding: str
) -> Mapping[str, Any]:
    """Write vectors.

    Args:
        model: Who made them.
        vectors: One per input.
        num_tokens: Tokens of all inputs.
        encoding: "float" or "base64".

    Returns:
        The body.
    """
    data = [
        {
            "object": "embedding",
            "index": index,
            "embedding": _packed(vector) if encoding == "base64" else list(vector),
        }
        for index, vector in enumerate(vectors)
    ]
    usage = {"prompt_tokens": num_tokens, "total_tokens": num_tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage}


def _packed(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
