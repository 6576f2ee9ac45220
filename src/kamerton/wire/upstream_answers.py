"""Answers of another engine that speaks OpenAI's API, as the gateway reads them."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kamerton.core.protocols import ToolCall
from kamerton.core.requests import AnswerRequest, AnswerUpdate, TokenLogprob
from kamerton.core.tokenizing import TokenizerReply

__all__ = ["AnswerReader", "ModelCard", "embedding_update", "error_text", "read_cards", "read_info"]

_MOST_SHOWN = 500


@dataclass(frozen=True, slots=True)
class ModelCard:
    """A model that an engine lists.

    Attributes:
        name: Its name there.
        root: Where its weights came from; empty where the engine does not say.
        parent: Name of the base of an adapter; empty for a base.
        owner: Who made the engine, roughly.
        created: Unix time; 0 where the engine does not say.
        kind: Method of its adapter, as Kamerton names it; empty elsewhere.
        artefact: Content hash, as Kamerton has it; empty elsewhere.
    """

    name: str
    root: str = ""
    parent: str = ""
    owner: str = ""
    created: int = 0
    kind: str = ""
    artefact: str = ""


def read_cards(body: Any) -> list[ModelCard]:
    """Read the answer to `GET /v1/models`.

    Args:
        body: As JSON has it.

    Returns:
        What is served.

    Raises:
        ValueError: If this is no list of models.
    """
    data = body.get("data") if isinstance(body, Mapping) else None
    if not isinstance(data, list):
        raise ValueError("GET /v1/models has no list of models")
    return [
        ModelCard(
            _text(each, "id"),
            _text(each, "root"),
            _text(each, "parent"),
            _text(each, "owned_by"),
            _number(each, "created"),
            _text(each, "kind"),
            _text(each, "artefact"),
        )
        for each in data
        if isinstance(each, Mapping) and _text(each, "id")
    ]


@dataclass
class AnswerReader:
    """Reads one answer, whole or chunk by chunk.

    Attributes:
        request: What was asked for.
        finish_reason: Why it ended; empty before the end.
        error: Why it broke off; empty where it did not.
        error_code: The status that goes with it; 0 where none was given.
    """

    request: AnswerRequest
    finish_reason: str = ""
    error: str = ""
    error_code: int = 0
    _num_tokens: int = 0
    _num_logprobs: int = 0
    _usage: Mapping[str, Any] = field(default_factory=dict)
    _calls: dict[int, list[str]] = field(default_factory=dict)

    def read(self, chunk: Mapping[str, Any]) -> AnswerUpdate | None:
        """Read a chunk.

        Args:
            chunk: As JSON has it; a whole answer is a chunk too.

        Returns:
            More of the answer, never its end; None where there is nothing new.

        Raises:
            ValueError: If a piece is written in another form than OpenAI's.
        """
        if chunk.get("error"):
            self.error = error_text(chunk) or "the engine broke off"
            found = chunk["error"]
            code = found.get("code") if isinstance(found, Mapping) else 0
            self.error_code = code if isinstance(code, int) else 0
            return None
        usage, choices = chunk.get("usage"), chunk.get("choices")
        if isinstance(usage, Mapping):
            self._usage = usage
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], Mapping):
            return None
        choice = choices[0]
        said = choice.get("delta") or choice.get("message") or {}
        said = said if isinstance(said, Mapping) else {}
        self.finish_reason = self.finish_reason or _text(choice, "finish_reason")
        text = _text(said, "content") + _text(choice, "text")
        # vLLM has both names, one after the other in time.
        reasoning = _text(said, "reasoning_content") or _text(said, "reasoning")
        logprobs = _logprobs(choice.get("logprobs"))
        calls = said.get("tool_calls")
        for place, call in enumerate(calls if isinstance(calls, list) else []):
            self._add_call(place, call)
        if not (text or reasoning or logprobs or calls):
            return None
        self._num_logprobs += len(logprobs)
        # The engine counts at the end; a client that leaves before it is counted by this.
        self._num_tokens += len(logprobs) or 1
        return AnswerUpdate(
            self.request.id,
            text,
            reasoning,
            num_prompt_tokens=_number(self._usage, "prompt_tokens"),
            num_tokens=self._num_tokens,
            logprobs=logprobs if self.request.num_top_logprobs is not None else (),
        )

    def end(self) -> AnswerUpdate:
        """Give the end of the answer, when nothing more comes.

        Returns:
            The last piece, with token counts.
        """
        calls = [ToolCall(name, arguments or "{}") for name, arguments in self._calls.values()]
        is_counted = "completion_tokens" in self._usage
        return AnswerUpdate(
            self.request.id,
            finish_reason=self.finish_reason or "stop",
            num_prompt_tokens=_number(self._usage, "prompt_tokens"),
            num_tokens=(
                _number(self._usage, "completion_tokens") if is_counted else self._num_tokens
            ),
            tool_calls=tuple(calls),
        )

    @property
    def lacks_logprobs(self) -> bool:
        """Whether the engine left out some of the prompt and answer that were asked for.

        llama-cpp-python does: whoever counts from the end would take another token's.
        """
        total = _number(self._usage, "total_tokens")
        return self.request.wants_prompt_logprobs and self._num_logprobs < total

    def _add_call(self, place: int, call: Any) -> None:
        if not isinstance(call, Mapping):
            return
        found = call.get("function")
        function = found if isinstance(found, Mapping) else {}
        index = call.get("index")
        parts = self._calls.setdefault(index if isinstance(index, int) else place, ["", ""])
        parts[0] = parts[0] or _text(function, "name")
        parts[1] += _text(function, "arguments")


def embedding_update(request: AnswerRequest, body: Any) -> AnswerUpdate:
    """Read an embedding.

    Args:
        request: What was asked for.
        body: As JSON has it.

    Returns:
        The vector, at length one.

    Raises:
        ValueError: If this is no embedding.
    """
    data = body.get("data") if isinstance(body, Mapping) else None
    first = data[0] if isinstance(data, list) and data else None
    vector = first.get("embedding") if isinstance(first, Mapping) else None
    if not isinstance(vector, list) or not all(isinstance(x, (int, float)) for x in vector):
        raise ValueError("the engine's embedding is no list of numbers")
    length = math.sqrt(sum(x * x for x in vector)) or 1.0
    usage = body.get("usage")
    return AnswerUpdate(
        request.id,
        finish_reason="stop",
        num_prompt_tokens=_number(usage if isinstance(usage, Mapping) else {}, "prompt_tokens"),
        embedding=tuple(x / length for x in vector),
    )


def read_info(question_id: str, body: Any) -> TokenizerReply:
    """Read the answer of vLLM's `/tokenize` or `/detokenize`.

    Args:
        question_id: Id of the question.
        body: As JSON has it.

    Returns:
        The reply.

    Raises:
        ValueError: If this is no such answer.
    """
    if not isinstance(body, Mapping) or not ("tokens" in body or "prompt" in body):
        raise ValueError("the engine's tokenizer does not answer as vLLM's does")
    texts, limit = body.get("token_strs"), body.get("max_model_len")
    return TokenizerReply(
        question_id,
        tuple(body.get("tokens") or ()),
        tuple(texts) if isinstance(texts, list) else (),
        _text(body, "prompt"),
        limit if isinstance(limit, int) else None,
    )


def error_text(body: Any) -> str:
    """Find what an error says, in the forms that servers have for it.

    Args:
        body: As JSON has it.

    Returns:
        One sentence or so; empty where nothing is said.
    """
    found = body
    for key in ("error", "message", "detail"):
        if isinstance(found, Mapping) and found.get(key):
            found = found[key]
    if isinstance(found, Mapping) or found is None:
        return ""
    # FastAPI tells where in its program a field is checked.
    said = str(found).partition('\n\n  File "')[0]
    return " ".join(said.split())[:_MOST_SHOWN]


def _logprobs(found: Any) -> tuple[TokenLogprob, ...]:
    try:
        return tuple(_each_logprob(found))
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"log-probabilities in a form of their own: {error!r}") from None


def _each_logprob(found: Any) -> Iterator[TokenLogprob]:
    """Read log-probabilities, which chats and texts write differently."""
    if not isinstance(found, Mapping):
        return
    content = found.get("content")
    if isinstance(content, list):
        for each in content:
            top = each.get("top_logprobs") or ()
            likely = tuple((str(one["token"]), float(one["logprob"])) for one in top)
            yield TokenLogprob(str(each["token"]), _logprob(each["logprob"]), likely)
        return
    tokens = _list(found, "tokens")
    logprobs = _list(found, "token_logprobs") or [None] * len(tokens)
    tops = _list(found, "top_logprobs") or [None] * len(tokens)
    for token, logprob, top in zip(tokens, logprobs, tops, strict=False):
        likely = tuple((str(text), float(value)) for text, value in (top or {}).items())
        yield TokenLogprob(str(token), _logprob(logprob), likely)


def _logprob(value: Any) -> float | None:
    return None if value is None else float(value)


def _list(found: Mapping[str, Any], key: str) -> list[Any]:
    value = found.get(key)
    return value if isinstance(value, list) else []


def _text(found: Mapping[str, Any], key: str) -> str:
    value = found.get(key)
    return value if isinstance(value, str) else ""


def _number(found: Mapping[str, Any], key: str) -> int:
    value = found.get(key)
    return int(value) if isinstance(value, (int, float)) and math.isfinite(value) else 0
