"""How labels are asked for and which are kept: what `--set` of `kamerton label` changes."""

from pydantic import Field

from kamerton.core.settings import Settings

__all__ = ["SelectSettings"]


class SelectSettings(Settings):
    """Which labels are kept."""

    confidence_level: float = Field(default=0.95, gt=0.5, lt=1)
    """How sure it must be that the kept labels have the asked precision, 0.5 to 1."""
    per_label: int = Field(default=0, ge=0)
    """Most kept rows of one label, drawn at random; 0 keeps all. The asked precision is proven
    before this cap and not after it: other shares of labels have another precision."""
    seed: int = Field(default=0, ge=0)
    """Decides which rows `per_label` keeps."""
