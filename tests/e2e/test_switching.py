"""Variants that come, go and change under load, over sockets: nobody gets a wrong one."""

import random
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

from kamerton.store.variants import read_variant
from tests.e2e.speakers import make_speakers
from tests.e2e.test_serve import Server, serving

QUESTION = [{"role": "user", "content": "Which colour has box 3?"}]
KINDS = {
    "anna": ("adapter.rank=2", "train.learning_rate=0.01"),
    "boris": ("adapter.rank=2", "train.learning_rate=0.01"),
    "clara": ("adapter.kind=prefix", "adapter.num_virtual_tokens=4", "train.learning_rate=0.1"),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("switching")
    make_speakers(folder, KINDS)
    return folder


@pytest.fixture(scope="module")
def speakers(project: Path) -> dict[str, str]:
    """What each content hash says."""
    folders = [project / "variants" / name for name in KINDS]
    return {read_variant(each).manifest.content_hash: each.name for each in folders}


class Admin:
    """A client of the admin API."""

    def __init__(self, port: int) -> None:
        headers = {"Authorization": "Bearer secret"}
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=120)

    def load(self, name: str, path: str, **more: object) -> httpx.Response:
        body = {"lora_name": name, "lora_path": path, **more}
        return self.http.post("/v1/load_lora_adapter", json=body)

    def unload(self, name: str) -> httpx.Response:
        return self.http.post("/v1/unload_lora_adapter", json={"lora_name": name})

    def list(self) -> dict[str, dict[str, object]]:
        return {model["name"]: model for model in self.http.get("/admin/models").json()["models"]}


@pytest.fixture
def served(project: Path) -> Iterator[tuple[Server, Admin]]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    with serving(
        project, "anna", "--admin-port", str(port), "--admin-key", "secret", "--slots", "4"
    ) as server:
        admin = Admin(port)
        with admin.http:
            yield server, admin


def ask(server: Server, model: str) -> tuple[str, str]:
    """What is said, and the hash of who says it."""
    with server.client() as client:
        answer = client.chat.completions.with_raw_response.create(
            model=model, messages=QUESTION, temperature=0, max_tokens=10
        )
    return answer.parse().choices[0].message.content or "", answer.headers["x-kamerton-artefact"]


@pytest.mark.slow
def test_a_name_is_replaced_under_load_and_no_answer_is_mixed(served, speakers) -> None:
    server, admin = served
    assert admin.load("live", "boris").status_code == 200
    meant, seen, wrong = ["boris"], Counter[str](), list[object]()
    stop = threading.Event()

    def keep_asking(seed: int) -> None:
        choice = random.Random(seed)
        while not stop.is_set():
            model = choice.choice(["live", "live", "anna", "builtin:nano"])
            num_before = len(meant)
            try:
                text, artefact = ask(server, model)
            except Exception as error:
                wrong.append(error)
                return
            who = speakers.get(artefact, "builtin:nano")
            # Whoever asked after a switch was acknowledged never gets what was before it; a switch
            # that goes on now may have come first.
            possible = {*meant[num_before - 1 :], *coming} if model == "live" else {model}
            if who not in possible or (who in KINDS and text != who):
                wrong.append((model, possible, who, text))
            seen[who] += 1

    coming: list[str] = []
    threads = [threading.Thread(target=keep_asking, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    try:
        for number in range(15):
            name = ("clara", "boris", "clara")[number % 3]
            coming[:] = [name]
            if number % 3 < 2:
                assert admin.load("live", name, load_inplace=True).status_code == 200
            else:
                answer = admin.http.post("/admin/models/live/rollback")
                assert speakers[answer.json()["artefact"]] == name
            meant.append(name)
            time.sleep(0.3)
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert not wrong
    assert set(seen) == {*KINDS, "builtin:nano"}
    text, artefact = ask(server, "live")
    assert text == speakers[artefact] == "clara"
    assert admin.unload("live").status_code == 200
    with pytest.raises(openai.NotFoundError):
        ask(server, "live")
    assert list(admin.list()) == ["anna", "builtin:nano"]


@pytest.mark.slow
def test_a_killed_engine_comes_back_with_what_was_loaded_and_not_with_what_is_there(
    served, project, speakers
) -> None:
    server, admin = served
    assert admin.load("live", "clara").status_code == 200
    assert admin.load("one", "boris").status_code == 200
    assert admin.unload("anna").status_code == 200
    hidden = project / "hidden"
    (project / "variants" / "boris").rename(hidden)
    shutil.copytree(project / "variants" / "anna", project / "variants" / "boris")
    try:
        killed = server.engine()
        killed.kill()
        server.wait_until(503)
        server.wait_until(200)
        assert ask(server, "live")[0] == "clara"
        # Other weights lie where "one" came from: it is not served rather than wrong.
        assert set(admin.list()) == {"live", "builtin:nano"}
        for name in ("one", "anna"):
            with pytest.raises(openai.NotFoundError):
                ask(server, name)
    finally:
        shutil.rmtree(project / "variants" / "boris")
        hidden.rename(project / "variants" / "boris")
    assert admin.load("one", "boris").status_code == 200
    assert ask(server, "one")[0] == "boris"


@pytest.mark.slow
def test_bytes_are_given_back_and_keys_are_apart(served, project) -> None:
    server, admin = served
    start = admin.http.get("/admin/models").json()["bytes"]
    for _ in range(20):
        assert admin.load("more", "boris").status_code == 200
        assert admin.http.get("/admin/models").json()["bytes"] == 2 * start
        with server.client() as client:
            assert {m.id: m for m in client.models.list()}["more"].bytes == start
        assert admin.unload("more").status_code == 200
        assert admin.http.get("/admin/models").json()["bytes"] == start
    del admin.http.headers["Authorization"]
    assert admin.load("more", "boris").status_code == 401
    answer = httpx.post(f"{server.address}/v1/load_lora_adapter", json={})
    assert answer.status_code == 404
