"""The number of tokens that a model can see."""

from typing import Any

from kamerton.models.base import Base

__all__ = ["context_of", "longest_row", "room_of"]

_NO_LIMIT = 1 << 20


def context_of(config: Any) -> int | None:
    """Read how many tokens a model can see.

    Args:
        config: Its Transformers configuration.

    Returns:
        The length of its context; None when its configuration does not say.
    """
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(limit) if limit else None


def longest_row(config: Any) -> int:
    """Say how long a row may be that is only measured: as long as the model can see.

    Args:
        config: Its Transformers configuration.

    Returns:
        Tokens; a million where the configuration does not say.
    """
    return context_of(config) or _NO_LIMIT


def room_of(base: Base) -> int | None:
    """Say how many tokens a base can see besides its virtual ones.

    Args:
        base: The base with whatever adapter is attached.

    Returns:
        Prompt and answer together; None when its configuration does not say.
    """
    context = context_of(base.model.config)
    return None if context is None else context - base.num_virtual
