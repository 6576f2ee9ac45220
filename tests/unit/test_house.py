"""The house keeps its own rules: generated parts, light imports, frozen options, README."""

import importlib
import os
import pkgutil
import re
import subprocess
import sys
import warnings
from pathlib import Path
from types import FunctionType
from typing import get_args

import click
import pytest

import kamerton
from kamerton.adapters.catalogue import AnyAdapterSettings
from kamerton.cli.main import main
from kamerton.core import errors
from kamerton.evaluation.settings import Check
from kamerton.flows.recipe import Recipe
from kamerton.objectives.catalogue import AnyObjectiveSettings
from kamerton.objectives.online import RewardSource

ROOT = Path(__file__).parents[2]
LIGHT = ("core", "data", "prompting", "store", "evaluation", "labelling", "advisor")


def python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout


@pytest.mark.parametrize("script", ["tree", "reference"])
def test_generated_parts_are_up_to_date(script: str) -> None:
    command = [sys.executable, str(ROOT / "scripts" / "house" / f"{script}.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_command_line_starts_light() -> None:
    heavy = python(
        "import sys, kamerton, kamerton.cli.main\n"
        "heavy = ('torch', 'transformers', 'pydantic', 'numpy', 'rich')\n"
        "print([m for m in heavy if m in sys.modules])"
    )
    assert heavy.strip() == "[]"


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["train", "--help"]])
def test_help_imports_no_torch(arguments: list[str]) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "kamerton", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "kamerton.cli.main" in imported
    assert not {"torch", "transformers", "numpy", "scipy", "sqlalchemy"} & imported


def test_light_packages_import_no_torch() -> None:
    modules = [
        info.name
        for package in LIGHT
        for info in pkgutil.walk_packages(
            importlib.import_module(f"kamerton.{package}").__path__, f"kamerton.{package}."
        )
        if "migrations" not in info.name
    ]
    assert len(modules) > 40
    code = f"import sys\nfor m in {modules!r}: __import__(m)\nprint('torch' in sys.modules)"
    assert python(code).strip() == "False"


def test_all_names_exist_and_are_documented() -> None:
    checked = 0
    for info in pkgutil.walk_packages(kamerton.__path__, "kamerton."):
        if "migrations" in info.name or info.name.endswith("__main__"):
            continue
        module = importlib.import_module(info.name)
        assert module.__doc__, info.name
        # Whatever is defined here without an underscore is public, and says so.
        own = {
            name
            for name, member in vars(module).items()
            if isinstance(member, type | FunctionType)
            and member.__module__ == info.name
            and not name.startswith("_")
        }
        assert own <= set(getattr(module, "__all__", ())), info.name
        for name in getattr(module, "__all__", ()):
            member = getattr(module, name)
            if isinstance(member, type | FunctionType):
                assert member.__doc__, f"{info.name}.{name}"
            checked += 1
    assert checked > 150


def verbs(group: click.Group, prefix: str = "") -> dict[str, click.Command]:
    context = click.Context(group)
    found = {}
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            found |= verbs(command, f"{prefix}{name} ")
        else:
            found[prefix + name] = command
    return found


OPENING = {"--base", "--device", "--dtype"}
EXPERIMENT = {"--store", "--project"}
GUESS = {"--units-per-day", "--baseline", "--deviation"}
OPTIONS = {
    "new": {
        "--language",
        "--question",
        "--answer",
        "--task",
        "--base",
        "--name",
        "--to",
        "--no-measure",
        "--recipe",
    },
    "advise": {"--language", "--aim", "--must", "--team", "--measure"},
    "check": {
        "--language",
        "--set",
        "--show",
        "--base",
        "--redact",
        "--labels",
        "--strict",
        "--json",
    },
    "train": {"--language", "--set", "--project", "--fresh", "--try", "--json"},
    "evaluate": {
        "--language",
        "--data",
        "--report",
        "--votes",
        "--judge",
        "--judge-model",
        "--judge-key",
        "--judge-sees-texts",
        "--set",
        "--project",
        "--json",
        *OPENING,
    },
    "prompt search": {
        "--language",
        "--instructions",
        "--questions",
        "--name",
        "--set",
        "--project",
        "--json",
    },
    "predict": {
        "--language",
        "--to",
        "--labels",
        "--only-uncertain",
        "--set",
        "--project",
        "--json",
        *OPENING,
    },
    "label": {
        "--language",
        "--teacher",
        "--teacher-model",
        "--teacher-key",
        "--budget",
        "--rounds",
        "--to",
        "--gold",
        "--precision",
        "--redact",
        "--set",
        "--project",
        "--json",
        *OPENING,
    },
    "serve": {
        "--host",
        "--port",
        "--api-key",
        "--keys",
        "--hash-key",
        "--slots",
        "--limit",
        "--timeout-s",
        "--drain-s",
        "--access-log",
        "--memory-mib",
        "--routes",
        "--admin-port",
        "--admin-key",
        "--engine",
        "--engine-key",
        "--cache-mib",
        "--record",
        "--record-text",
        "--record-days",
        "--hash-units",
        "--quantise",
        "--project",
        *OPENING,
    },
    "metrics": {"--by", "--every", "--days", "--store", "--project", "--json"},
    "feedback import": {"--name", "--column", "--keep-personal", "--store", "--project"},
    "feedback export": {
        "--to",
        "--limit",
        "--per-rater",
        "--keep-personal",
        "--store",
        "--project",
    },
    "feedback agreement": {"--store", "--project", "--json"},
    "chat": {
        "--language",
        "--message",
        "-m",
        "--temperature",
        "--max-tokens",
        "--seed",
        "--votes",
        "--project",
        *OPENING,
    },
    "variant list": {"--project", "--json"},
    "variant show": {"--project", "--json"},
    "variant verify": {"--base", "--device", "--project"},
    "variant merge": {"--base", "--device", "--project"},
    "variant combine": {
        "--how",
        "--to",
        "--weight",
        "--density",
        "--rank",
        "--seed",
        "--base",
        "--device",
        "--project",
    },
    "variant export": {"--format", "--dtype", "--to", "--base", "--device", "--project"},
    "route explain": {
        "--routes",
        "--unit",
        "--key",
        "--tenant",
        "--segment",
        "--language",
        "--header",
        "--at",
        "--store",
        "--project",
        "--json",
    },
    "experiment plan": {"--days", "--json", *EXPERIMENT, *GUESS},
    "experiment start": {*EXPERIMENT, *GUESS},
    "experiment status": {"--json", *EXPERIMENT},
    "experiment report": {"--by", "--language", "--html", "--json", *EXPERIMENT},
    "experiment stop": {"--promote", "--why", "--anyway", *EXPERIMENT},
    "experiment simulate": {"--runs", "--days", *EXPERIMENT, *GUESS},
    "demo": {"--language", "--to", "--base"},
}


def test_options_are_frozen() -> None:
    """A setting belongs into the recipe; a new option has to be meant."""
    found = {
        name: {text for p in command.params if isinstance(p, click.Option) for text in p.opts}
        for name, command in verbs(main).items()
    }
    assert found == OPTIONS
    for command in verbs(main).values():
        assert command.help
        assert all(p.help for p in command.params if isinstance(p, click.Option))


def test_every_setting_has_a_docstring() -> None:
    seen = 0

    def walk(model) -> None:
        nonlocal seen
        for name, field in model.model_fields.items():
            assert field.description, f"{model.__name__}.{name}"
            seen += 1
            for member in re.findall(r"kamerton[\w.]+", str(field.annotation)):
                owner, _, kind = member.rpartition(".")
                found = getattr(importlib.import_module(owner), kind, None)
                if isinstance(found, type) and hasattr(found, "model_fields"):
                    walk(found)

    walk(Recipe)
    assert seen > 50


def anchors(page: Path) -> list[str]:
    """The anchors of a page's headings, as Markdown makes them."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return [re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles]


@pytest.mark.parametrize(
    ("table", "catalogue"),
    [
        ("[adapter]", AnyAdapterSettings),
        ("[objective]", AnyObjectiveSettings),
        ("[[objective.rewards]]", RewardSource),
        ("[[evaluate.checks]]", Check),
    ],
)
def test_every_kind_has_one_heading_in_the_reference(table: str, catalogue: object) -> None:
    page = (ROOT / "docs" / "reference" / "settings.md").read_text(encoding="utf-8")
    headings = re.findall(rf"^## {re.escape(table)} (\S+)$", page, re.MULTILINE)
    members = get_args(get_args(catalogue)[0]) or get_args(catalogue)
    kinds = [kind for one in members for kind in get_args(one.model_fields["kind"].annotation)]
    assert len(kinds) >= 4
    assert sorted(headings) == sorted(kinds)


def test_the_error_tree_is_drawn_as_it_is() -> None:
    drawn = re.findall(r"^(?:[│├└─ ]+)?(\w+(?:Error|Run))\b", errors.__doc__ or "", re.MULTILINE)
    defined = [name for name, value in vars(errors).items() if isinstance(value, type)]
    own = [name for name in defined if getattr(errors, name).__module__ == errors.__name__]
    assert sorted(errors.__all__) == sorted(own) == sorted(drawn)
    assert all(issubclass(getattr(errors, name), errors.KamertonError) for name in own)


def test_the_changelog_begins_with_this_version() -> None:
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert headings[0] == kamerton.__version__


def test_warnings_are_errors() -> None:
    with pytest.raises(UserWarning, match="no test may pass over this"):
        warnings.warn("no test may pass over this", stacklevel=1)


@pytest.mark.parametrize("in_ci", [True, False])
def test_absent_material_fails_in_ci_and_skips_elsewhere(in_ci: bool, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    environment |= {"KAMERTON_MATERIAL": str(tmp_path / "none")} | ({"CI": "true"} if in_ci else {})
    probe = "tests/unit/data/test_material.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-x", probe]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert "real material is absent" in done.stdout
    assert done.returncode == (1 if in_ci else 0), done.stdout
    assert ("skipped" in done.stdout) is not in_ci


def test_every_package_of_tests_holds_tests() -> None:
    packages = [path.parent for path in (ROOT / "tests").rglob("__init__.py")]
    assert len(packages) > 10
    for package in packages:
        assert list(package.rglob("test_*.py")), package


def test_links_between_pages_lead_somewhere() -> None:
    folders = (ROOT / name for name in ("docs", "benchmarks", "scripts", "src", "tests"))
    pages = [*ROOT.glob("*.md"), *(page for folder in folders for page in folder.rglob("*.md"))]
    links = [
        (page, target)
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8"))
        if "://" not in target
    ]
    assert len(links) > 10
    broken = [f"{page}: {target}" for page, target in links if not (page.parent / target).exists()]
    assert not broken


def test_links_to_headings_of_pages_lead_somewhere() -> None:
    links = [
        (page, page.parent / target if target else page, anchor)
        for page in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
        for target, anchor in re.findall(
            r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text(encoding="utf-8")
        )
        if "://" not in target
    ]
    assert len(links) > 30
    broken = [
        f"{page}: {there}#{anchor}" for page, there, anchor in links if anchor not in anchors(there)
    ]
    assert not broken
