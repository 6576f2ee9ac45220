"""Node, LangChain and LiteLLM: what their users ask for arrives, errors have their class."""

import pytest

from tests.clients.environments import ask
from tests.clients.served import CALLER, SPEAKER

pytestmark = pytest.mark.slow
CALL = ("weather", {"city": "Paris"})


def test_openai_for_node(address: str) -> None:
    found = ask("node", "ask_node.cjs", address, SPEAKER, CALLER)
    assert found["models"][:2] == [SPEAKER, CALLER]
    assert found["whole"] == "".join(found["stream"]) == found["after_leaving"] == SPEAKER
    assert found["model"] == found["variant"] == SPEAKER
    assert found["finish_reason"] == "stop"
    assert found["request_id"].startswith("req-")
    assert found["stream_tokens"] == [3]
    assert len(found["calls"]) == 2
    for call in found["calls"]:
        assert (call["name"], call["arguments"]) == CALL
        assert call["finish_reason"] == "tool_calls"
    assert found["vectors"] == [256, 256]
    assert found["left_at"] == 0
    unknown, wrong = found["errors"]["unknown"], found["errors"]["wrong"]
    assert (unknown["name"], unknown["status"]) == ("NotFoundError", 404)
    assert "'nobody' does not exist" in unknown["message"]
    assert (wrong["name"], wrong["status"]) == ("BadRequestError", 400)
    assert "temperature" in wrong["message"]


def test_langchain(address: str) -> None:
    found = ask("langchain", "ask_langchain.py", address, SPEAKER, CALLER)
    assert found["whole"] == "".join(found["stream"]) == found["async"] == SPEAKER
    assert found["batch"] == [SPEAKER, SPEAKER]
    assert found["model"] == SPEAKER
    assert (found["tokens"], found["logprobs"], found["finish_reason"]) == (3, 3, "stop")
    for calls in (found["calls"], found["streamed_calls"]):
        assert [(call["name"], call["args"]) for call in calls] == [CALL]
    assert found["forced"] == ["weather"]
    for box in (found["shaped"], found["shaped_by_call"]):
        assert box["colour"] in ("red", "blue")
        assert box["is_open"] in (True, False)
    assert "'nobody' does not exist" in found["error"]


def test_litellm(address: str) -> None:
    found = ask("litellm", "ask_litellm.py", address, SPEAKER, CALLER)
    assert found["whole"] == "".join(found["stream"]) == found["async"] == SPEAKER
    assert (found["model"], found["finish_reason"], found["tokens"]) == (SPEAKER, "stop", 3)
    assert found["stream_tokens"] == [3]
    assert found["calls"] == [list(CALL)]
    assert found["text"]
    assert found["vectors"] == [256, 256]
    for name, (kind, status, said) in {
        "unknown model": ("NotFoundError", 404, "'nobody' does not exist"),
        "wrong temperature": ("BadRequestError", 400, "temperature"),
    }.items():
        assert found["errors"][name][:2] == [kind, status]
        assert said in found["errors"][name][2]
