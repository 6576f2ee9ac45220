"""DPO + LoRA with TRL + PEFT: one side of `preferences.py cost`, run in TRL's own environment.

Reads a folder with a model and `pairs.json` (texts of prompt, better and worse answer), trains for
a number of steps and writes seconds and peak memory as JSON to stdout.
"""

import argparse
import json
import resource
import time
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
from trl import DPOConfig, DPOTrainer


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
    parser.add_argument("--no-checkpointing", action="store_true", help="TRL checkpoints by itself")
    parser.add_argument("--precompute", action="store_true", help="the reference, before training")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = json.loads((arguments.folder / "pairs.json").read_text())
    data = Dataset.from_list(rows[: arguments.batch * arguments.steps])
    dtype = getattr(torch, arguments.dtype)
    model = AutoModelForCausalLM.from_pretrained(arguments.folder / "model", dtype=dtype)
    tokenizer = AutoTokenizer.from_pretrained(arguments.folder / "model")
    config = DPOConfig(
        output_dir=str(arguments.folder / "trl"),
        per_device_train_batch_size=arguments.batch,
        max_steps=arguments.steps,
        learning_rate=1e-4,
        beta=0.1,
        bf16=arguments.dtype == "bfloat16",
        use_cpu=True,
        gradient_checkpointing=not arguments.no_checkpointing,
        precompute_ref_log_probs=arguments.precompute,
        max_length=None,
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
    trainer = DPOTrainer(
        model=model, args=config, train_dataset=data, processing_class=tokenizer,
        peft_config=lora, callbacks=[clock],
    )  # fmt: skip
    # In the order of the file, so that it is known which examples a step has.
    trainer._get_train_sampler = lambda *_, **__: SequentialSampler(trainer.train_dataset)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    tokens = [sum(len(text.split()) for text in row.values()) for row in data]
    # The first step is not counted; the others may hold more or fewer tokens than the mean one.
    share = sum(tokens[arguments.batch :]) / sum(tokens)
    print(
        json.dumps(
            {
                "seconds": (clock.marks[-1] - clock.marks[0]) / share / arguments.steps,
                "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "losses": losses,
            }
        )
    )


if __name__ == "__main__":
    main()
