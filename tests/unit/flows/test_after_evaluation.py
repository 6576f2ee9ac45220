"""Advice on a real comparison: what it is made of, and where it is written."""

import json
from pathlib import Path

from click.testing import CliRunner

from kamerton.cli.evaluate import evaluate
from kamerton.flows.recipe import Recipe
from kamerton.flows.train import make_variant
from kamerton.flows.workspace import Workspace

LABELS = ("refund", "delivery", "account")
RECIPE = """\
name = "desk"
base = { id = "builtin:nano", dtype = "float32" }
[data]
train = "train.jsonl"
test = "test.jsonl"
[adapter]
rank = 2
[train]
max_steps = 1
[evaluate]
shots = 2
resamples = 100
"""


def test_advice_stands_in_terminal_report_and_json(tmp_path: Path) -> None:
    for name, num in (("train", 9), ("test", 24)):
        rows = [{"text": f"{name} {n}", "label": LABELS[n % 3]} for n in range(num)]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(text)
    path = tmp_path / "desk.toml"
    path.write_text(RECIPE)
    recipe = Recipe.read(path)
    make_variant(recipe, tmp_path, Workspace(tmp_path), lambda event: None)
    report = tmp_path / "report.html"
    given = ["desk", "--project", str(tmp_path), "--report", str(report)]
    done = CliRunner().invoke(evaluate, [*given, "--json"], catch_exceptions=False)
    advice = json.loads(done.stdout)["advice"]
    # Nothing was learned in one step: some label is missed, and each has three examples.
    rare = next(one for one in advice if "fewer than 10 training examples" in one["text"])
    assert "(3)" in rare["text"]
    assert rare["command"] == f"kamerton train {path} --project {tmp_path} --fresh"
    # A command breaks between its words alone.
    page = report.read_text().replace("<span>", "").replace("</span>", "")
    assert "<h2>What to do next</h2>" in page
    assert all(one["command"] in page for one in advice)
    done = CliRunner().invoke(evaluate, given, catch_exceptions=False)
    assert "what to do next:" in done.stderr
    assert f"  {rare['command']}" in done.stderr
