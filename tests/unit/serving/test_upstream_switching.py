"""Variants that come and go in other engines, through the admin API of a gateway before them."""

import asyncio
from pathlib import Path

import httpx
import pytest

from kamerton.core.errors import VariantError
from kamerton.core.requests import ServedModel
from kamerton.serving.admin import make_admin_app
from kamerton.serving.switching import Switching
from kamerton.serving.upstream_models import UpstreamModel
from tests.unit.serving.test_upstream_engine import as_listed, chat, started, through
from tests.unit.serving.upstream_servers import Vllm, listening


def open_variant(place, content_hash, cards):
    """Take the text of a manifest for the content hash."""
    text = (Path(place) / "variant.json").read_text()
    if text == "prefix":
        raise VariantError("other engines load plain LoRAs only", hint="serve it here")
    served = ServedModel(Path(place).name, "lora", text, "acme/base", place=place)
    name = f"{served.name}-{text}"
    return UpstreamModel(served, name, base=cards[0].name, place=place)


@pytest.fixture
def folder(tmp_path):
    for number in (1, 2, 3):
        write(tmp_path, f"shop-{number}", f"h{number}")
    write(tmp_path, "short", "prefix")
    return tmp_path


def write(folder, name, text):
    (folder / name).mkdir()
    (folder / name / "variant.json").write_text(text)
    (folder / name / "adapter_config.json").write_text("{}")


@pytest.fixture
def vllm():
    return Vllm()


@pytest.fixture
def engine(vllm):
    with listening(vllm.app) as url:
        yield started(url, as_listed, open_variant=open_variant, health_s=60)[0]


def switched(engine, folder, ask):
    """Run a coroutine with a client of the gateway and one of its admin API."""

    async def run(client, http):
        transport = httpx.ASGITransport(make_admin_app(Switching(engine, folder)))
        async with httpx.AsyncClient(transport=transport, base_url="http://admin") as admin:

            async def point(name, **body):
                return await admin.put(f"/admin/models/{name}", json=body)

            return await ask(client, http, admin, point)

    return through(engine, run)


async def said(client, http, model="live"):
    return (await chat(model)(client, http)).choices[0].message.content.split(":")[0]


def test_a_name_is_pointed_at_one_lora_after_another_and_back(vllm, engine, folder):
    async def ask(client, http, admin, point):
        seen = []
        for number in (1, 2):
            assert (await point("live", path=f"shop-{number}")).status_code == 200
            seen.append(await said(client, http))
        await admin.post("/admin/models/live/rollback")
        seen.append(await said(client, http))
        assert set(vllm.adapters) == {"shop-1-h1", "shop-2-h2"}
        # Two versions of a name are kept.
        await point("live", path="shop-3")
        assert set(vllm.adapters) == {"shop-1-h1", "shop-3-h3"}
        await admin.delete("/admin/models/live")
        models = (await admin.get("/admin/models")).json()["models"]
        return seen, [model["name"] for model in models]

    seen, left = switched(engine, folder, ask)
    assert seen == ["shop-1-h1", "shop-2-h2", "shop-1-h1"]
    assert left == ["acme/base"]
    assert not vllm.adapters


def test_an_answer_keeps_its_version_and_its_lora_until_it_ends(vllm, engine, folder):
    async def ask(client, http, admin, point):
        await point("live", path="shop-1")
        vllm.wait.clear()
        answering = asyncio.ensure_future(said(client, http))
        while not vllm.asked:
            await asyncio.sleep(0.005)
        await point("live", path="shop-2")
        await admin.delete("/admin/models/live")
        leaving = (await admin.get("/admin/models")).json()["leaving"]
        assert [(one["artefact"], one["requests"]) for one in leaving] == [("h1", 1)]
        assert set(vllm.adapters) == {"shop-1-h1"}
        vllm.wait.set()
        answer = await answering
        while vllm.adapters:
            await asyncio.sleep(0.005)
        return answer

    assert switched(engine, folder, ask) == "shop-1-h1"


def test_what_an_engine_cannot_load_is_refused_and_nothing_changes(vllm, engine, folder):
    async def ask(client, http, admin, point):
        await point("live", path="shop-1")
        refusals = [await point("live", path="short")]
        vllm.has_lora = False
        refusals.append(await point("live", path="shop-2"))
        return [(one.status_code, one.json()["error"]["message"]) for one in refusals], await said(
            client, http
        )

    (prefix, missing), answer = switched(engine, folder, ask)
    assert prefix == (400, "other engines load plain LoRAs only (serve it here)")
    assert missing[0] == 400
    assert "cannot load the LoRA of 'shop-2': Not Found" in missing[1]
    assert answer == "shop-1-h1"
