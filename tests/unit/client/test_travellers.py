"""Passengers as they are typed and as they stand in files."""

from __future__ import annotations

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.travellers import passenger, passengers_of_file
from datastore.errors import HoldfastError, InvalidRequest
from datastore.model import Document, Passenger


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ada Byron", Passenger("Byron", "Ada")),
        ("ADT Ana Diaz", Passenger("Diaz", "Ana")),
        ("CHD Diaz/Tom, born=2019-05-01", Passenger("Diaz", "Tom", type="CHD", born="2019-05-01")),
        ("INF", Passenger("INF")),
        ("Inf Diaz", Passenger("Diaz", "Inf")),
        ("Ana Diaz, type=ins", Passenger("Diaz", "Ana", type="INS")),
        ("INF Eva Diaz,with=2", Passenger("Diaz", "Eva", type="INF", with_adult=2)),
        (
            "Ana Diaz, doc=arg:ab123:2030-05-01, ffp=ar1234567, ssr=wchr, ssr=SPML/no nuts",
            Passenger(
                "Diaz",
                "Ana",
                document=Document("ARG", "AB123", "2030-05-01"),
                loyalty=("AR1234567",),
                requests=("WCHR", "SPML/no nuts"),
            ),
        ),
    ],
)
def test_a_passenger_is_read(text: str, expected: Passenger) -> None:
    """Type in front, fields behind, in any order."""
    assert expected == passenger(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("Ana Diaz, sr=WCHR", "did you mean ssr"),
        ("Ana Diaz, WCHR", "is no field"),
        ("Ana Diaz, doc=AB123", "COUNTRY:NUMBER"),
        ("INF Eva Diaz, with=0", "counted from 1"),
        ("Ana Diaz, born=2019-01-01, born=2018-01-01", "twice"),
        ("Ana Diaz, ssr=WHCR", "the nearest is WCHR"),
        ("", "names nobody"),
    ],
)
def test_what_is_typed_wrong_is_said(text: str, why: str) -> None:
    """With the nearest right word where there is one."""
    with pytest.raises(InvalidRequest, match=why):
        passenger(text)


@given(st.text(max_size=60))
def test_any_text_is_a_passenger_or_a_named_error(text: str) -> None:
    """And what is read is one that the cluster takes."""
    try:
        found = passenger(text)
    except HoldfastError as error:
        assert error.detail
    else:
        assert found.surname.strip()


def test_a_file_has_the_fields_of_the_api() -> None:
    """What was written by msgspec reads back; an unknown field is named with the nearest."""
    people = [
        Passenger("Diaz", "Ana", document=Document("ARG", "AB123"), requests=("WCHR",)),
        Passenger("Diaz", "Eva", type="INF", with_adult=1),
    ]
    rows = [{key: value for key, value in msgspec.to_builtins(one).items() if key != "seat_id"} for one in people]
    assert people == passengers_of_file(json.dumps(rows), "party.json")
    for rows, why in (
        ([{"surname": "Diaz", "tipe": "CHD"}], "did you mean type"),
        ([{"surname": "Diaz", "seat_id": "1A"}], "unknown field"),
        ([{"given": "Ana"}], "surname"),
        ([], "1 to 400"),
        ({}, "1 to 400"),
        (["Ana"], "no object"),
    ):
        with pytest.raises(InvalidRequest, match=why):
            passengers_of_file(json.dumps(rows), "party.json")
    with pytest.raises(InvalidRequest, match=r"party\.json: no JSON"):
        passengers_of_file("{", "party.json")
