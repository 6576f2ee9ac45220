"""Who may use a variant."""

import pytest

from kamerton.core.audience import AudienceSettings, shared_audience
from kamerton.core.errors import SettingsError
from kamerton.core.routing import Caller

OPEN = AudienceSettings()
ACME = AudienceSettings(tenants=("acme",))
BOTH = AudienceSettings(tenants=("acme", "globex"), keys=("lab",))


def test_customers_and_keys_are_let_in_and_nobody_else():
    assert OPEN.admits(Caller())
    assert ACME.admits(Caller(tenant="acme"))
    assert BOTH.admits(Caller(tenant="globex"))
    assert BOTH.admits(Caller(key="lab", tenant="initech"))
    for stranger in (Caller(), Caller(tenant="initech"), Caller(key="acme"), Caller(tenant="Acme")):
        assert not ACME.admits(stranger)


def test_a_rule_must_be_for_no_more_than_the_audience():
    assert OPEN.covers((), ())
    assert BOTH.covers(("acme",), ())
    assert BOTH.covers(("acme", "initech"), ("lab",))
    for tenants, keys in (((), ()), (("acme", "initech"), ()), ((), ("lab", "shop"))):
        assert not BOTH.covers(tenants, keys)


def test_what_is_made_from_several_is_for_those_who_may_use_all():
    assert shared_audience([]) == OPEN
    assert shared_audience([OPEN, ACME, OPEN]) == ACME
    assert shared_audience([BOTH, ACME]) == ACME
    with pytest.raises(SettingsError, match="nobody may use both"):
        shared_audience([ACME, AudienceSettings(tenants=("globex",))])
