"""Division of examples: nothing lost, nothing torn apart, nothing reshuffled."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kamerton.data.examples import (
    ChatExample,
    ClassificationExample,
    PreferenceExample,
    SourceLocation,
)
from kamerton.data.identity import input_text, normal_text
from kamerton.data.prepared import divide
from kamerton.data.privacy.redaction import Redactor
from kamerton.data.settings import DataSettings
from kamerton.data.split import Tied, split, tied

shares = st.floats(0.01, 0.5)
seeds = st.integers(0, 1000)


@st.composite
def data_sets(draw, groups: bool = True) -> list[ClassificationExample]:
    size = draw(st.integers(0, 40))
    texts = draw(
        st.lists(st.sampled_from("abcdefghijklmnopqrstuvwxyz"), min_size=size, max_size=size)
    )
    labels = draw(st.lists(st.sampled_from("xyz"), min_size=size, max_size=size))
    names = st.sampled_from(["g1", "g2", "g3", "g4", None]) if groups else st.none()
    return [
        ClassificationExample(SourceLocation("a", i + 1), text, label, draw(names))
        for i, (text, label) in enumerate(zip(texts, labels, strict=True))
    ]


def side_of(examples: list, holdout: list) -> dict[int, bool]:
    held = {example.location.line for example in holdout}
    return {example.location.line: example.location.line in held for example in examples}


@given(data_sets(), shares, seeds)
def test_every_example_is_on_one_side_in_order(examples, share, seed):
    train, holdout = split(examples, share, seed)
    lines = sorted([*train, *holdout], key=lambda example: example.location.line)
    assert lines == examples
    for side in (train, holdout):
        assert list(side) == sorted(side, key=lambda example: example.location.line)


@given(data_sets(), shares, seeds)
def test_groups_and_questions_are_not_torn_apart(examples, share, seed):
    train, holdout = split(examples, share, seed)
    assert not {e.group for e in train if e.group} & {e.group for e in holdout if e.group}
    # Where groups are tied together by questions, most rows may be one cluster: those ties are cut.
    if examples and tied(examples).by == "questions":
        assert not {normal_text(e.text) for e in train} & {normal_text(e.text) for e in holdout}


def turns(texts: Callable[[int, int], str], groups: int = 60) -> list[ClassificationExample]:
    """Five turns in each of some groups."""
    return [
        ClassificationExample(SourceLocation("a", 5 * g + n + 1), texts(g, n), "x", f"g{g}")
        for g in range(groups)
        for n in range(5)
    ]


def questions_on_both_sides(examples: list[ClassificationExample]) -> set[str]:
    train, holdout = split(examples, 0.1, 0)
    assert not {e.group for e in train} & {e.group for e in holdout}
    assert len(holdout) == 30
    return {e.text for e in train} & {e.text for e in holdout}


def test_short_texts_that_many_groups_share_do_not_tie_them_together():
    short = turns(lambda g, n: "Yes, please." if n == 2 else f"I would like number {g}.{n}")
    found = tied(short)
    assert (found.by, found.num_rows, found.num_groups) == ("long questions", 5, 1)
    assert questions_on_both_sides(short) == {"Yes, please."}


def test_long_texts_tie_groups_as_long_as_most_rows_are_not_one_cluster():
    long = "Which documents do I have to bring to open an account for my company"
    pairs = turns(lambda g, n: f"{long} {g // 2}?" if n == 2 else f"number {g}.{n}")
    found = tied(pairs)
    assert (found.by, found.num_rows, found.num_groups) == ("questions", 10, 2)
    assert questions_on_both_sides(pairs) == set()
    everywhere = turns(lambda g, n: f"{long}?" if n == 2 else f"number {g}.{n}")
    assert tied(everywhere).by == "nothing"
    assert questions_on_both_sides(everywhere) == {f"{long}?"}


@pytest.mark.parametrize("seed", range(5))
def test_a_few_hundred_rows_get_their_share(seed):
    assert len(split(many("text", 300), 0.1, seed)[1]) == 30


@pytest.mark.parametrize("seed", range(5))
def test_a_large_cluster_stays_and_the_others_fill_the_share(seed):
    large = [
        ClassificationExample(SourceLocation("a", n), f"own {n}", "x", "all") for n in range(3000)
    ]
    examples = [*large, *many("text", 1500)]
    _, holdout = split(examples, 0.1, seed)
    assert len(holdout) == 450
    assert {e.group for e in holdout} == {None}
    assert tied(examples) == Tied("questions", 3000, 1, 0)


@given(data_sets(groups=False), shares, seeds)
def test_small_data_sets_and_labels_have_both_sides(examples, share, seed):
    train, holdout = split(examples, share, seed)
    if len({example.text for example in examples}) > 1:
        assert train
        assert holdout
    texts_of: dict[str, set[str]] = {}
    for example in examples:
        texts_of.setdefault(example.label, set()).add(example.text)
    # A text with two labels counts for both, and its other label may claim it for training.
    shared = {t for t in (e.text for e in examples) if sum(t in s for s in texts_of.values()) > 1}
    for label, texts in texts_of.items():
        if len(texts - shared) >= 5 and texts - shared == texts:
            assert any(example.label == label for example in holdout)
            assert any(example.label == label for example in train)


@given(data_sets(), shares, seeds, st.randoms())
def test_order_does_not_matter(examples, share, seed, random):
    sides = side_of(examples, split(examples, share, seed)[1])
    shuffled = list(examples)
    random.shuffle(shuffled)
    assert side_of(shuffled, split(shuffled, share, seed)[1]) == sides


def many(prefix: str, number: int, label: str = "x") -> list[ClassificationExample]:
    return [
        ClassificationExample(SourceLocation("a", i + 1), f"{prefix} {i}", label)
        for i in range(number)
    ]


@settings(max_examples=10, deadline=None)
@given(seeds, st.sampled_from([0.1, 0.2, 0.5]), st.text(max_size=5))
def test_a_new_row_moves_no_other(seed, share, text):
    examples = many("text", 2000)
    before = side_of(examples, split(examples, share, seed)[1])
    new = ClassificationExample(SourceLocation("a", 9999), f"new {text}", "x")
    _, holdout = split([new, *examples], share, seed)
    assert side_of(examples, holdout) == before


@given(st.integers(10, 99), seeds)
def test_a_small_data_set_gets_its_share(number, seed):
    examples = many("text", number)
    _, holdout = split(examples, 0.1, seed)
    assert len(holdout) == round(0.1 * number)


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(20, 90))
def test_a_new_row_moves_at_most_one_other_of_few(seed, number):
    examples = many("text", number)
    before = side_of(examples, split(examples, 0.2, seed)[1])
    new = ClassificationExample(SourceLocation("a", 9999), "new", "x")
    after = side_of(examples, split([new, *examples], 0.2, seed)[1])
    assert sum(before[line] != after[line] for line in before) <= 1


@settings(max_examples=20, deadline=None)
@given(seeds)
def test_shares_and_strata_come_near(seed):
    examples = [*many("first", 400, "x"), *many("second", 400, "y"), *many("third", 6, "rare")]
    _, holdout = split(examples, 0.2, seed)
    for label, number, least, most in (("x", 400, 45, 120), ("y", 400, 45, 120), ("rare", 6, 1, 5)):
        held = sum(example.label == label for example in holdout)
        assert least <= held <= most, (label, number, held)


def test_seeds_choose_among_divisions():
    examples = many("text", 100)
    assert len({tuple(e.text for e in split(examples, 0.2, seed)[1]) for seed in range(5)}) == 5


def test_no_share_no_holdout():
    examples = many("text", 10)
    train, holdout = split(examples, 0, 0)
    assert (list(train), list(holdout)) == (examples, [])


def test_conversations_with_one_opening_but_other_histories_are_apart():
    def chat(i: int, *texts: str) -> ChatExample:
        roles = ("user", "assistant")
        turns = [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)]
        return ChatExample(SourceLocation("a", i), tuple(turns))

    same = [chat(i, "Hi", "Hello", "Where is my card?", f"Answer {i}") for i in range(20)]
    other = [chat(100 + i, "Hi", "Hello", f"Question {i}", "Answer") for i in range(20)]
    train, holdout = split([*same, *other], 0.3, 0)
    assert not {input_text(e) for e in train} & {input_text(e) for e in holdout}
    assert train
    assert holdout


@given(st.lists(st.integers(1, 8), min_size=2, max_size=30), shares, seeds)
def test_pairs_of_one_prompt_are_not_torn_apart(sizes, share, seed):
    pairs = [
        PreferenceExample(
            SourceLocation("a", line),
            ({"role": "user", "content": f"question {line}"},),
            ({"role": "assistant", "content": f"better {n}"},),
            ({"role": "assistant", "content": f"worse {n}"},),
        )
        for line, size in enumerate(sizes, 1)
        for n in range(size)
    ]
    train, holdout = split(pairs, share, seed)
    assert len(train) + len(holdout) == len(pairs)
    assert not {e.location for e in train} & {e.location for e in holdout}
    assert train
    assert holdout


def test_redaction_numbers_do_not_reshuffle():
    examples = [
        ClassificationExample(SourceLocation("a", i + 1), f"text {i}: mail {i}@x.org", "x")
        for i in range(1500)
    ]
    new = ClassificationExample(SourceLocation("a", 9999), "new: mail me@x.org", "x")
    first, second = Redactor(), Redactor()
    before = [first.redact(example) for example in examples]
    after = [second.redact(example) for example in (new, *examples)]
    sides = side_of(before, split(before, 0.2, 0)[1])
    assert side_of(before, split(after, 0.2, 0)[1]) == sides


@given(data_sets(groups=False), shares, shares, seeds)
def test_a_test_set_is_cut_off_first_and_the_holdout_from_the_rest(examples, holdout, test, seed):
    plain = DataSettings(train="t", holdout=holdout, seed=seed)
    three = divide(examples, plain.model_copy(update={"test": test}))
    lines = sorted(example.location.line for part in three for example in part)
    assert lines == [example.location.line for example in examples]
    # What asks the same stays on one side.
    asked = [{normal_text(input_text(example)) for example in part} for part in three]
    assert not (asked[0] & asked[1] | asked[0] & asked[2] | asked[1] & asked[2])
    without = divide(examples, plain)
    assert [list(part) for part in without[:2]] == list(map(list, split(examples, holdout, seed)))
    assert not without[2]


def test_the_test_set_does_not_take_the_holdout_with_it():
    examples = [
        ClassificationExample(SourceLocation("a", i + 1), f"text {i}", "x") for i in range(2000)
    ]
    settings = DataSettings(train="t", holdout=0.1, test=0.2)
    _, holdout, test = divide(examples, settings)
    assert 320 < len(test) < 480
    assert 110 < len(holdout) < 210
    before = {example.location.line for example in split(examples, 0.1, 0)[1]}
    # Of many examples those that were held out still are, unless they became the test.
    assert {e.location.line for e in holdout} == before - {e.location.line for e in test}
