"""Train the tokenizer of nano and turn documents into tokens.

    python scripts/nano/tokenizer.py --corpus build/nano/corpus.jsonl \\
        --model src/kamerton/models/nano --out build/nano
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy
from corpus import contents
from shape import CONTEXT_LENGTH, VOCABULARY_SIZE
from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
    trainers,
)

BOS, END, PAD = "<|bos|>", "<|end|>", "<|pad|>"
ROLES = ("system", "user", "assistant", "tool")
SPECIAL = [
    BOS,
    END,
    PAD,
    *(f"<|{role}|>" for role in ROLES),
    *(f"<|reserved_{n}|>" for n in range(8)),
]

# Every role keeps all its messages; only the assistant's words and end mark count for the loss.
CHAT_TEMPLATE = (
    "{{ '<|bos|>' }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '<|assistant|>\n' }}"
    "{% generation %}{{ message['content'] + '<|end|>' }}{% endgeneration %}{{ '\n' }}"
    "{% else %}"
    "{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)


def train_tokenizer(texts: Iterator[str]) -> Tokenizer:
    """Return a byte-level BPE tokenizer; digits are tokens of their own, one by one."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            # Words with at most one leading space, single digits, runs of marks, runs of blanks.
            pre_tokenizers.Split(Regex(r" ?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+|\s+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY_SIZE,
        special_tokens=SPECIAL,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    bos_id = tokenizer.token_to_id(BOS)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A $B:1", special_tokens=[(BOS, bos_id)]
    )
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """Write tokenizer.json and tokenizer_config.json for transformers."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BOS,
        "eos_token": END,
        "pad_token": PAD,
        "model_max_length": CONTEXT_LENGTH,
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    text = json.dumps(config, ensure_ascii=False, indent=2)
    (folder / "tokenizer_config.json").write_text(text + "\n", encoding="utf-8")


def render(document: dict[str, object]) -> str:
    """Return a document as pretraining text, the same as the chat template writes."""
    if "text" in document:
        return f"{BOS}{document['text']}{END}\n"
    messages = document["messages"]
    assert isinstance(messages, list)
    return BOS + "".join(f"<|{m['role']}|>\n{m['content']}{END}\n" for m in messages)


def encode(tokenizer: Tokenizer, texts: list[str]) -> numpy.ndarray:
    """Return the tokens of all texts in one row of uint16."""
    tokens: list[numpy.ndarray] = []
    for start in range(0, len(texts), 2000):
        batch = tokenizer.encode_batch(texts[start : start + 2000], add_special_tokens=False)
        tokens += [numpy.array(encoding.ids, dtype=numpy.uint16) for encoding in batch]
    return numpy.concatenate(tokens)


def main() -> None:
    """Train the tokenizer on part of the corpus and write train.npy and holdout.npy."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--keep-tokenizer", action="store_true", help="use the one in --model")
    options = parser.parse_args()
    with options.corpus.open(encoding="utf-8") as stream:
        documents = [json.loads(line) for line in stream]
    if options.keep_tokenizer:
        tokenizer = Tokenizer.from_file(str(options.model / "tokenizer.json"))
    else:
        sample = documents[::4]
        tokenizer = train_tokenizer(text for document in sample for text in contents(document))
        save_tokenizer(tokenizer, options.model)
    texts = [render(document) for document in documents]
    holdout = max(1, len(texts) // 100)
    numpy.save(options.out / "holdout.npy", encode(tokenizer, texts[:holdout]))
    train = encode(tokenizer, texts[holdout:])
    numpy.save(options.out / "train.npy", train)
    density = sum(map(len, texts[holdout:])) / train.size
    print(f"tokens: {train.size}, characters a token: {density:.2f}")


if __name__ == "__main__":
    main()
