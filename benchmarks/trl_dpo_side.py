"""DPO + LoRA with TRL + PEFT: one side of `preferences.py cost`, run in TRL's own environment.

Reads a folder with a model and `pairs.json` (texts of prompt, better and worse answer), trains for
a number of steps and writes seconds and peak memory as JSON to stdout.
"""

import json
import resource

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import DPOConfig, DPOTrainer
from trl_common import Clock, lora_of, parser_of, training_settings


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--precompute", action="store_true", help="the reference, before training")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    rows = json.loads((arguments.folder / "pairs.json").read_text())
    data = Dataset.from_list(rows[: arguments.batch * arguments.steps])
    dtype = getattr(torch, arguments.dtype)
    model = AutoModelForCausalLM.from_pretrained(arguments.folder / "model", dtype=dtype)
    tokenizer = AutoTokenizer.from_pretrained(arguments.folder / "model")
    config = DPOConfig(
        **training_settings(arguments),
        learning_rate=1e-4,
        beta=0.1,
        precompute_ref_log_probs=arguments.precompute,
        # In the order of the file, so that it is known which examples a step has.
        train_sampling_strategy="sequential",
    )
    clock = Clock()
    trainer = DPOTrainer(
        model=model, args=config, train_dataset=data, processing_class=tokenizer,
        peft_config=lora_of(arguments), callbacks=[clock],
    )  # fmt: skip
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    tokens = [sum(len(text.split()) for text in row.values()) for row in data]
    # The first step is not counted; the others may hold more or fewer tokens than the mean one.
    share = sum(tokens[arguments.batch :]) / sum(tokens)
    print(
        json.dumps(
            {
                "seconds": clock.seconds / share / arguments.steps,
                "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                "losses": losses,
            }
        )
    )


if __name__ == "__main__":
    main()
