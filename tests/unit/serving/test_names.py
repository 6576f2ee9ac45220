"""What names mean: versions come, go and come back."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from kamerton.core.requests import ServedModel
from kamerton.serving.names import Names


def version(name: str, content_hash: str) -> ServedModel:
    return ServedModel(name, "lora", content_hash, "nano")


def hashes(names: Names, name: str) -> list[str]:
    return [model.content_hash for model in names.versions(name)]


def test_a_name_keeps_its_earlier_version_and_no_more():
    names = Names()
    assert names.point(version("shop", "v1")) == []
    assert names.point(version("shop", "v2")) == []
    assert names.point(version("shop", "v3")) == ["v1"]
    assert hashes(names, "shop") == ["v2", "v3"]
    assert names.models["shop"].content_hash == "v3"
    # Back, and forth again.
    assert names.point(names.versions("shop")[0]) == []
    assert hashes(names, "shop") == ["v3", "v2"]


def test_a_version_that_another_name_has_is_not_given_up():
    names = Names([version("shop", "v1")])
    names.point(replace(version("shop", "v1"), name="live"))
    assert names.drop("shop") == []
    assert names.find("v1").name == "live"
    assert names.drop("live") == ["v1"]
    assert names.find("v1") is None


def test_a_version_is_found_by_the_beginning_of_its_hash_if_it_is_the_only_one():
    names = Names([version("a", "1234x"), version("b", "1234y"), version("c", "9"),
                   version("d", "9")])  # fmt: skip
    assert names.find("1234x").name == "a"
    assert names.find("1234") is None
    assert names.find("") is None
    assert names.find("9").content_hash == "9"


def test_after_a_crash_no_name_falls_back_to_earlier_weights():
    names = Names([version("shop", "v1"), version("law", "l1"), version("desk", "d1")])
    names.point(version("shop", "v2"))
    names.point(version("law", "l2"))
    models = names.models
    names.keep_only({"v1", "l2", "d1"})
    assert models is names.models
    assert list(models) == ["law", "desk"]
    assert hashes(names, "law") == ["l2"]
    assert hashes(names, "shop") == []


MOVES = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["1", "2", "3", None])))


@given(MOVES)
def test_exactly_the_hashes_that_no_name_has_are_given_up(moves):
    names, held = Names(), set()
    for name, content_hash in moves:
        if content_hash is not None:
            held.add(content_hash)
            gone = names.point(version(name, content_hash))
            assert names.models[name].content_hash == content_hash
        elif name in names.models:
            gone = names.drop(name)
        else:
            continue
        assert len(gone) == len(set(gone))
        held -= set(gone)
        assert held == {model.content_hash for model in names.all_versions}
        assert all(names.versions(n)[-1] == model for n, model in names.models.items())
