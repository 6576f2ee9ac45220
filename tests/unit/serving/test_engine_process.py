"""The engine's process as the gateway sees it, with a toy in the place of the engine."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest

from kamerton.core.errors import ModelError, VariantError
from kamerton.core.events import Event, Notice, Progress, Sink
from kamerton.core.protocols import Generation
from kamerton.core.requests import (
    AnswerRequest,
    AnswerUpdate,
    EngineReply,
    HeldVariant,
    LoadVariant,
    ReleaseVariant,
    ServedModel,
)
from kamerton.serving.engine_process import EngineProcess

FIRST = ServedModel("shop", "lora", "hash of shop", "nano", place="shop")


def toy(connection, options) -> None:
    """Hold what the options say; a folder's hash is "hash of" its name."""
    held = {model.content_hash: model for model in options}
    connection.send(list(held.values()))
    while True:
        try:
            message = connection.recv()
        except EOFError:
            return
        if message is None:
            return
        if isinstance(message, LoadVariant):
            if message.place == "strange":
                connection.send(Notice("it has another chat template", "warning"))
            if message.place == "die":
                os._exit(1)
            if message.place == "bad":
                error = VariantError("it is damaged", hint="make it again")
                connection.send([EngineReply(message.id, error=error)])
                continue
            model = replace(FIRST, name=message.place, content_hash=f"hash of {message.place}")
            held[model.content_hash] = model
            connection.send([EngineReply(message.id, model)])
        elif isinstance(message, ReleaseVariant):
            held.pop(message.content_hash, None)
            connection.send([EngineReply(message.id)])
        elif isinstance(message, AnswerRequest):
            text = "yes" if message.artefact in held else "no"
            connection.send([AnswerUpdate(message.id, text, finish_reason="stop")])
        elif not isinstance(message, str):
            found = tuple(HeldVariant(key, 0, True, 0, False) for key in held)
            connection.send([EngineReply(message.id, held=found)])


def loading_for_ever(connection, options) -> None:
    """Say how far it is, and never be ready."""
    connection.send(Progress("reading weights", 1, 2))
    time.sleep(options)


def damaged(connection, options) -> None:
    connection.send(ModelError(options))


def restored(options, models):
    # One of them is nowhere any more.
    return [model for model in models if model.content_hash != "hash of lost"]


@asynccontextmanager
async def running(sink: Sink = lambda event: None) -> AsyncIterator[EngineProcess]:
    engine = EngineProcess(toy, [FIRST], restored)
    engine.start(sink)
    engine.watch()
    try:
        yield engine
    finally:
        engine.stop()


async def holds(engine: EngineProcess, artefact: str) -> str:
    request = AnswerRequest(f"r {artefact}", "any", Generation(), artefact=artefact)
    return "".join([update.text async for update in engine.answer(request)])


async def until_ready(engine: EngineProcess) -> None:
    for _ in range(400):
        await asyncio.sleep(0.05)
        if engine.is_ready:
            return
    raise AssertionError("it never came back")


def test_variants_come_and_go_and_a_killed_engine_holds_them_again():
    async def run():
        async with running() as engine:
            for place in ("law", "lost"):
                engine.names.point(await engine.load(place))
            assert await holds(engine, "hash of law") == "yes"
            with pytest.raises(VariantError, match="damaged") as error:
                await engine.load("bad")
            assert error.value.hint == "make it again"
            await engine.release("hash of shop")
            engine.names.drop("shop")
            assert [one.content_hash for one in await engine.held()] == [
                "hash of law", "hash of lost",
            ]  # fmt: skip
            before = engine.pid
            os.kill(before, signal.SIGKILL)
            while engine.is_ready:
                await asyncio.sleep(0.01)
            with pytest.raises(ModelError, match="not running"):
                await engine.load("law")
            await until_ready(engine)
            assert engine.pid != before
            assert list(engine.models) == ["law"]
            assert [one.content_hash for one in await engine.held()] == ["hash of law"]
            assert await holds(engine, "hash of law") == "yes"

    asyncio.run(run())


def test_whoever_waits_for_a_load_is_told_when_the_engine_ends():
    async def run():
        async with running() as engine:
            with pytest.raises(ModelError, match="the engine stopped"):
                await engine.load("die")
            await until_ready(engine)
            assert list(engine.models) == ["shop"]

    asyncio.run(run())


def test_a_notice_about_a_variant_that_is_loaded_reaches_people() -> None:
    told: list[Event] = []

    async def load() -> str:
        async with running(told.append) as engine:
            model = await engine.load("strange")
            assert await holds(engine, model.content_hash) == "yes"
            return model.name

    assert asyncio.run(load()) == "strange"
    assert told == [Notice("it has another chat template", "warning")]


def test_other_tasks_go_on_while_an_engine_loads_and_it_can_be_stopped() -> None:
    told: list[Event] = []

    async def run() -> EngineProcess:
        engine = EngineProcess(loading_for_ever, 600.0)
        opening = asyncio.create_task(engine.open(told.append))
        while not told:
            await asyncio.sleep(0.01)
        assert not engine.is_ready
        assert not engine.models
        engine.stop()
        with pytest.raises(ModelError, match="ended before it was ready"):
            await opening
        return engine

    engine = asyncio.run(run())
    assert told == [Progress("reading weights", 1, 2)]
    assert engine.num_restarts == 0


def test_what_an_engine_cannot_open_is_told_to_whoever_opens_it() -> None:
    async def run() -> None:
        engine = EngineProcess(damaged, "it is damaged")
        try:
            with pytest.raises(ModelError, match="it is damaged"):
                await engine.open()
            assert not engine.is_ready
        finally:
            engine.stop()

    asyncio.run(run())
