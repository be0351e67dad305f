"""What a decoder says of a message that it refuses, as a sentence for people. Pure.

The bounds stand in the types (`datastore.messages`), so the decoder finds what is wrong; its words, with patterns and paths
in them, are for programmers.
"""

from __future__ import annotations

import re
from typing import NamedTuple

WHOLE = "payload"  # The field of what is wrong with the message as a whole.
PATH_PATTERN = re.compile(r"^(?P<what>.*?)(?: - at `\$(?P<path>[^`]*)`)?$", re.DOTALL)
BOUND_PATTERN = re.compile(r"Expected `(?P<type>\w+)`(?: of length)? (?P<sign><=|>=|<|>) (?P<bound>-?\d+)")
LENGTH_PATTERN = re.compile(r"Expected `\w+` of length (\d+), got (\d+)")
TYPE_PATTERN = re.compile(r"Expected `(?P<wanted>[^`]+)`, got `(?P<found>[^`]+)`")
FIELD_PATTERN = re.compile(r"Object (?P<what>missing required|contains unknown) field `(?P<field>[^`]*)`")
TYPE_WORDS = {"str": "a text", "int": "a whole number", "float": "a number", "bool": "yes or no", "array": "a list", "object": "a record"}
UNITS = {"str": "character", "array": "entry", "bytes": "byte"}
PLURALS = {"entry": "entries"}
# What a pattern means; the patterns of the messages are few.
PATTERN_WORDS = {"request_id": "8 to 64 of the characters A-Z a-z 0-9 . _ : -"}


class Wording(NamedTuple):
    """A sentence and the field that it is about, `WHOLE` for the message."""

    sentence: str
    field: str


def counted(count: int, singular: str, plural: str = "") -> str:
    """Return "1 seat" or "2 seats"."""
    return f"{count} {singular if count == 1 else plural or PLURALS.get(singular, singular + 's')}"


def wording(text: str) -> Wording:
    """Return what a decoder's text means: "seats: entry 1 is too long, at most 16 characters".

    A text of no known form is passed on as it is.
    """
    parts = PATH_PATTERN.match(text)
    what, path = (parts["what"], parts["path"] or "") if parts else (text, "")
    named = FIELD_PATTERN.match(what)
    if named:
        place = f"{_place(path)}: " if path else ""
        field = named["field"]
        return Wording(f"{place}{field} is missing" if "missing" in named["what"] else f"{place}there is no field {field}", field)
    field = _field(path)
    place = _place(path) if path else "the message"
    return Wording(f"{place} {_wrong(what, field)}", field)


def _wrong(what: str, field: str) -> str:
    bound = BOUND_PATTERN.match(what)
    if bound:
        number, unit, most = int(bound["bound"]), UNITS.get(bound["type"], ""), bound["sign"].startswith("<")
        if unit:
            size = counted(number, unit)
            if not most and number == 1:
                return "is empty"
            return f"is too long, at most {size}" if most else f"is too short, at least {size}"
        return f"is too large, at most {number}" if most else f"is too small, at least {number}"
    length = LENGTH_PATTERN.match(what)
    if length:
        return f"has {counted(int(length[2]), 'entry')}, expected {length[1]}"
    types = TYPE_PATTERN.match(what)
    if types:
        return f"is not {TYPE_WORDS.get(types['wanted'], types['wanted'])}"
    if "matching regex" in what:
        return f"is not of its form: {PATTERN_WORDS[field]}" if field in PATTERN_WORDS else "is not of its form"
    return f"cannot be read: {what}"


def _field(path: str) -> str:
    """Return the last name of a path: "seats" of ".holds[0].seats[1]"."""
    names = re.findall(r"\.(\w+)", path)
    return names[-1] if names else WHOLE


def _place(path: str) -> str:
    """Return a path for people, who count from one: "holds, entry 1: seats, entry 2"."""
    places = []
    for name, indexes in re.findall(r"\.?(\w+)((?:\[[^\]]*\])*)", path):
        numbers = [str(int(index) + 1) if index.isdigit() else "" for index in re.findall(r"\[([^\]]*)\]", indexes)]
        places.append(name + "".join(f", entry {number}" if number else ", an entry" for number in numbers))
    return ": ".join(places) or "the message"
