"""Combined variants: made, noted, evaluated, refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load

from kamerton.adapters.combine import CombineSettings
from kamerton.core.errors import AdapterError, SettingsError, VariantError
from kamerton.flows.chat import Conversation
from kamerton.flows.combine import combine_variants
from kamerton.flows.evaluate import evaluate_variants
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import make_variant
from kamerton.flows.workspace import Workspace
from kamerton.store.database import open_store
from kamerton.store.variants import Variant, find_variant
from kamerton.variants.verify import verify_variant
from tests.e2e.project import make_project


class Project:
    """A folder whose recipe makes variants of a few steps; each is made once."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.workspace = folder, Workspace(folder)
        self.recipe = make_project(folder, num_rows=24)
        self.made: dict[tuple[str, ...], Variant] = {}

    def make(self, name: str, *overrides: str) -> Variant:
        if (name, *overrides) not in self.made:
            self.made[name, *overrides] = self._make(name, overrides)
        return self.made[name, *overrides]

    def _make(self, name: str, overrides: tuple[str, ...]) -> Variant:
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


BOTTLENECK = ("adapter.kind=bottleneck", "train.learning_rate=0.03")
OTHER_BOTTLENECK = (*BOTTLENECK, "adapter.placement=houlsby", "adapter.reduction=8")
IA3 = ("adapter.kind=ia3", "train.learning_rate=0.01")


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
    talk = Conversation.open(["both"], project.workspace, max_tokens=3)
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
    refused([parents[0], project.make("p", "adapter.kind=none")], "cannot be combined")
    refused([parents[0], project.make("ia3-1", *IA3)], "of one method")
    refused([parents[0], project.make("q", "base.quantise=nf4")], "another base than a")
    refused(parents, "another variant", name="a")


def test_who_may_use_all_parts_may_use_the_whole(project: Project, parents: list[Variant]) -> None:
    acme = project.make("acme", "train.seed=2", 'audience.tenants=["acme", "globex"]')
    assert acme.manifest.audience.tenants == ("acme", "globex")
    assert parents[0].manifest.audience.is_open
    made = combine_variants([parents[0], acme], "whole", project.workspace, CombineSettings())
    assert made.manifest.audience == acme.manifest.audience
    with pytest.raises(SettingsError, match="nobody may use both"):
        project.make("never", "start_from=acme", 'audience.tenants=["initech"]')
    # Other users do not make another variant.
    again = acme.manifest.model_copy(update={"audience": parents[0].manifest.audience})
    assert again.identity() == acme.manifest.content_hash


def test_prefixes_stand_one_after_the_other(project: Project) -> None:
    kind = ("adapter.kind=prefix", "train.learning_rate=0.3")
    one = project.make("p1", *kind, "adapter.num_virtual_tokens=3")
    two = project.make("p2", *kind, "adapter.num_virtual_tokens=5", "adapter.network=8")
    made = combine_variants([one, two], "p12", project.workspace, CombineSettings(how="cat"))
    assert made.manifest.combination["num_tokens"] == 8
    assert "3 + 5 virtual tokens" in made.manifest.combination["notes"][0]
    name = "adapter_model.safetensors"
    joined, first, second = (load(v.files()[name])["prompt_embeddings"] for v in (made, one, two))
    assert torch.equal(joined, torch.cat([first, second]))
    assert verify_variant(made) > 0.01
    with pytest.raises(AdapterError, match="combined by cat"):
        combine_variants([one, two], "no", project.workspace, CombineSettings(how="average"))


def test_bottlenecks_stand_in_a_row(project: Project) -> None:
    one = project.make("bottleneck-1", *BOTTLENECK)
    two = project.make("bottleneck-other", *OTHER_BOTTLENECK)
    made = combine_variants([one, two], "s12", project.workspace, CombineSettings(how="stack"))
    assert made.manifest.combination["members"] == 2
    assert "in a row at every place" in made.manifest.combination["notes"][0]
    changes = [verify_variant(each) for each in (made, one, two)]
    assert changes[0] not in changes[1:]
    talk = Conversation.open(["s12"], project.workspace, max_tokens=3)
    assert talk.ask("Which colour has box 6?")["s12"]
    # It is a variant to go on from, as any other.
    on = project.make("on", *BOTTLENECK, "start_from=s12")
    assert set(load(on.files()["bottleneck.safetensors"])) == set(
        load(made.files()["bottleneck.safetensors"])
    )


@pytest.mark.parametrize("kind", ["bottleneck", "ia3"])
def test_tensors_are_averaged(project: Project, kind: str) -> None:
    made_so = BOTTLENECK if kind == "bottleneck" else IA3
    one = project.make(f"{kind}-1", *made_so)
    two = project.make(f"{kind}-2", *made_so, "train.seed=1", "train.learning_rate=0.02")
    pair = [one, two]
    settings = CombineSettings(how="average", weights=(3.0, 1.0))
    made = combine_variants(pair, f"{kind}-mean", project.workspace, settings)
    name = next(name for name in made.files() if name.endswith(".safetensors"))
    mean, first, second = (load(variant.files()[name]) for variant in (made, *pair))
    for key, tensor in mean.items():
        torch.testing.assert_close(tensor, 0.75 * first[key] + 0.25 * second[key])
    assert "cosine" in made.manifest.combination["notes"][0]
    assert verify_variant(made) > 0
    form = OTHER_BOTTLENECK if kind == "bottleneck" else (*IA3, 'adapter.layers="0-2"')
    other = project.make(f"{kind}-other", *form)
    with pytest.raises(AdapterError, match="differs"):
        combine_variants([pair[0], other], "no", project.workspace, settings)
