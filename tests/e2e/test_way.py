"""From a file of examples to a measured LoRA, through the command line."""

import json
import shutil
from pathlib import Path

import pytest
from filelock import FileLock

from tests.e2e.project import kamerton, make_project


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("project")
    kamerton("train", make_project(folder), cwd=folder)
    return folder


def test_train_prints_the_folder_and_nothing_else(tmp_path: Path) -> None:
    recipe = make_project(tmp_path, num_rows=12)
    done = kamerton("train", recipe, "--set", "train.max_steps=2", cwd=tmp_path)
    assert done.stdout == "variants/desk\n"
    assert "next: kamerton evaluate desk" in done.stderr
    names = {path.name for path in (tmp_path / "variants/desk").iterdir()}
    assert names == {
        "variant.json", "CARD.md", "trained_on.txt", "adapter_config.json",
        "adapter_model.safetensors",
    }  # fmt: skip


def test_evaluate_has_prompting_in_the_table(project: Path) -> None:
    done = kamerton("evaluate", "desk", "--report", "r.html", "--json", cwd=project)
    found = json.loads(done.stdout)
    assert found["variants"] == ["zero-shot", "2-shot", "desk"]
    html = (project / "r.html").read_text()
    assert "<svg" in html
    assert "http" not in html.split("</style>")[0]
    card = (project / "variants/desk/CARD.md").read_text()
    assert "zero-shot" in card
    table = kamerton("evaluate", "desk", cwd=project).stdout
    assert "zero-shot" in table


def test_chat_answers_once(project: Path) -> None:
    done = kamerton("chat", "desk", "-m", "Which colour has box 6?", cwd=project)
    assert done.stdout.startswith("Box")
    both = kamerton("chat", "desk", "builtin:nano", "-m", "Which colour has box 6?", cwd=project)
    assert "builtin:nano" in both.stdout


def test_sampled_answers_differ_by_seed_and_repeat(project: Path) -> None:
    def answer(*seed: str) -> str:
        options = ("-m", "Tell me about box 3.", "--temperature", "1.5", *seed)
        return kamerton("chat", "desk", *options, cwd=project).stdout

    assert answer("--seed", "1") == answer("--seed", "1")
    assert len({answer("--seed", str(seed)) for seed in range(1, 5)}) > 1


def test_a_recipe_is_checked_as_it_would_be_trained(project: Path) -> None:
    options = ("--set", "prompt.system=You know boxes.", "--set", "prompt.demonstrations=1")
    done = kamerton("check", "recipe.toml", "--show", "1", *options, cwd=project)
    assert "You know boxes." in done.stdout
    assert done.stdout.count("<|assistant|>") == 2
    # Only the last answer is trained.
    assert done.stdout.count("⟦") == done.stdout.count("⟧") == 2
    short = kamerton("check", "recipe.toml", "--set", "render.max_tokens=12", cwd=project)
    assert "examples would be dropped" in short.stdout


def test_where_the_model_answers_nothing_is_shown_as_trained(project: Path) -> None:
    reward = '[{kind="function",function="rewards.py:f"}]'
    options = ("--set", "objective.kind=rloo", "--set", f"objective.rewards={reward}")
    done = kamerton("check", "recipe.toml", "--show", "1", *options, cwd=project)
    assert "none trained: answered by the model" in done.stdout
    assert "other columns for rewards: none" in " ".join(done.stdout.split())
    assert "⟦" not in done.stdout
    assert "trained tokens:" not in done.stdout


def test_variants_are_listed_shown_verified_and_merged(project: Path) -> None:
    assert "desk" in kamerton("variant", "list", cwd=project).stdout
    shown = json.loads(kamerton("variant", "show", "desk", "--json", cwd=project).stdout)
    assert shown["method"] == "lora"
    assert "as they were" in kamerton("variant", "verify", "desk", cwd=project).stderr
    merged = kamerton("variant", "merge", "desk", "merged", cwd=project)
    assert "float32" in merged.stderr
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(project / "merged")
    assert model.num_parameters() == shown["base"]["num_parameters"]
    said = kamerton("chat", "merged", "-m", "Which colour has box 6?", cwd=project)
    assert said.stdout.startswith("Box")
    again = kamerton("variant", "merge", "desk", "merged", cwd=project, status=1)
    assert "exists already" in again.stderr


def test_a_prompt_alone_is_a_variant(project: Path) -> None:
    recipe = project / "recipe.toml"
    options = (
        "--set",
        "adapter.kind=none",
        "--set",
        "name=few",
        "--set",
        "prompt.demonstrations=3",
    )
    kamerton("train", recipe, *options, cwd=project)
    shown = json.loads(kamerton("variant", "show", "few", "--json", cwd=project).stdout)
    assert shown["method"] == "none"
    assert len(shown["prompt"]["demonstrations"]) == 3
    found = json.loads(kamerton("evaluate", "desk", "few", "--json", cwd=project).stdout)
    assert found["variants"][-2:] == ["desk", "few"]


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["train", "none.toml"], 2, "no such file"),
        (["train", "recipe.toml", "--set", "adapter.rnk=4"], 2, "did you mean 'rank'?"),
        (["train", "recipe.toml", "--set", "adapter.rank=0"], 2, "adapter"),
        (["train", "recipe.toml", "--set", "adapter.targets=[]"], 2, "adapter.targets"),
        (["train", "recipe.toml", "--set", "train.learning_rate=inf"], 2, "train.learning_rate"),
        (["check", "desk.jsonl", "--set", "train.epochs=3"], 2, "only data.* and render.*"),
        (["check", "desk.jsonl", "--json", "--show", "1"], 2, "cannot be used together"),
        (["chat", "desk", "-m", "x", "--temperature", "nan"], 2, "must be a number from 0"),
        (["train", "recipe.toml", "--set", "data.holdout=desk.jsonl"], 1, "the same examples"),
        (["train", "recipe.toml", "--set", "train.threads=9999"], 2, "cores here, got 9999"),
        (["train", "recipe.toml", "--set", "base=nowhere/at-all-x"], 1, "base:"),
        (["train", "recipe.toml", "--set", "data.train=none.jsonl"], 1, "none.jsonl"),
        (["train", "recipe.toml", "--set", 'adapter.targets=["q_prj"]'], 1, "q_proj"),
        (["train", "recipe.toml", "--set", "train.seed=9"], 1, "--fresh"),
        (
            ["train", "recipe.toml", "--set", "name=still", "--set", "train.learning_rate=1e-30"],
            1,
            "leaves the base's answers unchanged",
        ),
        (["evaluate", "dsk"], 1, "did you mean 'desk'?"),
        (["chat", "desk", "desk", "-m", "x"], 1, "itself"),
        (["check", "absent.csv"], 1, "absent.csv"),
        (["trane"], 2, "there is no verb 'trane'"),
    ],
)
def test_mistakes_get_one_clear_message(project: Path, arguments, status, said) -> None:
    done = kamerton(*arguments, cwd=project, status=status)
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_changed_file_is_refused(project: Path, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(project / "variants" / "desk", tmp_path / "variants" / "desk")
    path = tmp_path / "variants/desk/adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")
    done = kamerton("chat", "desk", "-m", "x", cwd=tmp_path, status=1)
    assert "adapter_model.safetensors" in done.stderr


def test_check_lists_what_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "d.jsonl").write_text(
        '{"prompt": "a", "completion": "b"}\n{"prompt": "", "completion": "x"}\nnot json\n'
        '{"prompt": "Write to ann@example.com", "completion": "Done, ann@example.com."}\n'
    )
    done = kamerton("check", "d.jsonl", "--show", "2", cwd=tmp_path)
    assert "2 of 4 rows can be used" in done.stdout
    assert "d.jsonl:2" in done.stdout
    assert "d.jsonl:3" in done.stdout
    assert "trained (in ⟦⟧)" in done.stdout
    kamerton("check", "d.jsonl", "--strict", cwd=tmp_path, status=1)
    kamerton("check", "d.jsonl", "--redact", "clean.jsonl", cwd=tmp_path)
    clean = (tmp_path / "clean.jsonl").read_text()
    assert "ann@example.com" not in clean
    assert clean.count("[EMAIL_1]") == 2
    found = json.loads(kamerton("check", "clean.jsonl", "--json", cwd=tmp_path).stdout)
    assert found["num_examples"] == 2


def test_a_cut_base_is_called_damaged(tmp_path: Path) -> None:
    from kamerton.models.load import find_base

    shutil.copytree(find_base("builtin:nano"), tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:3000])
    recipe = make_project(tmp_path)
    done = kamerton("train", recipe, "--set", "base.id=cut", cwd=tmp_path, status=1)
    assert "error: base: cut cannot be loaded" in done.stderr
    assert "Traceback" not in done.stderr


def test_one_name_is_trained_once_at_a_time(tmp_path: Path) -> None:
    recipe = make_project(tmp_path)
    (tmp_path / "runs" / "desk").mkdir(parents=True)
    with FileLock(tmp_path / "runs" / "desk" / "lock"):
        done = kamerton("train", recipe, cwd=tmp_path, status=1)
    assert "another process is training 'desk'" in done.stderr
    again = kamerton("train", recipe, "--set", "train.max_steps=1", cwd=tmp_path)
    said = " ".join(again.stderr.split())
    assert (
        "38 examples to learn from, 10 held out; fewer than 20 examples of data.holdout say little"
        in said
    )
