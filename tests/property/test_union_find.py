"""UnionFind agree with walking over all links; near texts with comparing all with all."""

import itertools
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from kamerton.data.audit.duplicates import find_duplicates, find_leakage
from kamerton.data.audit.near import are_near
from kamerton.data.examples import ClassificationExample, SourceLocation
from kamerton.data.union_find import UnionFind

links = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20)), max_size=30)


@given(links)
def test_clusters_are_what_links_connect(pairs):
    clusters: UnionFind[int] = UnionFind()
    for first, second in pairs:
        clusters.join(first, second)
    for key in range(21):
        reached = {key}
        while more := {b for p in pairs for a, b in (p, p[::-1]) if a in reached} - reached:
            reached |= more
        assert clusters.name(key) == min(reached)
        assert (len(reached) > 1) == any(key in cluster for cluster in clusters.all())
    assert all(list(cluster) == sorted(set(cluster)) for cluster in clusters.all())


def changed(text: str, number: int, chance: random.Random) -> str:
    words = text.split()
    for _ in range(number):
        words[chance.randrange(len(words))] = f"word{chance.randrange(9999)}"
    return " ".join(words)


@settings(max_examples=8, deadline=None)
@given(st.integers(0, 10**6))
def test_near_texts_are_found_among_many(seed):
    chance = random.Random(seed)
    openings = [
        " ".join(f"word{chance.randrange(9999)}" for _ in range(chance.choice((20, 90))))
        for _ in range(150)
    ]
    texts = [*openings, *(changed(text, chance.randrange(6), chance) for text in openings)]
    chance.shuffle(texts)
    texts = list(dict.fromkeys(texts))
    examples = [
        ClassificationExample(SourceLocation("a", i + 1), t, "x") for i, t in enumerate(texts)
    ]

    true: UnionFind[int] = UnionFind()
    for i, j in itertools.combinations(range(len(texts)), 2):
        # Only texts of one opening can be near; comparing the others would take minutes.
        if set(texts[i].split()[::9]) & set(texts[j].split()[::9]) and are_near(texts[i], texts[j]):
            true.join(i, j)
    expected = sum(len(cluster) - 1 for cluster in true.all())
    found = find_duplicates(examples)
    for cluster in found.near:
        assert len({true.name(i) for i in cluster}) == 1
    assert found.num_near >= 0.97 * expected - 1

    half = len(examples) // 2
    train, holdout = examples[:half], examples[half:]
    leakage = find_leakage(train, holdout)
    assert all(are_near(train[j].text, holdout[i].text) for i, j in leakage.near)
    leaked = [any(are_near(a.text, b.text) for a in train) for b in holdout[:30]]
    found_there = {i for i, _ in leakage.near}
    assert sum(i in found_there for i in range(30)) >= sum(leaked) - 1
