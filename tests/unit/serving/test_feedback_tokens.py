"""Feedback from browsers: a signed token for each answer, and the script that sends it."""

import asyncio
import json
import shutil
import subprocess

import pytest

from kamerton.evaluation.live_metrics import BUILT_IN, MetricsFile
from kamerton.serving.errors import ApiError
from kamerton.serving.feedback import FeedbackIntake
from kamerton.serving.feedback_tokens import FeedbackTokens
from kamerton.serving.keys import ApiKey, hash_key
from kamerton.serving.live_pages import _SCRIPT
from kamerton.serving.recording import Recording
from kamerton.store.database import open_store
from kamerton.store.feedback import feedback_history
from tests.unit.serving.recorded import ask
from tests.unit.serving.test_gateway import Echo, plain_client

HEADER = "x-kamerton-feedback-token"


class Gateway:
    """A gateway with a key and tokens."""

    def __init__(self, store, metrics=BUILT_IN):
        self.recording = Recording(store)
        self.recording.start()
        intake = FeedbackIntake(store, metrics, tokens=FeedbackTokens(b"secret"))
        keys = [ApiKey(name="shop", sha256=hash_key("key"), scopes=("use", "rate"))]
        self.client = plain_client(Echo(), keys=keys, recording=self.recording, feedback=intake)

    def ask(self):
        answer = asyncio.run(ask(self.client, headers={"Authorization": "Bearer key"}))
        return answer.json()["id"], answer.headers[HEADER]

    def send(self, token, **body):
        headers = {} if token is None else {HEADER: token}
        return asyncio.run(self.client.post("/v1/feedback", json=body, headers=headers))


@pytest.fixture
def store(tmp_path):
    with open_store(tmp_path / "k.db") as opened:
        yield opened


@pytest.fixture
def gateway(store):
    made = Gateway(store)
    yield made
    made.recording.stop()


def test_the_token_of_an_answer_lets_its_page_judge_it_without_a_key(store, gateway):
    completion, token = gateway.ask()
    answer = gateway.send(token, id=completion, name="thumbs", value=True, rater="many", source="x")
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == "*"
    # Which variant or arm it was stays unknown to whoever judges.
    assert set(answer.json()) == {"object", "id", "name"}
    with store.begin() as connection:
        (found,) = feedback_history(connection, completion)
    assert (found.value, found.rater, found.source) == (1.0, "page", "page")


def test_tokens_that_are_forged_or_of_another_answer_are_refused(store, gateway):
    completion, token = gateway.ask()
    other, foreign = gateway.ask()
    signed, _, signature = token.rpartition(".")
    vote = {"id": completion, "name": "thumbs", "value": True}
    assert gateway.send(None, **vote).status_code == 401
    assert gateway.send("", **vote).status_code == 401
    assert gateway.send("none", **vote).status_code == 401
    assert gateway.send(f"{signed}.{signature[::-1]}", **vote).status_code == 401
    assert (
        gateway.send(token.replace(completion, other), **{**vote, "id": other}).status_code == 401
    )
    refused = gateway.send(foreign, **vote)
    assert refused.status_code == 403
    assert refused.headers["access-control-allow-origin"] == "*"
    with store.begin() as connection:
        assert feedback_history(connection, completion) == []


def test_a_key_does_not_help_a_wrong_token_and_no_key_may_call_itself_a_page(gateway):
    completion, _ = gateway.ask()
    vote = {"id": completion, "name": "thumbs", "value": True}

    def post(body, **headers):
        headers = {"Authorization": "Bearer key", **headers}
        return asyncio.run(gateway.client.post("/v1/feedback", json=body, headers=headers))

    assert post(vote, **{HEADER: "wrong"}).status_code == 401
    assert post({**vote, "source": "page"}).status_code == 400
    assert post(vote).status_code == 200


def test_a_token_grows_old():
    clock = [1_000_000.0]
    tokens = FeedbackTokens(b"secret", days=1, clock=lambda: clock[0])
    token = tokens.make("c")
    clock[0] += 86_399
    tokens.check(token, "c")
    clock[0] += 2
    with pytest.raises(ApiError, match="too old"):
        tokens.check(token, "c")


def test_one_page_cannot_fill_the_store(store, gateway):
    completion, token = gateway.ask()
    statuses = [
        gateway.send(token, id=completion, name="thumbs", value=True).status_code for _ in range(52)
    ]
    assert statuses == [200] * 50 + [429] * 2


def test_browsers_may_ask_whether_they_may_send(gateway):
    answer = asyncio.run(gateway.client.options("/v1/feedback"))
    assert answer.status_code == 204
    assert HEADER in answer.headers["access-control-allow-headers"]
    assert "authorization" not in answer.headers["access-control-allow-headers"]


def test_corrections_must_have_the_declared_format(store):
    declared = MetricsFile.parse(
        {
            "metric": [
                {
                    "name": "ticket", "type": "boolean", "from": "check", "variants": ["shop"],
                    "check": {"kind": "json", "json_schema": {"required": ["topic"]}},
                }
            ]
        }
    )  # fmt: skip
    gateway = Gateway(store, declared.metrics)
    completion, token = gateway.ask()
    wrong = gateway.send(token, id=completion, correction='{"subject": "x"}')
    assert wrong.status_code == 400
    assert "passes the check 'ticket'" in wrong.json()["error"]["message"]
    assert gateway.send(token, id=completion, correction='{"topic": "x"}').status_code == 200
    gateway.recording.stop()


def test_metrics_come_as_json(gateway):
    completion, token = gateway.ask()
    gateway.send(token, id=completion, name="rating", value=5)

    def get(query):
        headers = {"Authorization": "Bearer key"}
        return asyncio.run(gateway.client.get(f"/v1/metrics?{query}", headers=headers))

    data = get("by=variant&by=version&every=day&days=1").json()["data"]
    rating = next(one for one in data if one["metric"] == "rating")
    assert rating["group"] == {"variant": "shop", "version": "hash of shop"}
    assert (rating["value"], rating["values"]) == (5.0, 1)
    assert get("by=colour").status_code == 400
    assert get("days=0").status_code == 400
    assert asyncio.run(gateway.client.get("/v1/metrics")).status_code == 401


PAGE = """
const sent = [];
class Element {
  constructor(name) {
    Object.assign(this, { name, children: [], dataset: {}, attributes: {} });
  }
  setAttribute(name, value) { this.attributes[name] = String(value); }
  append(...children) {
    for (const child of children) { child.parentNode = this; this.children.push(child); }
  }
}
const place = new Element("div");
Object.assign(place.dataset, { kamerton: "c", token: "t", ask: "thumbs stars correction" });
globalThis.window = globalThis;
globalThis.document = {
  currentScript: { src: "http://served:8000/feedback.js" },
  documentElement: { lang: process.argv[2] },
  readyState: "complete",
  createElement: (name) => new Element(name),
  querySelectorAll: () => [place],
};
globalThis.fetch = async (address, options) => {
  const token = options.headers["x-kamerton-feedback-token"];
  sent.push({ address, token, body: JSON.parse(options.body) });
  return { ok: sent.length < 3 };
};
await import(process.argv[1]);
const [thumbs, stars, open, text, done, said] = place.children;
await thumbs.children[1].onclick();
const thanks = said.textContent;
await stars.children[3].onclick();
open.onclick();
text.value = "Better";
await done.onclick();
const pressed = thumbs.children.map((one) => one.attributes["aria-pressed"]);
const failed = said.textContent, title = thumbs.children[0].title;
console.log(JSON.stringify({ sent, thanks, failed, pressed, title }));
"""


def test_the_script_is_small_open_and_says_what_it_is(gateway):
    answer = asyncio.run(gateway.client.get("/feedback.js"))
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/javascript")
    assert len(answer.content) <= 3 * 1024
    # Nothing that a page is given becomes HTML.
    assert "innerHTML" not in answer.text


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
@pytest.mark.parametrize(
    ("language", "title", "thanks", "failed"),
    [
        ("en", "Good answer", "Thank you", "Not sent, try again"),
        ("ru-RU", "Хорошо", "Спасибо", "Не вышло, повторите"),
    ],
)
def test_a_click_sends_what_it_shows(language, title, thanks, failed):
    command = ["node", "--input-type=module", "-e", PAGE, str(_SCRIPT), language]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    told = json.loads(done.stdout)
    assert {(one["address"], one["token"], one["body"]["id"]) for one in told["sent"]} == {
        ("http://served:8000/v1/feedback", "t", "c")
    }
    bodies = [{k: v for k, v in one["body"].items() if k != "id"} for one in told["sent"]]
    assert bodies == [
        {"name": "thumbs", "value": False},
        {"name": "rating", "value": 4},
        {"correction": "Better"},
    ]
    assert (told["thanks"], told["failed"], told["title"]) == (thanks, failed, title)
    assert told["pressed"] == ["false", "true"]
