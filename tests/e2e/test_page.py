"""The server's page in a real browser: what is served, a chat, two side by side, keys."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from kamerton.core.requests import ServedModel
from kamerton.serving.app import make_app
from kamerton.serving.keys import plain_keys
from tests.e2e.browser import Browser, browser, find_chromium
from tests.unit.serving.test_gateway import MODELS, Echo
from tests.unit.serving.upstream_servers import listening

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_chromium() is None and not os.environ.get("CI"), reason="Chromium is not installed"
    ),
]

HOSTILE = "<img src=x onerror=alert(1)>"
CHATS = "document.querySelectorAll('.turn').length"
IS_OVER = "document.getElementById('stop').disabled"


@pytest.fixture
def engine() -> Echo:
    made = Echo()
    made.models = {**MODELS, HOSTILE: ServedModel(HOSTILE, "prefix", "f" * 64, "builtin:nano", 5)}
    return made


@pytest.fixture
def page(tmp_path: Path) -> Iterator[Browser]:
    with browser(tmp_path / "profile") as opened:
        yield opened
        assert opened.problems == []


def send(page: Browser, text: str) -> None:
    page.ask("document.getElementById('message').focus()")
    page.type(text)
    page.press("Enter")


def choose(page: Browser, side: str, model: str) -> None:
    page.ask(f"{{const s = document.getElementById('{side}'); s.value = {model!r}; s.onchange()}}")


def test_a_visitor_chats_with_a_variant_and_with_two_side_by_side(page, engine, tmp_path):
    with listening(make_app(engine)) as address:
        page.open(f"{address}/")
        page.wait_for("!document.getElementById('served').hidden")
        assert page.ask("document.querySelectorAll('#models tr').length") == 3
        assert page.ask("document.querySelectorAll('img').length") == 0
        curl = page.ask("document.getElementById('curl').textContent")
        assert f"curl {address}/v1/chat/completions" in curl
        send(page, "hello <b>there</b>")
        page.wait_for(f"{CHATS} == 2 && {IS_OVER}")
        said = page.ask("document.querySelector('.log').innerText")
        assert "shop: hello <b>there</b>" in said
        assert page.ask("document.querySelectorAll('.log b b').length") == 0
        choose(page, "second", HOSTILE)
        send(page, "again")
        page.wait_for(f"{CHATS} == 6 && {IS_OVER}")
        beside = page.ask("document.querySelectorAll('.log')[1].innerText")
        assert f"{HOSTILE}: again" in beside
        # The first one has the whole conversation, the other one begins.
        assert sorted(len(request.chat) for request in engine.asked) == [1, 1, 3]
        for width, scheme in ((1280, "light"), (390, "dark")):
            page.show(width, 900, scheme)
            assert page.ask("document.documentElement.scrollWidth <= innerWidth")
            page.screenshot(tmp_path / f"{width}.png")


def test_the_newest_words_are_in_sight(page, engine):
    engine.pause_s = 0.02
    with listening(make_app(engine)) as address:
        page.open(f"{address}/")
        page.show(390, 600)
        page.wait_for("!document.getElementById('served').hidden")
        below = "(log => log.scrollHeight - log.scrollTop - log.clientHeight)"
        for number in range(3):
            send(page, "long words that need lines " * 12)
            page.wait_for(f"{CHATS} == {2 * number + 2} && !{IS_OVER}")
            assert page.ask(f"{below}(document.querySelector('.log'))") < 40
            page.wait_for(IS_OVER)


def test_a_chat_is_stopped_with_escape(page, engine):
    engine.pause_s = 5.0
    with listening(make_app(engine)) as address:
        page.open(f"{address}/")
        page.wait_for("!document.getElementById('served').hidden")
        send(page, "one two three")
        page.wait_for(f"!{IS_OVER}")
        page.press("Escape")
        page.wait_for(f"{IS_OVER} && document.querySelector('.log').innerText.includes('stopped')")


def test_a_key_is_asked_for_and_used(page, engine):
    with listening(make_app(engine, keys=plain_keys(["secret"]))) as address:
        page.open(f"{address}/")
        page.wait_for("!document.getElementById('enter').hidden")
        assert page.ask("document.getElementById('models').children.length") == 0
        page.type("secret")
        page.press("Enter")
        page.wait_for("!document.getElementById('served').hidden")
        send(page, "hello")
        page.wait_for(f"{CHATS} == 2 && {IS_OVER}")
        assert "secret" not in page.ask("document.documentElement.outerHTML")
        assert page.ask("localStorage.length + sessionStorage.length") == 0
        page.problems.clear()  # Chromium logs the 401 of the first request.
