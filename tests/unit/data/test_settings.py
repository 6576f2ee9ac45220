import pytest

from kamerton.core.errors import SettingsError
from kamerton.data.settings import DataSettings


def test_a_file_is_enough():
    settings = DataSettings.parse({"train": "data.jsonl"})
    assert (settings.holdout, settings.format, settings.max_unusable) == (0.1, "auto", 0.05)


@pytest.mark.parametrize("holdout", [0, 0.5, "holdout.jsonl"])
def test_holdout_is_a_share_or_a_file(holdout):
    assert DataSettings.parse({"train": "a", "holdout": holdout}).holdout == holdout


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ({"holdout": 0.6}, "data: holdout: must be a share from 0 to 0.5 or a file, got 0.6"),
        ({"holdout": -0.1}, "got -0.1"),
        ({"holdout": ""}, "got an empty text"),
        ({"train": ""}, "data: train:"),
        ({"format": "chats"}, "data: format:"),
        ({"columns": {"mesages": "x"}}, "unknown field 'mesages'; did you mean 'messages'?"),
        ({"columns": {"text": ""}}, "'text' must name a column"),
        ({"columns": {"messages": "{a} {b}"}}, "'messages' must name one column, got the template"),
        ({"encoding": "cp9999"}, "must be 'auto' or a text encoding, got 'cp9999'"),
        ({"encoding": "base64"}, "must be 'auto' or a text encoding, got 'base64'"),
        ({"max_unusable": 1.5}, "data: max_unusable:"),
        ({"sed": 1}, "unknown key 'sed'; did you mean 'seed'?"),
    ],
)
def test_mistakes_are_named(values, problem):
    with pytest.raises(SettingsError) as caught:
        DataSettings.parse({"train": "a", **values}, source="data")
    assert problem in str(caught.value)
