"""Mistakes in settings: all reported together, each by the key that the user wrote."""

from typing import Annotated, Literal

import pytest
from pydantic import Field

from kamerton.core.errors import SettingsError
from kamerton.core.settings import Settings, apply_overrides, read_toml


class Round(Settings):
    kind: Literal["round"] = "round"
    radius: float = Field(default=1.0, gt=0)


class Square(Settings):
    kind: Literal["square"] = "square"
    side: float


class Group(Settings):
    kind: Literal["group"] = "group"
    group: tuple[Round, ...] = Field(min_length=1)


Shape = Annotated[Round | Square | Group, Field(discriminator="kind")]


class Drawing(Settings):
    name: str
    shape: Shape = Round()
    more: tuple[Shape, ...] = ()


def problems(values) -> str:
    with pytest.raises(SettingsError) as caught:
        Drawing.parse(values, source="x.toml")
    return caught.value.message


def test_all_problems_are_told_at_once():
    told = problems({"nam": "a", "shape": {"kind": "round", "radius": 0}})
    assert "'name' is required" in told
    assert "unknown key 'nam'; did you mean 'name'?" in told
    assert "shape.radius" in told


def test_the_key_is_the_users_and_suggestions_are_the_methods_own():
    told = problems({"name": "a", "shape": {"kind": "square", "side": 1, "raduis": 1}})
    assert told == "x.toml: unknown key 'shape.raduis'; known: kind, side"
    told = problems({"name": "a", "shape": {"kind": "round", "raduis": 1}})
    assert told == "x.toml: unknown key 'shape.raduis'; did you mean 'radius'?"


def test_lists_are_named_by_number():
    told = problems({"name": "a", "more": [{"kind": "square"}, {"kind": "sqare"}]})
    assert "'more.0.side' is required" in told
    assert "more.1.kind: 'sqare' is not known; did you mean 'square'?" in told


def test_a_field_may_be_called_like_its_kind():
    told = problems({"name": "a", "shape": {"kind": "group"}})
    assert told == "x.toml: 'shape.group' is required"


def test_a_list_is_too_short_only_if_it_is():
    told = problems({"name": "a", "shape": {"kind": "group", "group": [{"raduis": 1}]}})
    assert told == "x.toml: unknown key 'shape.group.0.raduis'; did you mean 'radius'?"
    told = problems({"name": "a", "shape": {"kind": "group", "group": []}})
    assert "shape.group: tuple should have at least 1 item" in told


def test_overrides_are_toml_or_bare_words():
    values = apply_overrides({"a": {"b": 1}}, ["a.b=2", "a.c=word", 'd=["x"]', "e.f=true"])
    assert values == {"a": {"b": 2, "c": "word"}, "d": ["x"], "e": {"f": True}}


def test_overrides_through_a_value_are_refused():
    with pytest.raises(SettingsError, match="is a value, not a section"):
        apply_overrides({"a": 1}, ["a.b=2", "c"])


@pytest.mark.parametrize(
    ("line", "hint"),
    [
        (r'train = "C:\data\support.jsonl"', "write paths with /"),
        (r'train = "C:\Users\ivan\support.jsonl"', "write paths with /"),
        ("train = “support.jsonl”", "straight quotes"),
        ("redact = True", "true and false in lower case"),
        ("train: 3", "write key = value"),
        ("train = 1\ntrain = 2", "keep one of them"),
        ("text = { Тема = 1 }", 'names with other letters than a to z need quotes: "Тема"'),
        ('train = "support.jsonl', "its second quote is missing"),
        ("kind = lora", "text values need quotes"),
    ],
)
def test_a_line_that_is_no_toml_says_how_to_mend_it(tmp_path, line, hint):
    path = tmp_path / "recipe.toml"
    path.write_text(f'name = "r"\n\n{line}\n', encoding="utf-8")
    with pytest.raises(SettingsError, match="not valid TOML") as error:
        read_toml(path)
    assert hint in str(error.value.hint)


class Renamed(Settings):
    renamed_keys = {"old": "new"}

    kind: Literal["renamed"] = "renamed"
    new: int = 0


class RenamedMore(Renamed):
    renamed_keys = {"older": "newer"}

    kind: Literal["more"] = "more"  # type: ignore[assignment]
    newer: int = 0


class Collection(Settings):
    one: Annotated[Renamed | RenamedMore | Round, Field(discriminator="kind")] = Renamed()
    many: tuple[Annotated[Renamed | RenamedMore, Field(discriminator="kind")], ...] = ()
    alone: RenamedMore = RenamedMore()
    free: dict[str, int] = Field(default_factory=dict)


def test_a_renamed_key_is_an_error_that_names_the_new_one():
    values = {"one": {"kind": "renamed", "old": 1, "newt": 2}, "many": [{"kind": "more", "old": 1}]}
    with pytest.raises(SettingsError) as caught:
        Collection.parse(apply_overrides(values, ["alone.older=3"]), source="x.toml")
    assert set(caught.value.message.splitlines()) == {
        "x.toml: one.old is now one.new",
        "x.toml: unknown key 'one.newt'; did you mean 'new'?",
        "x.toml: many.0.old is now many.0.new",
        "x.toml: alone.older is now alone.newer",
    }


def test_stored_settings_keep_their_old_keys():
    stored = {
        "one": {"kind": "renamed", "old": 1},
        "many": [{"kind": "more", "old": 2, "older": 3}],
        "alone": {"kind": "more", "older": 4},
        "free": {"old": 5},
    }
    found = Collection.parse_stored(stored, source="x")
    assert found == Collection(
        one=Renamed(new=1), many=(RenamedMore(new=2, newer=3),), alone=RenamedMore(newer=4),
        free={"old": 5},
    )  # fmt: skip
    with pytest.raises(SettingsError, match="unknown key 'one.oldest'"):
        Collection.parse_stored({"one": {"kind": "renamed", "oldest": 1}}, source="x")
