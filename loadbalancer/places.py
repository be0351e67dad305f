"""Places by what people type: codes, cities, names, and near misses of them. Pure.

A word means, in this order: a code, a city (all its places), the name of one place, with case, accents and spaces forgiven. What
is none of these is an error that names the nearest; completion ranks what begins like the word first, then what contains it, then
what sounds like it (RapidFuzz's weighted ratio).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from typing import NamedTuple

from rapidfuzz import fuzz, process
from rapidfuzz.distance import OSA

from datastore.errors import UnknownPlace, shown
from datastore.model import Place
from loadbalancer.nearby import hint

# Below this WRatio two names have hardly more in common than their letters.
SCORE_LEAST = 72
CODE_LETTERS_MAX = 4
NEAR_MAX = 3


class _Names(NamedTuple):
    place: Place
    code: str
    city: str
    name: str


def folded(text: str) -> str:
    """Return a text as it is compared: no case, no accents, one blank between words."""
    apart = unicodedata.normalize("NFKD", text.casefold())
    return " ".join("".join(letter if letter.isalnum() else " " for letter in apart if not unicodedata.combining(letter)).split())


class PlaceBook:
    """The names of all places, folded once."""

    def __init__(self, places: Mapping[str, Place]) -> None:
        self.places = places
        self._names = [_Names(place, folded(code), folded(place.city), folded(place.name)) for code, place in sorted(places.items())]
        # What fuzzy search looks through: a text, and the place that it means.
        self._texts = [(text, one) for one in self._names for text in dict.fromkeys((one.city, one.name)) if text]

    def resolve(self, word: str, field: str) -> tuple[str, ...]:
        """Return the codes that a word means.

        Raises:
            UnknownPlace: None; the nearest are in the message and in `nearest`.
        """
        wanted = folded(word)
        for own in ("code", "city", "name"):
            found = tuple(one.place.code for one in self._names if wanted and getattr(one, own) == wanted)
            if found:
                return found
        near = [place.code for place in self.complete(word, NEAR_MAX)]
        named = [f"{code} ({self.places[code].city or self.places[code].name})" for code in near]
        raise UnknownPlace(f"no place {shown(word)}{hint(named)}", field=field, nearest=near)

    def complete(self, word: str, limit: int) -> list[Place]:
        """Return the places that a word may mean, the most likely first; all of them, by code, for an empty one."""
        wanted = folded(word)
        if not wanted:
            return [one.place for one in self._names[:limit]]
        ranked = sorted((rank, one.code, one.place.code) for one in self._names if (rank := _rank(one, wanted)) is not None)
        found = {folded_code: self.places[code] for _, folded_code, code in ranked}
        if len(found) < limit:
            for place in self._alike(wanted):
                found.setdefault(folded(place.code), place)
        return list(found.values())[:limit]

    def _alike(self, wanted: str) -> list[Place]:
        scored: dict[str, tuple[float, Place]] = {}
        if len(wanted) <= CODE_LETTERS_MAX:
            for one in self._names:
                if OSA.distance(wanted, one.code, score_cutoff=1) <= 1:
                    scored[one.code] = (100.0 - len(scored) / 1000, one.place)
        if len(wanted) >= CODE_LETTERS_MAX:
            texts = [text for text, _ in self._texts]
            for _, score, place in process.extract(wanted, texts, scorer=fuzz.WRatio, score_cutoff=SCORE_LEAST, limit=50):
                one = self._texts[place][1]
                # A short word is alike to many long names by a part of them: whole words of like length count more.
                whole = max(fuzz.ratio(wanted, one.city), fuzz.ratio(wanted, one.name))
                closeness = max(whole, score if len(one.city) <= 2 * len(wanted) else 0.0)
                if closeness >= SCORE_LEAST and closeness > scored.get(one.code, (0.0,))[0]:
                    scored[one.code] = (closeness, one.place)
        return [place for _, place in sorted(scored.values(), key=lambda pair: (-pair[0], pair[1].code))]


def _rank(one: _Names, wanted: str) -> int | None:
    if one.code == wanted:
        return 0
    if one.city == wanted:
        return 1
    for rank, text in ((2, one.code), (3, one.city), (4, one.name)):
        if text.startswith(wanted):
            return rank
    if f" {wanted}" in f" {one.city} {one.name}":
        return 5
    return 6 if len(wanted) >= NEAR_MAX and (wanted in one.city or wanted in one.name) else None
