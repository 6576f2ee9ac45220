"""Look at a nano model: answers to fixed prompts, and exact matches on unseen documents.

python scripts/nano/check.py --model src/kamerton/models/nano
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any

import torch
from corpus import Document, Maker
from formats import classification, escalation, extraction, few_shot, lookup_table
from service import grounded_chat, service_chat
from texts import read
from transformers import AutoModelForCausalLM, AutoTokenizer

Message = dict[str, str]
CHECKS: tuple[tuple[str, Maker], ...] = (
    ("grounded", grounded_chat),
    ("few-shot", few_shot),
    ("classification", classification),
    ("escalation", escalation),
    ("extraction", extraction),
    ("look-up", lookup_table),
    ("service", service_chat),
)


def prompts(language: str) -> list[list[Message]]:
    """Return the fixed prompts of a language as messages."""
    return [
        [{"role": role, "content": text} for role, text in turns]
        for turns in read("prompts")[language]
    ]


@torch.no_grad()
def answer(
    model: Any, tokenizer: Any, messages: list[Message], limit: int = 80
) -> tuple[str, bool]:
    """Return the greedy answer and whether it stopped by itself within the limit of tokens."""
    inputs = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    output = model.generate(**inputs, max_new_tokens=limit, do_sample=False)
    new = output[0, inputs["input_ids"].shape[1] :]
    stopped = bool((new == tokenizer.eos_token_id).any())
    return tokenizer.decode(new, skip_special_tokens=True), stopped


def last_turn(document: Document) -> tuple[list[Message], str]:
    """Return the messages before the last answer, and that answer."""
    messages = document["messages"]
    assert isinstance(messages, list)
    return messages[:-1], messages[-1]["content"]


def main() -> None:
    """Print the answers and the shares of exact matches."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument(
        "--cases", type=int, default=30, help="unseen documents a theme and language"
    )
    options = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    for language in ("en", "ru"):
        for messages in prompts(language):
            text, stopped = answer(model, tokenizer, messages)
            print(
                f"{messages[-1]['content']!r} -> {text!r}{'' if stopped else ' (cut)'}", flush=True
            )
    for name, maker in CHECKS:
        for language in ("en", "ru"):
            rng = random.Random(f"check {name} {language}")
            matches = stops = 0
            for _ in range(options.cases):
                messages, expected = last_turn(maker(rng, language))
                text, stopped = answer(model, tokenizer, messages)
                matches += text == expected
                stops += stopped
            share, ended = matches / options.cases, stops / options.cases
            print(f"{name} {language}: exact {share:.2f}, stopped {ended:.2f}", flush=True)


if __name__ == "__main__":
    main()
