"""Pretrain nano on one machine within a budget of minutes.

    python scripts/nano/pretrain.py --tokens build/nano --model src/kamerton/models/nano \\
        --out build/nano/checkpoint --minutes 50

The learning rate follows the elapsed share of the time, so a run always ends with a decayed rate.
"""

from __future__ import annotations

import argparse
import time
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import torch
import torch.nn.functional as F
from check import answer, prompts
from muon import Muon
from shape import CONTEXT_LENGTH, nano_config, new_model
from torch import Tensor
from transformers import AutoTokenizer, GenerationConfig, LlamaForCausalLM


@dataclass(frozen=True)
class Rates:
    """Peak learning rates and the shares of the time for warm-up and long rows."""

    hidden: float = 0.02
    embedding: float = 0.004
    warmup: float = 0.02
    long_rows_from: float = 0.8


def rate_factor(elapsed: float, warmup: float) -> float:
    """Return the rate factor at a share of the time: linear rise, then linear fall to 0."""
    if elapsed < warmup:
        return max(elapsed / warmup, 0.02)
    return max(0.0, (1.0 - elapsed) / (1.0 - warmup))


def rows_at(tokens: Tensor, position: int, rows: int, length: int) -> tuple[Tensor, Tensor]:
    """Return inputs and targets (rows, length) that begin at a position of the token stream."""
    piece = tokens[position : position + rows * length + 1].long()
    return piece[:-1].view(rows, length), piece[1:].view(rows, length)


def mean_loss(model: LlamaForCausalLM, inputs: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy over all tokens; logits are made in chunks to stay in cache."""
    hidden = model.model(input_ids=inputs, use_cache=False).last_hidden_state.flatten(0, 1)
    flat = targets.flatten()
    pieces = zip(hidden.split(1024), flat.split(1024), strict=True)
    total = sum(F.cross_entropy(model.lm_head(h), t, reduction="sum") for h, t in pieces)
    assert isinstance(total, Tensor)
    return total / flat.numel()


def gradients(model: LlamaForCausalLM, inputs: Tensor, targets: Tensor, pool: Executor) -> float:
    """Set the gradients of the mean loss over all rows, shared by the workers, and return it."""
    parameters = list(model.parameters())
    num_rows = max(1, 1024 // inputs.shape[1])
    pieces = list(zip(inputs.split(num_rows), targets.split(num_rows), strict=True))

    def part(piece: tuple[Tensor, Tensor]) -> tuple[float, tuple[Tensor, ...]]:
        loss = mean_loss(model, *piece) / len(pieces)
        return float(loss.detach()), torch.autograd.grad(loss, parameters)

    total = 0.0
    for loss, parts in pool.map(part, pieces):
        total += loss
        for parameter, gradient in zip(parameters, parts, strict=True):
            parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
    return total


@torch.no_grad()
def holdout_loss(model: LlamaForCausalLM, tokens: Tensor, batches: int) -> float:
    """Return the mean loss over the first batches of 8 x 512 held-out tokens."""
    size = 8 * 512
    batches = min(batches, (tokens.numel() - 1) // size)
    losses = [mean_loss(model, *rows_at(tokens, index * size, 8, 512)) for index in range(batches)]
    return float(torch.stack(losses).mean())


def samples(model: LlamaForCausalLM, tokenizer: Any) -> list[str]:
    """Return greedy answers to the first fixed prompts of both languages."""
    chosen = prompts("en")[:3] + prompts("ru")[:3]
    return [repr(answer(model, tokenizer, messages, limit=48)[0]) for messages in chosen]


def save(model: LlamaForCausalLM, folder: Path) -> None:
    """Write weights in bf16 with the configuration; the model in memory is left as it is."""
    state = {name: value.to(torch.bfloat16) for name, value in model.state_dict().items()}
    copy = LlamaForCausalLM(model.config)
    torch.nn.Module.to(copy, torch.bfloat16)
    copy.load_state_dict(state)
    copy.generation_config = GenerationConfig(
        bos_token_id=model.config.bos_token_id,
        eos_token_id=model.config.eos_token_id,
        pad_token_id=model.config.pad_token_id,
        max_new_tokens=128,
    )
    copy.save_pretrained(folder)


def main() -> None:
    """Pretrain from random weights, or from the weights of --resume."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True, help="folder with the tokenizer")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints")
    parser.add_argument("--minutes", type=float, default=50.0)
    parser.add_argument("--start-share", type=float, default=0.0, help="resume: share already done")
    parser.add_argument("--first-token", type=int, default=0, help="where to begin in the stream")
    parser.add_argument("--resume", type=Path, help="folder of weights to go on from")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rows", type=int, default=16, help="rows of 512 tokens a step")
    parser.add_argument("--save-minutes", type=float, default=4.0)
    options = parser.parse_args()

    # One thread an operation and one worker a core: on a shared machine a slow core then holds up
    # one small piece instead of every operation.
    torch.set_num_threads(1)
    pool = ThreadPoolExecutor(options.threads)
    torch.manual_seed(1)
    tokenizer = AutoTokenizer.from_pretrained(options.model)
    config = nano_config(tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    model = new_model(config)
    if options.resume:
        model = LlamaForCausalLM.from_pretrained(options.resume, dtype=torch.float32)
    model.generation_config.eos_token_id = config.eos_token_id
    model.generation_config.pad_token_id = config.pad_token_id
    train = torch.from_numpy(numpy.load(options.tokens / "train.npy").astype(numpy.int32))
    holdout = torch.from_numpy(numpy.load(options.tokens / "holdout.npy").astype(numpy.int32))

    rates = Rates()
    hidden = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    other = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    muon = Muon(hidden, rates.hidden)
    adam = torch.optim.AdamW(other, lr=rates.embedding, betas=(0.9, 0.95), weight_decay=0.0)

    begin = last_save = time.monotonic()
    seconds = options.minutes * 60
    step = seen = 0
    position = options.first_token
    running = 0.0
    while (share := options.start_share + (time.monotonic() - begin) / seconds) < 1.0:
        length = 512 if share < rates.long_rows_from else CONTEXT_LENGTH
        size = options.rows * 512
        if position + size + 1 > train.numel():
            position = 0
        running += gradients(model, *rows_at(train, position, size // length, length), pool)
        position += size
        seen += size
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        factor = rate_factor(share, rates.warmup)
        muon.step(factor, pool)
        for group in adam.param_groups:
            group["lr"] = rates.embedding * factor
        adam.step()
        model.zero_grad(set_to_none=True)
        step += 1
        if step % 20 == 0:
            speed = seen / (time.monotonic() - begin)
            report = f"step {step} share {share:.3f} loss {running / 20:.4f}"
            print(f"{report} tokens {seen} {speed:.0f}/s", flush=True)
            running = 0.0
        if time.monotonic() - last_save > options.save_minutes * 60:
            last_save = time.monotonic()
            save(model, options.out)
            print(f"held-out loss {holdout_loss(model, holdout, 4):.4f}", flush=True)
            print("\n".join(samples(model, tokenizer)), flush=True)
    save(model, options.out)
    print(
        f"done: steps {step} tokens {seen} held-out loss {holdout_loss(model, holdout, 1000):.4f}",
        flush=True,
    )
    print("\n".join(samples(model, tokenizer)), flush=True)


if __name__ == "__main__":
    main()
