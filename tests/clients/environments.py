"""Environments of clients, each apart from Kamerton's: `make clients` makes them."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

__all__ = ["ask", "program_of"]

_SCRIPTS = Path(__file__).parent / "scripts"
_ENVIRONMENTS = ROOT / ".clients"


def program_of(client: str, program: str = "python") -> str:
    """Find a program of a client's environment; where there is none, the test is skipped.

    Args:
        client: Folder below `.clients`.
        program: Its name there; "node" is the machine's own.

    Returns:
        Its path.
    """
    folder = _ENVIRONMENTS / client
    found = shutil.which("node") if program == "node" else str(folder / "bin" / program)
    if (folder / ".installed").is_file() and found and Path(found).is_file():
        return found
    reason = f"the client {client} is not installed: make clients installs it"
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def ask(client: str, script: str, *arguments: str | Path, timeout_s: float = 240) -> Any:
    """Run a script in a client's environment.

    Args:
        client: Folder below `.clients`.
        script: Of the folder `scripts`.
        *arguments: For the script.
        timeout_s: Seconds it may take.

    Returns:
        What it printed as JSON.
    """
    program = program_of(client, "node" if client == "node" else "python")
    modules = _ENVIRONMENTS / client / "node_modules"
    # A client finds its own packages and no path to Kamerton's; none asks anything outside.
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [program, str(_SCRIPTS / script), *map(str, arguments)],
        env={
            **kept, "NODE_PATH": str(modules), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True", "OMP_NUM_THREADS": "1",
        },
        text=True, capture_output=True, timeout=timeout_s, check=False,
    )  # fmt: skip
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr[-6000:]}"
    return json.loads(done.stdout.splitlines()[-1])
