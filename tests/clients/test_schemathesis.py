"""schemathesis reads the OpenAPI document and sends what it says, and what it does not."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.clients.environments import program_of
from tests.e2e.test_serve import Server

pytestmark = pytest.mark.slow


def test_no_request_breaks_what_the_document_says(server: Server, tmp_path: Path) -> None:
    # A body of the right form may still ask for what cannot be: a suffix, an empty input, more
    # tokens than the base reads. So that it is refused is no fault.
    done = subprocess.run(
        [
            program_of("schemathesis", "schemathesis"), "run", f"{server.address}/openapi.json",
            "--exclude-checks", "positive_data_acceptance", "--phases", "examples,coverage,fuzzing",
            "--max-examples", "20", "--seed", "1", "--no-shrink", "--request-timeout", "60",
        ],
        cwd=tmp_path, text=True, capture_output=True, timeout=400, check=False,
        env={key: value for key, value in os.environ.items() if key != "PYTHONPATH"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:]
    num_requests = re.search(r"(\d+) generated", done.stdout)
    assert num_requests is not None
    assert int(num_requests.group(1)) > 500
    server.wait_until(200)
