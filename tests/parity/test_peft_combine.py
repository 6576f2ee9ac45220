"""Combined updates equal PEFT's `add_weighted_adapter` where PEFT combines updates too."""

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import Tensor

from kamerton.adapters.catalogue import load
from kamerton.adapters.combine import CombineSettings
from kamerton.adapters.lora.combine import combine_loras
from kamerton.adapters.lora.lora import LoraSettings
from kamerton.models.attention.layout import Layout
from tests.parity.test_ragged_rows import random_ids
from tests.shapes import plain_model, tiny_base
from tests.unit.adapters.test_combine import stored


def theirs(parents: list[dict[str, bytes]], folder: Path, **options) -> Tensor:
    names = ["a", "b"]
    model = plain_model("llama")
    for name, files in zip(names, parents, strict=True):
        (folder / name).mkdir()
        for file, content in files.items():
            (folder / name / file).write_bytes(content)
    peft = PeftModel.from_pretrained(model, folder / "a", adapter_name="a")
    peft.load_adapter(folder / "b", adapter_name="b")
    peft.add_weighted_adapter(names, adapter_name="both", **options)
    peft.set_adapter("both")
    with torch.no_grad():
        return peft.eval()(input_ids=random_ids(33)[None]).logits[0]


def ours(parents: list[dict[str, bytes]], settings: CombineSettings) -> Tensor:
    base = tiny_base("llama")
    load(base, "lora", combine_loras(parents, settings).files)
    with torch.no_grad():
        return base.head.logits(base.hidden(random_ids(33), Layout.of_lengths([33])))


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        (
            {"how": "cat", "weights": (1.0, 0.5)},
            {"combination_type": "cat", "weights": [1.0, 0.5]},
        ),
        (
            {"how": "sum", "weights": (1.0, 0.5)},
            {"combination_type": "svd", "weights": [1.0, 0.5]},
        ),
        (
            {"how": "ties", "density": 0.25, "rank": 8},
            {
                "combination_type": "ties_svd", "weights": [1.0, 1.0], "density": 0.25,
                "svd_rank": 8, "majority_sign_method": "total",
            },
        ),
    ],
    ids=["cat", "sum", "ties"],
)  # fmt: skip
def test_the_same_answers(settings: dict, options: dict, tmp_path: Path) -> None:
    form = LoraSettings(rank=4, alpha=8)
    parents = [stored(form, seed) for seed in range(2)]
    found, wanted = ours(parents, CombineSettings(**settings)), theirs(parents, tmp_path, **options)
    torch.testing.assert_close(found, wanted, rtol=1e-3, atol=1e-3)
