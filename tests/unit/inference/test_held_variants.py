"""Which variants an engine holds, with a source that only counts."""

from typing import Any

import pytest

from kamerton.core.errors import AdapterError, ModelError, VariantError
from kamerton.core.requests import ServedModel
from kamerton.inference.held_variants import HeldVariants, LoadedVariant


class Source:
    """Folders by name: what they hold, and how often it was opened."""

    def __init__(self) -> None:
        self.folders = {"shop": "v1", "law": "l1", "desk": "d1"}
        self.open_now: list[LoadedVariant] = []
        self.num_opened = 0

    def open(self, place: str, content_hash: str = "") -> LoadedVariant:
        found = self.folders.get(place)
        if found is None or content_hash not in ("", found):
            raise VariantError(f"nothing in {place}")
        model = ServedModel(place, "lora", found, "nano", num_bytes=10, place=place)
        self.num_opened += 1
        variant = LoadedVariant(model, renderer(), prompt(), self.num_opened)
        self.open_now.append(variant)
        return variant

    def close(self, variant: LoadedVariant) -> None:
        self.open_now.remove(variant)

    @property
    def hashes(self) -> list[str]:
        return [variant.model.content_hash for variant in self.open_now]


def renderer() -> Any:
    return None


def prompt() -> Any:
    return None


def base() -> LoadedVariant:
    return LoadedVariant(ServedModel("nano", "base", "base", "nano"), renderer(), prompt())


def make(limit_bytes: int | None = None) -> tuple[HeldVariants, Source, list[LoadedVariant]]:
    source, users = Source(), list[LoadedVariant]()
    return HeldVariants([base()], lambda: users, source, limit_bytes), source, users


def test_a_loaded_variant_is_asked_for_by_name_or_by_hash():
    held, _, _ = make()
    model = held.load("shop")
    assert (model.name, model.content_hash) == ("shop", "v1")
    assert held.find("shop") is held.find("any", "v1")
    assert held.find("nano").adapter == -1
    assert [model.name for model in held.models] == ["nano", "shop"]


def test_an_unknown_name_is_never_the_base():
    held, _, _ = make()
    for asked in (("shop",), ("nano", "v1"), ("",)):
        with pytest.raises(ModelError, match="is not served"):
            held.find(*asked)


def test_a_released_variant_leaves_with_its_last_request():
    held, source, users = make()
    held.load("shop")
    users += [held.find("shop")] * 2
    held.release("v1")
    assert source.hashes == ["v1"]
    assert held.num_bytes == 10
    with pytest.raises(ModelError):
        held.find("shop", "v1")
    (_, leaving) = held.describe()
    assert (leaving.num_requests, leaving.is_leaving) == (2, True)
    users.pop()
    held.settle()
    assert source.hashes == ["v1"]
    users.pop()
    held.settle()
    assert source.hashes == []
    assert held.num_bytes == 0


def test_new_bytes_under_a_name_are_another_variant():
    held, source, users = make()
    held.load("shop")
    old = held.find("shop")
    users.append(old)
    source.folders["shop"] = "v2"
    held.load("shop")
    assert held.find("shop") is not old
    assert held.find("shop", "v1") is old
    held.release("v1")
    assert source.hashes == ["v1", "v2"]
    users.clear()
    held.settle()
    assert source.hashes == ["v2"]


def test_the_same_content_is_held_once():
    held, source, users = make()
    held.load("shop")
    users.append(held.find("shop"))
    held.load("shop")
    assert source.hashes == ["v1"]
    # It comes back while its last requests are answered.
    held.release("v1")
    held.load("shop")
    assert source.hashes == ["v1"]
    assert held.find("shop") is users[0]


def test_the_longest_unused_leaves_for_disk_and_comes_back_when_asked_for():
    held, source, users = make(limit_bytes=20)
    held.load("shop")
    held.load("law")
    held.find("shop")
    held.load("desk")
    assert source.hashes == ["v1", "d1"]
    assert [one.content_hash for one in held.describe() if not one.is_resident] == ["l1"]
    assert held.find("law").model.content_hash == "l1"
    assert sorted(source.hashes) == ["d1", "l1"]
    # What is used stays, even above the limit.
    users += [held.find("desk"), held.find("law")]
    users.append(held.find("shop"))
    assert held.num_bytes == 30
    del users[:2]
    held.settle()
    assert held.num_bytes == 20


def test_other_bytes_do_not_come_back_for_what_left():
    held, source, _ = make(limit_bytes=10)
    held.load("shop")
    held.load("law")
    source.folders["shop"] = "v2"
    with pytest.raises(VariantError):
        held.find("shop", "v1")
    held.release("v1")
    with pytest.raises(ModelError):
        held.find("shop", "v1")


def test_what_is_larger_than_the_limit_is_refused():
    held, source, _ = make(limit_bytes=9)
    with pytest.raises(AdapterError, match="shop takes"):
        held.load("shop")
    assert source.hashes == []
    assert len(held.models) == 1


def test_a_load_that_fails_changes_nothing():
    held, source, _ = make()
    held.load("shop")
    with pytest.raises(VariantError):
        held.load("nowhere")
    assert source.hashes == ["v1"]
    assert [model.name for model in held.models] == ["nano", "shop"]
