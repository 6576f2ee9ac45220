"""What both sides of TRL share: options, clock, settings of training and of LoRA."""

import argparse
import time
from pathlib import Path
from typing import Any

from peft import LoraConfig
from transformers import TrainerCallback


class Clock(TrainerCallback):
    """Times the steps after the first, which pays for warming up."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.marks.append(time.perf_counter())

    @property
    def seconds(self) -> float:
        """Of all steps but the first."""
        return self.marks[-1] - self.marks[0]


def parser_of(description: str | None) -> argparse.ArgumentParser:
    """Options that both sides have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--no-checkpointing", action="store_true", help="TRL checkpoints by itself")
    return parser


def training_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Settings of a short run on a CPU, for any of TRL's trainers."""
    return {
        "output_dir": str(arguments.folder / "trl"),
        "per_device_train_batch_size": arguments.batch,
        "max_steps": arguments.steps,
        "bf16": arguments.dtype == "bfloat16",
        "use_cpu": True,
        "gradient_checkpointing": not arguments.no_checkpointing,
        "max_length": None,
        "report_to": [],
        "save_strategy": "no",
        "logging_steps": 1,
        "disable_tqdm": True,
        "dataloader_num_workers": 0,
    }


def lora_of(arguments: argparse.Namespace) -> LoraConfig:
    """LoRA on all linear layers."""
    return LoraConfig(
        r=arguments.rank, lora_alpha=2 * arguments.rank, target_modules="all-linear",
        task_type="CAUSAL_LM",
    )  # fmt: skip
