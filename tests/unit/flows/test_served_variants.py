"""Variants that come and go while requests are answered, on the bundled base."""

import gc
import shutil
import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save

from kamerton.core.errors import AdapterError, KamertonError, VariantError
from kamerton.core.events import Event, Notice
from kamerton.core.files import hash_bytes
from kamerton.core.protocols import Generation
from kamerton.core.requests import AnswerRequest
from kamerton.flows.serve import EngineOptions
from kamerton.flows.served_engine import open_engine
from kamerton.inference.continuous_engine import ContinuousEngine
from kamerton.store.variants import Variant, read_variant, write_variant
from tests.e2e.speakers import make_speakers
from tests.e2e.training import train_in

KINDS = {
    "anna": ("adapter.rank=2", "train.learning_rate=0.01"),
    "boris": ("adapter.rank=2", "train.learning_rate=0.01"),
    "clara": ("adapter.kind=prefix", "adapter.num_virtual_tokens=4", "train.learning_rate=0.1"),
    "shots": ("adapter.kind=none", "prompt.demonstrations=2", "prompt.system=Be brief."),
}
QUESTION = [{"role": "user", "content": "Which colour has box 3?"}]
GREEDY = Generation(max_tokens=10)


def notices(told: list[Event]) -> list[str]:
    return [event.message for event in told if isinstance(event, Notice)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    make_speakers(folder, KINDS)
    return folder


@pytest.fixture(scope="module")
def whole(trained: Path) -> Path:
    """A variant with all weights of its own."""
    train_in(trained, ("name=whole", "adapter.kind=full", "train.epochs=1"))
    return trained / "variants" / "whole"


@pytest.fixture
def project(trained: Path, tmp_path: Path) -> Path:
    shutil.copytree(trained / "variants", tmp_path / "variants")
    return tmp_path


@pytest.fixture
def engine(project: Path) -> ContinuousEngine:
    return open_engine(EngineOptions(("builtin:nano",), project, dtype="float32"), lambda n: None)


def begin(engine: ContinuousEngine, name: str, model: str, artefact: str = "") -> None:
    assert engine.add(AnswerRequest(name, model, GREEDY, QUESTION, artefact=artefact)) == []


def finish(engine: ContinuousEngine) -> dict[str, str]:
    found: dict[str, str] = {}
    while not engine.is_idle:
        for update in engine.step():
            assert not update.error
            found[update.id] = found.get(update.id, "") + update.text
    return found


def answer(engine: ContinuousEngine, model: str) -> str:
    begin(engine, "one", model)
    return finish(engine)["one"]


def state(engine: ContinuousEngine) -> dict[str, torch.Tensor]:
    return {n: v.clone() for n, v in engine._base.model.state_dict().items()}


def is_bare(engine: ContinuousEngine, before: dict[str, torch.Tensor]) -> bool:
    base = engine._base
    hooks = sum(len(module._forward_hooks) for module in base.model.modules())
    after = base.model.state_dict()
    same = after.keys() == before.keys() and all(
        torch.equal(after[n], v) for n, v in before.items()
    )
    return same and not hooks and not base.segment_adapters


def rewrite(variant: Variant, folder: Path, change) -> Variant:
    """Write a variant anew whose tensors are others and whose hashes are right."""
    files = {
        name: save(change(load(content))) if name.endswith(".safetensors") else content
        for name, content in variant.files().items()
    }
    manifest = variant.manifest.model_copy(update={"name": folder.name})
    return write_variant(folder, manifest, files, replace=True)


def test_loaded_variants_answer_and_after_them_the_base_is_as_it_was(engine, project):
    before, alone = state(engine), answer(engine, "builtin:nano")
    models = {name: engine.variants.load(str(project / "variants" / name)) for name in KINDS}
    texts = {name: answer(engine, name) for name in (*KINDS, "builtin:nano")}
    assert texts["builtin:nano"] == alone
    assert {name: texts[name] for name in ("anna", "boris", "clara")} == {
        name: name for name in ("anna", "boris", "clara")
    }
    for model in models.values():
        engine.variants.release(model.content_hash)
    assert engine.variants.num_bytes == 0
    assert is_bare(engine, before)
    assert answer(engine, "builtin:nano") == alone
    (refusal,) = engine.add(AnswerRequest("x", "anna", GREEDY, QUESTION))
    assert "'anna' is not served" in refusal.error


def test_a_request_keeps_the_weights_it_began_with(engine, project):
    place = project / "variants" / "anna"
    old = engine.variants.load(str(place))
    begin(engine, "running", "anna", old.content_hash)
    running = {"running": "".join(update.text for update in engine.step())}
    begin(engine, "begun", "anna", old.content_hash)
    shutil.rmtree(place)
    shutil.copytree(project / "variants" / "boris", place)
    new = engine.variants.load(str(place))
    assert new.content_hash != old.content_hash
    engine.variants.release(old.content_hash)
    begin(engine, "new", "boris", new.content_hash)
    found = finish(engine)
    assert running["running"] + found["running"] == found["begun"] == "anna"
    assert found["new"] == "boris"
    assert engine.variants.num_bytes == new.num_bytes


def test_what_cannot_be_served_leaves_everything_as_it_was(engine, project):
    folder = project / "variants"
    before = state(engine)
    good = read_variant(folder / "anna")
    rewrite(good, folder / "nothing", lambda ts: {n: torch.zeros_like(t) for n, t in ts.items()})
    rewrite(good, folder / "burst", lambda ts: {n: t * torch.nan for n, t in ts.items()})
    rewrite(good, folder / "narrow", lambda ts: {n: t[:1].contiguous() for n, t in ts.items()})
    rewrite(good, folder / "partial", lambda ts: dict(list(ts.items())[1:]))
    rewrite(good, folder / "extra", lambda ts: {**ts, "strange.weight": torch.ones(1)})
    damaged = folder / "boris" / "adapter_model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"x")
    manifest = read_variant(folder / "clara").manifest
    manifest = manifest.model_copy(
        update={
            "name": "stranger",
            "base": manifest.base.model_copy(update={"weight_hash": hash_bytes(b"")}),
        }
    )
    write_variant(folder / "stranger", manifest, read_variant(folder / "clara").files())
    for name, kind, said in (
        ("nothing", AdapterError, "does nothing"),
        ("burst", AdapterError, "NaN or infinite"),
        ("narrow", AdapterError, "narrow: "),
        ("partial", AdapterError, "partial: "),
        ("extra", AdapterError, "extra: "),
        ("boris", VariantError, "is not the file the variant was written with"),
        ("stranger", VariantError, "other weights"),
        ("nowhere", VariantError, "is not a variant"),
    ):
        with pytest.raises(kind, match=said):
            engine.variants.load(str(folder / name))
        assert is_bare(engine, before), name
    assert len(engine.models) == 1


def test_all_weights_are_refused_and_the_base_stays(engine, whole):
    before = state(engine)
    with pytest.raises(KamertonError, match="whole: "):
        engine.variants.load(str(whole))
    assert is_bare(engine, before)


def test_the_version_that_left_memory_is_found_again_by_its_hash(project):
    options = EngineOptions(("builtin:nano",), project, dtype="float32", limit_bytes=300_000)
    engine = open_engine(options, lambda notice: None)
    old = engine.variants.load(str(project / "variants" / "anna"))
    # Training under the same name keeps the earlier version beside it.
    (project / "variants" / "anna").rename(project / "variants" / "anna.1")
    new = engine.variants.load(str(project / "variants" / "boris"))
    assert old.num_bytes + new.num_bytes > 300_000 >= new.num_bytes
    assert engine.variants.num_bytes == new.num_bytes
    begin(engine, "again", "anna", old.content_hash)
    assert engine.variants.num_bytes == old.num_bytes
    assert finish(engine)["again"] == "anna"


def test_an_engine_that_comes_back_holds_the_versions_it_had(engine, project):
    first = engine.variants.load(str(project / "variants" / "anna"))
    second = engine.variants.load(str(project / "variants" / "boris"))
    shutil.rmtree(project / "variants" / "anna")
    told = []
    options = EngineOptions(
        ("builtin:nano", "anna"), project, dtype="float32", restored=tuple(engine.models)
    )
    back = open_engine(options, told.append)
    assert [m.content_hash for m in back.models] == [
        second.content_hash,
        engine.models[0].content_hash,
    ]
    assert answer(back, "boris") == "boris"
    assert first.content_hash[:12] in notices(told)[0]


def test_the_memory_of_an_adapter_is_given_back_at_once(engine, project):
    for name in ("anna", "clara"):
        model = engine.variants.load(str(project / "variants" / name))
        assert answer(engine, name) == name
        adapter = engine.variants.find(name).adapter
        tensors = engine.variants._source._adapters[adapter].parameters().values()
        kept = [weakref.ref(tensor) for tensor in tensors]
        assert sum(t.numel() * t.element_size() for t in tensors) == model.num_bytes
        del tensors
        gc.disable()
        try:
            engine.variants.release(model.content_hash)
            assert [ref for ref in kept if ref() is not None] == []
        finally:
            gc.enable()


def test_both_versions_of_a_name_come_back_after_a_crash(engine, project):
    folder = project / "variants"
    old = engine.variants.load(str(folder / "anna"))
    # Training under the same name keeps the earlier version in a folder beside it.
    (folder / "anna").rename(folder / "anna.1")
    shutil.copytree(folder / "boris", folder / "anna")
    new = engine.variants.load(str(folder / "anna"))
    assert old.name == new.name == "anna"
    options = EngineOptions(
        ("builtin:nano",), project, dtype="float32", restored=tuple(engine.models)
    )
    back = open_engine(options, lambda notice: None)
    for model, text in ((old, "anna"), (new, "boris")):
        assert model.content_hash in {one.content_hash for one in back.models}
        begin(back, text, "anna", model.content_hash)
    assert finish(back) == {"anna": "anna", "boris": "boris"}
    damaged = folder / "anna.1" / "adapter_config.json"
    damaged.write_bytes(b"{}")
    told = []
    back = open_engine(options, told.append)
    assert [model.name for model in back.models] == ["anna", "builtin:nano"]
    assert notices(told)[0].startswith("not served: anna: ")


def test_without_names_all_that_can_be_served_are_and_the_others_are_said(project, whole):
    folder = project / "variants"
    shutil.copytree(whole, folder / "whole", dirs_exist_ok=True)
    # A version that training kept beside the new one has the same name in its manifest.
    shutil.copytree(folder / "boris", folder / "boris.1")
    shutil.copytree(folder / "boris", folder / "anna.1")
    told = []
    engine = open_engine(EngineOptions((), project), told.append)
    assert [said for said in notices(told) if said.startswith("not served: whole: ")]
    names = [model.name for model in engine.models]
    assert names == ["anna", "anna.1", "boris", "boris.1", "clara", "shots", "builtin:nano"]
    assert answer(engine, "anna") == "anna"
    assert answer(engine, "anna.1") == answer(engine, "boris.1") == "boris"
    assert engine.variants.num_bytes == sum(
        model.num_bytes for model in engine.models if model.name in ("anna", "boris", "clara")
    )


@pytest.mark.parametrize("num_cycles", [12, pytest.param(1000, marks=pytest.mark.slow)])
def test_memory_is_flat_over_many_loads_and_unloads(engine, project, num_cycles):
    import psutil

    before, process = state(engine), psutil.Process()
    names = list(KINDS)
    warm = num_cycles // 2
    for number in range(num_cycles):
        model = engine.variants.load(str(project / "variants" / names[number % len(names)]))
        if number % 10 < 2:
            begin(engine, "one", "builtin:nano" if number % 2 else model.name)
            engine.step()
        engine.variants.release(model.content_hash)
        engine.cancel("one")
        assert engine.variants.num_bytes == 0
        if number == warm:
            start = process.memory_info().rss
    grown = process.memory_info().rss - start
    # Were the adapters kept, a thousand cycles would take 50 MiB and more.
    assert grown < 12 << 20
    assert is_bare(engine, before)
