"""The project's secret."""

import pytest

from kamerton.core.errors import SettingsError
from kamerton.flows.secret import derived_secret


def test_it_is_made_once_for_its_owner_alone_and_differs_by_purpose(tmp_path, monkeypatch):
    monkeypatch.delenv("KAMERTON_SECRET", raising=False)
    first = derived_secret(tmp_path, "units")
    assert first == derived_secret(tmp_path, "units") != derived_secret(tmp_path, "feedback")
    (place,) = tmp_path.iterdir()
    assert place.stat().st_mode & 0o777 == 0o600
    assert len(first) == 32


def test_servers_share_one_through_the_environment(tmp_path, monkeypatch):
    monkeypatch.setenv("KAMERTON_SECRET", "s" * 32)
    (tmp_path / "other").mkdir()
    assert derived_secret(tmp_path, "units") == derived_secret(tmp_path / "other", "units")
    assert not list(tmp_path.glob("*.secret"))


def test_a_short_one_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("KAMERTON_SECRET", "short")
    with pytest.raises(SettingsError, match="at least 32 characters, found 5"):
        derived_secret(tmp_path, "units")
