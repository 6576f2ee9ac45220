"""lm-evaluation-harness measures a server and, beside it, the same weights with its own backend.

Usage: ask_lm_eval.py ADDRESS MODEL TASKS FOLDER

TASKS is a folder with tasks; FOLDER holds the same model for Transformers. What was measured is
printed as JSON: for each way its scores, and the log-likelihoods of every choice.
"""

import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"

import lm_eval
from lm_eval.tasks import TaskManager


def main(address: str, model: str, tasks: str, folder: str) -> None:
    manager = TaskManager(include_path=tasks, include_defaults=False)

    def measure(backend: str, names: list[str], **options: object) -> dict[str, object]:
        found = lm_eval.simple_evaluate(
            model=backend, model_args=options, tasks=names, task_manager=manager,
            log_samples=True, bootstrap_iters=0,
            apply_chat_template="chat" in backend,
        )  # fmt: skip
        return {
            name: {
                "scores": found["results"][name],
                "samples": [each["resps"] for each in found["samples"][name]],
            }
            for name in names
        }

    server = {"model": model, "num_concurrent": 1, "max_retries": 1}
    print(
        json.dumps(
            {
                "server": measure(
                    "local-completions",
                    ["boxes"],
                    base_url=f"{address}/completions",
                    tokenizer_backend="remote",
                    batch_size=4,
                    **server,
                ),
                "one by one": measure(
                    "local-completions",
                    ["boxes"],
                    base_url=f"{address}/completions",
                    tokenizer_backend="remote",
                    batch_size=1,
                    **server,
                ),
                "transformers": measure(
                    "hf",
                    ["boxes"],
                    pretrained=folder,
                    add_bos_token=False,
                    dtype="float32",
                    device="cpu",
                    batch_size=4,
                ),
                "chat": measure(
                    "local-chat-completions",
                    ["names"],
                    base_url=f"{address}/chat/completions",
                    **server,
                ),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])
