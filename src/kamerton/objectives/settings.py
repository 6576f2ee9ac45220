"""The settings that all objectives have."""

from kamerton.core.settings import Settings

__all__ = ["ObjectiveSettings"]


class ObjectiveSettings(Settings):
    """The `[objective]` table of a recipe; each objective's own class adds its options."""

    kind: str
    """The objective; each one's class has its literal value here, as its default."""
