"""SFT + LoRA with TRL + PEFT: one side of `benchmarks/sft_speed.py`, run in TRL's own environment.

Reads a folder with a model and `rows.json` (token ids and completion masks), trains for a number
of steps and writes seconds and peak memory as JSON to stdout.
"""

import json
import resource
import time

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer
from trl_common import Clock, lora_of, parser_of, training_settings


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--nf4", action="store_true", help="4 bits, by bitsandbytes")
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
        **training_settings(arguments), learning_rate=2e-4, completion_only_loss=True
    )
    clock = Clock()
    trainer = SFTTrainer(
        model=model, args=config, train_dataset=data, processing_class=tokenizer,
        peft_config=lora_of(arguments), callbacks=[clock],
    )  # fmt: skip
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    timed = used[arguments.batch :]
    print(
        json.dumps(
            {
                "seconds": clock.seconds,
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
