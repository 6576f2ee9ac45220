"""One base and variants of several kinds behind one engine: each answers as it does alone."""

from pathlib import Path

import pytest

from kamerton.core.errors import AdapterError, VariantError
from kamerton.core.events import Event, Notice
from kamerton.core.protocols import Generation
from kamerton.core.requests import AnswerRequest
from kamerton.flows.serve import EngineOptions
from kamerton.flows.served_engine import open_engine
from kamerton.inference.continuous_engine import ContinuousEngine
from kamerton.models.quantised.layer import QuantisedLinear
from kamerton.store.variants import find_variant
from kamerton.variants.load import load_base_for
from kamerton.variants.opening import make_ready
from tests.e2e.project import make_project
from tests.e2e.training import train_in

# Large rates, so that every variant says something of its own after a step or two.
KINDS = {
    "small": ("adapter.rank=2", "train.learning_rate=0.02"),
    "large": ("adapter.rank=8", "adapter.rank_stabilised=true", "train.learning_rate=0.01"),
    "dora": ("adapter.dora=true", "train.learning_rate=0.01"),
    "ia3": ("adapter.kind=ia3", "train.learning_rate=0.1"),
    "prefix": ("adapter.kind=prefix", "adapter.num_virtual_tokens=4"),
    "soft": ("adapter.kind=prompt", "adapter.num_virtual_tokens=4", "train.learning_rate=0.5"),
    "bottleneck": ("adapter.kind=bottleneck", "train.learning_rate=0.01"),
    "shots": ("adapter.kind=none", "prompt.demonstrations=2", "prompt.system=Be brief."),
}
QUESTION = [{"role": "user", "content": "Which colour has box 3?"}]
GREEDY = Generation(max_tokens=10)


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    make_project(folder, num_rows=16)
    for name, settings in KINDS.items():
        train_in(folder, (f"name={name}", "train.epochs=1", *settings))
    return folder


@pytest.fixture(scope="module")
def engine(project: Path) -> ContinuousEngine:
    return open_engine(EngineOptions((), project, num_slots=5), lambda notice: None)


def answer(engine: ContinuousEngine, names: list[str]) -> dict[str, str]:
    for name in names:
        engine.add(AnswerRequest(name, name, GREEDY, QUESTION))
    found = dict.fromkeys(names, "")
    while not engine.is_idle:
        for update in engine.step():
            assert not update.error
            found[update.id] += update.text
    return found


def alone(project: Path, name: str) -> str:
    variant = find_variant(name, project / "variants")
    ready = make_ready(variant, load_base_for(variant))
    return "".join(event.text for event in ready.engine.stream([QUESTION], GREEDY))


def test_every_variant_in_a_mixed_batch_answers_as_it_does_alone(engine, project):
    names = [*KINDS, "builtin:nano"]
    together = answer(engine, names)
    expected = {name: alone(project, name) for name in KINDS}
    assert {name: together[name] for name in KINDS} == expected
    # The test would see a mix-up: most of them say something of their own.
    assert len(set(together.values())) > len(names) // 2
    assert answer(engine, names[::-1]) == together


def test_models_name_kind_and_hash_and_memory(engine, project):
    models = {model.name: model for model in engine.models}
    assert set(models) == {*KINDS, "builtin:nano"}
    assert models["shots"].kind == "prompt only"
    assert models["small"].kind == "lora"
    assert models["builtin:nano"].kind == "base"
    assert models["large"].num_bytes == 4 * models["small"].num_bytes
    manifest = find_variant("dora", project / "variants").manifest
    assert models["dora"].content_hash == manifest.content_hash
    assert models["dora"].defaults.max_tokens == manifest.generation["max_new_tokens"]


def test_only_those_that_are_named_are_served(project):
    engine = open_engine(EngineOptions(("soft",), project), lambda notice: None)
    assert [model.name for model in engine.models] == ["soft", "builtin:nano"]


def test_a_base_is_served_without_variants(tmp_path):
    told: list[Event] = []
    engine = open_engine(EngineOptions(("builtin:nano",), tmp_path), told.append)
    assert [model.name for model in engine.models] == ["builtin:nano"]
    assert not [event for event in told if isinstance(event, Notice)]


def test_what_cannot_be_served_is_said(project, tmp_path):
    with pytest.raises(VariantError, match="there is no variant in"):
        open_engine(EngineOptions((), tmp_path), lambda notice: None)
    with pytest.raises(VariantError, match="'nobody'"):
        open_engine(EngineOptions(("nobody",), project), lambda notice: None)
    with pytest.raises(VariantError, match="a server has one base"):
        open_engine(
            EngineOptions(("builtin:nano", "builtin:smollm2"), project), lambda notice: None
        )


def test_all_weights_cannot_share_a_base(project):
    train_in(project, ("name=whole", "adapter.kind=full", "train.epochs=1"))
    with pytest.raises(AdapterError, match="whole: "):
        open_engine(EngineOptions(("whole",), project), lambda notice: None)


def test_a_base_in_few_bits_carries_the_variants_that_were_made_over_it_whole(project):
    options = EngineOptions(("small", "prefix"), project, quantise="int8")
    engine = open_engine(options, lambda notice: None)
    layers = [m for m in engine._base.model.modules() if isinstance(m, QuantisedLinear)]
    assert layers
    found = answer(engine, ["small", "prefix", "builtin:nano"])
    assert found == answer(engine, ["small"]) | answer(engine, ["prefix", "builtin:nano"])
    bare = EngineOptions(("builtin:nano",), project, quantise="nf4")
    assert open_engine(bare, lambda notice: None)._base.identity.quantise == "nf4"


@pytest.mark.parametrize("form", ["int8", "nf4"])
def test_variants_made_over_few_bits_answer_together_as_alone(project, form):
    for name, kind in (("lora", "adapter.kind=lora"), ("prefix", "adapter.kind=prefix")):
        train_in(
            project, (f"name={name}-{form}", kind, "train.max_steps=2", f"base.quantise={form}")
        )
    names = (f"lora-{form}", f"prefix-{form}")
    engine = open_engine(EngineOptions(names, project), lambda notice: None)
    assert engine._base.identity.quantise == form
    asked = [*names, "builtin:nano"]
    alone = {name: answer(engine, [name])[name] for name in asked}
    assert answer(engine, asked) == alone
    assert len(set(alone.values())) > 1


def test_a_variant_made_over_few_bits_is_not_served_over_others(project):
    train_in(project, ("name=packed", "train.max_steps=1", "base.quantise=int8"))
    with pytest.raises(VariantError, match="held in int8, and --quantise says nf4"):
        open_engine(EngineOptions(("packed",), project, quantise="nf4"), lambda notice: None)
