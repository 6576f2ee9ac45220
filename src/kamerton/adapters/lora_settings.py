"""Settings of the LoRA family."""

from typing import Literal

from pydantic import Field, field_validator

from kamerton.adapters.targets import layer_numbers
from kamerton.core.settings import Settings

__all__ = ["LoraSettings"]


class LoraSettings(Settings):
    """LoRA: low-rank updates of linear layers."""

    kind: Literal["lora"] = "lora"
    """Low-rank updates of linear layers."""
    rank: int = Field(default=16, ge=1, le=1024)
    """Inner size r of each update; more rank, more capacity. 1 to 1024."""
    alpha: float = Field(default=32.0, gt=0)
    """Strength: the update is multiplied by alpha / rank (or alpha / sqrt(rank))."""
    rank_stabilised: bool = False
    """Scale by alpha / sqrt(rank) (rsLoRA), so that large ranks do not learn more slowly."""
    decompose: bool = False
    """Learn the length of each row of a weight apart from its direction (DoRA): for small ranks.
    Slower, most of all when it answers unmerged: each token then pays for the lengths."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of each layer's inputs that the update does not see in a step. 0 to below 1."""
    targets: tuple[str, ...] = ("all-linear",)
    """Names of linear layers such as "q_proj", or "all-linear": all of the decoder blocks."""
    layers: str = "all"
    """Which decoder blocks, from 0: "all", "8-15", "0,2,4-7"."""

    @field_validator("layers")
    @classmethod
    def _layers_parse(cls, value: str) -> str:
        layer_numbers(value, 10**6)
        return value

    @property
    def scaling(self) -> float:
        """Factor on B @ A."""
        return self.alpha / (self.rank**0.5 if self.rank_stabilised else self.rank)
