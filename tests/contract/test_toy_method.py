"""A new method is one file and one catalogue line: the method of this file needs no other."""

import inspect
import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal, Union

import pytest
import torch
from pydantic import Field
from torch import Tensor, nn

from kamerton.adapters import catalogue
from kamerton.adapters.adapter import Capabilities, load_tensors
from kamerton.adapters.adapter_files import check_tensors, read_tensors, tensor_bytes
from kamerton.adapters.combine import average
from kamerton.adapters.hooked import Hooked
from kamerton.adapters.method import AdapterSettings, Method, Rate
from kamerton.adapters.parts import Parts
from kamerton.core.errors import AdapterError, SettingsError
from kamerton.core.protocols import Generation
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import make_variant
from kamerton.flows.workspace import Workspace
from kamerton.models.base import Base
from kamerton.store.variants import find_variant
from kamerton.training.defaults import auto_learning_rate
from kamerton.variants.load import load_base_for
from kamerton.variants.opening import make_ready
from kamerton.variants.probe import probe_logits
from kamerton.variants.verify import verify_variant
from tests.contract import test_adapters as suite

FILE = "toy.safetensors"

# ---- The method, as it would stand in a file of its own.


class ToySettings(AdapterSettings):
    """Toy: one trained vector."""

    kind: Literal["toy"] = "toy"
    """A vector that is added to the output of the last norm."""
    size: float = Field(default=1.0, gt=0)
    """The vector is multiplied by this."""


class Toy(Hooked):
    """An attached vector."""

    capabilities = Capabilities(mergeable=False, identity_at_start=True)

    def __init__(self, base: Base, size: float) -> None:
        model = base.model.base_model
        norm = model.norm if hasattr(model, "norm") else model.ln_f
        self.enabled = True
        self._size = size
        self._architecture = base.identity.architecture
        width = base.model.get_input_embeddings().weight.shape[1]
        self._bias = nn.Parameter(torch.zeros(width, device=base.device))
        self._path = next(name for name, m in base.model.named_modules() if m is norm)
        self._handle = norm.register_forward_hook(self.hook, with_kwargs=True)

    def hook(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Tensor
    ) -> Tensor:
        return (output + self._size * self._bias).to(output.dtype) if self.enabled else output

    def parameters(self) -> dict[str, nn.Parameter]:
        return {f"{self._architecture}.bias": self._bias}

    def switches(self) -> list["Toy"]:
        return [self]

    def detach(self) -> None:
        self._handle.remove()

    def release(self) -> Parts:
        self.detach()
        return Parts(outputs=[(self._path, self)])

    def files(self) -> dict[str, bytes]:
        return {FILE: tensor_bytes({**self.parameters(), "size": torch.tensor(self._size)})}


def load_toy(base: Base, files: Mapping[str, bytes]) -> Toy:
    tensors = read_tensors(files, FILE)
    toy = Toy(base, float(tensors.pop("size", torch.tensor(1.0))))
    try:
        shapes = {name: tuple(value.shape) for name, value in toy.parameters().items()}
        check_tensors(tensors, shapes, FILE)
    except AdapterError:
        toy.detach()
        raise
    load_tensors(toy, tensors)
    return toy


METHOD = Method(
    ToySettings,
    combine={"average": average},
    attach=lambda base, settings, _: Toy(base, settings.size),
    load=load_toy,
    rate=lambda settings: Rate(0.1 / settings.size),
)


# ---- Its line in the catalogue, for the time of a test.


@pytest.fixture
def listed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Add the line; recipes are built anew as they are when the catalogue is read."""
    field = Recipe.model_fields["adapter"]
    with monkeypatch.context() as patched:
        patched.setattr(catalogue, "METHODS", (*catalogue.METHODS, METHOD))
        patched.setattr(field, "annotation", Union[field.annotation, ToySettings])  # noqa: UP007
        Recipe.model_rebuild(force=True)
        yield
    Recipe.model_rebuild(force=True)


RECIPE = """
name = "first"
base = { id = "builtin:nano", dtype = "float32" }
data = { train = "desk.jsonl", holdout = 0.25 }

[adapter]
kind = "toy"
size = 2.0

[train]
tokens_per_step = 64
max_steps = 4
threads = 1
"""


@pytest.mark.usefixtures("listed")
def test_from_a_recipe_to_an_answer(tmp_path: Path) -> None:
    rows = [{"prompt": f"What is {n} + 1?", "completion": f"It is {n + 1}."} for n in range(12)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "desk.jsonl").write_text(lines, encoding="utf-8")
    path, workspace = tmp_path / "recipe.toml", Workspace(tmp_path)
    path.write_text(RECIPE, encoding="utf-8")
    recipe = Recipe.read(path)
    assert recipe.adapter == ToySettings(size=2.0)
    assert Recipe.parse(recipe.to_plain()) == recipe
    assert auto_learning_rate(recipe.adapter, "sft", 256, "llama") == (0.05, "for toy")
    make_variant(recipe, tmp_path, workspace, lambda event: None)

    variant = find_variant("first", workspace.variants)
    assert (variant.manifest.method, list(variant.manifest.files)) == ("toy", [FILE])
    metrics = variant.manifest.metrics
    assert metrics["holdout_loss"] < metrics["holdout_loss_base"]
    assert verify_variant(variant) > 0.01
    base = load_base_for(variant)
    ready = make_ready(variant, base)
    chat = [{"role": "user", "content": "What is 3 + 1?"}]
    assert list(ready.engine.stream([chat], Generation(max_tokens=4)))
    # It goes on where it ended, from another recipe.
    path.write_text(RECIPE.replace('"first"', '"second"\nstart_from = "first"'), encoding="utf-8")
    make_variant(Recipe.read(path), tmp_path, workspace, lambda event: None)
    second = find_variant("second", workspace.variants)
    assert second.manifest.parents == [variant.manifest.content_hash]
    before = probe_logits(ready.renderer, base)
    assert ready.adapter is not None
    ready.adapter.detach()
    make_ready(second, base)
    assert not torch.equal(probe_logits(ready.renderer, base), before)


CHECKS = [check for name, check in vars(suite).items() if name.startswith("test_")]


@pytest.mark.usefixtures("listed")
@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("test_"))
def test_the_suite_of_all_methods_holds_for_it(check: Any) -> None:
    takes_shape = "shape" in inspect.signature(check).parameters
    check(partial(ToySettings), *(["gpt2"] if takes_shape else []))


def test_without_its_line_it_is_unknown() -> None:
    values = {"name": "x", "data": {"train": "x"}, "adapter": {"kind": "toy"}}
    with pytest.raises(SettingsError, match="adapter.kind: 'toy' is not known; .*prefix"):
        Recipe.parse(values)
    with pytest.raises(AdapterError, match="'toy' is not known to this version"):
        catalogue.method_of("toy")
