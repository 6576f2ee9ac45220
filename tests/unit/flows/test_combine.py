"""Combined variants: made, noted, evaluated, refused."""

import json
from pathlib import Path

import pytest

from kamerton.adapters.combine import CombineSettings
from kamerton.core.errors import VariantError
from kamerton.core.protocols import Generation
from kamerton.flows.chat import Conversation
from kamerton.flows.combine import combine_variants
from kamerton.flows.evaluate import evaluate_variants
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import make_variant
from kamerton.flows.variants import verify_variant
from kamerton.flows.workspace import Workspace
from kamerton.store.database import open_store
from kamerton.store.variants import Variant, find_variant
from tests.e2e.project import make_project


class Project:
    """A folder whose recipe makes variants of a few steps."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.workspace = folder, Workspace(folder)
        self.recipe = make_project(folder, num_rows=24)

    def make(self, name: str, *overrides: str) -> Variant:
        recipe = Recipe.read(self.recipe, (f"name={name}", "train.max_steps=3", *overrides))
        return make_variant(recipe, self.folder, self.workspace, lambda event: None).variant


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    return Project(tmp_path_factory.mktemp("combine"))


@pytest.fixture(scope="module")
def parents(project: Project) -> list[Variant]:
    return [
        project.make("a"),
        project.make("b", "train.seed=1", "adapter.rank=4", 'prompt.system="Be brief."'),
    ]


def test_a_combination_is_a_variant(project: Project, parents: list[Variant]) -> None:
    settings = CombineSettings(how="ties", density=0.5)
    made = combine_variants(parents, "both", project.workspace, settings)
    manifest = find_variant("both", project.workspace.variants).manifest
    assert manifest.parents == [one.manifest.content_hash for one in parents]
    assert manifest.content_hash not in manifest.parents
    said = manifest.combination
    assert (said["of"], said["how"], said["density"]) == (["a", "b"], "ties", 0.5)
    assert said["rank"] == 20
    assert 0 < said["error"] < 1
    notes = "\n".join(said["notes"])
    for word in ("cosine", "leaves out", "the prompts differ", "evaluate it beside its parents"):
        assert word in notes
    assert manifest.metrics == {}
    card = (made.folder / "CARD.md").read_text()
    assert "combined from a, b: how ties" in card
    assert "the prompts differ" in card
    assert verify_variant(made) > 0.01
    with open_store(project.workspace.store) as store:
        assert "both" in json.dumps(store.variants(), default=str)
    found = evaluate_variants([parents[0], made], project.workspace, lambda event: None)
    assert found.comparison.variants[-2:] == ("a", "both")
    talk = Conversation.open(["both"], project.workspace, Generation(max_tokens=3))
    assert talk.ask("Which colour has box 6?")["both"]


def test_concatenation_has_no_loss_to_note(project: Project, parents: list[Variant]) -> None:
    made = combine_variants(parents, "joined", project.workspace, CombineSettings(how="cat"))
    assert made.manifest.combination["error"] == 0
    assert "leaves out" not in "\n".join(made.manifest.combination["notes"])


def test_what_cannot_be_combined(project: Project, parents: list[Variant]) -> None:
    def refused(variants: list[Variant], said: str, name: str = "no") -> None:
        with pytest.raises(VariantError, match=said):
            combine_variants(variants, name, project.workspace, CombineSettings())
        assert not (project.workspace.variants / "no").exists()

    refused(parents[:1], "two different")
    refused([parents[0], parents[0]], "two different")
    refused([parents[0], project.make("p", "adapter.kind=none")], "only LoRA")
    refused([parents[0], project.make("q", "base.quantise=nf4")], "another base than a")
    refused(parents, "another variant", name="a")
