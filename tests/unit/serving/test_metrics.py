"""What `/metrics` says of requests that a fake engine answered."""

import asyncio
import re

import pytest

from kamerton.serving.metrics import Histogram, Metrics
from kamerton.serving.record import RequestRecord
from tests.unit.serving.test_fields import Reading
from tests.unit.serving.test_gateway import HELLO, Echo, plain_client

CHAT = "/v1/chat/completions"
SHOP = 'gen_ai_operation_name="chat",gen_ai_response_model="shop"'


def samples(text: str) -> dict[str, float]:
    """Read Prometheus' text format, as strictly as this test needs."""
    found = {}
    for line in text.splitlines():
        if not line.startswith("# "):
            name, value = re.fullmatch(r"([a-z_]+(?:\{.*\})?) (\S+)", line).groups()
            assert name not in found
            found[name] = float(value)
    return found


async def numbers(client) -> dict[str, float]:
    answer = await client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return samples(answer.text)


@pytest.mark.parametrize("stream", [False, True])
def test_requests_tokens_and_times_are_counted_by_model(stream):
    engine = Echo()
    engine.num_restarts = 2

    async def ask():
        client = plain_client(engine)
        body = {"model": "shop", "messages": HELLO, "stream": stream, "n": 2}
        await client.post(CHAT, json=body)
        await client.post(CHAT, json={**body, "model": "nobody{}\n"})
        return await numbers(client)

    found = asyncio.run(ask())
    assert found[f'kamerton_requests_total{{{SHOP},status="200"}}'] == 1
    unknown = 'gen_ai_operation_name="",gen_ai_response_model="",status="404"'
    assert found[f"kamerton_requests_total{{{unknown}}}"] == 1
    assert found[f'kamerton_tokens_total{{{SHOP},gen_ai_token_type="input"}}'] == 7
    assert found[f'kamerton_tokens_total{{{SHOP},gen_ai_token_type="output"}}'] == 6
    assert found[f"gen_ai_server_time_to_first_token_seconds_count{{{SHOP}}}"] == 1
    assert found[f"gen_ai_server_time_per_output_token_seconds_count{{{SHOP}}}"] == 2
    assert found[f"gen_ai_server_request_duration_seconds_count{{{SHOP}}}"] == 1
    assert found[f'gen_ai_server_request_duration_seconds_bucket{{{SHOP},le="+Inf"}}'] == 1
    assert found["kamerton_engine_restarts_total"] == 2
    assert found["kamerton_open_answers"] == found["kamerton_waiting_answers"] == 0
    assert found["kamerton_ready"] == 1


def test_open_answers_and_those_that_wait_for_a_first_token_are_told():
    engine = Echo()
    engine.pause_s = 60

    async def ask():
        client = plain_client(engine)
        asked = asyncio.ensure_future(
            client.post(CHAT, json={"model": "shop", "messages": HELLO, "n": 3})
        )
        while len(engine.asked) < 3:
            await asyncio.sleep(0.001)
        found = await numbers(client)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        return found, await numbers(client)

    during, after = asyncio.run(ask())
    assert during["kamerton_open_answers"] == during["kamerton_waiting_answers"] == 3
    assert after["kamerton_open_answers"] == after["kamerton_waiting_answers"] == 0
    assert after[f'kamerton_requests_total{{{SHOP},status="499"}}'] == 1


def test_an_error_in_the_middle_of_a_stream_counts_as_an_error():
    async def ask():
        client = plain_client(Echo())
        messages = [{"role": "user", "content": "now broken"}]
        body = {"model": "shop", "messages": messages, "stream": True}
        assert (await client.post(CHAT, json=body)).status_code == 200
        return await numbers(client)

    assert asyncio.run(ask())[f'kamerton_requests_total{{{SHOP},status="503"}}'] == 1


def test_embeddings_count_what_they_read():
    async def ask():
        client = plain_client(Reading())
        answer = await client.post("/v1/embeddings", json={"model": "shop", "input": ["abc", "d"]})
        assert answer.status_code == 200
        return await numbers(client)

    found = asyncio.run(ask())
    labels = 'gen_ai_operation_name="embeddings",gen_ai_response_model="shop"'
    assert found[f'kamerton_requests_total{{{labels},status="200"}}'] == 1
    assert found[f'kamerton_tokens_total{{{labels},gen_ai_token_type="input"}}'] == 4
    assert found[f"gen_ai_server_request_duration_seconds_count{{{labels}}}"] == 1


def test_a_value_on_a_bound_is_inside_and_buckets_add_up():
    histogram = Histogram((0.5, 1.0))
    for value in (0.1, 0.5, 0.7, 3.0):
        histogram.add((("model", "x"),), value)
    found = {(suffix, dict(labels).get("le")): v for suffix, labels, v in histogram.samples()}
    assert found == {
        ("_bucket", "0.5"): 2, ("_bucket", "1.0"): 3, ("_bucket", "+Inf"): 4,
        ("_sum", None): pytest.approx(4.3), ("_count", None): 4,
    }  # fmt: skip


def test_names_of_models_are_escaped():
    metrics = Metrics()
    record = RequestRecord("req-1", "POST", CHAT, model='a"b\\c\nd')
    record.finish()
    metrics.end(record)
    text = metrics.text(num_open=0, num_restarts=0, is_ready=True)
    assert 'gen_ai_response_model="a\\"b\\\\c\\nd"' in text
