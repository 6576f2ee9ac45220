"""The journal of answers: what is in it is believed, what is cut or foreign is not."""

from pathlib import Path

import pytest

from kamerton.core.errors import SettingsError
from kamerton.flows.answer_journal import open_journal

MADE_OF = {"input": "a", "variant": "b", "settings": "c"}


def test_answers_and_facts_are_there_again(tmp_path: Path) -> None:
    path = tmp_path / "out.csv.part"
    with open_journal(path, MADE_OF) as journal:
        journal.note("calibration", {"temperature": 1.5})
        journal.add(3, {"text": "да"})
    # Whatever a kill leaves of the last line is computed again.
    whole = path.read_bytes()
    for cut in range(1, 12):
        path.write_bytes(whole[:-cut])
        with open_journal(path, MADE_OF) as journal:
            assert journal.answers == {}
            assert journal.facts == {"calibration": {"temperature": 1.5}}
            journal.add(3, {"text": "да"})
        assert path.read_bytes() == whole
    with open_journal(path, MADE_OF) as journal:
        assert journal.answers == {3: {"text": "да"}}


@pytest.mark.parametrize("name", list(MADE_OF))
def test_what_was_begun_with_something_else_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / "out.csv.part"
    with open_journal(path, MADE_OF):
        pass
    before = path.read_bytes()
    other = {**MADE_OF, name: "other"}
    with (
        pytest.raises(SettingsError, match=f"begun with another {name}$"),
        open_journal(path, other),
    ):
        pass
    assert path.read_bytes() == before


def test_a_file_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "out.csv.part"
    for content in (b"a;b\n1;2\n", b"half a line"):
        path.write_bytes(content)
        with (
            pytest.raises(SettingsError, match="holds no unfinished answers"),
            open_journal(path, MADE_OF),
        ):
            pass
        assert path.read_bytes() == content


def test_two_processes_do_not_write_one_journal(tmp_path: Path) -> None:
    path = tmp_path / "out.csv.part"
    with (
        open_journal(path, MADE_OF),
        pytest.raises(SettingsError, match="another process"),
        open_journal(path, MADE_OF),
    ):
        pass
