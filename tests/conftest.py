"""Fixtures that all tests share: real material, the bundled base, no network."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from kamerton.core import language
from tests.durations import table, time_by_folder

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session", autouse=True)
def _no_stopwatch() -> Iterator[None]:
    """Bases are in bf16 wherever there are instructions for it: a test measures no speed."""
    with pytest.MonkeyPatch.context() as patched:
        # Sessions of light packages stay without PyTorch.
        if "torch" in sys.modules:
            told = {"float32": 2.0, "bfloat16": 1.0}

            def product_seconds() -> dict[str, float]:
                """Say the same on every machine."""
                return told

            patched.setattr("kamerton.models.dtype.product_seconds", product_seconds)
            patched.setattr("kamerton.models.dtype._remembered", lambda memo: told)
        yield


@pytest.fixture(autouse=True)
def _in_english() -> Iterator[None]:
    """Messages are English whatever the locale, also after a test that chose another language."""
    language.speak("en")
    yield
    language.speak("en")


@pytest.fixture(scope="session")
def material() -> Path:
    """Folder of real data sets and tiny pretrained models; CI must have it."""
    folder = Path(os.environ.get("KAMERTON_MATERIAL", ROOT.parent / "shared" / "material"))
    if not (folder / "models").is_dir():
        reason = f"real material is absent: set KAMERTON_MATERIAL (looked in {folder})"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    return folder


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the seconds of each folder; workers of xdist have sent their reports by then."""
    times = time_by_folder(r for reports in terminalreporter.stats.values() for r in reports)
    if len(times) > 1:
        terminalreporter.section("seconds by folder")
        terminalreporter.write("\n".join([*table(times), ""]))
