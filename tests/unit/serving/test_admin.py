"""The admin API over an engine that only keeps lists, through HTTP in this process."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from kamerton.core.errors import AdapterError
from kamerton.core.protocols import Generation
from kamerton.core.requests import AnswerRequest, AnswerUpdate, HeldVariant, ServedModel
from kamerton.serving.admin import make_admin_app
from kamerton.serving.app import make_app
from kamerton.serving.keys import plain_keys
from kamerton.serving.names import Names
from kamerton.serving.switching import Switching

BASE = ServedModel("builtin:nano", "base", "hash of nano", "builtin:nano")


class Engine:
    """Holds what folders say; answers with the content hash that it is asked for."""

    def __init__(self) -> None:
        self.names = Names([BASE])
        self.is_ready, self.problem = True, ""
        self.holds: list[str] = []

    @property
    def models(self):
        return self.names.models

    async def load(self, place: str, content_hash: str = "") -> ServedModel:
        await asyncio.sleep(0)
        text = (Path(place) / "variant.json").read_text()
        if text == "nothing":
            raise AdapterError("the adapter does nothing", hint="train it again")
        if text not in self.holds:
            self.holds.append(text)
        return ServedModel(
            Path(place).name, "lora", text, "builtin:nano", 10, 1, Generation(3), place
        )

    async def release(self, content_hash: str) -> None:
        self.holds.remove(content_hash)

    async def held(self):
        return [HeldVariant(one, 10, True, 0, False) for one in self.holds]

    async def answer(self, request: AnswerRequest) -> AsyncIterator[AnswerUpdate]:
        assert request.artefact in [*self.holds, BASE.content_hash]
        yield AnswerUpdate(request.id, request.artefact, finish_reason="stop")


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("shop", "law"):
        write(tmp_path / "variants", name, f"{name} version 1")
    write(tmp_path, "outside", "outside")
    return tmp_path / "variants"


def write(folder: Path, name: str, text: str) -> None:
    (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / name / "variant.json").write_text(text)


def clients(engine: Engine, folder: Path, **options):
    """The admin's and a user's."""
    apps = make_admin_app(Switching(engine, folder), **options), make_app(engine)
    return [
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://served")
        for app in apps
    ]


async def said(user: httpx.AsyncClient, model: str) -> tuple[str, str]:
    """Which version answers, and which one the header names."""
    body = {"model": model, "messages": [{"role": "user", "content": "x"}]}
    answer = await user.post("/v1/chat/completions", json=body)
    if answer.status_code != 200:
        return str(answer.status_code), answer.json()["error"]["message"]
    text = answer.json()["choices"][0]["message"]["content"]
    return text, answer.headers["x-kamerton-artefact"]


def load(admin, name, path, **more):
    body = {"lora_name": name, "lora_path": str(path), **more}
    return admin.post("/v1/load_lora_adapter", json=body)


def test_vllm_s_endpoints_load_replace_and_unload(engine, folder):
    async def run():
        admin, user = clients(engine, folder)
        assert (await said(user, "live"))[0] == "404"
        answer = await load(admin, "live", "shop", lora_int_id=3)
        assert answer.status_code == 200
        assert answer.headers["content-type"].startswith("text/plain")
        assert answer.text == "Success: LoRA adapter 'live' added successfully."
        assert await said(user, "live") == ("shop version 1", "shop version 1")
        again = await load(admin, "live", folder / "law")
        assert again.status_code == 400
        assert again.json()["error"]["type"] == "InvalidUserInput"
        assert await said(user, "live") == ("shop version 1", "shop version 1")
        assert (await load(admin, "live", folder / "law", load_inplace=True)).status_code == 200
        assert await said(user, "live") == ("law version 1", "law version 1")
        gone = await admin.post("/v1/unload_lora_adapter", json={"lora_name": "live"})
        assert gone.text == "Success: LoRA adapter 'live' removed successfully."
        assert (await said(user, "live"))[0] == "404"
        gone = await admin.post("/v1/unload_lora_adapter", json={"lora_name": "live"})
        assert gone.status_code == 404
        assert gone.json()["error"]["type"] == "NotFoundError"

    asyncio.run(run())
    assert engine.holds == []
    assert list(engine.models) == ["builtin:nano"]


def test_switch_and_roll_back_move_a_pointer(engine, folder):
    async def run():
        admin, user = clients(engine, folder)
        for version in (1, 2, 3):
            write(folder, "shop", f"shop version {version}")
            answer = await admin.put("/admin/models/shop", json={"path": "shop"})
            assert answer.json()["artefact"] == f"shop version {version}"
        assert engine.holds == ["shop version 2", "shop version 3"]
        answer = await admin.post("/admin/models/shop/rollback")
        assert answer.json()["artefact"] == "shop version 2"
        assert await said(user, "shop") == ("shop version 2", "shop version 2")
        # Another name may mean the same version, and keeps it alone.
        answer = await admin.put("/admin/models/live", json={"artefact": "shop version 3"})
        assert answer.json()["name"] == "live"
        assert (await admin.delete("/admin/models/shop")).status_code == 204
        assert await said(user, "live") == ("shop version 3", "shop version 3")
        assert engine.holds == ["shop version 3"]
        listed = (await admin.get("/admin/models")).json()
        assert listed["bytes"] == 10
        assert [model["name"] for model in listed["models"]] == ["builtin:nano", "live"]
        (version,) = listed["models"][1]["versions"]
        assert version == {
            "name": "live", "kind": "lora", "artefact": "shop version 3", "bytes": 10,
            "resident": True, "requests": 0,
        }  # fmt: skip
        assert (await admin.post("/admin/models/live/rollback")).status_code == 409

    asyncio.run(run())


@pytest.mark.parametrize(
    ("name", "path", "status", "message"),
    [
        ("live", "nowhere", 404, "there is no variant"),
        ("live", "../outside", 400, "must lie in"),
        ("live", "/etc", 400, "must lie in"),
        ("live", ".", 400, "must lie in"),
        ("live", "sh\0op", 400, "must lie in"),
        ("live", "link", 400, "must lie in"),
        ("live", "bad", 400, "does nothing (train it again)"),
        ("builtin:nano", "shop", 400, "a name must"),
        ("../x", "shop", 400, "a name must"),
        ("", "shop", 400, "at least 1 character"),
    ],
)
def test_what_cannot_be_loaded_changes_nothing(engine, folder, name, path, status, message):
    (folder / "link").symlink_to(folder.parent / "outside")
    write(folder, "bad", "nothing")

    async def run():
        admin, _ = clients(engine, folder)
        return await load(admin, name, path)

    answer = asyncio.run(run())
    assert answer.status_code == status
    assert message in answer.json()["error"]["message"]
    assert list(engine.models) == ["builtin:nano"]
    assert engine.holds == []


def test_wrong_bodies_and_unknown_names_are_4xx(engine, folder):
    async def run():
        admin, _ = clients(engine, folder)
        url = "/admin/models/live"
        found = [
            await admin.put(url, json={}),
            await admin.put(url, json={"path": "shop", "artefact": "12345678"}),
            await admin.put(url, content=b"\xff{"),
            await admin.put(url, json={"artefact": "12345678"}),
            await admin.put(url, json={"artefact": BASE.content_hash}),
            await admin.delete(url),
            await admin.delete("/admin/models/builtin:nano"),
            await admin.post(f"{url}/rollback"),
            await admin.post(url),
            await admin.post("/v1/unload_lora_adapter", json={"lora_name": "builtin:nano"}),
            await admin.post("/v1/chat/completions", json={}),
        ]
        return [answer.status_code for answer in found]

    assert asyncio.run(run()) == [400, 400, 400, 404, 404, 404, 400, 404, 405, 400, 404]


def test_the_admin_api_has_its_own_key_and_no_use_for_browsers(engine, folder):
    async def run():
        admin, user = clients(engine, folder, keys=plain_keys(["secret"], "admin"))
        assert (await load(admin, "live", "shop")).status_code == 401
        assert (await admin.get("/admin/models")).status_code == 401
        admin.headers["Authorization"] = "Bearer secret"
        assert (await load(admin, "live", "shop")).status_code == 200
        # Nobody who may ask a model reaches these paths.
        assert (await load(user, "other", "shop")).status_code == 404
        admin.headers["Origin"] = "http://elsewhere"
        for answer in (
            await load(admin, "other", "shop"),
            await admin.post("/admin/models/live/rollback"),
        ):
            assert answer.status_code == 403

    asyncio.run(run())


def test_many_changes_at_once_leave_what_the_last_one_said(engine, folder):
    async def run():
        admin, user = clients(engine, folder)
        changes = [
            load(admin, f"n{number % 3}", ("shop", "law")[number % 2], load_inplace=True)
            for number in range(30)
        ]
        asked = [said(user, f"n{number % 3}") for number in range(30)]
        answers, texts = await asyncio.gather(asyncio.gather(*changes), asyncio.gather(*asked))
        assert {answer.status_code for answer in answers} == {200}
        for text, header in texts:
            assert text in ("404", header)

    asyncio.run(run())
    assert {n: m.content_hash for n, m in engine.models.items() if n != "builtin:nano"} == {
        "n0": "law version 1", "n1": "shop version 1", "n2": "law version 1",
    }  # fmt: skip
