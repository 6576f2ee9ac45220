"""One server for all clients."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.clients.served import make_served
from tests.e2e.test_serve import Server, serving


@pytest.fixture(scope="session")
def served_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clients")
    make_served(folder)
    return folder


@pytest.fixture(scope="session")
def server(served_project: Path) -> Iterator[Server]:
    # In fp32, so that answers equal those of other programs to rounding.
    with serving(served_project, "--dtype", "float32") as running:
        yield running


@pytest.fixture(scope="session")
def address(server: Server) -> str:
    """Where OpenAI's routes are."""
    return f"{server.address}/v1"
