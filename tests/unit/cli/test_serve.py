"""`kamerton serve`: what it says and which options it refuses together."""

import sys

import pytest
from click.testing import CliRunner

from kamerton.cli.serve import _say, serve
from kamerton.core.errors import MissingExtraError, ModelError, SettingsError
from kamerton.core.requests import ServedModel
from kamerton.flows.serve import Listening

ENGINE = ("--engine", "http://127.0.0.1:9", "--port", "0")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            (*ENGINE, "--device", "cpu", "--cache-mib", "9"),
            "--cache-mib and --device would have no effect with --engine",
        ),
        (("--engine-key", "k"), "--engine-key would have no effect without --engine"),
        (("--engine", "127.0.0.1:9"), "--engine must be an address such as"),
        ((*ENGINE, "--engine-key", "a", "--engine-key", "b"), "for each of 1 engines, got 2 keys"),
    ],
)
def test_options_without_effect_are_refused(options, said, tmp_path):
    error = CliRunner().invoke(serve, [*options, "--project", str(tmp_path)]).exception
    assert isinstance(error, SettingsError)
    assert said in error.message


def test_slots_may_be_given_with_an_engine_and_a_key_may_stand_in_the_environment(tmp_path):
    environment = {"KAMERTON_ENGINE_KEY": "top-secret"}
    options = [*ENGINE, "--slots", "2", "--project", str(tmp_path)]
    result = CliRunner(env=environment).invoke(serve, options)
    # Nobody listens there.
    assert isinstance(result.exception, ModelError)
    assert "http://127.0.0.1:9: the engine cannot be reached" in result.exception.message
    assert "top-secret" not in result.output + str(result.exception)


def test_what_is_not_installed_is_named_with_its_extra(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if "upstream" in name]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "httpx", None)
    error = CliRunner().invoke(serve, [*ENGINE, "--project", str(tmp_path)]).exception
    assert isinstance(error, MissingExtraError)
    assert error.message == "httpx is needed for kamerton serve --engine but is not installed"
    assert error.extra == "serve"


def test_the_table_says_which_engines_answer_and_what_is_served(capfd):
    models = [
        ServedModel("shop", "prompt only", "0123456789abcdef", "base"),
        ServedModel("base", "base", "", "base"),
    ]
    _say(Listening("http://h:1", models, engines=("http://a:1", "http://b:2")))
    lines = [line.split() for line in capfd.readouterr().err.splitlines()]
    assert ["shop", "prompt", "only", "-", "0123456789ab"] in lines
    assert ["base", "base", "-", "-"] in lines
    assert ["answered", "by", "http://a:1,", "http://b:2"] in lines
