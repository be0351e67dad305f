"""The [datastore] table: what can be used is read, what cannot is named with file, key, reason and the nearest key."""

from __future__ import annotations

from typing import Any

import pytest

from datastore.config import from_toml
from datastore.errors import ConfigInvalid


def table(**changes: Any) -> dict[str, Any]:
    """Return a configuration of three nodes and one operator."""
    datastore: dict[str, Any] = {
        "copies": 3,
        "node": [{"name": f"node-{number}", "host": "127.0.0.1", "port": 7200 + number} for number in (1, 2, 3)],
        "operator": [{"code": "AR", "name": "Aerolíneas Argentinas", "kind": "airline", "primary": "node-1"}],
    }
    datastore.update(changes)
    return {"datastore": {key: value for key, value in datastore.items() if value is not None}}


def operator(**changes: Any) -> list[dict[str, Any]]:
    row = {"code": "AR", "name": "A", "kind": "airline", "primary": "node-1", **changes}
    return [{key: value for key, value in row.items() if value is not None}]


def node(*ports: int) -> list[dict[str, Any]]:
    return [{"name": f"node-{index + 1}", "host": "h", "port": port} for index, port in enumerate(ports)]


def test_a_whole_table_is_read() -> None:
    """Defaults fill what is not said."""
    config = from_toml(table(sweep_ms=500))
    assert (3, 500, 4000) == (config.copies, config.sweep_ms, config.submit_timeout_ms)
    assert ("node-2", 7202) == (config.node("node-2").name, config.node("node-2").port)
    with pytest.raises(ConfigInvalid):
        config.node("node-9")


@pytest.mark.parametrize(
    ("changes", "key", "reason"),
    [
        ({"copys": 3}, "datastore.copys", "did you mean copies"),
        ({"copies": 2}, "datastore.copies", "2 is even"),
        ({"copies": 5}, "datastore.copies", "5 copies need 5 nodes"),
        ({"copies": 7}, "datastore.copies", "none of 1, 3, 5"),
        ({"copies": "3"}, "datastore.copies", "not a whole number"),
        ({"sweep_ms": 9000}, "datastore.sweep_ms", "within 50..5000"),
        ({"heartbeat_ms": 600}, "datastore.heartbeat_ms", "over suspicion_ms"),
        ({"node": None}, "datastore.node", "no node is given"),
        ({"node": node(1, 2, 1)}, "datastore.node[2].port", "also the address of"),
        ({"node": node(1, 2, 0)}, "datastore.node[2].port", "within 1..65535"),
        ({"node": [*node(1, 2), {"name": "../x", "host": "h", "port": 3}]}, "datastore.node[2].name", "not a plain name"),
        ({"operator": operator(primary=None)}, "datastore.operator[0].primary", "has no primary"),
        ({"operator": operator(primary="node-11")}, "datastore.operator[0].primary", "did you mean node-1"),
        ({"operator": operator(code="a")}, "datastore.operator[0].code", "not an operator code"),
        ({"operator": operator(kind="airlin")}, "datastore.operator[0].kind", "did you mean airline"),
        ({"operator": "AR"}, "datastore.operator", "must be a list"),
        ({"operator": ["AR"]}, "datastore.operator[0]", "must be a table"),
        ({"tls": "yes"}, "datastore.tls", "neither true nor false"),
        ({"certificates": 3}, "datastore.certificates", "not a text"),
        ({"operator": operator() * 2}, "datastore.operator[1].code", "stands twice"),
        ({"operator": operator(colour="red")}, "datastore.operator[0].colour", "unknown key"),
    ],
)
def test_what_cannot_be_used_is_named(changes: dict[str, Any], key: str, reason: str) -> None:
    """File, key and reason, so that a person can mend the line."""
    with pytest.raises(ConfigInvalid) as caught:
        from_toml(table(**changes), "mine.toml")
    assert ("mine.toml", key) == (caught.value.fields["file"], caught.value.fields["key"])
    assert reason in caught.value.detail


def test_a_missing_table_is_named() -> None:
    """With the nearest word that is there."""
    with pytest.raises(ConfigInvalid, match="did you mean datastores"):
        from_toml({"datastores": {}})
