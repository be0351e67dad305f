"""What stands beside a timetable: its header (`dataset.json`), its places and its operators. Pure."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Mapping
from datetime import date, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from datastore.errors import InvalidRequest, nearest, shown
from datastore.model import (
    ACCOUNTING_PATTERN,
    CONNECTING_MINUTES_MAX,
    DATASET_PATTERN,
    OPERATOR_PATTERN,
    PLACE_PATTERN,
    ConnectingTime,
    OperatorKind,
    Place,
    is_date,
)

HEADER_KEYS = ("name", "title", "licence", "kind", "currency", "refundable_percent", "valid", "aircraft", "about")
DOCUMENT_KEYS = (*HEADER_KEYS, "operators", "places", "layouts", "connections", "timetable")
CONNECTION_COLUMNS = ("place", "arriving", "departing", "domestic_min", "international_min")
VALID_KEYS = ("from", "to", "days")
DAYS_DEFAULT = 330
DAYS_MAX = 3660
KINDS = tuple(kind.value for kind in OperatorKind)


class Header(NamedTuple):
    """The dataset's own words and its defaults for rows. `refundable_percent` -1: the formula's."""

    name: str
    title: str
    licence: str
    kind: str
    currency: str
    refundable_percent: int
    valid_from: str
    valid_to: str


class OperatorName(NamedTuple):
    code: str
    name: str
    kind: str  # "" : the dataset's
    accounting: str = ""  # three digits; "" states none


def header_of(document: Mapping[str, Any], name: str, today: date, days: int) -> Header:
    """Return the header.

    Args:
        document: `dataset.json`, or the same keys of a timetable in one JSON file.
        name: The dataset's name where the document gives none.
        today: What "today" means. The rows are valid from the day before, as west of here it is still yesterday, and what
            has just departed stays known.
        days: How long rows are valid that do not say so; 0 is the document's own word, or 330.

    Raises:
        InvalidRequest: A key is unknown or a value is wrong.
    """
    for key in document:
        if key not in DOCUMENT_KEYS:
            raise InvalidRequest(f"unknown key {shown(key)}" + _hint(key, DOCUMENT_KEYS))
    chosen = _text(document, "name", "") or name
    if not DATASET_PATTERN.fullmatch(chosen):
        raise InvalidRequest(f"name: {shown(chosen)} is not a dataset's name: lower-case letters, digits and hyphens, up to 32")
    kind = _text(document, "kind", OperatorKind.AIRLINE.value)
    if kind not in KINDS:
        raise InvalidRequest(f"kind: {shown(kind)} is none of {', '.join(KINDS)}{_hint(kind, KINDS)}")
    currency = _text(document, "currency", "")
    if not re.fullmatch(r"([A-Z]{3})?", currency):
        raise InvalidRequest(f"currency: {shown(currency)} is not an ISO 4217 code such as USD")
    refundable = document.get("refundable_percent", -1)
    if not isinstance(refundable, int) or isinstance(refundable, bool) or not -1 <= refundable <= 100:
        raise InvalidRequest(f"refundable_percent: {shown(refundable)} is not 0 to 100 (-1: the formula's)")
    valid_from, valid_to = _validity(document.get("valid", {}), today, days)
    return Header(
        chosen, _text(document, "title", chosen), _text(document, "licence", ""), kind, currency, refundable, valid_from, valid_to
    )


def _validity(valid: object, today: date, days: int) -> tuple[str, str]:
    if not isinstance(valid, Mapping) or any(key not in VALID_KEYS for key in valid):
        raise InvalidRequest('valid: {"from": "today", "days": 330} or {"from": "2026-10-25", "to": "2027-03-27"} is expected')
    begins, ends, own_days = valid.get("from", "today"), valid.get("to", ""), valid.get("days", DAYS_DEFAULT)
    if not isinstance(own_days, int) or isinstance(own_days, bool) or not 1 <= own_days <= DAYS_MAX:
        raise InvalidRequest(f"valid.days: {shown(own_days)} is not 1 to {DAYS_MAX}")
    if begins == "today":
        first = (today - timedelta(days=1)).isoformat()
        counted_from = today
    elif isinstance(begins, str) and is_date(begins):
        first, counted_from = begins, date.fromisoformat(begins)
    else:
        raise InvalidRequest(f"valid.from: {shown(begins)} is neither today nor a date such as 2026-12-01")
    if ends == "":
        ends = (counted_from + timedelta(days=(days or own_days))).isoformat()
    elif not isinstance(ends, str) or not is_date(ends) or ends < first:
        raise InvalidRequest(f"valid.to: {shown(ends)} is not a date after {first}")
    return first, ends


def place_of(row: Mapping[str, Any]) -> Place:
    """Return the place that a row of `airports.csv` (iata, name, city, country, lat, lon, tz) or `places.csv` gives.

    Raises:
        InvalidRequest: The code, the zone or a coordinate is wrong.
    """
    code = _first(row, "code", "iata")
    if not PLACE_PATTERN.fullmatch(code):
        raise InvalidRequest(f"code: {shown(code)} is not 2 to 8 capital letters and digits")
    zone = _first(row, "zone", "tz")
    if not _is_zone(zone):
        near = _hint(zone, zoneinfo.available_timezones())
        raise InvalidRequest(f"zone: {shown(zone)} is not a time zone such as America/New_York{near}")
    numbers: list[float] = []
    for keys, most in ((("lat", "latitude"), 90.0), (("lon", "longitude"), 180.0)):
        word = _first(row, *keys)
        try:
            number = float(word or 0)
        except ValueError:
            number = most + 1
        if not -most <= number <= most:
            raise InvalidRequest(f"{keys[0]}: {shown(word)} is not degrees from -{most:.0f} to {most:.0f}")
        numbers.append(number)
    return Place(code, _first(row, "name") or code, _first(row, "city"), _first(row, "country"), zone, *numbers)


def connecting_of(row: Mapping[str, Any]) -> ConnectingTime:
    """Return the minimum connecting time that a row of `connections.csv` gives.

    Raises:
        InvalidRequest: A code or a number is wrong, a column is unknown, or the row states no time.
    """
    for key in row:
        if key and key not in CONNECTION_COLUMNS:
            raise InvalidRequest(f"unknown column {shown(key)}{_hint(key, CONNECTION_COLUMNS)}")
    place = _first(row, "place")
    if place and not PLACE_PATTERN.fullmatch(place):
        raise InvalidRequest(f"place: {shown(place)} is not 2 to 8 capital letters and digits; leave it empty for everywhere")
    arriving, departing = _first(row, "arriving"), _first(row, "departing")
    for key, code in (("arriving", arriving), ("departing", departing)):
        if code and not OPERATOR_PATTERN.fullmatch(code):
            raise InvalidRequest(f"{key}: {shown(code)} is not an operator's code; leave it empty for any")
    domestic, international = _connecting_minutes(row, "domestic_min"), _connecting_minutes(row, "international_min")
    if domestic < 0 and international < 0:
        raise InvalidRequest("domestic_min, international_min: neither is given")
    return ConnectingTime(place, arriving, departing, domestic, international)


def _connecting_minutes(row: Mapping[str, Any], key: str) -> int:
    word = _first(row, key)
    if not word:
        return -1
    if not re.fullmatch(r"\d{1,4}", word, re.ASCII) or int(word) > CONNECTING_MINUTES_MAX:
        raise InvalidRequest(f"{key}: {shown(word)} is not 0 to {CONNECTING_MINUTES_MAX} minutes")
    return int(word)


def operator_of(row: Mapping[str, Any]) -> OperatorName:
    """Return the operator that a row of `carriers.csv` or `operators.csv` (code, name, kind, accounting_code) gives.

    Raises:
        InvalidRequest: The code or the kind is wrong.
    """
    code, kind = _first(row, "code", "carrier", "operator"), _first(row, "kind")
    if not OPERATOR_PATTERN.fullmatch(code):
        raise InvalidRequest(f"code: {shown(code)} is not 2 to 8 capital letters and digits")
    if kind and kind not in KINDS:
        raise InvalidRequest(f"kind: {shown(kind)} is none of {', '.join(KINDS)}{_hint(kind, KINDS)}")
    accounting = _first(row, "accounting_code")
    if accounting and not ACCOUNTING_PATTERN.fullmatch(accounting):
        raise InvalidRequest(f"accounting_code: {shown(accounting)} is not three digits")
    return OperatorName(code, _first(row, "name") or code, kind, accounting)


@lru_cache(maxsize=1024)
def _is_zone(name: str) -> bool:
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return bool(name)


def _first(row: Mapping[str, Any], *keys: str) -> str:
    for key in keys:
        value = row.get(key)
        if value is not None and value != "":
            text = str(value).strip()
            if len(text) > 200 or not text.isprintable():
                raise InvalidRequest(f"{key}: {shown(text)} is not a text of up to 200 printable characters")
            return text
    return ""


def _text(document: Mapping[str, Any], key: str, default: str) -> str:
    value = document.get(key, default)
    if not isinstance(value, str) or len(value) > 200:
        raise InvalidRequest(f"{key}: a text of up to 200 characters is expected")
    return value


def _hint(word: str, known: Any) -> str:
    found = nearest(str(word), known, 1)
    return f"; did you mean {found[0]}?" if found else ""
