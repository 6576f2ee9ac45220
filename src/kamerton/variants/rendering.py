"""The renderer of a base, with the tokens that an adapter brings along."""

from collections.abc import Sequence

from kamerton.data.rendering.renderer import Renderer, RenderSettings, make_renderer
from kamerton.models.base import Base
from kamerton.models.context import context_of
from kamerton.models.new_tokens import rows_with, tokenizer_with

__all__ = ["renderer_of"]


def renderer_of(base: Base, settings: RenderSettings, new_tokens: Sequence[str] = ()) -> Renderer:
    """Make the renderer of a base, which refuses what the base cannot take.

    Args:
        base: The base.
        settings: The rendering's settings.
        new_tokens: Words that an adapter adds to the tokenizer.

    Returns:
        The renderer.

    Raises:
        RenderingError: If the base's chat template cannot write a chat.
    """
    tokenizer = tokenizer_with(base.tokenizer, new_tokens)
    return make_renderer(
        tokenizer,
        settings,
        vocab_size=rows_with(base.identity.vocab_size, base.tokenizer, tokenizer),
        context=context_of(base.model.config),
        ends=base.ends,
    )
