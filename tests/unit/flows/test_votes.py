"""Votes in an evaluation: read before anything is asked, shown everywhere."""

import json
from pathlib import Path

import pytest

from kamerton.core.errors import EvaluationError
from kamerton.evaluation.table import markdown_table
from kamerton.evaluation.votes import ALIKE, no_pairs_beside
from kamerton.flows.report import write_evaluation_report
from kamerton.store.variants import Variant
from tests.unit.flows.test_evaluate import Project


def vote(better: Variant, worse: Variant, number: int) -> str:
    row = {
        "prompt": [{"role": "user", "content": f"question {number}"}],
        "chosen": "yes",
        "rejected": "no",
        "better": better.name,
        "worse": worse.name,
        "better_hash": better.manifest.content_hash,
        "worse_hash": worse.manifest.content_hash,
        "conversation": str(number),
    }
    return json.dumps(row) + "\n"


def test_votes_stand_in_the_comparison_the_card_and_the_report(tmp_path: Path) -> None:
    project = Project(tmp_path)
    rows = [{"question": f"How is {n}?", "answer": f"Well, {n}."} for n in range(16)]
    plain = project.make(rows[:10], rows[10:], evaluate={"max_new_tokens": 2, "shots": 0})
    kind = project.make(
        rows[:10], rows[10:], name="kind", prompt={"system": "Be kind."},
        evaluate={"max_new_tokens": 2, "shots": 0},
    )  # fmt: skip
    path = tmp_path / "votes.jsonl"
    with pytest.raises(EvaluationError, match="cannot be read"):
        project.evaluate(plain, kind, votes=path)
    path.write_text("".join(vote(kind, plain, n) for n in range(9)) + vote(plain, kind, 9))
    tie = json.loads(vote(plain, kind, 10)) | {ALIKE: True}
    no_pairs_beside(path).write_text(json.dumps(tie))
    evaluated = project.evaluate(plain, kind, votes=path)
    (found,) = evaluated.comparison.preferences
    assert (found.variant, found.against) == ("kind", plain.name)
    assert (found.num_wins, found.num_ties, found.num_losses, found.num_groups) == (9, 1, 1, 11)
    assert found.preferred == "kind"
    said = f"blind votes: kind was preferred to {plain.name} in 86.4 %"
    assert said in markdown_table(evaluated.comparison)
    assert json.loads(json.dumps(evaluated.comparison.to_json()))["preferences"][0]["num_wins"] == 9
    report = tmp_path / "report.html"
    write_evaluation_report(report, evaluated, project.workspace, "kind")
    page = report.read_text("utf-8")
    assert said in page
    assert "Which answers were preferred" in page
    # Without votes nothing is said of them.
    assert project.evaluate(plain, kind).comparison.preferences == ()
