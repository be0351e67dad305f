"""The [manager] table: what is taken, and that every refusal names file, key, reason and the nearest known key."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from datastore.errors import ConfigInvalid
from manager.config import from_toml

ONE = {"name": "manager-1", "host": "127.0.0.1", "port": 7301}
TWO = {"name": "manager-2", "host": "127.0.0.1", "port": 7302}


def refusal(table: Any) -> ConfigInvalid:
    with pytest.raises(ConfigInvalid) as caught:
        from_toml({"manager": table}, "some.toml")
    assert caught.value.fields["file"] == "some.toml"
    return caught.value


def test_the_shipped_file() -> None:
    """cluster.toml as it ships is good, and unnamed settings have their defaults."""
    config = from_toml(tomllib.loads((Path(__file__).parents[3] / "cluster.toml").read_text()))
    assert [manager.name for manager in config.managers] == ["manager-1", "manager-2"]
    assert (config.heartbeat_ms, config.suspicion_ms, config.node_timeout_ms) == (250, 1_000, 1_000)
    assert config.manager("manager-2").port == 7302


@pytest.mark.parametrize(
    ("table", "key", "word"),
    [
        ({"manager": [ONE], "heartbet_ms": 5}, "manager.heartbet_ms", "heartbeat_ms"),
        ({"manager": [{**ONE, "prot": 1}]}, "manager.manager[0].prot", "port"),
        ({"manager": []}, "manager.manager", "no manager"),
        ({}, "manager.manager", "no manager"),
        ({"manager": [ONE, {**TWO, "name": "manager-1"}]}, "manager.manager[1].name", "twice"),
        ({"manager": [ONE, {**TWO, "port": 7301}]}, "manager.manager[1].port", "manager-1"),
        ({"manager": [{"name": "m"}]}, "manager.manager[0].port", "missing"),
        ({"manager": [{**ONE, "port": True}]}, "manager.manager[0].port", "whole number"),
        ({"manager": [{**ONE, "port": 70_000}]}, "manager.manager[0].port", "65535"),
        ({"manager": [{**ONE, "name": "../x"}]}, "manager.manager[0].name", "plain name"),
        ({"manager": [{**ONE, "host": "a b"}]}, "manager.manager[0].host", "host"),
        ({"manager": [ONE], "heartbeat_ms": 0}, "manager.heartbeat_ms", "10..60000"),
        ({"manager": [ONE], "heartbeat_ms": 800}, "manager.suspicion_ms", "twice"),
        ({"manager": [ONE], "promote_lease_ms": 60_000}, "manager.promote_lease_ms", "10000"),
        ({"manager": ["x"]}, "manager.manager[0]", "table"),
    ],
)
def test_refusals(table: Any, key: str, word: str) -> None:
    """The first thing that cannot be used is named, with what would help."""
    error = refusal(table)
    assert error.fields["key"] == key
    assert word in error.detail


def test_unknown_names() -> None:
    """A manager that is asked for and is not there; a table that is missing."""
    with pytest.raises(ConfigInvalid, match="manager-1"):
        from_toml({"manager": {"manager": [ONE]}}).manager("manager1")
    with pytest.raises(ConfigInvalid, match="the table is missing"):
        from_toml({"manager2": {}})
