"""The process that computes: reads requests from a connection, steps the engine, sends updates."""

import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection

from kamerton.core.errors import KamertonError, ModelError
from kamerton.core.requests import (
    AnswerRequest,
    AnswerUpdate,
    EngineReply,
    ListVariants,
    LoadVariant,
    ReleaseVariant,
)
from kamerton.core.tokenizing import TokenizerReply, TokenizerRequest
from kamerton.inference.continuous_engine import ContinuousEngine

__all__ = ["work"]

_Message = AnswerUpdate | EngineReply | TokenizerReply


def work(connection: Connection, open_engine: Callable[[], ContinuousEngine]) -> None:
    """Serve until the other end of the connection closes.

    Args:
        connection: To the gateway.
        open_engine: Loads base and variants; a `KamertonError` of it is sent to the gateway.
    """
    try:
        engine = open_engine()
    except KamertonError as error:
        connection.send(error)
        return
    connection.send(engine.models)
    try:
        while True:
            updates = _read(connection, engine)
            if not engine.is_idle:
                try:
                    updates += engine.step()
                except KamertonError as error:
                    updates += engine.fail(error.message)
                except Exception as error:
                    # The requests of this step are lost; those to come need not be.
                    traceback.print_exc()
                    updates += engine.fail(f"the engine failed: {error}")
            if updates:
                connection.send(updates)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        # The gateway is gone or wants an end: nobody waits for an answer.
        return


def _read(connection: Connection, engine: ContinuousEngine) -> list[_Message]:
    """Take in all that was asked or cancelled; waits while there is nothing to compute."""
    updates: list[_Message] = []
    while connection.poll(None if engine.is_idle and not updates else 0):
        message = connection.recv()
        if message is None:
            raise EOFError
        if isinstance(message, AnswerRequest):
            updates += engine.add(message)
        elif isinstance(message, TokenizerRequest):
            updates.append(engine.tokenize(message))
        elif isinstance(message, str):
            engine.cancel(message)
        else:
            updates.append(_reply(engine, message))
    return updates


def _reply(
    engine: ContinuousEngine, message: LoadVariant | ReleaseVariant | ListVariants
) -> EngineReply:
    """Load, release or list variants; the requests that are answered wait meanwhile."""
    try:
        if isinstance(message, LoadVariant):
            model = engine.variants.load(message.place, message.content_hash)
            return EngineReply(message.id, model)
        if isinstance(message, ReleaseVariant):
            engine.variants.release(message.content_hash)
            return EngineReply(message.id)
        return EngineReply(message.id, held=engine.variants.describe())
    except KamertonError as error:
        return EngineReply(message.id, error=error)
    except Exception as error:
        # A file of a stranger may break a reader in any way: the other variants are served on.
        found = ModelError(f"the variant could not be loaded: {error}")
        return EngineReply(message.id, error=found)
