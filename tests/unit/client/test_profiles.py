"""Profiles: overlays merge tables, replace lists, and leave the file's own mapping alone."""

import copy

import pytest

from client import profiles
from datastore.errors import ConfigInvalid

FILE = {
    "lockstore": {"ttl_ms": 5000, "timeout_ms": 80, "server": [{"name": "a"}, {"name": "b"}]},
    "client": {"timetables": ["x", "y"]},
    "profile": {
        "far": {"lockstore": {"timeout_ms": 150, "server": [{"name": "c"}]}, "datastore": {"copies": 5}},
        "bare": {"client": {"timetables": []}},
        "wrong": {"copies": 3},
    },
}


def test_default_is_the_file_without_its_profiles() -> None:
    """Whoever reads the resolved file need not know of profiles."""
    assert {"lockstore": FILE["lockstore"], "client": FILE["client"]} == profiles.resolve(FILE)


def test_tables_merge_and_lists_are_replaced() -> None:
    """Half of a list of servers would be a set that nobody wrote down."""
    resolved = profiles.resolve(FILE, "far")
    assert {"ttl_ms": 5000, "timeout_ms": 150, "server": [{"name": "c"}]} == resolved["lockstore"]
    assert {"copies": 5} == resolved["datastore"]
    assert [] == profiles.resolve(FILE, "bare")["client"]["timetables"]


def test_the_argument_stays_as_it_was() -> None:
    """Two profiles of one file may be resolved one after the other."""
    before = copy.deepcopy(FILE)
    resolved = profiles.resolve(FILE, "far")
    resolved["lockstore"]["server"][0]["name"] = "changed"
    assert before == FILE


def test_an_unknown_profile_names_the_nearest() -> None:
    """A slip on the command line must not start the default cluster."""
    with pytest.raises(ConfigInvalid, match='did you mean far') as caught:
        profiles.resolve(FILE, "fare")
    assert "profile.fare" == caught.value.fields["key"]


def test_a_profile_overlays_tables_only() -> None:
    """A key at the wrong level would silently do nothing."""
    with pytest.raises(ConfigInvalid, match="overlays tables"):
        profiles.resolve(FILE, "wrong")
