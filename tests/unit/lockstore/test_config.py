"""The `[lockstore]` table: what is accepted, and what each complaint names."""

from __future__ import annotations

from typing import Any

import pytest

from lockstore.config import LockServerConfig, from_toml
from lockstore.errors import LockConfigInvalid


def table(**changes: Any) -> dict[str, Any]:
    servers = [{"name": f"lock-{n}", "host": "127.0.0.1", "port": 7100 + n} for n in (1, 2, 3)]
    return {"lockstore": {"server": servers, **changes}}


def test_a_small_table_gets_the_defaults() -> None:
    """Only the servers must be given."""
    config = from_toml(table(), "cluster.toml")
    assert (config.ttl_ms, config.timeout_ms, config.suspect_ms, config.generation) == (5_000, 80, 500, 1)
    assert (config.appendfsync, config.user, config.binary, config.quorum) == ("always", "holdfast", "", 2)
    assert config.servers[1] == LockServerConfig("lock-2", "127.0.0.1", 7102, managed=True)


def test_a_server_is_found_by_name() -> None:
    """An unknown name gets the nearest known one."""
    config = from_toml(table())
    assert config.server("lock-3").port == 7103
    with pytest.raises(LockConfigInvalid) as caught:
        config.server("lok-3")
    assert caught.value.fields["nearest"] == "lock-3"


@pytest.mark.parametrize(
    ("changes", "key", "part"),
    [
        ({"tll_ms": 5_000}, "lockstore.tll_ms", 'did you mean "ttl_ms"'),
        ({"ttl_ms": 1_999}, "lockstore.ttl_ms", "2000..10000"),
        ({"ttl_ms": 10_001}, "lockstore.ttl_ms", "2000..10000"),
        ({"ttl_ms": "5000"}, "lockstore.ttl_ms", "not a whole number"),
        ({"ttl_ms": True}, "lockstore.ttl_ms", "not a whole number"),
        ({"timeout_ms": 1}, "lockstore.timeout_ms", "below 5"),
        ({"timeout_ms": 1_000, "ttl_ms": 2_000}, "lockstore.timeout_ms", "leaves nothing"),
        ({"suspect_ms": 1}, "lockstore.suspect_ms", "not within"),
        ({"generation": 0}, "lockstore.generation", "starts at 1"),
        ({"appendfsync": "alway"}, "lockstore.appendfsync", 'did you mean "always"'),
        ({"user": "two words"}, "lockstore.user", "plain name"),
        ({"server": []}, "lockstore.server", "no lock server"),
        ({"server": "lock-1"}, "lockstore.server", "no lock server"),
        ({"server": [{"name": "a", "port": 1}, {"name": "b", "port": 2}]}, "lockstore.server", "even number"),
        ({"server": [3]}, "lockstore.server[0]", "must be a table"),
        ({"server": [{"port": 1}]}, "lockstore.server[0].name", "is missing"),
        ({"server": [{"name": "a"}]}, "lockstore.server[0].port", "is missing"),
        ({"server": [{"name": "a", "port": 0}]}, "lockstore.server[0].port", "1..65535"),
        ({"server": [{"name": "a", "port": 65_536}]}, "lockstore.server[0].port", "1..65535"),
        ({"server": [{"name": "../a", "port": 1}]}, "lockstore.server[0].name", "plain name"),
        ({"server": [{"name": "a", "port": 1, "host": "a b"}]}, "lockstore.server[0].host", "not a host name"),
        ({"server": [{"name": "a", "prot": 1}]}, "lockstore.server[0].prot", 'did you mean "port"'),
        ({"server": [{"name": "a", "port": 1, "managed": "yes"}]}, "lockstore.server[0].managed", "neither true nor false"),
    ],
)
def test_what_cannot_be_used_is_named(changes: dict[str, Any], key: str, part: str) -> None:
    """File, full key, reason, and the nearest known word."""
    with pytest.raises(LockConfigInvalid) as caught:
        from_toml(table(**changes), "my.toml")
    assert caught.value.fields["file"] == "my.toml"
    assert key == caught.value.fields["key"]
    assert part in str(caught.value)
    assert str(caught.value).startswith(f"my.toml: {key}: ")


def test_one_server_does_not_vote_twice() -> None:
    """The same address under two names would be a quorum by itself."""
    rows = [{"name": name, "port": port} for name, port in (("a", 7), ("b", 8), ("c", 7))]
    with pytest.raises(LockConfigInvalid, match='also the address of "a"'):
        from_toml({"lockstore": {"server": rows}})


def test_names_are_unique() -> None:
    """Each name is a folder and a word in messages."""
    rows = [{"name": name, "port": port} for name, port in (("a", 7), ("b", 8), ("a", 9))]
    with pytest.raises(LockConfigInvalid, match="used twice"):
        from_toml({"lockstore": {"server": rows}})


def test_a_missing_table_is_named() -> None:
    """With the nearest table that is there."""
    with pytest.raises(LockConfigInvalid) as caught:
        from_toml({"lockstor": {}})
    assert caught.value.fields["nearest"] == "lockstor"


def test_errors_are_data() -> None:
    """Whoever reports an error to a program needs no knowledge of its class."""
    with pytest.raises(LockConfigInvalid) as caught:
        from_toml(table(ttl_ms=1))
    data = caught.value.to_data()
    assert (data["code"], data["retryable"], data["maybe_committed"]) == ("lock_config_invalid", False, False)
    assert data["fields"]["key"] == "lockstore.ttl_ms"
