"""Settings of the LoRA family."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from kamerton.adapters.method import AdapterSettings
from kamerton.adapters.targets import Layers, ends_with

__all__ = ["LoraSettings"]


class LoraSettings(AdapterSettings):
    """LoRA: low-rank updates of linear layers."""

    renamed_keys: ClassVar[Mapping[str, str]] = {
        "decompose": "dora",
        "rate_ratio": "lora_plus_ratio",
    }

    kind: Literal["lora"] = "lora"
    """Low-rank updates of linear layers."""
    rank: int = Field(default=16, ge=1, le=1024)
    """Inner size r of each update; more rank, more capacity. 1 to 1024."""
    alpha: float = Field(default=32.0, gt=0)
    """Strength: the update is multiplied by alpha / rank (or alpha / sqrt(rank))."""
    rank_stabilised: bool = False
    """Scale by alpha / sqrt(rank) (rsLoRA), so that large ranks do not learn more slowly."""
    init: Literal["random", "pissa", "pissa-fast", "loftq"] = "random"
    """The update's first values: A random and B zero; or the principal part of the weight (PiSSA),
    by singular value decomposition ("pissa"; long for large layers) or its fast approximation; or,
    over a quantised base, the principal part of what rounding took from the weight ("loftq")."""
    dora: bool = False
    """Learn the length of each row of a weight apart from its direction (DoRA): for small ranks.
    Slower, most of all when it answers unmerged: each token then pays for the lengths."""
    lora_plus_ratio: float = Field(default=1.0, ge=1, le=1024)
    """Learning rate of B over that of A (LoRA+); train.learning_rate is that of A. 1 to 1024; the
    paper suggests 16. Lower the learning rate with it."""
    dropout: float = Field(default=0.0, ge=0, lt=1)
    """Share of each layer's inputs that the update does not see in a step. 0 to below 1."""
    targets: tuple[str, ...] = Field(default=("all-linear",), min_length=1)
    """Names of linear layers such as "q_proj", or "all-linear": all of the decoder blocks; also
    "embeddings" and "head", for words and languages that the base hardly knows."""
    layers: Layers = "all"
    """The decoder blocks, from 0: "all", "8-15", "0,2,4-7"."""
    new_tokens: tuple[str, ...] = ()
    """Words such as product names that each become one token, with rows of embeddings and head of
    their own; words that are one token already get these rows trained."""
    rank_pattern: dict[str, Annotated[int, Field(ge=1, le=1024)]] = {}
    """Other ranks by name of layer, such as "down_proj" or "layers.3.mlp.down_proj"; where
    several match, the longest counts."""
    alpha_pattern: dict[str, Annotated[float, Field(gt=0)]] = {}
    """Other alphas by name of layer, as for `rank_pattern`."""

    @field_validator("new_tokens")
    @classmethod
    def _tokens_are_words(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [token for token in value if not token.strip() or token != token.strip()]
        if wrong or len(set(value)) < len(value):
            raise ValueError(
                f"must be different texts without spaces around them, got {list(value)}"
            )
        return value

    @model_validator(mode="after")
    def _loftq_alone(self) -> Self:
        if self.init == "loftq" and self.dora:
            raise ValueError('init = "loftq" cannot be used with dora = true')
        return self

    @property
    def added_tokens(self) -> tuple[str, ...]:
        """Words that get a token each."""
        return self.new_tokens

    def rank_at(self, path: str) -> int:
        """Give the rank of a layer.

        Args:
            path: The layer's path in the model.

        Returns:
            r.
        """
        key = _longest(self.rank_pattern, path)
        return self.rank if key is None else self.rank_pattern[key]

    def alpha_at(self, path: str) -> float:
        """Give the strength of a layer's update.

        Args:
            path: The layer's path in the model.

        Returns:
            alpha.
        """
        key = _longest(self.alpha_pattern, path)
        return self.alpha if key is None else self.alpha_pattern[key]

    def scaling_at(self, path: str) -> float:
        """Compute the factor on a layer's B @ A.

        Args:
            path: The layer's path in the model.

        Returns:
            alpha / r, or alpha / sqrt(r) where it is rank-stabilised.
        """
        rank = self.rank_at(path)
        return self.alpha_at(path) / (rank**0.5 if self.rank_stabilised else rank)


def _longest(pattern: Mapping[str, object], path: str) -> str | None:
    """Find the longest key that the path ends with, so that the order of keys does not matter."""
    matching = [key for key in pattern if ends_with(path, key)]
    return max(matching, key=len, default=None)
