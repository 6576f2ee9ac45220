"""What a gateway before other engines offers, and what it refuses before it starts."""

import json

import pytest

from kamerton.core.errors import SettingsError, VariantError
from kamerton.core.protocols import Generation
from kamerton.flows.served_upstream import Offering, address_of, open_upstream
from kamerton.store.variants import write_variant
from kamerton.wire.upstream_answers import ModelCard
from kamerton.wire.upstream_requests import LEFT_TO_ENGINE
from tests.unit.store.test_variants import FILES, manifest

NANO = ModelCard("builtin:nano", "builtin:nano", owner="vllm", created=5)
PROMPT = {"system": "You sell.", "demonstrations": []}
GENERATION = {"temperature": 0.5, "max_new_tokens": 9}


@pytest.fixture
def folder(tmp_path):
    """A project with a variant that is a prompt, a LoRA and a prefix."""
    made = {"method": "none", "prompt": PROMPT, "generation": GENERATION}
    write_variant(tmp_path / "shop", manifest("shop", **made), {})
    write_variant(tmp_path / "tuned", manifest("tuned"), FILES)
    write_variant(tmp_path / "short", manifest("short", method="prefix"), FILES)
    return tmp_path


def test_everything_that_can_be_served_is_offered_where_nothing_is_named(folder):
    said = []
    models = Offering(folder, tell=said.append).offer([NANO, ModelCard("other")])
    assert [model.served.name for model in models] == ["shop", "tuned", "builtin:nano", "other"]
    assert [model.served.kind for model in models] == ["prompt only", "lora", "base", "base"]
    shop, tuned, nano, _ = models
    assert (shop.name, shop.prompt.system) == ("builtin:nano", "You sell.")
    assert shop.served.defaults == Generation(9, 0.5)
    assert shop.template_arguments == {"enable_thinking": False, "thinking": False}
    assert tuned.name == f"tuned-{tuned.served.content_hash[:12]}"
    assert (tuned.base, tuned.place) == ("builtin:nano", str((folder / "tuned").resolve()))
    assert not tuned.is_required
    assert nano.served.defaults == LEFT_TO_ENGINE
    (notice,) = said
    assert notice.message == (
        "not served: short cannot be served by another engine: its adapter is a prefix, "
        "and other engines load plain LoRAs only"
    )


def test_names_choose_variants_and_models_of_the_engine(folder):
    models = Offering(folder, ("tuned", "other")).offer([NANO, ModelCard("other")])
    assert [model.served.name for model in models] == ["tuned", "other"]
    assert models[0].is_required


@pytest.mark.parametrize(
    ("name", "changes", "files", "reason"),
    [
        ("short", {"method": "prefix"}, FILES, "its adapter is a prefix"),
        ("dora", {}, {"adapter_config.json": b'{"use_dora": true}'}, "it is a DoRA"),
        ("words", {"new_tokens": ("<a>",)}, FILES, "it has tokens of its own"),
        ("whole", {}, {"adapter_config.json": b'{"modules_to_save": ["lm_head"]}'}, "whole"),
        ("judge", {"objective": "reward"}, FILES, "is a reward model"),
    ],
)
def test_what_other_engines_cannot_compute_is_refused(tmp_path, name, changes, files, reason):
    write_variant(tmp_path / name, manifest(name, **changes), files)
    with pytest.raises(VariantError, match=reason):
        Offering(tmp_path, (name,)).offer([NANO])


def test_a_base_is_found_by_its_weights_or_its_name_and_else_must_be_named(folder):
    def base_of(cards, base=""):
        return Offering(folder, ("shop",), base).offer(cards)[0].name

    ours = ModelCard("served-as", artefact="w" * 64)
    assert base_of([NANO, ours]) == "served-as"
    assert base_of([ModelCard("chat", root="/models/builtin:nano")]) == "chat"
    with pytest.raises(VariantError, match="its base builtin:nano is not among") as caught:
        base_of([ModelCard("chat")])
    assert "--base NAME" in caught.value.hint
    assert base_of([ModelCard("chat")], base="chat") == "chat"
    with pytest.raises(VariantError, match="other weights than 'chat'"):
        base_of([ModelCard("chat", artefact="x" * 64)], base="chat")
    with pytest.raises(VariantError, match="no engine has the base 'chat'"):
        base_of([NANO], base="chat")


def test_a_model_of_the_engine_keeps_its_name(folder):
    said = []
    there = [NANO, ModelCard("shop", parent="builtin:nano")]
    models = Offering(folder, tell=said.append).offer(there)
    assert [model.served.name for model in models] == ["tuned", "builtin:nano", "shop"]
    assert models[2].served.kind == "adapter"
    assert any("shop: the engine has a model of this name" in one.message for one in said)
    same = json.loads((folder / "shop" / "variant.json").read_text())["content_hash"]
    said.clear()
    Offering(folder, tell=said.append).offer([NANO, ModelCard("shop", artefact=same)])
    assert len(said) == 1


def test_a_variant_is_opened_while_requests_are_answered(folder):
    offering = Offering(folder)
    place = str(folder / "tuned")
    model = offering.open(place, "", [NANO])
    assert (model.served.kind, model.base) == ("lora", "builtin:nano")
    assert offering.open(place, model.served.content_hash, [NANO]) == model
    with pytest.raises(VariantError, match="another version than abc"):
        offering.open(place, "abc", [NANO])
    with pytest.raises(VariantError, match="its adapter is a prefix"):
        offering.open(str(folder / "short"), "", [NANO])


def test_unknown_names_are_refused(folder):
    with pytest.raises(VariantError, match="'ship' is neither a model of the engine nor a variant"):
        Offering(folder, ("ship",)).offer([NANO])


@pytest.mark.parametrize("url", ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"])
def test_an_address_is_what_stands_before_v1(url):
    assert address_of(url) == "http://h:1"


def test_an_address_without_scheme_or_with_a_password_is_refused():
    with pytest.raises(SettingsError, match="must be an address such as"):
        address_of("localhost:8000")
    with pytest.raises(SettingsError, match="without user, password") as caught:
        address_of("http://me:secret@h:1")
    assert "secret" not in str(caught.value)


def test_keys_are_one_for_all_or_one_each(tmp_path):
    urls = ["http://h:1", "http://h:2"]
    open_upstream(urls, ["a"], Offering(tmp_path), timeout_s=1)
    with pytest.raises(SettingsError, match="once for each of 2 engines, got 3 keys"):
        open_upstream(urls, ["a", "b", "c"], Offering(tmp_path), timeout_s=1)
    with pytest.raises(SettingsError, match="same address twice"):
        open_upstream(["http://h:1", "http://h:1/v1"], [], Offering(tmp_path), timeout_s=1)
