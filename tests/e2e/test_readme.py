"""Every command and recipe that the READMEs show works, and both READMEs show the same."""

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from kamerton.cli.main import VERBS
from kamerton.flows.recipe import Recipe
from tests.e2e.project import environment
from tests.e2e.test_serve import serving

ROOT = Path(__file__).parents[2]
LIVE = ("metrics", "experiment")
"""Verbs that need users: tests/e2e/test_live.py walks through them."""
READMES = ("README.md", "README.ru.md")
FIRST_HOURS = ("first-hour.md", "first-hour.ru.md")
# What makes the README's recipe small enough for a test: its own base is 0.6 billion parameters.
SMALL = (
    "train.max_steps=3", "train.learning_rate=0.01", "train.threads=1",
    "generation.max_new_tokens=8", "evaluate.resamples=100",
)  # fmt: skip


def fenced(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.+?)^```", text, re.DOTALL | re.MULTILINE)


def commands(path: Path) -> list[str]:
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = "".join(fenced(text, "console")).splitlines()
    return [line.removeprefix("$ ").split("  #")[0] for line in lines if line.startswith("$ ")]


def pages() -> dict[str, list[str]]:
    """Every page of the repository that shows commands."""
    tracked = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found = {name: commands(ROOT / name) for name in tracked.stdout.split()}
    return {name: shown for name, shown in found.items() if shown}


def recipe_of(readme: str) -> str:
    (text,) = fenced((ROOT / readme).read_text(encoding="utf-8"), "toml")
    return text


def test_both_readmes_show_the_same_commands_and_recipe() -> None:
    english, russian = (commands(ROOT / name) for name in READMES)
    assert english == russian
    assert len(english) >= 6
    assert tomllib.loads(recipe_of(READMES[0])) == tomllib.loads(recipe_of(READMES[1]))


def test_the_first_hour_is_the_same_page_in_both_languages() -> None:
    texts = [(ROOT / "docs" / name).read_text(encoding="utf-8") for name in FIRST_HOURS]
    outside = [re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE) for text in texts]
    english, russian = (re.findall(r"^(#+) ", text, re.MULTILINE) for text in outside)
    assert english == russian
    assert len(english) >= 10
    english, russian = (re.findall(r"^\|", text, re.MULTILINE) for text in outside)
    assert len(english) == len(russian)  # rows of tables
    blocks = [fenced(text, "console") for text in texts]
    assert blocks[0] == blocks[1]
    assert len(blocks[0]) >= 10
    assert len({text.count("\n```") for text in texts}) == 1  # what is printed
    for text, other in zip(texts, reversed(FIRST_HOURS), strict=True):
        assert f"]({other})" in text


def test_every_shown_command_exists() -> None:
    """On any page: a make target or a verb; what runs for minutes is run by CI itself."""
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    shown = pages()
    assert {*READMES, "CONTRIBUTING.md"} <= shown.keys()
    for page, found in shown.items():
        for command in found:
            program, word, *_ = shlex.split(command)
            free = {"curl": {word}, "cd": {word}, "export": {word}}
            known = {"make": targets, "kamerton": VERBS, **free}.get(program, ())
            assert word in known, f"{page}: {command}"


def test_ci_runs_the_make_targets_of_the_readmes() -> None:
    """`make demo` is run by `make test-all`, in tests/e2e/test_demo.py."""
    ci = re.findall(r"\bmake (.+)$", (ROOT / ".ci" / "run").read_text(), re.MULTILINE)
    assert {"check", "test", "test-all"} <= {target for line in ci for target in line.split()}
    shown = {command for command in commands(ROOT / "README.md") if command.startswith("make ")}
    assert shown == {"make demo", "make test"}


@pytest.mark.slow
def test_the_commands_run_in_order(tmp_path: Path) -> None:
    """From a raw file, as the README says, on the bundled base."""
    recipe = Recipe.parse(tomllib.loads(recipe_of("README.md")), source="README.md")
    assert recipe.base.id == "Qwen/Qwen3-0.6B"
    write_tickets(tmp_path / "tickets.csv", 60)
    write_tickets(tmp_path / "april.csv", 5)
    program = shutil.which("kamerton", path=str(Path(sys.executable).parent))
    assert program is not None, "the package is not installed"
    folder, ran = tmp_path, []
    for command in commands(ROOT / "README.md"):
        name, *arguments = shlex.split(command)
        if name == "cd":
            folder /= arguments[0]
        if name != "kamerton" or arguments[0] in LIVE or "--routes" in arguments:
            continue
        if arguments[0] == "new":
            arguments += ["--base", "builtin:nano", "--no-measure"]
        if arguments[0] == "train":
            arguments += [word for override in SMALL for word in ("--set", override)]
        if arguments[0] == "serve":
            with serving(folder, *arguments[1:]) as server:
                assert len(list(server.client().models.list())) == 2
            ran.append("serve")
            continue
        done = subprocess.run(
            [program, *arguments], cwd=folder, env=environment(), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        # predict writes its file, and says the rest on stderr.
        assert done.stdout.strip() or arguments[0] == "predict", command
        ran.append(arguments[0])
    assert ran == ["new", "train", "evaluate", "predict", "serve", "variant"]
    assert "<svg" in (folder / "report.html").read_text(encoding="utf-8")
    assert len((folder / "april-sorted.csv").read_text(encoding="utf-8").splitlines()) == 6


def write_tickets(path: Path, number: int) -> None:
    """Write made-up messages to a shop with their topics."""
    topics = {"delivery": "my parcel", "refund": "my money back", "login": "my password"}
    rows = ["message,topic"]
    for place in range(number):
        topic, words = list(topics.items())[place % 3]
        rows.append(f"Please help with {words} number {place * 7},{topic}")
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
