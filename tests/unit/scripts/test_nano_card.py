"""The card of builtin:nano: it ships, names every source, and says the size that is true."""

import re
import tomllib
from math import prod
from pathlib import Path

from safetensors import safe_open

import kamerton

ROOT = Path(__file__).parents[3]
NANO = Path(kamerton.__file__).parent / "models" / "nano"


def card() -> str:
    return (NANO / "CARD.md").read_text(encoding="utf-8")


def test_it_names_every_data_set_that_the_corpus_reads() -> None:
    script = (ROOT / "scripts" / "nano" / "material.py").read_text()
    sources = re.findall(r'"([a-z0-9_.]+)\.jsonl\.gz"', script)
    assert len(sources) == 6
    for name in sources:
        assert f"`{name}`" in card()


def test_the_notice_repeats_every_source_of_the_card() -> None:
    notice = (ROOT / "NOTICE").read_text()
    links = set(re.findall(r"<(https://github\.com/[^>]+)>", card()))
    assert len(links) == 5
    for link in links:
        assert link in notice


def test_it_says_the_true_number_of_parameters() -> None:
    with safe_open(NANO / "model.safetensors", framework="numpy") as weights:
        sizes = [prod(weights.get_slice(name).get_shape()) for name in weights.keys()]  # noqa: SIM118
    assert f"| {sum(sizes):,}, stored in bfloat16 |" in card()


def test_packages_carry_card_and_notice() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert "**/*.md" in settings["package-data"]["kamerton"]
    # setuptools takes LICENSE and NOTICE by itself as long as nobody names license files.
    assert "license-files" not in settings
    assert (ROOT / "NOTICE").is_file()
