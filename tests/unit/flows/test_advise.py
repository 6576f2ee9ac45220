"""`kamerton advise`: a file and the project that was made of it are told alike."""

from pathlib import Path

from click.testing import CliRunner

from kamerton.cli.main import main
from kamerton.core.events import Event
from kamerton.flows.advise import situation_of
from kamerton.flows.new import look_at, make_plan, write_project
from tests.unit.data.files import write_jsonl


def quiet(_: Event) -> None:
    pass


def test_a_file_and_its_project_are_one_situation(tmp_path: Path) -> None:
    rows = [{"text": f"Where is parcel {n} today", "topic": "ab"[n % 2]} for n in range(24)]
    file = write_jsonl(tmp_path, rows)
    folder = tmp_path / "project"
    looked = look_at(str(file), "", "", None, quiet)
    write_project(folder, make_plan(looked, folder, "", "", "builtin:nano"))
    told = [
        situation_of(str(place), "lasting", (), quiet)
        for place in (file, folder, folder / "recipe.toml")
    ]
    assert told[0] == told[1] == told[2]
    assert (told[0].kind, told[0].num_examples) == ("classes", 24)
    done = CliRunner().invoke(
        main, ["advise", str(folder), "--aim", "once", "--must", "merge", "--measure", "none"]
    )
    assert done.exit_code == 0, done.output
    words = [line.split() for line in done.stdout.splitlines()]
    assert ["1", "LoRA"] in [line[:2] for line in words]
    assert ["no", "prefix"] in [line[:2] for line in words]
