"""PiSSA as in PEFT: the same start, the same learning, files in both directions."""

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model

from kamerton.adapters.lora.adapter_files import load_lora
from kamerton.adapters.lora.lora import LoraSettings, attach_lora
from kamerton.models.attention.layout import Layout
from tests.parity.test_peft import our_logits, peft_logits
from tests.parity.test_ragged_rows import random_ids
from tests.shapes import plain_model, tiny_base

SHAPES = ["llama", "gemma3", "gpt2"]
CONFIG = {"r": 4, "lora_alpha": 6, "target_modules": "all-linear", "init_lora_weights": "pissa"}


def read(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def step(parameters, loss: torch.Tensor) -> None:
    """Plain gradient descent, which does not see the signs of a decomposition."""
    parameters = list(parameters)
    grads = torch.autograd.grad(loss, parameters)
    scale = torch.stack([g.norm() for g in grads]).norm()
    with torch.no_grad():
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter -= 0.3 * grad / scale


def trained_model(shape: str, ids: torch.Tensor, **options):
    model = get_peft_model(plain_model(shape), LoraConfig(**CONFIG, **options)).eval()
    return model, [p for p in model.parameters() if p.requires_grad]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("rank_stabilised", [False, True])
def test_it_learns_as_in_peft(shape: str, rank_stabilised: bool) -> None:
    ids, base = random_ids(33), tiny_base(shape)
    before = our_logits(base, ids)
    settings = LoraSettings(rank=4, alpha=6, init="pissa", rank_stabilised=rank_stabilised)
    lora = attach_lora(base, settings, seed=0)
    model, parameters = trained_model(shape, ids, use_rslora=rank_stabilised)
    for _ in range(3):
        logits = base.head.logits(base.hidden(ids, Layout.of_lengths([33])))
        step(lora.parameters().values(), logits.logsumexp(-1).sum())
        step(parameters, model(input_ids=ids[None]).logits[0].logsumexp(-1).sum())
    ours, theirs = our_logits(base, ids), peft_logits(model, ids)
    assert (ours - before).abs().max() > 0.05
    torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "options",
    [{}, {"rank_stabilised": True}, {"dora": True}, {"init": "pissa-fast", "layers": "0,2"}],
    ids=["pissa", "rslora", "dora", "fast"],
)
def test_peft_loads_ours(shape: str, options: dict, tmp_path: Path) -> None:
    base, ids = tiny_base(shape), random_ids(33)
    lora = attach_lora(base, LoraSettings(**{"rank": 4, "alpha": 6, "init": "pissa"} | options), 0)
    for parameter in lora.parameters().values():
        parameter.data += torch.empty_like(parameter).normal_(std=0.05)
    ours = our_logits(base, ids)
    for name, content in lora.files().items():
        (tmp_path / name).write_bytes(content)
    model = PeftModel.from_pretrained(plain_model(shape), tmp_path)
    torch.testing.assert_close(ours, peft_logits(model, ids), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("converted", [True, False])
@pytest.mark.filterwarnings("ignore:PiSSA changes the base weights:UserWarning")
def test_we_load_peft(shape: str, converted: bool, tmp_path: Path) -> None:
    """PEFT's own form, which needs its changed base, and the form that does not."""
    ids = random_ids(33)
    model, parameters = trained_model(shape, ids)
    if converted:
        model.peft_config["default"].init_lora_weights = True
        model.save_pretrained(tmp_path / "start")
        model.peft_config["default"].init_lora_weights = "pissa"
    for _ in range(3):
        step(parameters, model(input_ids=ids[None]).logits[0].logsumexp(-1).sum())
    path = {"path_initial_model_for_weight_conversion": str(tmp_path / "start")}
    model.save_pretrained(tmp_path / "end", **(path if converted else {}))
    base = tiny_base(shape)
    lora = load_lora(base, read(tmp_path / "end"))
    assert lora.settings.init == ("random" if converted else "pissa")
    assert lora.settings.rank == (8 if converted else 4)
    ours = our_logits(base, ids)
    torch.testing.assert_close(ours, peft_logits(model, ids), rtol=1e-3, atol=1e-3)
    files = lora.files()
    lora.detach()
    assert load_lora(base, files).files() == files
    torch.testing.assert_close(our_logits(base, ids), ours, rtol=1e-5, atol=1e-5)
