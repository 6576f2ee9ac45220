"""Blind votes as a metric: whose they are, what ties count, what belongs together."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from kamerton.core.errors import EvaluationError
from kamerton.core.language import speaking
from kamerton.evaluation.preferred import (
    Preference,
    measure_preference,
    preference_of_votes,
    preference_text,
)
from kamerton.evaluation.settings import EvaluationSettings
from kamerton.evaluation.statistics import wilson
from kamerton.evaluation.votes import Vote, Votes, no_pairs_beside, read_votes, votes_on

SETTINGS = EvaluationSettings(resamples=1000)
HASHES = {"a": "hash-a", "b": "hash-b"}


def row(better: str, worse: str, question: str = "Why?", **more: Any) -> dict[str, Any]:
    return {
        "prompt": [{"role": "user", "content": question}],
        "chosen": f"{better} says",
        "rejected": f"{worse} says",
        "better": better,
        "worse": worse,
        "better_hash": HASHES.get(better, ""),
        "worse_hash": HASHES.get(worse, ""),
        **more,
    }


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows))
    return path


def preferred(values: list[float], groups: list[str] | None = None) -> Preference:
    names = groups or [str(number) for number in range(len(values))]
    return measure_preference("votes", "b", "a", values, names, SETTINGS)


def test_votes_and_ties_are_read_from_both_files(tmp_path: Path) -> None:
    path = written(tmp_path / "votes.jsonl", [row("b", "a", "1?"), row("a", "b", "2?")])
    beside = no_pairs_beside(path)
    assert beside == tmp_path / "votes.no-pairs.jsonl"
    written(beside, [row("a", "b", "3?", alike=True)])
    (voted,), others = votes_on(read_votes(path), HASHES)
    assert others == []
    assert (voted.variant, voted.against) == ("b", "a")
    assert voted.values == [1.0, 0.0, 0.5]
    assert [voted.sides(vote) for vote in voted.votes] == [("b says", "a says")] * 3
    path.unlink()
    assert len(read_votes(path)) == 1


def test_the_order_of_the_command_says_whose_share_it_is(tmp_path: Path) -> None:
    path = written(tmp_path / "votes.jsonl", [row("b", "a")])
    (voted,), _ = votes_on(read_votes(path), {"b": "hash-b", "a": "hash-a"})
    assert (voted.variant, voted.against, voted.values) == ("a", "b", [0.0])


def test_votes_count_by_content_not_by_name(tmp_path: Path) -> None:
    rows = [
        row("b", "a"),
        row("b", "a", better_hash="older"),
        row("b", "zero", worse_hash="hash-zero"),
        row("b", "builtin:nano"),
    ]
    votes = read_votes(written(tmp_path / "votes.jsonl", rows))
    (voted,), others = votes_on(votes, {"a": "hash-a", "renamed": "hash-b"})
    assert (voted.variant, len(voted.votes)) == ("renamed", 1)
    assert len(others) == 3
    with pytest.raises(EvaluationError) as raised:
        votes_on(votes[1:], HASHES)
    said = str(raised.value)
    assert "no vote is on two of a, b as they are now" in said
    assert "1 on a and b before they were trained again" in said
    assert "1 on b and zero" in said
    assert "1 on b and builtin:nano without a content hash" in said
    assert raised.value.hint == "kamerton chat a b takes votes on them"


@pytest.mark.parametrize("text", ["[]", "no json", '{"prompt": "Why?", "chosen": "a"}'])
def test_a_row_that_is_no_vote_is_an_error_with_its_place(text: str, tmp_path: Path) -> None:
    path = written(tmp_path / "votes.jsonl", [row("b", "a")])
    with path.open("a") as file:
        file.write(text)
    with pytest.raises(EvaluationError, match=r"votes\.jsonl:2: a vote has the fields"):
        read_votes(path)
    with pytest.raises(EvaluationError, match="cannot be read"):
        read_votes(tmp_path / "nowhere.jsonl")


def test_independent_votes_without_ties_have_wilsons_interval() -> None:
    found = preferred([1.0] * 14 + [0.0] * 6)
    expected = wilson(14, 20)
    assert (found.value, found.low, found.high) == (0.7, expected.low, expected.high)
    assert (found.num_wins, found.num_ties, found.num_losses, found.num) == (14, 0, 6, 20)
    assert found.preferred == ""
    # (1.960 + 0.842)^2 * 0.21 / 0.2^2
    assert found.num_needed == 42
    assert "about 42 pairs of answers would show" in preference_text(found)


def test_ties_count_half_and_make_the_share_steadier() -> None:
    found = preferred([1.0] * 14 + [0.5] * 20 + [0.0] * 6)
    assert found.value == 24 / 40
    assert found.num_ties == 20
    assert found.low is not None
    assert found.high is not None
    assert found.high - found.low < wilson(24, 40).high - wilson(24, 40).low


def test_votes_of_one_conversation_are_worth_less_than_as_many_of_different_ones() -> None:
    values = [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0] * 8
    alone = preferred(values)
    grouped = preferred(values, [str(number // 4) for number in range(len(values))])
    assert grouped.value == alone.value
    assert grouped.num_groups == 16
    assert alone.low is not None
    assert grouped.low is not None
    assert grouped.low < alone.low
    assert "They form 16 independent groups" in preference_text(grouped)


def test_a_question_voted_on_twice_is_one_group() -> None:
    def vote(question: str, conversation: str) -> Vote:
        prompt = ({"role": "user", "content": question},)
        return Vote(("b", "a"), ("hash-b", "hash-a"), ("x", "y"), False, prompt, conversation)

    votes = (vote("1?", "one"), vote("2?", "one"), vote("2?", "two"), vote("3?", ""))
    found = preference_of_votes(Votes("b", "a", votes), SETTINGS)
    assert (found.num, found.num_groups) == (4, 2)
    assert found.low is None
    assert "5 independent votes are the fewest" in preference_text(found)


def test_clear_votes_say_who_is_preferred() -> None:
    assert preferred([1.0] * 20).preferred == "b"
    assert preferred([0.0] * 20 + [0.5]).preferred == "a"
    assert "a is preferred." in preference_text(preferred([0.0] * 40 + [0.5]))
    even = preferred([1.0, 0.0] * 10)
    assert even.num_needed is None
    assert preference_text(even).endswith("Neither is clearly preferred.")
    with speaking("ru"):
        assert "Предпочитают b." in preference_text(preferred([1.0] * 20))


def test_the_interval_contains_the_true_share_about_as_often_as_it_says() -> None:
    random, inside = np.random.default_rng(1), 0
    for _ in range(200):
        values = random.choice([1.0, 0.5, 0.0], p=[0.5, 0.2, 0.3], size=24).tolist()
        found = preferred(values)
        assert found.low is not None
        assert found.high is not None
        inside += found.low <= 0.6 <= found.high
    assert inside >= 182
