"""What a server that was told to stop still does."""

import asyncio
import os
import signal

from kamerton.serving.admission import Admission
from kamerton.serving.draining import drain, drain_on_signals


def test_draining_waits_for_open_answers_and_not_longer_than_the_limit():
    async def ask():
        admission = Admission(9)
        assert await drain(admission, 60)
        admission = Admission(9)
        admission.enter(2)
        asyncio.get_running_loop().call_later(0.01, admission.leave, 2)
        assert await drain(admission, 60)
        admission = Admission(9)
        admission.enter(1)
        assert not await drain(admission, 0.01)
        assert admission.is_draining

    asyncio.run(ask())


def test_the_first_signal_drains_and_the_second_stops_at_once():
    happened: list[object] = []

    async def ask():
        admission = Admission(9)
        admission.enter(1)
        drain_on_signals(
            admission, 60, cut=lambda: happened.append("cut"), stop=happened.append
        )  # fmt: skip
        os.kill(os.getpid(), signal.SIGTERM)
        while not admission.is_draining:
            await asyncio.sleep(0)
        assert happened == []
        os.kill(os.getpid(), signal.SIGINT)
        while not happened:
            await asyncio.sleep(0)
        admission.leave(1)
        while len(happened) < 2:
            await asyncio.sleep(0.01)

    asyncio.run(ask())
    assert happened == [True, False]


def test_what_outlasts_the_draining_is_cut():
    happened: list[object] = []

    async def ask():
        admission = Admission(9)
        admission.enter(1)
        drain_on_signals(
            admission, 0.01, cut=lambda: happened.append("cut"), stop=happened.append
        )  # fmt: skip
        os.kill(os.getpid(), signal.SIGTERM)
        while len(happened) < 2:
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(ask(), 10))
    assert happened == ["cut", False]
