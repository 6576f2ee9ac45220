"""A fusion of two variants, from the recipe to answers."""

from pathlib import Path

import pytest
from safetensors.torch import load

from kamerton.core.errors import AdapterError, VariantError
from kamerton.flows.chat import Conversation
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import make_variant
from kamerton.flows.workspace import Workspace
from kamerton.store.variants import Variant, read_variant
from kamerton.variants.verify import verify_variant
from tests.e2e.project import make_project


class Project:
    def __init__(self, folder: Path) -> None:
        self.folder, self.workspace = folder, Workspace(folder)
        self.recipe = make_project(folder, num_rows=24)

    def make(self, name: str, adapter: str, *overrides: str) -> Variant:
        options = (f"name={name}", f"adapter={adapter}", "train.max_steps=4", *overrides)
        recipe = Recipe.read(self.recipe, options)
        made = make_variant(recipe, self.folder, self.workspace, lambda event: None)
        return read_variant(made.variant.folder)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    return Project(tmp_path_factory.mktemp("fusion"))


def test_two_variants_become_one(project: Project) -> None:
    rate = "train.learning_rate=0.03"
    one = project.make("one", '{ kind = "bottleneck" }', rate)
    two = project.make("two", '{ kind = "bottleneck", reduction = 4 }', rate, "train.seed=1")
    fused = project.make("fused", '{ kind = "fusion", variants = ["one", "two"] }', rate)
    manifest = fused.manifest
    assert manifest.method == "fusion"
    assert manifest.parents == [each.manifest.content_hash for each in (one, two)]
    assert verify_variant(fused) > 0.01
    stored = load(fused.files()["fusion.safetensors"])
    for number, parent in enumerate((one, two)):
        kept = load(parent.files()["bottleneck.safetensors"])
        assert all((stored[f"{number}.{name}"] == tensor).all() for name, tensor in kept.items())
    assert any(stored[name].any() for name in stored if name.endswith("gate.weight"))
    talk = Conversation.open(["fused"], project.workspace, max_tokens=3)
    assert talk.ask("Which colour has box 6?")["fused"]
    # Its own files are all it needs.
    again = project.make("on", '{ kind = "fusion", variants = ["one", "two"] }', "start_from=fused")
    assert again.manifest.parents == [manifest.content_hash]


def test_variants_that_cannot_be_fused_are_said(project: Project) -> None:
    project.make("lora", '{ kind = "lora", rank = 2 }', "train.learning_rate=0.01")
    for names, error, reason in (
        ('"absent", "lora"', VariantError, "absent"),
        ('"lora", "lora"', VariantError, "must be different"),
        ('"new", "lora"', VariantError, "the recipe's own"),
        ('"lora"', AdapterError, "at least two"),
    ):
        with pytest.raises(error, match=reason):
            project.make("new", f'{{ kind = "fusion", variants = [{names}] }}')
