"""What the tests of rendering share."""

from collections.abc import Sequence
from typing import Any

from kamerton.data.examples import ChatExample, SourceLocation
from kamerton.data.rendering.renderer import (
    Renderer,
    RenderSettings,
    TokenizedExample,
    make_renderer,
)
from tests.unit.data.rendering.cases import CASES, Case, tokenizer_of

__all__ = ["CHAT", "LOCATION", "chat", "message", "renderer_of", "text_of", "trained_texts"]

LOCATION = SourceLocation("data.jsonl", 7)


def message(role: str, content: str, **more: Any) -> dict[str, Any]:
    """Make a message."""
    return {"role": role, "content": content, **more}


CHAT = (
    message("system", "Be kind."),
    message("user", "Is it open?"),
    message("assistant", "Yes, until six."),
    message("user", "А завтра?"),
    message("assistant", "Тоже 🙂"),
)


def renderer_of(case: Case | str, *, vocab_size: int | None = None, **settings: Any) -> Renderer:
    """Make the renderer of a case, by name or as given."""
    case = CASES[case] if isinstance(case, str) else case
    return make_renderer(tokenizer_of(case), RenderSettings(**settings), vocab_size=vocab_size)


def text_of(renderer: Renderer, rendered: TokenizedExample) -> str:
    """Write a row out."""
    return "".join(span.text for span in renderer.show(rendered))


def trained_texts(renderer: Renderer, rendered: TokenizedExample) -> list[str]:
    """Write the trained runs of a row out."""
    return [span.text for span in renderer.show(rendered) if span.trained]


def chat(messages: Sequence[dict[str, Any]], **more: Any) -> ChatExample:
    """Make an example."""
    return ChatExample(LOCATION, tuple(messages), **more)
