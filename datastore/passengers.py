"""Who travels: types of passengers, names, documents, special requests, and what must be true of each and of a party. Pure.

Types are IATA's passenger type codes (ATPCO/IATA PTC): ADT adult, CHD child, INF infant on an adult's lap, INS infant with a seat of
its own. Ages are those of IATA's general conditions: an infant has not reached its second birthday on the day of departure of any
leg, a child not its twelfth. All of it is personal data: it lives in side records only (Z12).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from datetime import date
from typing import Final

from datastore.errors import InvalidRequest, nearest, shown
from datastore.model import Document, Passenger, is_date
from datastore.special_requests import SPECIAL_REQUESTS

ADULT, CHILD, LAP_INFANT, SEATED_INFANT = "ADT", "CHD", "INF", "INS"
TYPES: Final = {
    ADULT: "adult, from 12 years",
    CHILD: "child, 2 to 11 years",
    LAP_INFANT: "infant under 2 years on an adult's lap, without a seat",
    SEATED_INFANT: "infant under 2 years with a seat",
}
INFANT_YEARS, CHILD_YEARS, OLDEST_YEARS = 2, 12, 130
NAME_LENGTH_MAX = 100
LOYALTY_MAX, REQUESTS_MAX = 4, 10
REQUEST_TEXT_MAX = 70
LOYALTY_PATTERN = re.compile(r"[A-Z0-9]{2}[A-Z0-9]{1,20}", re.ASCII)
DOCUMENT_PATTERN = re.compile(r"[A-Z0-9-]{3,24}", re.ASCII)
COUNTRY_PATTERN = re.compile(r"[A-Z]{3}", re.ASCII)
# Besides letters, marks and digits; what people's documents have. A slash would part surname from given names on tickets.
NAME_SIGNS: Final = frozenset(" -'’‘ʼ`.·,")


def seated(passengers: Sequence[Passenger]) -> list[Passenger]:
    """Return those who need a seat, in their order."""
    return [one for one in passengers if one.type != LAP_INFANT]


def on_laps(passengers: Sequence[Passenger]) -> list[Passenger]:
    return [one for one in passengers if one.type == LAP_INFANT]


def check_passenger(passenger: Passenger, number: int) -> None:
    """Check one passenger by itself; `number` (from 1) is how it is called in the refusal.

    Raises:
        InvalidRequest: What is wrong, with the nearest right word where there is one.
    """
    if not passenger.surname.strip():
        raise _wrong(number, "has no surname")
    for name in (passenger.surname, passenger.given):
        _check_name(name, number)
    if passenger.type not in TYPES:
        known = ", ".join(f"{word} ({meaning.split(',')[0]})" for word, meaning in TYPES.items())
        raise _wrong(number, f"{shown(passenger.type)} is no type of passenger: {known}", nearest(passenger.type, TYPES))
    if passenger.born and not is_date(passenger.born):
        raise _wrong(number, f"{shown(passenger.born)} is no date of birth: write e.g. 2019-05-01")
    if passenger.document is not None:
        _check_document(passenger.document, number)
    if len(passenger.loyalty) > LOYALTY_MAX:
        raise _wrong(number, f"{len(passenger.loyalty)} loyalty numbers; {LOYALTY_MAX} are possible")
    for word in passenger.loyalty:
        if not LOYALTY_PATTERN.fullmatch(word):
            raise _wrong(number, f"{shown(word)} is no loyalty number: write the airline's code and the number, e.g. AR1234567")
    if len(passenger.requests) > REQUESTS_MAX:
        raise _wrong(number, f"{len(passenger.requests)} special requests; {REQUESTS_MAX} are possible")
    for word in passenger.requests:
        _check_request(word, number)
    if passenger.with_adult and passenger.type != LAP_INFANT:
        raise _wrong(number, f"only an infant on a lap ({LAP_INFANT}) is with an adult")


def _check_name(name: str, number: int) -> None:
    if len(name) > NAME_LENGTH_MAX:
        raise _wrong(number, f"a name has at most {NAME_LENGTH_MAX} characters")
    if not name.isprintable():
        raise _wrong(number, f"a name has no control characters: {shown(name)}")
    for letter in name:
        if letter not in NAME_SIGNS and unicodedata.category(letter)[0] not in "LMN":
            raise _wrong(number, f"{shown(name)}: {shown(letter)} is in no name; letters, spaces, hyphens and apostrophes are")
    if name.strip() and not any(unicodedata.category(letter)[0] == "L" for letter in name):
        raise _wrong(number, f"{shown(name)} has no letter")


def _check_document(document: Document, number: int) -> None:
    if not COUNTRY_PATTERN.fullmatch(document.country):
        raise _wrong(number, f"{shown(document.country)} is no country of a document: three letters, ISO 3166-1, e.g. ARG")
    if not DOCUMENT_PATTERN.fullmatch(document.number):
        raise _wrong(number, f"{shown(document.number)} is no document number: 3 to 24 capital letters, digits, hyphens")
    if document.expires and not is_date(document.expires):
        raise _wrong(number, f"{shown(document.expires)} is no date on which a document ends: write e.g. 2030-05-01")


def _check_request(word: str, number: int) -> None:
    code, _, text = word.partition("/")
    if code not in SPECIAL_REQUESTS:
        near = nearest(code, SPECIAL_REQUESTS)
        hint = f"; the nearest is {near[0]} ({SPECIAL_REQUESTS[near[0]]})" if near else ""
        raise _wrong(number, f"{shown(code)} is no code of a special request (SSR){hint}", near)
    if len(text) > REQUEST_TEXT_MAX or not text.isprintable():
        raise _wrong(number, f"{code}: its text has at most {REQUEST_TEXT_MAX} characters and no control characters")


def check_party(passengers: Sequence[Passenger], *, minors_alone: bool) -> list[Passenger]:
    """Return a party in the order of its record: who has a seat first, as given, then the infants on laps, each with its adult.

    Args:
        minors_alone: Whether children may travel without an adult and without a request (UMNR): not in the air.
    Raises:
        InvalidRequest: An infant has no adult, an adult two infants, children travel alone.
    """
    # Places, not passengers: two may be alike.
    with_seats = [index for index, one in enumerate(passengers) if one.type != LAP_INFANT]
    adults = [place for place, index in enumerate(with_seats, 1) if passengers[index].type == ADULT]
    taken: dict[int, str] = {}
    laps: list[Passenger] = []
    for index, one in enumerate(passengers):
        if one.type != LAP_INFANT:
            continue
        place = next((adult for adult in adults if adult not in taken), 0)
        if one.with_adult:
            named = one.with_adult - 1
            if not 0 <= named < len(passengers) or passengers[named].type != ADULT:
                raise _wrong(index + 1, f"{_called(one)} is with passenger {one.with_adult}, which is no adult")
            place = with_seats.index(named) + 1
        if not place:
            raise _wrong(index + 1, f"{_called(one)} has no adult: each infant on a lap needs one of its own, or a seat ({SEATED_INFANT})")
        if place in taken:
            adult = passengers[with_seats[place - 1]]
            raise _wrong(index + 1, f"{_called(adult)} has {taken[place]} on the lap: one infant for each adult")
        taken[place] = _called(one)
        laps.append(copy_passenger(one, with_adult=place))
    if not adults and not minors_alone:
        _check_alone(passengers)
    return [*(passengers[index] for index in with_seats), *laps]


def _check_alone(passengers: Sequence[Passenger]) -> None:
    for number, one in enumerate(passengers, 1):
        if one.type == SEATED_INFANT:
            raise _wrong(number, f"{_called(one)} has no adult: an infant never travels alone")
        if not any(word.partition("/")[0] == "UMNR" for word in one.requests):
            raise _wrong(number, f"{_called(one)} has no adult: a child that travels alone asks for it (ssr=UMNR)", ["UMNR"])


def check_ages(passengers: Sequence[Passenger], days: Sequence[str]) -> None:
    """Check types against dates of birth, where they are given, on every local day of departure (ISO dates).

    Raises:
        InvalidRequest: Somebody is too old or too young for the type; the fitting one is named.
    """
    for number, one in enumerate(passengers, 1):
        for day in days if one.born else ():
            years = age_on(one.born, day)
            if not 0 <= years <= OLDEST_YEARS:
                raise _wrong(number, f"{_called(one)}: born on {one.born}, travels on {day}")
            infant = (LAP_INFANT, SEATED_INFANT)
            fits = infant if years < INFANT_YEARS else (CHILD,) if years < CHILD_YEARS else (ADULT,)
            if one.type not in fits:
                raise _wrong(number, f"{_called(one)} is {years} years old on {day}: {' or '.join(fits)}, not {one.type}", list(fits))


def age_on(born: str, day: str) -> int:
    """Return whole years between two ISO dates; negative before birth. Who was born on 29 February is older on 1 March."""
    then, now = date.fromisoformat(born), date.fromisoformat(day)
    return now.year - then.year - ((now.month, now.day) < (then.month, then.day))


def copy_passenger(passenger: Passenger, *, with_adult: int = 0, seat_id: str = "") -> Passenger:
    """Return the passenger with a place in the party: names and free text without spaces around them."""
    return Passenger(
        passenger.surname.strip(),
        passenger.given.strip(),
        seat_id,
        passenger.type,
        passenger.born,
        passenger.document,
        passenger.loyalty,
        tuple(word.strip() for word in passenger.requests),
        with_adult,
    )


def _called(passenger: Passenger) -> str:
    return shown(f"{passenger.given.strip()} {passenger.surname.strip()}".strip())


def _wrong(number: int, why: str, near: Sequence[str] = ()) -> InvalidRequest:
    return InvalidRequest(f"passenger {number}: {why}", field="passengers", passenger=number, nearest=list(near))
