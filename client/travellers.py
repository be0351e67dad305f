"""Passengers as people type them or keep them in a file: read, checked, with the nearest right word for what is wrong. Pure.

    [TYPE] Given Surname, field=value, field=value …          or Surname/Given in place of the name

TYPE is ADT (the default), CHD, INF or INS. Fields: `born`, `doc` (COUNTRY:NUMBER[:EXPIRES]), `ffp`, `ssr` (CODE[/text]), `with`
(of an infant on a lap: which passenger, from 1, is its adult). `ffp` and `ssr` may stand more than once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from client import inputs
from datastore.errors import InvalidRequest, nearest, shown
from datastore.model import Document, Passenger
from datastore.passengers import TYPES, check_passenger

FIELDS = {"born": "born", "doc": "document", "ffp": "loyalty", "ssr": "requests", "with": "with_adult", "type": "type"}
FILE_PASSENGERS_MAX = 400
PASSENGER_KEYS = Passenger.__struct_fields__


def passenger(text: str, number: int = 1) -> Passenger:
    """Return the passenger of one text; `number` (from 1) is how it is called in a refusal.

    Raises:
        InvalidRequest: What is wrong, with the nearest right word.
    """
    name, *fields = text.split(",")
    first, _, rest = name.strip().partition(" ")
    kind = first if first in TYPES and rest.strip() else ""
    person = inputs.passenger(rest if kind else name)
    values: dict[str, Any] = {"surname": person.surname, "given": person.given}
    if kind:
        values["type"] = kind
    for field in fields:
        _take_in(values, field, number)
    made = Passenger(**values)
    check_passenger(made, number)
    return made


def _take_in(values: dict[str, Any], field: str, number: int) -> None:
    word, equals, value = (part.strip() for part in field.partition("="))
    key = FIELDS.get(word.lower(), "")
    if not equals or not key:
        near = nearest(word, FIELDS)
        hint = f"; did you mean {near[0]}=?" if near else ""
        detail = f"passenger {number}: {shown(field.strip())} is no field: known are {', '.join(f'{one}=' for one in FIELDS)}{hint}"
        raise InvalidRequest(detail, field="passenger", nearest=near)
    if key in ("loyalty", "requests"):
        code, slash, words = value.partition("/")
        value = code.upper() + (f"/{words.strip()}" if slash else "")
        values[key] = (*values.get(key, ()), value)
        return
    if key in values:
        raise InvalidRequest(f"passenger {number}: {word}= stands twice", field="passenger")
    if key == "document":
        values[key] = _document(value, number)
    elif key == "with_adult":
        if not (value.isascii() and value.isdigit() and 0 < int(value[:4]) < 1000):
            raise InvalidRequest(f"passenger {number}: with={shown(value)} is no passenger: say which, counted from 1", field="passenger")
        values[key] = int(value)
    else:
        values[key] = value.upper() if key == "type" else value


def _document(value: str, number: int) -> Document:
    parts = [part.strip() for part in value.split(":")]
    if len(parts) not in (2, 3):
        detail = f"passenger {number}: doc={shown(value)}: write COUNTRY:NUMBER or COUNTRY:NUMBER:EXPIRES, e.g. ARG:AB123456:2030-05-01"
        raise InvalidRequest(detail, field="passenger")
    return Document(parts[0].upper(), parts[1].upper(), parts[2] if len(parts) == 3 else "")


def passengers_of_file(text: str, name: str) -> list[Passenger]:
    """Return the passengers of a JSON file: a list of objects with the fields of `datastore.model.Passenger`.

    Raises:
        InvalidRequest: Which passenger is wrong, and how; an unknown field with the nearest known one.
    """
    try:
        rows = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeEncodeError) as error:
        raise InvalidRequest(f"{name}: no JSON: {error}", field="passengers") from error
    if not isinstance(rows, list) or not 0 < len(rows) <= FILE_PASSENGERS_MAX:
        raise InvalidRequest(f"{name}: a list of 1 to {FILE_PASSENGERS_MAX} passengers is needed", field="passengers")
    return [_of_row(row, number, name) for number, row in enumerate(rows, 1)]


def _of_row(row: object, number: int, name: str) -> Passenger:
    if not isinstance(row, dict):
        raise InvalidRequest(f"{name}: passenger {number} is no object with a surname", field="passengers")
    for key in row:
        if key not in PASSENGER_KEYS or key == "seat_id":
            near = nearest(key, [one for one in PASSENGER_KEYS if one != "seat_id"])
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InvalidRequest(f"{name}: passenger {number} has an unknown field {shown(key)}{hint}", field="passengers", nearest=near)
    try:
        made = msgspec.convert(row, Passenger)
    except msgspec.ValidationError as error:
        raise InvalidRequest(f"{name}: passenger {number}: {error}", field="passengers") from error
    check_passenger(made, number)
    return made


def described(person: Passenger) -> str:
    """Return a passenger on one line, without what only the operator needs: "CHD Diaz/Tom, ssr WCHR"."""
    kind = "" if person.type == "ADT" else f"{person.type} "
    requests: Sequence[str] = [word.partition("/")[0] for word in person.requests]
    return f"{kind}{person.surname}/{person.given}" + (f", {' '.join(requests)}" if requests else "")
