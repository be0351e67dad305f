"""What somebody may have meant: the likest words first, and of those that are as like the ones with letters in their places."""

from __future__ import annotations

import pytest

from datastore.errors import nearest

OPERATORS = ("UA", "LA", "HA", "AA", "AR", "AS", "B6", "GRAND", "WCHC", "WCHR")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("AB", ["AA", "AR", "AS"]),
        ("grnd", ["GRAND"]),
        ("WHCR", ["WCHR", "WCHC"]),
        ("ua", ["UA", "AA", "HA"]),
        ("zzzz", []),
        ("", []),
    ],
)
def test_the_likest_first(typed: str, meant: list[str]) -> None:
    """Whatever the order in which the known ones come."""
    assert [meant, meant] == [nearest(typed, OPERATORS), nearest(typed, reversed(OPERATORS))]


def test_nothing_known() -> None:
    """Nothing is near, and no more are told than were asked for."""
    assert [] == nearest("AB", ())
    assert ["AA"] == nearest("AB", OPERATORS, 1)
