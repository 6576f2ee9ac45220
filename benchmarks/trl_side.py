"""SFT + LoRA with TRL + PEFT: one side of `benchmarks/sft_speed.py`, run in TRL's own environment.

Reads a folder with a model and `rows.json` (token ids and completion masks), trains for a number
of steps and writes seconds and peak memory as JSON to stdout.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    TrainerCallback,
)
from trl import SFTConfig, SFTTrainer


class Clock(TrainerCallback):
    """Times the steps after the first, which pays for warming up."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def on_step_end(self, args, state, control, **kwargs) -> None:
        self.marks.append(time.perf_counter())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--nf4", action="store_true", help="4 bits, by bitsandbytes")
    parser.add_argument("--no-checkpointing", action="store_true", help="TRL checkpoints by itself")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = json.loads((arguments.folder / "rows.json").read_text())
    used = rows[: arguments.batch * arguments.steps]
    data = Dataset.from_list(
        [{"input_ids": row["ids"], "completion_mask": row["trained"]} for row in used]
    )
    dtype = getattr(torch, arguments.dtype)
    quantised = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )  # fmt: skip
    began = time.perf_counter()
    model = AutoModelForCausalLM.from_pretrained(
        arguments.folder / "model", dtype=dtype,
        quantization_config=quantised if arguments.nf4 else None,
    )  # fmt: skip
    loaded = time.perf_counter() - began
    tokenizer = AutoTokenizer.from_pretrained(arguments.folder / "model")
    config = SFTConfig(
        output_dir=str(arguments.folder / "trl"),
        per_device_train_batch_size=arguments.batch,
        max_steps=arguments.steps,
        learning_rate=2e-4,
        bf16=arguments.dtype == "bfloat16",
        use_cpu=True,
        gradient_checkpointing=not arguments.no_checkpointing,
        max_length=None,
        completion_only_loss=True,
        report_to=[],
        save_strategy="no",
        logging_steps=1,
        disable_tqdm=True,
        dataloader_num_workers=0,
    )
    lora = LoraConfig(
        r=arguments.rank, lora_alpha=2 * arguments.rank, target_modules="all-linear",
        task_type="CAUSAL_LM",
    )  # fmt: skip
    clock = Clock()
    trainer = SFTTrainer(
        model=model, args=config, train_dataset=data, processing_class=tokenizer,
        peft_config=lora, callbacks=[clock],
    )  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    timed = used[arguments.batch :]
    print(
        json.dumps(
            {
                "seconds": clock.marks[-1] - clock.marks[0],
                "tokens": sum(len(row["ids"]) for row in timed),
                "labelled": sum(sum(row["trained"]) for row in timed),
                "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "rss_before_mib": before / 1024,
                "load_seconds": loaded,
                "losses": losses,
            }
        )
    )


if __name__ == "__main__":
    main()
