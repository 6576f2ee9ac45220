"""A step's loss and gradients on packed rows against PEFT on plain Transformers rows, in fp32.

The reference shares no code with us: PEFT's LoRA modules, eager attention, one example a row, the
model's own head, PyTorch's cross-entropy.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from kamerton.adapters.lora.lora import LoraSettings, attach_lora
from kamerton.data.examples import SourceLocation
from kamerton.data.rendering.renderer import TokenizedExample
from kamerton.models.base import Base
from kamerton.models.heads import token_logprobs
from kamerton.models.rows.row import make_rows, num_labelled
from kamerton.objectives.objective import LossInputs
from kamerton.objectives.sft import Sft
from tests.shapes import CONFIGS, VOCABULARY, WINDOW, plain_model, tiny_base

LENGTHS = (5, 31, 18, 18, 2, 40, 9)
TOKENS_PER_ROW = 70


@dataclass(frozen=True)
class Gradients:
    """One step's loss and its derivatives: by LoRA tensor, and by example [L, E]."""

    loss: float
    lora: dict[str, Tensor]
    first: dict[int, Tensor]
    last: dict[int, Tensor]


def examples() -> list[TokenizedExample]:
    """Examples whose lengths, and numbers of labelled tokens, differ; one alternates."""
    random = np.random.default_rng(4)
    made = []
    for number, length in enumerate(LENGTHS):
        ids = random.integers(3, VOCABULARY, length).astype(np.int32)
        loss_mask = np.arange(length) >= max(1, length // 2)
        if number == 1:
            loss_mask[::2] = False
        made.append(TokenizedExample(ids, loss_mask, SourceLocation("made.jsonl", number + 1)))
    return made


def watch_embeddings(model: nn.Module) -> list[Tensor]:
    """Collect the embeddings of every forward pass as leaves with a gradient."""
    seen: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        seen.append(output.detach().requires_grad_())
        return seen[-1]

    model.get_input_embeddings().register_forward_hook(keep)
    return seen


def ours(base: Base, lora, rendered: list[TokenizedExample]) -> Gradients:
    rows = make_rows(rendered, TOKENS_PER_ROW, base.device)
    assert max(len(row.layout.segments) for row in rows) >= 3
    assert len(rows) >= 2
    embedded = watch_embeddings(base.model)
    total, first, last = 0.0, {}, {}
    for row in rows:
        hidden = base.hidden(row.ids, row.layout)
        hidden.retain_grad()
        logprobs = token_logprobs(hidden[row.at], row.targets, base.head)
        scored = LossInputs(logprobs, row.answers, len(row.layout.segments))
        loss = Sft().loss(scored, num_labelled(rendered)).value
        loss.backward()
        total += float(loss.detach())
        for segment in row.layout.segments:
            own = slice(segment.start, segment.stop)
            number = number_of(row.ids[own], rendered)
            assert embedded[-1].grad is not None
            assert hidden.grad is not None
            first[number], last[number] = embedded[-1].grad[0, own], hidden.grad[own]
    return Gradients(total, {n: p.grad for n, p in lora.parameters().items()}, first, last)


def number_of(ids: Tensor, rendered: list[TokenizedExample]) -> int:
    """Find out which example a segment is."""
    (number,) = (n for n, r in enumerate(rendered) if r.ids.tolist() == ids.tolist())
    return number


def theirs(shape: str, folder: Path, rendered: list[TokenizedExample]) -> Gradients:
    model = PeftModel.from_pretrained(plain_model(shape), folder, is_trainable=True)
    model.eval()
    embedded = watch_embeddings(model)
    states: list[Tensor] = []
    head = model.get_base_model().get_output_embeddings()
    head.register_forward_pre_hook(lambda _, inputs: states.append(inputs[0]))
    total, first, last = 0.0, {}, {}
    for number, example in enumerate(rendered):
        ids = torch.from_numpy(example.ids.astype(np.int64))
        labels = ids.masked_fill(~torch.from_numpy(example.loss_mask), -100)
        logits = model(input_ids=ids[None]).logits[0, :-1]
        states[-1].retain_grad()
        loss = cross_entropy(logits.float(), labels[1:], reduction="sum") / num_labelled(rendered)
        loss.backward()
        total += float(loss.detach())
        assert embedded[-1].grad is not None
        assert states[-1].grad is not None
        first[number], last[number] = embedded[-1].grad[0], states[-1].grad[0]
    lora = {
        name.replace(".default.", "."): parameter.grad
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    return Gradients(total, lora, first, last)


def assert_close(found: dict, expected: dict, tolerance: float) -> None:
    """Compare within a share of the largest value of each reference tensor."""
    assert found.keys() == expected.keys()
    for name, reference in expected.items():
        scale = reference.abs().max()
        assert scale > 0, name
        torch.testing.assert_close(
            found[name] / scale, reference / scale, rtol=0, atol=tolerance,
            msg=lambda text, name=name: f"{name}: {text}",
        )  # fmt: skip


@pytest.mark.parametrize("shape", CONFIGS)
@pytest.mark.parametrize(
    "settings",
    [
        LoraSettings(rank=4, alpha=6),
        LoraSettings(rank=8, rank_stabilised=True, layers="1-2"),
    ],
    ids=["all", "rslora-upper-layers"],
)
def test_a_step_equals_peft_on_plain_rows(
    shape: str, settings: LoraSettings, tmp_path: Path
) -> None:
    assert min(sorted(LENGTHS)[-3:]) > WINDOW
    base = tiny_base(shape)
    lora = attach_lora(base, settings, seed=1)
    torch.manual_seed(2)
    for name, parameter in lora.parameters().items():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    for name, content in lora.files().items():
        (tmp_path / name).write_bytes(content)
    found, expected = ours(base, lora, examples()), theirs(shape, tmp_path, examples())
    assert found.loss == pytest.approx(expected.loss, rel=2e-6)
    assert_close(found.lora, expected.lora, 3e-5)
    assert_close(found.first, expected.first, 3e-5)
    assert_close(found.last, expected.last, 3e-5)
