"""`kamerton serve` as a user starts it: processes, sockets, the OpenAI SDK, signals."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import openai
import psutil
import pytest

from tests.e2e.project import command, environment, make_project
from tests.e2e.training import train_in

QUESTION = [{"role": "user", "content": "Which colour has box 3?"}]
LONG = [{"role": "user", "content": "Tell me a long story."}]


class Server:
    """A running `kamerton serve`."""

    def __init__(self, process: "subprocess.Popen[str]", said: list[str]) -> None:
        self.process, self.said = process, said
        found = re.search(r"serving on (http://[^\s;]+)", "".join(said))
        assert found, "".join(said)
        self.address = found.group(1)
        self._clients: list[openai.OpenAI] = []

    def client(self, **options: object) -> openai.OpenAI:
        options = {"api_key": "none", "max_retries": 0, "timeout": 60, **options}
        self._clients.append(openai.OpenAI(base_url=f"{self.address}/v1", **options))
        return self._clients[-1]

    def close_clients(self) -> None:
        """Close sockets before the garbage collector warns of them, in whatever test that is."""
        for client in self._clients:
            client.close()

    def engine(self) -> psutil.Process:
        """The process that computes."""
        children = psutil.Process(self.process.pid).children()
        started = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        # Beside it there may be a process that reads the store, which is small.
        return max(started, key=lambda child: child.memory_info().rss)

    def wait_until(self, status: int, path: str = "/ready") -> None:
        for _ in range(600):
            try:
                if httpx.get(f"{self.address}{path}", timeout=5).status_code == status:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError(f"{path} never had status {status}")


@contextmanager
def serving(folder: Path, *arguments: str, port: str = "0") -> Iterator[Server]:
    process = subprocess.Popen(
        command("serve", *arguments, "--port", port),
        cwd=folder, env=environment(), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    lines: list[str] = []
    assert process.stderr is not None
    for line in process.stderr:
        lines.append(line)
        if line.startswith("curl"):
            break
    server = Server(process, lines[:])
    drain = threading.Thread(target=lambda: lines.extend(process.stderr or ()), daemon=True)
    drain.start()
    try:
        yield server
    finally:
        server.close_clients()
        process.terminate()
        process.wait(60)
        drain.join(10)
        process.stderr.close()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    make_project(folder, num_rows=16)
    train_in(folder, ("name=one", "train.learning_rate=0.02"))
    train_in(folder, ("name=two", "adapter.kind=prefix"))
    return folder


@pytest.fixture(scope="module")
def server(project: Path) -> Iterator[Server]:
    with serving(project) as running:
        yield running


@pytest.mark.slow
def test_two_variants_and_the_base_answer_streamed_and_not(server: Server) -> None:
    client = server.client()
    names = [model.id for model in client.models.list()]
    assert names == ["one", "two", "builtin:nano"]
    for name in names:
        asked = {"model": name, "messages": QUESTION, "max_tokens": 12, "temperature": 0}
        whole = client.chat.completions.create(**asked)
        chunks = list(client.chat.completions.create(**asked, stream=True))
        text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert whole.choices[0].message.content == text
        assert whole.model == name == chunks[0].model
        assert chunks[-1].choices[0].finish_reason == whole.choices[0].finish_reason


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl")
def test_stages_are_named_and_the_printed_command_works_as_pasted(server: Server) -> None:
    said = "".join(server.said)
    stages = ("loading PyTorch\n", "reading weights\n", "loading variants\n", "serving on")
    places = [said.index(stage) for stage in stages]
    assert places == sorted(places)
    done = subprocess.run(
        server.said[-1], shell=True, capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(done.stdout)["model"] == "one"


@pytest.mark.slow
def test_the_port_answers_while_the_base_loads_and_sigterm_ends_that(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        command("serve", "builtin:nano", "--port", str(port)),
        cwd=tmp_path, env=environment(), stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                ready = httpx.get(f"{address}/ready", timeout=5)
                break
            except httpx.TransportError:
                time.sleep(0.02)
        assert (ready.status_code, ready.json()) == (503, {"status": "loading"})
        assert httpx.get(f"{address}/live").status_code == 200
        asked = {"model": "builtin:nano", "messages": QUESTION}
        refused = httpx.post(f"{address}/v1/chat/completions", json=asked)
        assert refused.status_code == 503
        assert refused.json()["error"]["message"] == "the engine is loading"
        assert refused.headers["retry-after"]
        engines = psutil.Process(process.pid).children()
        assert engines
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=30)
        assert process.returncode == 0
        assert "Traceback" not in said
        assert psutil.wait_procs(engines, timeout=10)[1] == []
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_the_gateway_holds_no_model(server: Server) -> None:
    own, engine = psutil.Process(server.process.pid), server.engine()
    loaded = {Path(each.path).name for each in own.memory_maps()}
    assert not [name for name in loaded if name.startswith("libtorch")]
    assert [m for m in engine.memory_maps() if Path(m.path).name.startswith("libtorch")]


@pytest.mark.slow
def test_an_unknown_model_is_404(server: Server) -> None:
    with pytest.raises(openai.NotFoundError, match="'three' does not exist"):
        server.client().chat.completions.create(model="three", messages=QUESTION)


@pytest.mark.slow
def test_a_killed_engine_comes_back_and_its_requests_are_told(project: Path) -> None:
    with serving(project, "one") as server:
        stream = server.client().chat.completions.create(
            model="builtin:nano", messages=LONG, stream=True, temperature=1.5, seed=3,
            max_tokens=200,
        )  # fmt: skip
        # It stops before the request is over: the engine cannot run ahead of a kill.
        first = next(iter(stream))
        assert first.choices
        server.engine().send_signal(signal.SIGSTOP)
        killed = server.engine()
        killed.kill()
        with pytest.raises(openai.APIError, match="stopped while it answered"):
            list(stream)
        server.wait_until(503)
        with pytest.raises(openai.InternalServerError, match="not ready"):
            server.client().chat.completions.create(model="one", messages=QUESTION)
        server.wait_until(200)
        assert server.engine().pid != killed.pid
        answer = server.client().chat.completions.create(model="one", messages=QUESTION)
        assert answer.choices[0].message.content


@pytest.mark.slow
def test_sigterm_finishes_what_was_begun(project: Path) -> None:
    with serving(project, "one") as server:
        stream = server.client().chat.completions.create(
            model="builtin:nano", messages=LONG, stream=True, temperature=1.5, seed=3,
            max_tokens=60,
        )  # fmt: skip
        pieces = iter(stream)
        next(pieces)
        engine = server.engine()
        # The answer cannot end before the server is asked what it says meanwhile.
        engine.send_signal(signal.SIGSTOP)
        server.process.send_signal(signal.SIGTERM)
        server.wait_until(503)
        assert httpx.get(f"{server.address}/live").status_code == 200
        with pytest.raises(openai.InternalServerError, match="stopping") as caught:
            server.client().chat.completions.create(model="one", messages=QUESTION)
        assert caught.value.response.headers["retry-after"]
        engine.send_signal(signal.SIGCONT)
        rest = list(pieces)
        assert rest[-1].choices[0].finish_reason in ("stop", "length")
        assert server.process.wait(60) == 0
        assert not engine.is_running()


@pytest.mark.slow
def test_an_answer_that_outlasts_the_draining_ends_with_an_error(project: Path) -> None:
    with serving(project, "one", "--drain-s", "0.5") as server:
        stream = server.client().chat.completions.create(
            model="builtin:nano", messages=LONG, stream=True, temperature=1.5, seed=3,
            max_tokens=60,
        )  # fmt: skip
        pieces = iter(stream)
        next(pieces)
        engine = server.engine()
        engine.send_signal(signal.SIGSTOP)
        server.process.send_signal(signal.SIGTERM)
        with pytest.raises(openai.APIError, match="the server stopped while it answered"):
            list(pieces)
        assert server.process.wait(60) == 0
        assert not engine.is_running()


@pytest.mark.slow
def test_without_its_key_a_server_tells_nothing(project: Path) -> None:
    with serving(project, "one", "--api-key", "secret") as server:
        with pytest.raises(openai.AuthenticationError):
            server.client(api_key="guess").models.list()
        assert len(list(server.client(api_key="secret").models.list())) == 2


@pytest.mark.slow
def test_wrong_starts_are_errors_with_a_hint(project: Path, server: Server) -> None:
    port = server.address.rsplit(":", 1)[1]
    for arguments, said in (
        (("nobody",), "nobody"),
        (("--host", "0.0.0.0"), "there is no key"),
        (("--port", port), "cannot be listened on"),
    ):
        done = subprocess.run(
            command("serve", *arguments), cwd=project, env=environment(), text=True,
            capture_output=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode in (1, 2)
        assert said in done.stderr
        assert "error:" in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_hostile_requests_get_4xx_and_harm_nobody(server: Server) -> None:
    bodies = [
        b"", b"{", b"null", b"[1]", b"\x00" * 100, b'{"model": "one"}',
        json.dumps({"model": "one", "messages": [{"role": "user", "content": "x" * 200_000}]}),
        json.dumps({"model": "one", "messages": QUESTION, "temperature": "hot"}),
        json.dumps({"model": "one", "messages": QUESTION, "n": 10**6}),
        json.dumps({"model": ["one"], "messages": QUESTION}),
        '{"model": "one", "messages": ' + "[" * 10_000,
        json.dumps({"model": "one", "messages": [{"role": "user", "content": {"a": 1}}]}),
    ]  # fmt: skip
    for body in bodies:
        answer = httpx.post(f"{server.address}/v1/chat/completions", content=body, timeout=60)
        assert 400 <= answer.status_code < 500, (body[:60], answer.text)
        assert answer.json()["error"]["message"]
    for prompt in ([10**9], [-1], [], "", [[]]):
        asked = {"model": "one", "prompt": prompt}
        answer = httpx.post(f"{server.address}/v1/completions", json=asked, timeout=60)
        assert answer.status_code == 400, prompt
    assert server.client().chat.completions.create(model="one", messages=QUESTION).choices


@pytest.mark.slow
def test_what_requests_ask_for_besides_an_answer(server: Server) -> None:
    client = server.client()
    asked = {"model": "one", "messages": QUESTION, "max_tokens": 200}
    schema = {
        "type": "object",
        "properties": {"colour": {"enum": ["red", "blue"]}},
        "required": ["colour"],
        "additionalProperties": False,
    }
    shaped = {"type": "json_schema", "json_schema": {"name": "box", "schema": schema}}
    answer = client.chat.completions.create(**asked, response_format=shaped).choices[0]
    assert json.loads(answer.message.content or "")["colour"] in ("red", "blue")
    assert answer.finish_reason == "stop"
    chosen = client.chat.completions.create(**asked, extra_body={"guided_choice": ["yes", "no"]})
    assert chosen.choices[0].message.content in ("yes", "no")
    wrong = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "box"}}}
    with pytest.raises(openai.BadRequestError, match="Invalid type"):
        client.chat.completions.create(**asked, response_format=wrong)
    with pytest.raises(openai.BadRequestError, match="from 0 to"):
        client.chat.completions.create(**asked, logit_bias={"99999999": 1})
    # As lm-evaluation-harness asks: token ids from the server's own tokenizer, several at once.
    texts = ["box 3 is red", "box"]
    prompts = [
        httpx.post(
            f"{server.address}/tokenize", json={"prompt": text, "add_special_tokens": False}
        ).json()["tokens"]
        for text in texts
    ]
    read = client.completions.create(
        model="one", prompt=prompts, max_tokens=1, logprobs=1, echo=True, temperature=0, seed=1234
    )
    for choice, prompt, text in zip(read.choices, prompts, texts, strict=True):
        found = choice.logprobs
        assert found is not None
        assert choice.text.startswith(text)
        assert len(found.token_logprobs) == len(found.top_logprobs) == len(prompt) + 1
        assert found.token_logprobs[0] is None
        assert found.top_logprobs[0] is None
    vectors = {
        name: client.embeddings.create(model=name, input=texts[0]).data[0].embedding
        for name in ("one", "builtin:nano")
    }
    # Every variant has hidden states of its own.
    assert vectors["one"] != vectors["builtin:nano"]
    assert sum(value * value for value in vectors["one"]) == pytest.approx(1, abs=1e-4)


@pytest.mark.slow
@pytest.mark.skipif(
    not any((Path.home() / ".cache/kamerton/bases").glob("*mol*")), reason="make base brings it"
)
def test_the_real_base_is_served(tmp_path: Path) -> None:
    with serving(tmp_path, "builtin:smollm2") as server:
        answer = server.client().chat.completions.create(
            model="builtin:smollm2", temperature=0, max_tokens=24,
            messages=[{"role": "user", "content": "What is the capital of France?"}],
        )  # fmt: skip
        assert "Paris" in (answer.choices[0].message.content or "")


def test_the_command_line_starts_without_torch() -> None:
    code = (
        "import sys, kamerton.cli.serve, kamerton.flows.serve, kamerton.serving.app;"
        "sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ}, check=False)
    assert done.returncode == 0
