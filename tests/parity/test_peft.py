"""Our LoRA files in PEFT and PEFT's in ours: the same logits."""

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from torch import Tensor

from kamerton.adapters.adapter import rate_groups
from kamerton.adapters.lora.adapter_files import load_lora
from kamerton.adapters.lora.lora import LoraSettings, attach_lora
from kamerton.core.errors import AdapterError
from kamerton.models.attention.layout import Layout
from kamerton.models.base import Base
from tests.parity.test_ragged_rows import random_ids
from tests.shapes import plain_model, tiny_base

# PEFT's words on embeddings and heads that share one weight, and are saved along.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Model has `tie_word_embeddings=True`"),
    pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`"),
    pytest.mark.filterwarnings("ignore:fan_in_fan_out is set to True but the target module"),
]
SHAPES = ["llama", "qwen3", "gemma3", "gpt2", "phi3"]


def outputs(shape: str) -> tuple[str, ...]:
    """What the layers are called that write into the residual stream."""
    return ("c_proj",) if shape == "gpt2" else ("o_proj", "down_proj")


def our_logits(base: Base, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return base.head.logits(base.hidden(ids, Layout.of_lengths([len(ids)])))


def peft_logits(model, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(input_ids=ids[None]).logits[0].float()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "settings",
    [
        LoraSettings(rank=4, alpha=6),
        LoraSettings(rank=8, rank_stabilised=True, layers="0-1"),
        LoraSettings(rank=4, targets=("outputs",), layers="0,2"),
        LoraSettings(rank=4, dora=True),
        LoraSettings(rank=8, dora=True, rank_stabilised=True, layers="0-1"),
        LoraSettings(rank=4, rank_pattern={"outputs": 7}, alpha_pattern={"outputs": 9.5}),
        LoraSettings(rank=4, alpha=6, targets=("all-linear", "embeddings", "head")),
    ],
    ids=[
        "all",
        "rslora-two-layers",
        "outputs-of-two-layers",
        "dora",
        "dora-rslora",
        "patterns",
        "embeddings-and-head",
    ],
)
def test_peft_loads_ours(shape: str, settings: LoraSettings, tmp_path: Path) -> None:
    if settings.targets == ("outputs",):
        settings = settings.model_copy(update={"targets": outputs(shape)})
    if settings.rank_pattern:
        patterns = {
            "rank_pattern": dict.fromkeys(outputs(shape), 7),
            "alpha_pattern": dict.fromkeys(outputs(shape), 9.5),
        }
        settings = settings.model_copy(update=patterns)
    base = tiny_base(shape)
    ids = random_ids(33)
    before = our_logits(base, ids)
    lora = attach_lora(base, settings, seed=3)
    assert torch.equal(our_logits(base, ids), before)
    for name, parameter in lora.parameters().items():
        if "lora_B" in name or "embedding_A" in name:
            torch.nn.init.normal_(parameter, std=0.1)
        elif "magnitude" in name:
            parameter.data *= torch.empty_like(parameter).uniform_(0.5, 1.5)
    ours = our_logits(base, ids)
    assert not torch.allclose(ours, before, atol=1e-3)
    for name, content in lora.files().items():
        (tmp_path / name).write_bytes(content)
    model = PeftModel.from_pretrained(plain_model(shape), tmp_path)
    torch.testing.assert_close(ours, peft_logits(model, ids), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "options",
    [
        {"target_modules": "all-linear"},
        {"target_modules": "all-linear", "use_rslora": True},
        {"target_modules": "outputs", "layers_to_transform": [0, 2]},
        {"target_modules": r".*\.[12]\..*(o_proj|c_fc)", "lora_dropout": 0.1},
        {"target_modules": "all-linear", "use_dora": True},
        {
            "target_modules": "all-linear",
            "rank_pattern": {r"(layers|h)\.1\..*": 2, ".*_proj": 6},
            "alpha_pattern": {r".*\.[02]\..*": 3},
        },
        {"target_modules": ["embed_tokens", "wte", "lm_head", "c_fc", "down_proj"]},
    ],
    ids=[
        "all",
        "rslora",
        "outputs-of-two-layers",
        "by-pattern",
        "dora",
        "patterns",
        "embeddings-and-head",
    ],
)
def test_we_load_peft(shape: str, options: dict, tmp_path: Path) -> None:
    if options["target_modules"] == "outputs":
        options = {**options, "target_modules": list(outputs(shape))}
    config = LoraConfig(
        r=4, lora_alpha=12, init_lora_weights=False, task_type="CAUSAL_LM", **options
    )
    model = get_peft_model(plain_model(shape), config).eval()
    for name, parameter in model.named_parameters():
        if "magnitude" in name:
            parameter.data *= torch.empty_like(parameter).uniform_(0.5, 1.5)
    model.save_pretrained(tmp_path)
    ids = random_ids(33)
    base = tiny_base(shape)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    lora = load_lora(base, files)
    torch.testing.assert_close(our_logits(base, ids), peft_logits(model, ids), rtol=1e-4, atol=1e-4)
    lora.detach()
    assert torch.equal(our_logits(base, ids), our_logits(tiny_base(shape), ids))


def test_embeddings_that_were_trained_besides_are_refused(tmp_path: Path) -> None:
    config = LoraConfig(r=4, target_modules=["embed_tokens"], task_type="CAUSAL_LM")
    model = get_peft_model(plain_model("llama"), config)
    model.get_input_embeddings().base_layer.weight.data[3] += 1
    model.save_pretrained(tmp_path)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(AdapterError, match="not the base's"):
        load_lora(tiny_base("llama"), files)


def test_what_peft_can_and_we_cannot_is_refused(tmp_path: Path) -> None:
    config = LoraConfig(
        r=4, target_modules=["q_proj"], modules_to_save=["lm_head"], task_type="CAUSAL_LM"
    )
    get_peft_model(plain_model("llama"), config).save_pretrained(tmp_path)
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    with pytest.raises(AdapterError, match="modules_to_save"):
        load_lora(tiny_base("llama"), files)


@pytest.mark.parametrize("shape", ["llama", "gpt2"])
def test_dora_learns_as_in_peft(shape: str) -> None:
    """The same gradients, so that the constant norm means the same."""
    base, ids = tiny_base(shape), random_ids(33)
    lora = attach_lora(base, LoraSettings(rank=4, alpha=8, dora=True), seed=0)
    config = LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", use_dora=True)
    model = get_peft_model(plain_model(shape), config).eval()
    theirs = {
        name.replace(".default", "").removesuffix(".weight"): parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    named = {name.removesuffix(".weight"): p for name, p in lora.parameters().items()}
    assert theirs.keys() == named.keys()
    for name, parameter in named.items():
        parameter.data += torch.empty_like(parameter).normal_(std=0.05)
        theirs[name].data.copy_(parameter.data)
    logits = base.head.logits(base.hidden(ids, Layout.of_lengths([33])))
    logits.logsumexp(-1).sum().backward()
    model(input_ids=ids[None]).logits[0].logsumexp(-1).sum().backward()
    for name, parameter in named.items():
        scale = theirs[name].grad.abs().max()
        torch.testing.assert_close(
            parameter.grad / scale, theirs[name].grad / scale, rtol=0, atol=1e-4, msg=name
        )


def test_lora_plus_has_pefts_learning_rates() -> None:
    lora = attach_lora(tiny_base("llama"), LoraSettings(rank=4, lora_plus_ratio=16.0), seed=0)
    ours = {p: factor for factor, group in rate_groups(lora) for p in group}
    model = get_peft_model(plain_model("llama"), LoraConfig(r=4, target_modules="all-linear"))
    optimiser = create_loraplus_optimizer(model, torch.optim.AdamW, lr=1.0, loraplus_lr_ratio=16.0)
    rates = {p: group["lr"] for group in optimiser.param_groups for p in group["params"]}
    theirs = dict(model.named_parameters())
    assert len(lora.parameters()) == len(rates) == 2 * 3 * 7
    for name, parameter in lora.parameters().items():
        assert ours[parameter] == rates[theirs[name.replace(".weight", ".default.weight")]], name


def test_an_adapter_of_another_base_is_refused() -> None:
    files = attach_lora(tiny_base("gpt2"), LoraSettings(rank=4), seed=0).files()
    with pytest.raises(AdapterError, match="another base|not linear layers"):
        load_lora(tiny_base("llama"), files)
    files = attach_lora(tiny_base("qwen3"), LoraSettings(rank=4), seed=0).files()
    config = json.loads(files["adapter_config.json"]) | {"r": 5}
    with pytest.raises(AdapterError, match="must be"):
        load_lora(tiny_base("llama"), files | {"adapter_config.json": json.dumps(config).encode()})


@pytest.mark.parametrize(
    "change",
    [
        {"r": 0},
        {"r": "x"},
        {"r": None},
        {"lora_alpha": -1},
        {"lora_alpha": []},
        {"lora_dropout": 1},
        {"peft_type": "IA3"},
    ],
    ids=str,
)
def test_settings_that_mean_nothing_are_refused(change: dict) -> None:
    files = attach_lora(tiny_base("llama"), LoraSettings(rank=4), seed=0).files()
    config = json.loads(files["adapter_config.json"]) | change
    with pytest.raises(AdapterError, match="adapter: "):
        load_lora(tiny_base("llama"), files | {"adapter_config.json": json.dumps(config).encode()})
