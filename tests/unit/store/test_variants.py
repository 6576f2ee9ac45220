"""Variant folders: whole or absent, hashed, refused when damaged or for another base."""

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from kamerton.core import files as core_files
from kamerton.core.errors import VariantError
from kamerton.core.files import hash_json
from kamerton.core.generation import GenerationSettings
from kamerton.store.manifest import FORMAT_VERSION, BaseRecord, DataRecord, VariantManifest
from kamerton.store.variants import (
    add_metrics,
    check_base,
    find_variant,
    list_variants,
    read_variant,
    write_variant,
)

FILES = {"adapter_config.json": b"{}", "adapter_model.safetensors": b"\x00" * 40}


def manifest(name: str = "desk", **changes: Any) -> VariantManifest:
    made = VariantManifest(
        name=name,
        base=BaseRecord(
            id="builtin:nano", architecture="LlamaForCausalLM", num_parameters=5,
            weight_hash="w" * 64, tokenizer_hash="t" * 64, template_hash="c" * 64,
        ),
        prompt={"system": None, "demonstrations": []},
        method="lora", objective="sft", recipe={"name": name},
        data=DataRecord(place="d.jsonl", fingerprint="f", num_train=3, num_holdout=1),
        seed=0, kamerton_version="0", created="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    return made.model_copy(update=changes)


def test_round_trip(tmp_path: Path) -> None:
    written = write_variant(tmp_path / "desk", manifest(), FILES)
    found = read_variant(tmp_path / "desk")
    assert found.manifest == written.manifest
    assert found.files() == FILES
    assert "desk" in (tmp_path / "desk" / "CARD.md").read_text()
    assert [v.name for v in list_variants(tmp_path)[0]] == ["desk"]


def test_the_hash_is_of_what_decides_the_answers(tmp_path: Path) -> None:
    one = write_variant(tmp_path / "a", manifest("a"), FILES).manifest.content_hash
    assert write_variant(tmp_path / "b", manifest("b", seed=4), FILES).manifest.content_hash == one
    other_files = {**FILES, "adapter_config.json": b"{ }"}
    assert write_variant(tmp_path / "c", manifest("c"), other_files).manifest.content_hash != one
    other = manifest("d", prompt={"system": "Be brief.", "demonstrations": []})
    assert write_variant(tmp_path / "d", other, FILES).manifest.content_hash != one


OTHER: dict[str, dict[str, Any]] = {
    "thinking": {"render": {"thinking": True}},
    "date": {"render": {"date": "2026-11-30"}},
    "new tokens": {"new_tokens": ("Acme",)},
    "temperature": {"generation": {"temperature": 0.7}},
    "length": {"generation": {"max_new_tokens": 12}},
    "dtype": {"base": manifest().base.model_copy(update={"dtype": "float32"})},
    "quantise": {"base": manifest().base.model_copy(update={"quantise": "nf4"})},
}


@pytest.mark.parametrize("what", OTHER)
def test_the_hash_covers_all_that_a_variant_answers_with(what: str) -> None:
    assert manifest(**OTHER[what]).identity() != manifest().identity()
    assert not manifest(**OTHER[what]).is_same(manifest())


def test_the_hash_covers_neither_origin_nor_place() -> None:
    moved = manifest().base.model_copy(
        update={"id": "bases/nano", "device": "cuda:1", "commit": "abc"}
    )
    other = manifest("other", base=moved, recipe={"render": {"thinking": True}}, metrics={"a": 1.0})
    assert other.identity() == manifest().identity()
    assert other.is_same(manifest())


RECIPE = {
    "name": "desk",
    "base": {"id": "builtin:nano", "dtype": "float32", "device": "cpu", "quantise": "none"},
    "render": {
        "train_on": "last", "max_tokens": 64, "thinking": True, "date": "2026-11-29",
        "template_arguments": {"tone": "kind"},
    },
    "adapter": {"kind": "lora", "rank": 4, "new_tokens": ["Acme"]},
    "evaluate": {"max_tokens": 12},
}  # fmt: skip
WRITTEN = {
    1: "be5125d97ce38b5ee2dba68e8207885d7359eef292e8c08ecbe0493a85b1be46",
    2: "11482054acdf1a606a54a46f2f34fef1b4627301a00286e49c348242350b09bd",
}
"""The content hash of `RECIPE`'s variant as the versions of that time wrote it."""


def write_in_older_format(folder: Path, version: int) -> None:
    """Write the folder that an earlier version of Kamerton made of `RECIPE`."""
    write_variant(folder, manifest(recipe=RECIPE), FILES)
    path = folder / "variant.json"
    plain = json.loads(path.read_text())
    for key in ("render", "new_tokens"):
        del plain[key]
    for key in ("dtype", "device"):
        del plain["base"][key]
    plain |= {"format_version": version, "generation": {"max_tokens": 12}}
    plain["content_hash"] = WRITTEN[version]
    path.write_text(json.dumps(plain))


@pytest.mark.parametrize("version", WRITTEN)
def test_a_variant_of_an_older_format_opens_and_is_known_again(
    tmp_path: Path, version: int
) -> None:
    write_in_older_format(tmp_path / "desk", version)
    old = read_variant(tmp_path / "desk")
    assert old.manifest.content_hash == WRITTEN[version]
    # What its recipe alone said stands in the manifest now.
    render = {"thinking": True, "date": "2026-11-29", "template_arguments": {"tone": "kind"}}
    base = old.manifest.base.model_copy(update={"dtype": "float32", "device": "cpu"})
    generation = GenerationSettings(max_new_tokens=12).model_dump(mode="json")
    new = {"render": render, "new_tokens": ("Acme",), "generation": generation, "base": base}
    assert old.manifest == old.manifest.model_copy(update=new)
    add_metrics(old, "| table |", {"accuracy": 0.9})
    again = read_variant(tmp_path / "desk").manifest
    assert again == old.manifest.model_copy(
        update={"metrics": {"accuracy": 0.9}, "comparison": "| table |"}
    )
    names: list[str] = []
    made = manifest(recipe=RECIPE, **new)
    written = write_variant(
        tmp_path / "desk", made, FILES, replace=True, kept=names.append
    ).manifest
    assert (written.format_version, written.metrics) == (FORMAT_VERSION, {"accuracy": 0.9})
    assert names == []
    assert written.content_hash != WRITTEN[version]


@pytest.mark.parametrize("version", WRITTEN)
def test_a_changed_manifest_of_an_older_format_is_found(tmp_path: Path, version: int) -> None:
    write_in_older_format(tmp_path / "desk", version)
    path = tmp_path / "desk" / "variant.json"
    plain = json.loads(path.read_text())
    longer = {"generation": {"max_tokens": 13}}
    quick = {"recipe": {**RECIPE, "render": {"thinking": False}}}
    for change in ({"format_version": 3}, {"prompt": {}}, longer if version == 1 else quick):
        path.write_text(json.dumps({**plain, **change}))
        with pytest.raises(VariantError, match="changed"):
            read_variant(tmp_path / "desk")
    # What stands there beside the recipe decides nothing.
    path.write_text(json.dumps({**plain, "render": {"thinking": False}, "new_tokens": ["x"]}))
    assert read_variant(tmp_path / "desk").manifest.render["thinking"] is True
    assert read_variant(tmp_path / "desk").manifest.new_tokens == ("Acme",)


@pytest.mark.parametrize("file", sorted(FILES))
def test_damage_is_found(tmp_path: Path, file: str) -> None:
    write_variant(tmp_path / "desk", manifest(), FILES)
    (tmp_path / "desk" / file).write_bytes(b"other")
    with pytest.raises(VariantError, match=file):
        read_variant(tmp_path / "desk")
    (tmp_path / "desk" / file).unlink()
    with pytest.raises(VariantError, match="missing"):
        read_variant(tmp_path / "desk")


def test_a_changed_manifest_is_found(tmp_path: Path) -> None:
    write_variant(tmp_path / "desk", manifest(), FILES)
    path = tmp_path / "desk" / "variant.json"
    plain = json.loads(path.read_text())
    for change, message in (
        ({"method": "none"}, "changed"),
        ({"format_version": 99}, "format 99"),
        ({"seed": "x"}, "damaged"),
        ({"files": {"../../etc/passwd": "0" * 64}}, "missing"),
    ):
        path.write_text(json.dumps({**plain, **change}))
        with pytest.raises(VariantError, match=message):
            read_variant(tmp_path / "desk")
    path.write_bytes(b"{")
    with pytest.raises(VariantError, match="damaged"):
        read_variant(tmp_path / "desk")


WRITER = """
import itertools, sys
from pathlib import Path
from kamerton.store.manifest import VariantManifest
from kamerton.store.variants import write_variant
manifest = VariantManifest.model_validate_json(sys.argv[2])
for number in itertools.count():
    files = {name: bytes([number % 256]) * 50_000 for name in ("one", "two", "three")}
    write_variant(Path(sys.argv[1]), manifest, files, replace=True)
    if number == 1:
        print("ready", flush=True)
"""


def test_kill_9_while_writing_leaves_a_whole_variant(tmp_path: Path) -> None:
    folder = tmp_path / "desk"
    command = [sys.executable, "-c", WRITER, str(folder), manifest().model_dump_json()]
    for delay_s in (0.0, 0.011, 0.023, 0.037, 0.052):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            time.sleep(delay_s)
            writer.kill()
        assert len(set(read_variant(folder).files().values())) == 1
        assert [variant.name for variant in list_variants(tmp_path)[0]] == ["desk"]


@pytest.mark.parametrize("can_exchange", [True, False])
def test_an_error_while_writing_leaves_the_old_one(
    tmp_path: Path, monkeypatch, can_exchange: bool
) -> None:
    write_variant(tmp_path / "desk", manifest(), FILES)
    if can_exchange:
        changed = {**FILES, "no/such/folder": b""}
    else:
        changed = {**FILES, "adapter_config.json": b"[]"}
        monkeypatch.setattr(core_files, "_exchange", lambda *_: False)
        real = core_files.os.replace

        def fail(source: Any, target: Any) -> None:
            if Path(target) == tmp_path / "desk" and (Path(source) / "variant.json").exists():
                monkeypatch.undo()
                raise OSError("disk is gone")
            real(source, target)

        monkeypatch.setattr(core_files.os, "replace", fail)
    with pytest.raises(OSError, match="disk is gone|No such file"):
        write_variant(tmp_path / "desk", manifest(), changed, replace=True)
    assert read_variant(tmp_path / "desk").files() == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["desk"]


def test_others_may_read_what_is_written(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        add_metrics(write_variant(tmp_path / "desk", manifest(), FILES), "", {})
    finally:
        os.umask(before)
    folder = tmp_path / "desk"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o644}


def test_the_same_content_again_keeps_what_was_measured(tmp_path: Path) -> None:
    one = write_variant(tmp_path / "desk", manifest(metrics={"steps": 3.0}), FILES)
    add_metrics(one, "| table |", {"accuracy": 0.9})
    again = write_variant(tmp_path / "desk", manifest(metrics={"steps": 3.0}), FILES, replace=True)
    assert again.manifest.metrics == {"steps": 3.0, "accuracy": 0.9}
    assert "| table |" in (tmp_path / "desk" / "CARD.md").read_text()
    other = {**FILES, "adapter_config.json": b"[]"}
    new = write_variant(tmp_path / "desk", manifest(), other, replace=True)
    assert (new.manifest.metrics, new.manifest.comparison) == ({}, "")


def test_a_damaged_variant_may_be_replaced_on_purpose_only(tmp_path: Path) -> None:
    write_variant(tmp_path / "desk", manifest(), FILES)
    (tmp_path / "desk" / "adapter_config.json").write_bytes(b"x")
    with pytest.raises(VariantError, match="not the file"):
        write_variant(tmp_path / "desk", manifest(), FILES)
    write_variant(tmp_path / "desk", manifest(), FILES, replace=True)
    assert read_variant(tmp_path / "desk").files() == FILES


def test_the_card_says_what_for_how_compared_and_forgotten(tmp_path: Path) -> None:
    recipe = {"purpose": "Answers the desk.", "adapter": {"kind": "lora", "rank": 16}}
    metrics = {"steps": 40.0, "holdout_loss": 1.5, "holdout_loss_base": 3.25}
    one = write_variant(tmp_path / "desk", manifest(recipe=recipe, metrics=metrics), FILES)
    card = (tmp_path / "desk" / "CARD.md").read_text()
    for text in (
        "Answers the desk.",
        "adapter: lora, rank 16",
        "no system text, 0 worked examples",
        "40 steps kept",
        "1.5000; the base alone has 3.2500",
        "Not compared with prompting yet",
        "Not measured yet",
    ):
        assert text in card
    add_metrics(one, "| table |", {"general_loss": 4.5, "general_loss_base": 4.0})
    card = (tmp_path / "desk" / "CARD.md").read_text()
    assert "4.500; the base alone has 4.000 (+0.500)" in card
    assert "yet" not in card
    write_variant(tmp_path / "plain", manifest("plain", method="none"), {})
    assert "Nothing: its weights" in (tmp_path / "plain" / "CARD.md").read_text()


def test_other_content_is_not_replaced_by_accident(tmp_path: Path) -> None:
    write_variant(tmp_path / "desk", manifest(), FILES)
    write_variant(tmp_path / "desk", manifest(), FILES)
    with pytest.raises(VariantError, match="another variant"):
        write_variant(tmp_path / "desk", manifest(), {**FILES, "x": b""})
    write_variant(tmp_path / "desk", manifest(), {**FILES, "x": b""}, replace=True)


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "with space", "a\n"])
def test_unsafe_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(VariantError, match="name must be"):
        write_variant(tmp_path / "x", manifest(name), FILES)


def test_another_base_is_refused() -> None:
    hashes = {"weight_hash": "w" * 64, "tokenizer_hash": "t" * 64}
    hashes["base"] = "models/other"
    check_base(manifest(), **hashes)
    for key, word in (("weight_hash", "weights"), ("tokenizer_hash", "tokenizer")):
        with pytest.raises(VariantError, match=f"with other {word} than models/other has here"):
            check_base(manifest(), **{**hashes, key: "0" * 64})


def test_a_kept_template_cannot_be_changed(tmp_path: Path) -> None:
    template = "{{ messages }}"
    base = manifest().base.model_copy(
        update={"templates": {"default": template}, "template_hash": hash_json(template)}
    )
    write_variant(tmp_path / "desk", manifest(base=base), FILES)
    assert read_variant(tmp_path / "desk").manifest.base.templates == {"default": template}
    path = tmp_path / "desk" / "variant.json"
    for other in ({"default": "{{ x }}"}, {"default": template, "tool_use": "{{ x }}"}):
        plain = json.loads(path.read_text())
        plain["base"]["templates"] = other
        path.write_text(json.dumps(plain))
        with pytest.raises(VariantError, match="changed"):
            read_variant(tmp_path / "desk")


def test_a_name_without_a_whole_variant_is_explained(tmp_path: Path) -> None:
    variants = tmp_path / "variants"
    write_variant(variants / "desk", manifest(), FILES)
    (tmp_path / "runs" / "stopped").mkdir(parents=True)
    with pytest.raises(VariantError, match="there is no variant 'stopped'") as stopped:
        find_variant("stopped", variants)
    assert "the same kamerton train goes on in runs/stopped" in str(stopped.value.hint)
    (variants / "emptied").mkdir()
    with pytest.raises(VariantError) as emptied:
        find_variant("emptied", variants)
    assert "it has no variant.json" in str(emptied.value.hint)
    found, damaged = list_variants(variants)
    assert [one.name for one in found] == ["desk"]
    assert damaged == [f"{variants / 'emptied'} is not a variant: there is no variant.json"]


def test_finding(tmp_path: Path) -> None:
    write_variant(tmp_path / "support-lora", manifest("support-lora"), FILES)
    assert find_variant("support-lora", tmp_path).name == "support-lora"
    assert find_variant(str(tmp_path / "support-lora"), tmp_path / "none").name == "support-lora"
    with pytest.raises(VariantError, match="did you mean 'support-lora'"):
        find_variant("suport-lora", tmp_path)
    told = f"start_from: there is no variant 'x' in {tmp_path}; known: support-lora"
    with pytest.raises(VariantError, match=f"^{told}$"):
        find_variant("x", tmp_path, key="start_from")


def test_of_many_variants_a_handful_is_named(tmp_path: Path) -> None:
    for n in range(7):
        write_variant(tmp_path / f"desk-{n}", manifest(name=f"desk-{n}"), FILES)
    with pytest.raises(VariantError) as caught:
        find_variant("zzz", tmp_path)
    assert caught.value.message.endswith("known: desk-0, desk-1, desk-2, desk-3, desk-4 and 2 more")
    assert caught.value.hint == "kamerton variant list shows all"
    with pytest.raises(VariantError, match="did you mean 'desk-6'") as caught:
        find_variant("desk_6", tmp_path)
    assert caught.value.hint is None


def test_metrics_do_not_change_identity(tmp_path: Path) -> None:
    one = write_variant(tmp_path / "desk", manifest(), FILES)
    two = add_metrics(one, "| table |", {"accuracy": 0.9})
    assert two.manifest.content_hash == one.manifest.content_hash
    assert read_variant(tmp_path / "desk").manifest.metrics == {"accuracy": 0.9}
    assert "| table |" in (tmp_path / "desk" / "CARD.md").read_text()


def test_a_damaged_variant_does_not_hide_the_others(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        write_variant(tmp_path / name, manifest(name), FILES)
    (tmp_path / "two" / "variant.json").write_text("{")
    found, damaged = list_variants(tmp_path)
    assert [variant.name for variant in found] == ["one", "three"]
    assert len(damaged) == 1
    assert "two" in damaged[0]


def test_what_a_variant_was_before_is_kept(tmp_path: Path) -> None:
    names: list[str] = []

    def write(content: bytes) -> None:
        files = {**FILES, "adapter_config.json": content}
        write_variant(tmp_path / "desk", manifest(), files, replace=True, kept=names.append)

    write(b"{}")
    write(b"{}")
    assert names == []
    write(b"[1]")
    write(b"[2]")
    assert names == ["desk.1", "desk.2"]
    contents = [
        find_variant(name, tmp_path).files()["adapter_config.json"]
        for name in ("desk.1", "desk.2", "desk")
    ]
    assert contents == [b"{}", b"[1]", b"[2]"]
