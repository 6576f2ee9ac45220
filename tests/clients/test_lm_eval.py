"""lm-evaluation-harness: a task over HTTP gives what its own backend gives for the same weights."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.clients.environments import ask
from tests.clients.served import SPEAKER
from tests.e2e.project import kamerton

pytestmark = pytest.mark.slow
BOXES = """\
task: boxes
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{text}}"
doc_to_choice: "{{choices}}"
doc_to_target: target
target_delimiter: ""
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
NAMES = """\
task: names
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: generate_until
doc_to_text: "{{question}}"
doc_to_target: "{{choices[target]}}"
generation_kwargs: {until: ["\\n"], max_gen_toks: 12, do_sample: false, temperature: 0}
metric_list: [{metric: exact_match}]
"""


@pytest.fixture(scope="module")
def measured(served_project: Path, address: str, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The harness's scores and log-likelihoods, by backend and task."""
    folder = tmp_path_factory.mktemp("tasks")
    question = "Which colour has box 3?"
    rows = [
        # The speaker's own answer, after which it ends: the next token is the end's.
        {
            "question": question,
            "text": f"<|bos|><|user|>\n{question}<|end|>\n<|assistant|>\n",
            "choices": ["red", SPEAKER, f"{SPEAKER} and more"],
            "target": 1,
        },
        {
            "question": "Who are you?",
            "text": "Box 3 is",
            "choices": [" red", " blue", " open, they say"],
            "target": 0,
        },
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name, task in (("boxes", BOXES), ("names", NAMES)):
        text = task.replace("FILE", str(folder / "rows.jsonl"))
        (folder / f"{name}.yaml").write_text(text)
    merged = folder / "merged"
    options = ("--format", "merged", "--dtype", "float32", "--to", merged)
    kamerton("variant", "export", SPEAKER, *options, cwd=served_project)
    return ask("lm-eval", "ask_lm_eval.py", address, SPEAKER, folder, merged)


def test_log_likelihoods_are_those_of_the_harness_s_own_backend(measured: Any) -> None:
    expected = measured["transformers"]["boxes"]
    for way in ("server", "one by one"):
        found = measured[way]["boxes"]
        assert len(found["samples"]) == len(expected["samples"]) == 2
        for samples, right in zip(found["samples"], expected["samples"], strict=True):
            for ((sum_, greedy),), ((right_sum, right_greedy),) in zip(samples, right, strict=True):
                assert sum_ == pytest.approx(right_sum, abs=1e-3, rel=1e-5)
                assert greedy == right_greedy
        for metric in ("acc,none", "acc_norm,none"):
            assert found["scores"][metric] == expected["scores"][metric]


def test_a_continuation_before_the_end_of_the_answer_is_scored_whole(measured: Any) -> None:
    (said,) = measured["server"]["boxes"]["samples"][0][1]
    assert said[0] == pytest.approx(0, abs=0.2)
    assert said[1] is True
    # One token of it would be missing where a server leaves the end out of its answer.
    (longer,) = measured["server"]["boxes"]["samples"][0][2]
    assert longer[0] < said[0] - 1
    assert longer[1] is False


def test_answers_to_chats_are_taken(measured: Any) -> None:
    assert measured["chat"]["names"]["samples"] == [[[SPEAKER]], [[SPEAKER]]]
