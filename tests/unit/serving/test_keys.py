"""Keys with names, scopes and limits."""

import asyncio
import json

import pytest
from click.testing import CliRunner

from kamerton.cli.serve import serve
from kamerton.core.errors import SettingsError
from kamerton.serving.access_log import access_log
from kamerton.serving.errors import ApiError
from kamerton.serving.keys import ApiKey, Keys, hash_key, plain_keys, read_keys
from tests.unit.serving.test_gateway import HELLO, Echo, plain_client

SHOP = ApiKey(name="shop", sha256=hash_key("shop's"), per_minute=2)
JUDGE = ApiKey(name="judge", sha256=hash_key("judge's"), scopes=("rate",))


def test_a_key_lets_in_for_its_scope_only():
    keys = Keys([SHOP, JUDGE])
    assert keys.check("Bearer shop's", "use") == "shop"
    assert keys.check("bearer  judge's ", "rate") == "judge"
    assert keys.check("Bearer judge's", None) == "judge"
    for given, status in (
        ("Bearer judge's", 403), ("Bearer nobody's", 401), ("Basic shop's", 401), ("", 401),
    ):  # fmt: skip
        with pytest.raises(ApiError) as caught:
            keys.check(given, "use")
        assert caught.value.status == status
    assert Keys().check("", "use") == ""


def test_a_limit_per_minute_says_when_to_try_again():
    now = [100.0]
    keys = Keys([SHOP, JUDGE], clock=lambda: now[0])
    for _ in range(2):
        keys.check("Bearer shop's", "use")
    with pytest.raises(ApiError) as caught:
        keys.check("Bearer shop's", "use")
    assert (caught.value.status, caught.value.headers) == (429, {"Retry-After": "30"})
    # Reading what is served costs nothing, and another key is not held back.
    keys.check("Bearer shop's", None)
    keys.check("Bearer judge's", "rate")
    now[0] += 30
    keys.check("Bearer shop's", "use")
    now[0] += 3600
    for _ in range(2):
        keys.check("Bearer shop's", "use")
    with pytest.raises(ApiError):
        keys.check("Bearer shop's", "use")


def test_the_gateway_asks_for_the_scope_and_logs_the_name(tmp_path):
    async def ask():
        with access_log(tmp_path / "access.log") as write:
            client = plain_client(Echo(), keys=[SHOP, JUDGE], write_access=write)
            body = {"model": "shop", "messages": HELLO}
            for key in ("shop's", "judge's", "shop's", "shop's"):
                client.headers["Authorization"] = f"Bearer {key}"
                statuses.append((await client.post("/v1/chat/completions", json=body)).status_code)
            client.headers["Authorization"] = "Bearer judge's"
            numbers = await client.get("/metrics")
            del client.headers["Authorization"]
            return numbers.status_code, (await client.get("/metrics")).status_code

    statuses: list[int] = []
    assert asyncio.run(ask()) == (200, 401)
    assert statuses == [200, 403, 200, 429]
    lines = [json.loads(line) for line in (tmp_path / "access.log").read_text().splitlines()]
    assert lines[0]["key"] == "shop"
    assert "shop's" not in (tmp_path / "access.log").read_text()


def test_a_file_of_keys_is_read(tmp_path):
    place = tmp_path / "keys.toml"
    digest = hash_key("secret")
    place.write_text(
        f'[[key]]\nname = "web"\nsha256 = "{digest}"\nscopes = ["use", "rate"]\nper_minute = 60\n'
    )
    assert read_keys(place) == (
        ApiKey(name="web", sha256=digest, scopes=("use", "rate"), per_minute=60),
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "key"),
        ('[[key]]\nname = "web"\nsha256 = "secret"\n', "sha256"),
        (f'[[key]]\nname = "web"\nsha256 = "{"0" * 64}"\nscope = ["use"]\n', "scope"),
        (f'[[key]]\nname = "a"\nsha256 = "{"0" * 64}"\n' * 2, "name must differ"),
        (f'[[key]]\nname = "a"\nsha256 = "{"0" * 64}"\nscopes = ["root"]\n', "scopes"),
    ],
)
def test_a_wrong_file_of_keys_is_an_error(text, said, tmp_path):
    place = tmp_path / "keys.toml"
    place.write_text(text)
    with pytest.raises(SettingsError, match=said):
        read_keys(place)


def test_a_key_without_scopes_only_reads_what_every_key_may():
    keys = Keys([ApiKey(name="prometheus", sha256=hash_key("numbers"), scopes=())])
    assert keys.check("Bearer numbers", None) == "prometheus"
    with pytest.raises(ApiError, match="scope 'use'"):
        keys.check("Bearer numbers", "use")


def test_keys_of_the_command_line_ask_and_judge_and_load_nothing():
    (key,) = plain_keys(["secret", "secret"])
    assert key.scopes == ("use", "rate")
    assert key.sha256 == hash_key("secret")


def test_the_command_line_hashes_a_key_without_showing_it():
    done = CliRunner().invoke(serve, ["--hash-key"], input="secret\n")
    assert done.exit_code == 0
    assert done.stdout.strip() == hash_key("secret")
    assert "secret" not in done.output
