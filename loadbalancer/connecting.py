"""How long a change takes at least: the table of minimum connecting times. Pure.

A connection is domestic where the place before, the place of the change and the place after lie in one country, and
international otherwise. Operators state times for a place, for a pair of operators, or both; of the lines that fit, the most
telling decides:

    place and both operators, place and one operator, place, both operators, one operator, the default

Several operators may state the same line with different times. The longest then counts: a connection that one of them calls
too short must not be sold.
"""

from __future__ import annotations

from collections.abc import Iterable

from datastore.model import ConnectingTime

# What airlines publish for most airports lies about these; an operator that knows better states it.
DOMESTIC_MIN = 45
INTERNATIONAL_MIN = 90

Key = tuple[str, str, str]


class ConnectingTimes:
    """The tables of all operators as one."""

    def __init__(self, lines: Iterable[ConnectingTime] = (), domestic_min: int = DOMESTIC_MIN, international_min: int = INTERNATIONAL_MIN):
        """Merge the lines; the defaults serve what none of them covers."""
        self._default = (domestic_min, international_min)
        self._stated: tuple[dict[Key, int], dict[Key, int]] = ({}, {})
        for line in lines:
            key = (line.place, line.arriving, line.departing)
            for kind, minutes in enumerate((line.domestic_min, line.international_min)):
                if minutes >= 0:
                    self._stated[kind][key] = max(minutes, self._stated[kind].get(key, 0))
        # Places where the operators make a difference; "" is everywhere.
        self._particular = {place for stated in self._stated for place, arriving, departing in stated if arriving or departing}

    def minutes(self, place: str, arriving: str, departing: str, *, international: bool) -> int:
        """Return the minutes needed at a place from one operator's service to another's."""
        stated = self._stated[international]
        if stated:
            for where in (place, ""):
                for key in ((where, arriving, departing), (where, arriving, ""), (where, "", departing), (where, "", "")):
                    if key in stated:
                        return stated[key]
        return self._default[international]

    def is_plain(self, place: str) -> bool:
        """Return whether every pair of operators needs the same time there."""
        return not self._particular or ("" not in self._particular and place not in self._particular)

    def least(self, place: str, *, international: bool) -> int:
        """Return the least time that any pair of operators needs there: a lower bound."""
        stated = self._stated[international]
        found = [self.minutes(place, "", "", international=international)]
        if not self.is_plain(place):
            found += [minutes for key, minutes in stated.items() if key[0] in (place, "")]
        return min(found)


def is_international(before: str, here: str, after: str) -> bool:
    """Return whether a connection through three places' countries crosses a border; unknown countries ("") count as one."""
    return not before == here == after
