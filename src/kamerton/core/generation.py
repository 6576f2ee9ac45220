"""Generation defaults: how a variant answers where nobody asks for something else."""

from pydantic import Field, field_validator

from kamerton.core.protocols import Generation
from kamerton.core.settings import Settings

__all__ = ["GenerationSettings"]


class GenerationSettings(Settings):
    """How a variant answers in a chat, where it is served, and in other programs after an export.

    Its answers depend on these values, so the variant's content hash covers them.
    """

    temperature: float = Field(default=0.0, ge=0)
    """Randomness of the choice of tokens: 0 always takes the likeliest, 1 draws from the model's
    own distribution. 0 or more."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Draw only from the likeliest tokens that together have this probability (nucleus). Above 0,
    at most 1; 1 draws from all."""
    top_k: int = Field(default=0, ge=0)
    """Draw only from so many likeliest tokens; 0 draws from all."""
    max_new_tokens: int = Field(default=128, ge=1)
    """Longest answer, in tokens. A longer one is cut."""
    stop: tuple[str, ...] = ()
    """Texts at which an answer ends; they are not part of it. The end of a turn, as the chat
    template writes it, needs no entry here."""

    @field_validator("stop")
    @classmethod
    def _not_empty(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if "" in value:
            raise ValueError("must hold no empty text: every answer would end at once")
        return value

    def generation(self, seed: int = 0) -> Generation:
        """Give these defaults as an engine takes them.

        Args:
            seed: Makes sampling repeatable.

        Returns:
            How to generate.
        """
        return Generation(
            max_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            stop=self.stop,
            seed=seed,
        )
