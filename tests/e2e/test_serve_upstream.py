"""`kamerton serve --engine` before real servers: our own, and llama.cpp's in an own environment."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import openai
import psutil
import pytest

from kamerton.models.gguf.file import write_gguf_model
from kamerton.models.load import load_base
from tests.e2e.project import kamerton, make_project
from tests.e2e.test_serve import LONG, QUESTION, Server, serving
from tests.e2e.training import train_in

ROOT = Path(__file__).parents[2]
LLAMA = os.environ.get("KAMERTON_LLAMA_PYTHON", str(ROOT / ".venv-llamacpp" / "bin" / "python"))
"""Python of an environment with llama-cpp-python and its server; `make llamacpp` makes one."""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("behind")
    make_project(folder, num_rows=16)
    train_in(folder, ("name=prompted", "adapter.kind=none", "prompt.system=You know all boxes."))
    train_in(folder, ("name=prefixed", "adapter.kind=prefix"))
    return folder


@pytest.fixture(scope="module")
def engine(project: Path) -> Iterator[Server]:
    """Serves the prompted variant itself too, to compare with."""
    with serving(project, "prompted") as running:
        yield running


def answer(server: Server, model: str, **fields: object) -> openai.types.chat.ChatCompletion:
    asked = {"model": model, "messages": QUESTION, "max_tokens": 12, "temperature": 0, **fields}
    return server.client().chat.completions.create(**asked)


@pytest.fixture(scope="module")
def elsewhere(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the same variants under names that the engine does not have."""
    folder = tmp_path_factory.mktemp("before")
    for name, here in (("prompted", "here"), ("prefixed", "short")):
        shutil.copytree(project / "variants" / name, folder / "variants" / here)
    return folder


@pytest.mark.slow
def test_a_variant_answers_before_another_engine_as_it_does_in_ours(
    elsewhere: Path, engine: Server
) -> None:
    with serving(elsewhere, "--engine", engine.address) as gateway:
        names = [model.id for model in gateway.client().models.list()]
        assert names == ["here", "prompted", "builtin:nano"]
        asked = {"logprobs": True, "top_logprobs": 2}
        here = answer(gateway, "here", **asked)
        assert here.model == "here"
        for server in (engine, gateway):
            there = answer(server, "prompted", **asked)
            assert here.choices[0].message.content == there.choices[0].message.content
            assert here.choices[0].logprobs == there.choices[0].logprobs
            assert here.usage == there.usage
        base = answer(gateway, "builtin:nano")
        assert base.usage.prompt_tokens < here.usage.prompt_tokens
        assert base.choices[0].message == answer(engine, "builtin:nano").choices[0].message
        judged = {"model": "builtin:nano", "prompt": "Box 3 is", "echo": True, "logprobs": 1}
        scores = [
            server.client().completions.create(**judged, max_tokens=1, temperature=0).choices[0]
            for server in (engine, gateway)
        ]
        assert scores[0].logprobs == scores[1].logprobs
        assert scores[0].text == scores[1].text
        libraries = psutil.Process(gateway.process.pid).memory_maps()
        assert not [each for each in libraries if "libtorch" in each.path]
        gateway.process.send_signal(signal.SIGTERM)
        assert gateway.process.wait(20) == 0


@pytest.mark.slow
def test_an_engine_that_is_killed_and_started_again_is_used_again(elsewhere: Path) -> None:
    with serving(elsewhere, "builtin:nano") as first:
        port = first.address.rpartition(":")[2]
        with serving(elsewhere, "--engine", first.address) as gateway:
            stream = gateway.client().chat.completions.create(
                model="here", messages=LONG, stream=True, max_tokens=400, temperature=1.5
            )
            next(iter(stream))
            next(iter(stream))
            first.engine().kill()
            first.process.kill()
            with pytest.raises(openai.APIError, match="broke off|in the middle|stopped"):
                list(stream)
            gateway.wait_until(503)
            with serving(elsewhere, "builtin:nano", port=port):
                gateway.wait_until(200)
                assert answer(gateway, "here").choices[0].message.content


@pytest.mark.slow
def test_what_the_engine_cannot_serve_stops_the_start(elsewhere: Path, engine: Server) -> None:
    done = kamerton(
        "serve", "short", "--engine", engine.address, "--port", "0", cwd=elsewhere, status=1
    )
    assert "short cannot be served by another engine: its adapter is a prefix" in done.stderr
    assert "hint: kamerton serve without --engine serves it" in done.stderr
    unused = kamerton(
        "serve", "--engine", engine.address, "--device", "cpu", cwd=elsewhere, status=2
    )
    assert "--device would have no effect with --engine" in unused.stderr


@contextmanager
def llama_server(model: Path) -> Iterator[str]:
    """Run llama-cpp-python's server; give its address."""
    check = [LLAMA, "-c", "import llama_cpp.server.app"]
    if not Path(LLAMA).exists() or subprocess.run(check, capture_output=True).returncode:
        pytest.skip("llama-cpp-python's server is not there: make llamacpp brings it")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = {
        "model": model, "host": "127.0.0.1", "port": port, "n_ctx": 512, "n_threads": 1,
        "logits_all": True, "verbose": False,
    }  # fmt: skip
    given = [text for name, value in arguments.items() for text in (f"--{name}", str(value))]
    process = subprocess.Popen(
        [LLAMA, "-m", "llama_cpp.server", *given],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            with suppress(httpx.TransportError):
                if httpx.get(f"{address}/v1/models", timeout=5).is_success:
                    break
            assert process.poll() is None, "llama-cpp-python's server ended"
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(20)


@pytest.fixture(scope="module")
def llama(elsewhere: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gateway before llama.cpp's server with the bundled base."""
    model = tmp_path_factory.mktemp("gguf") / "nano.gguf"
    base = load_base("builtin:nano", dtype="float32")
    write_gguf_model(base.model, base.tokenizer, model, "nano", "float32")
    with llama_server(model) as address:
        options = ("--engine", address, "--slots", "1", "--base", str(model))
        with serving(elsewhere, *options) as gateway:
            yield gateway


@pytest.mark.slow
def test_llama_cpp_answers_chats_as_pieces_with_log_probabilities(llama: Server) -> None:
    (name,) = [m.id for m in llama.client().models.list() if m.id.endswith("nano.gguf")]
    for model in ("here", name):
        fields = {"logprobs": True, "top_logprobs": 1}
        whole = answer(llama, model, **fields)
        asked = {"model": model, "messages": QUESTION, "max_tokens": 12, "temperature": 0}
        chunks = list(llama.client().chat.completions.create(**asked, stream=True))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert text
        assert whole.choices[0].message.content == text
        assert len(chunks) > 3
        assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason
        tokens = whole.choices[0].logprobs.content
        assert "".join(token.token for token in tokens) == text
        assert all(token.logprob <= 0 for token in tokens)


@pytest.mark.slow
def test_llama_cpp_follows_schemas_and_calls_tools(llama: Server) -> None:
    schema = {"type": "object", "properties": {"n": {"enum": [3]}}, "required": ["n"]}
    named = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    text = answer(llama, "here", response_format=named, max_tokens=60).choices[0].message.content
    assert json.loads(text) == {"n": 3}
    function = {"name": "open", "parameters": schema}
    tool = {"type": "function", "function": function}
    choice = {"type": "function", "function": {"name": "open"}}
    called = answer(llama, "here", tools=[tool], tool_choice=choice, max_tokens=60).choices[0]
    (call,) = called.message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("open", {"n": 3})


@pytest.mark.slow
def test_llama_cpp_gets_one_request_after_another(llama: Server) -> None:
    def ask(seed: int) -> str | None:
        found = answer(llama, "here", temperature=1, seed=seed, max_tokens=20)
        return found.choices[0].finish_reason

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(ask, range(4))) <= {"stop", "length"}


@pytest.mark.slow
def test_what_llama_cpp_cannot_do_is_said(llama: Server) -> None:
    with pytest.raises(openai.BadRequestError, match="follows JSON schemas, and no regex"):
        answer(llama, "here", extra_body={"guided_regex": "a+"})
    with pytest.raises(openai.InternalServerError, match="embedding=True"):
        llama.client().embeddings.create(model="here", input="a")
    reply = httpx.post(f"{llama.address}/tokenize", json={"model": "here", "prompt": "a"})
    assert reply.status_code == 501
