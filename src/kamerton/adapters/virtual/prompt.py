"""Prompt tuning: trained embeddings before every text (arXiv 2104.08691).

Nothing that follows changes what virtual tokens compute, so their keys and values are computed
once per row, by the frozen base and differentiably, and are then a prefix to every text in it.
Shapes: P virtual tokens, E embedding size.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import ClassVar, Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from kamerton.adapters.formats.peft_virtual import read_virtual, write_virtual
from kamerton.adapters.method import AdapterSettings, Method, Rate
from kamerton.adapters.virtual.combine import one_after_the_other
from kamerton.adapters.virtual.tokens import Virtual, check_base, embeddings_of, first_tokens
from kamerton.core.errors import AdapterError
from kamerton.core.seeds import derive_seed
from kamerton.models.attention.prefix import Prefix
from kamerton.models.base import Base
from kamerton.models.prefill import prefill

__all__ = ["METHOD", "PromptTuningSettings", "attach_prompt", "load_prompt"]


class PromptTuningSettings(AdapterSettings):
    """Prompt tuning: trained embeddings before every text."""

    renamed_keys: ClassVar[Mapping[str, str]] = {"num_tokens": "num_virtual_tokens"}

    kind: Literal["prompt"] = "prompt"
    """Trained embeddings of virtual tokens."""
    num_virtual_tokens: int = Field(default=32, ge=1, le=4096)
    """Virtual tokens; each takes a position of the base's context. 1 to 4096."""
    init: Literal["text", "vocabulary"] = "text"
    """The first values of the embeddings: those of a real text, or of tokens drawn at random."""
    text: str = ""
    """The text to begin as; empty means the first training example as the base sees it, which
    begins with the recipe's system text and demonstrations. Cut or repeated to
    `num_virtual_tokens`."""

    @model_validator(mode="after")
    def _text_is_used(self) -> Self:
        if self.text and self.init != "text":
            raise ValueError(f'text is used with init = "text" only, init is "{self.init}"')
        return self


class _Embeddings:
    """Embeddings [P, E] that are trained."""

    def __init__(self, base: Base, start: Tensor) -> None:
        self._base = base
        self._embeddings = nn.Parameter(start.float().to(base.device).clone())
        self.num_tokens = len(start)

    def parameters(self) -> dict[str, nn.Parameter]:
        return {"prompt_embeddings": self._embeddings}

    def compute(self) -> Prefix:
        return prefill(self._base, self._embeddings.to(self._base.dtype))

    def files(self) -> dict[str, bytes]:
        config = {"prompt_tuning_init": "RANDOM", "token_dim": self._embeddings.shape[1]}
        return write_virtual(self._base, "PROMPT_TUNING", self._embeddings, config)


def attach_prompt(
    base: Base, settings: PromptTuningSettings, seed: int, opening: Sequence[int] = ()
) -> Virtual:
    """Attach a fresh soft prompt.

    Args:
        base: The base, on packed rows.
        settings: Method settings.
        seed: The seed of random tokens.
        opening: Token ids that a training text begins with.

    Returns:
        The adapter.

    Raises:
        AdapterError: If the base cannot take virtual tokens or there is no text to begin as.
    """
    check_base(base)
    _ensure_takes_embeddings(base)
    if settings.init == "text":
        ids = first_tokens(base, settings.text, opening, settings.num_virtual_tokens)
    else:
        generator = torch.Generator().manual_seed(derive_seed(seed, "prompt", "tokens"))
        size = (settings.num_virtual_tokens,)
        ids = torch.randint(base.identity.vocab_size, size, generator=generator).tolist()
    return Virtual(base, _Embeddings(base, embeddings_of(base, ids)))


@torch.no_grad()
def _ensure_takes_embeddings(base: Base) -> None:
    """Refuse a base that looks tokens up again in its layers, as Gemma 3n and 4 do."""
    # Half an embedding is no token's own: some models search for the token that it is of.
    halves = embeddings_of(base, [0]).to(base.dtype) / 2
    try:
        prefill(base, halves)
    except (RuntimeError, ValueError, TypeError, AttributeError) as error:
        raise AdapterError(
            f"adapter: {base.identity.architecture} takes no embeddings in the place of tokens",
            hint='take adapter.kind = "prefix", which trains keys and values instead',
        ) from error


def load_prompt(base: Base, files: Mapping[str, bytes]) -> Virtual:
    """Attach a stored soft prompt, written by us or by PEFT.

    Args:
        base: The base it was made for.
        files: PEFT's two files.

    Returns:
        The adapter.

    Raises:
        AdapterError: If the files are damaged or do not fit the base.
    """
    check_base(base)
    _ensure_takes_embeddings(base)
    width = embeddings_of(base, [0]).shape[1]
    embeddings, _ = read_virtual(base, "PROMPT_TUNING", files, width)
    return Virtual(base, _Embeddings(base, embeddings))


METHOD = Method(
    PromptTuningSettings,
    attach=lambda base, settings, of: attach_prompt(base, settings, of.seed, of.opening),
    load=load_prompt,
    combine={
        "cat": partial(
            one_after_the_other,
            later_ones="are read at other positions than they learned at, after the first ones",
            changed={},
        )
    },
    rate=lambda _: Rate(3e-2),
)
