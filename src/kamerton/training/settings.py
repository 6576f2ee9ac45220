"""The settings of training, whatever the adapter and the objective."""

from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from kamerton.core.settings import Settings
from kamerton.models.rows.packing import TOKENS_PER_ROW

__all__ = ["TrainSettings"]


Share = Annotated[float, Field(ge=0, lt=1)]


class TrainSettings(Settings):
    """The training loop."""

    renamed_keys: ClassVar[Mapping[str, str]] = {
        "clip": "max_grad_norm",
        "recompute": "gradient_checkpointing",
        "state_rank": "apollo_rank",
    }

    epochs: int = Field(default=3, ge=1, le=10_000)
    """Passes over the examples. 1 or more."""
    max_steps: int = Field(default=0, ge=0)
    """Stop after this many optimiser steps; 0 means when the epochs are done."""
    tokens_per_step: Literal["auto"] | PositiveInt = "auto"
    """Effective batch: at most this many tokens (prompt and answer) per optimiser step. "auto"
    gives a run about a hundred steps: at least four examples, at most 8,192 tokens."""
    tokens_per_row: int = Field(default=TOKENS_PER_ROW, ge=1)
    """Micro-batch: tokens computed at once. Changes memory and speed, never the result's maths."""
    optimiser: Literal["adamw", "adamw-8bit", "paged-adamw-8bit", "apollo"] = "adamw"
    """"adamw-8bit" (extra `bitsandbytes`) keeps its states in 2 bytes per trained number instead of
    8: for full fine-tuning on a GPU; "paged-adamw-8bit" moves them out when a GPU is full. On a CPU
    its step is about forty times slower. "apollo" keeps states of low rank, on any machine."""
    apollo_rank: int = Field(default=128, ge=1)
    """Rank of APOLLO's states; smaller is less memory."""
    learning_rate: Literal["auto"] | PositiveFloat = "auto"
    """Peak step size of AdamW. "auto" chooses by adapter, objective and width of the base, and says
    what it chose: LoRA 1.3e-3 over a width of 576, 2.9e-4 over 4,096; prefix-tuning 0.1."""
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Shape of the learning rate after warm-up; cosine and linear end at zero."""
    warmup: Literal["auto"] | Share = "auto"
    """Share of all steps during which the learning rate rises from zero, 0 to 1. "auto": 0.03, or
    ten steps if these are more, but at most a fifth of the run."""
    weight_decay: float = Field(default=0.0, ge=0)
    """Decoupled weight decay of AdamW."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    """Decay of AdamW's mean of gradients."""
    beta2: float = Field(default=0.999, ge=0, lt=1)
    """Decay of AdamW's mean of squared gradients."""
    max_grad_norm: float = Field(default=1.0, ge=0)
    """Largest norm of the gradient; larger ones are scaled down. 0 switches it off."""
    evaluate_every: int = Field(default=0, ge=0)
    """Measure held-out loss every so many steps; 0 means at the end of each epoch."""
    patience: int = Field(default=0, ge=0)
    """Stop after so many measurements without a new best held-out loss; 0 means never."""
    keep: Literal["best", "last"] = "best"
    """The weights that become the variant; "best" needs a holdout, else the last are kept."""
    checkpoint_every_s: float = Field(default=30.0, ge=0)
    """Save a resumable state every so many seconds (0: after every step). Large states are saved
    less often: saving takes no more than a twentieth of the time."""
    gradient_checkpointing: Literal["auto", "none", "all"] = "auto"
    """Recompute decoder blocks in the backward pass: slower by up to a third, far less memory.
    "auto" recomputes as many as are needed to fit."""
    compile: bool = False
    """Compile the decoder blocks with torch.compile. Costs about a minute and a few hundred MiB
    and needs a C++ compiler; on a CPU, steps of fine-tuning a 100 M base are then about a tenth
    faster. Steps of DPO took twice as long on a CPU without AVX-512: measure before a long run."""
    threads: int = Field(default=0, ge=0)
    """CPU threads; 0 leaves PyTorch's choice. Exact resume needs the same number."""
    seed: int = Field(default=0, ge=0)
    """Decides initial weights, order of examples and dropout."""

    @property
    def peak_rate(self) -> float:
        """The learning rate, once it is a number."""
        assert self.learning_rate != "auto", "the learning rate is not chosen yet"
        return self.learning_rate

    @property
    def batch_tokens(self) -> int:
        """The effective batch in tokens, once it is a number."""
        assert self.tokens_per_step != "auto", "the effective batch is not chosen yet"
        return self.tokens_per_step

    @property
    def warmup_share(self) -> float:
        """The share of warm-up, once it is a number."""
        assert self.warmup != "auto", "the warm-up is not chosen yet"
        return self.warmup
