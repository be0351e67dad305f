"""Who may travel as what, with whom: types, ages, names, requests."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore.errors import InvalidRequest
from datastore.model import Document, Passenger
from datastore.passengers import age_on, check_ages, check_party, check_passenger

ANA = Passenger("Díaz", "Ana")
TOM = Passenger("Díaz", "Tom", type="CHD")
EVA = Passenger("Díaz", "Eva", type="INF")


@pytest.mark.parametrize(
    "name", ["García-Núñez", "O'Brien", "d’Ángelo", "Никола", "山田", "محمد", "St. John", "Nguyễn Thị", "Ó Súilleabháin", "Müller 2"]
)
def test_names_keep_their_letters(name: str) -> None:
    """Of any alphabet, with the signs that documents have."""
    check_passenger(Passenger(name, name), 1)


@pytest.mark.parametrize(
    ("passenger", "why"),
    [
        (Passenger(" "), "no surname"),
        (Passenger("A\x07"), "control"),
        (Passenger("a" * 101), "at most 100"),
        (Passenger("Diaz/Ana"), "in no name"),
        (Passenger("<script>"), "in no name"),
        (Passenger("Diaz", "😀"), "in no name"),
        (Passenger("1234"), "no letter"),
        (Passenger("Diaz", type="CHILD"), "no type"),
        (Passenger("Diaz", born="2019-02-30"), "no date"),
        (Passenger("Diaz", document=Document("AR", "AB123")), "country"),
        (Passenger("Diaz", document=Document("ARG", "a b")), "number"),
        (Passenger("Diaz", document=Document("ARG", "AB123", "soon")), "ends"),
        (Passenger("Diaz", loyalty=("12 34",)), "loyalty"),
        (Passenger("Diaz", loyalty=("AR1",) * 5), "4 are possible"),
        (Passenger("Diaz", requests=("WCHR",) * 11), "10 are possible"),
        (Passenger("Diaz", requests=("SPML/" + "x" * 71,)), "at most 70"),
        (Passenger("Diaz", with_adult=1), "only an infant"),
    ],
)
def test_what_is_wrong_with_a_passenger_is_said(passenger: Passenger, why: str) -> None:
    """And which passenger it is."""
    with pytest.raises(InvalidRequest, match=why) as caught:
        check_passenger(passenger, 3)
    assert 3 == caught.value.fields["passenger"] and "passenger 3" in caught.value.detail


def test_the_nearest_code_of_a_request_is_named() -> None:
    """With its meaning: nobody knows them by heart."""
    with pytest.raises(InvalidRequest, match=r"the nearest is WCHR \(wheelchair") as caught:
        check_passenger(Passenger("Diaz", requests=("WHCR",)), 1)
    assert "WCHR" == caught.value.fields["nearest"][0]


def test_infants_sit_with_one_adult_each() -> None:
    """Named or the next who is free; those with seats come first, in their order; places are counted among them."""
    bo = Passenger("Babbage", "Bo")
    lia = Passenger("Babbage", "Lia", type="INF", with_adult=3)
    party = check_party([EVA, ANA, bo, TOM, lia], minors_alone=False)
    assert ["Ana", "Bo", "Tom", "Eva", "Lia"] == [one.given for one in party]
    assert [0, 0, 0, 1, 2] == [one.with_adult for one in party]
    with pytest.raises(InvalidRequest, match="needs one of its own"):
        check_party([ANA, EVA, EVA], minors_alone=False)
    with pytest.raises(InvalidRequest, match="which is no adult"):
        check_party([ANA, TOM, Passenger("Díaz", "Eva", type="INF", with_adult=2)], minors_alone=False)
    with pytest.raises(InvalidRequest, match="one infant for each adult"):
        check_party([ANA, bo, EVA, Passenger("Díaz", "Leo", type="INF", with_adult=1)], minors_alone=False)
    assert 3 == len(check_party([ANA, ANA, Passenger("Díaz", "Leo", type="INF", with_adult=2)], minors_alone=False)), "alike, not the same"


def test_children_travel_alone_only_when_they_ask() -> None:
    """UMNR in the air; infants never; a cinema asks nobody."""
    with pytest.raises(InvalidRequest, match="UMNR"):
        check_party([TOM], minors_alone=False)
    check_party([Passenger("Díaz", "Tom", type="CHD", requests=("UMNR/aunt waits",))], minors_alone=False)
    with pytest.raises(InvalidRequest, match="never travels alone"):
        check_party([Passenger("Díaz", "Eva", type="INS", requests=("UMNR",))], minors_alone=False)
    check_party([TOM], minors_alone=True)


def test_ages_are_those_of_every_day_of_departure() -> None:
    """Who turns two on the way is a child on the way back; the fitting type is named."""
    eva = Passenger("Díaz", "Eva", type="INS", born="2024-12-10")
    check_ages([ANA, eva], ["2026-12-09"])
    with pytest.raises(InvalidRequest, match="2 years old on 2026-12-10: CHD, not INS"):
        check_ages([ANA, eva], ["2026-12-09", "2026-12-10"])
    with pytest.raises(InvalidRequest, match="ADT, not CHD"):
        check_ages([Passenger("Díaz", "Tom", type="CHD", born="2014-01-01")], ["2026-12-09"])
    with pytest.raises(InvalidRequest, match="INF or INS, not ADT"):
        check_ages([Passenger("Díaz", "Ana", born="2026-01-01")], ["2026-12-09"])
    with pytest.raises(InvalidRequest, match="born on 2030"):
        check_ages([Passenger("Díaz", "Ana", born="2030-01-01")], ["2026-12-09"])


@given(st.dates(), st.dates())
def test_an_age_is_the_number_of_birthdays_reached(born: object, day: object) -> None:
    """By a slow count of birthdays."""
    then, now = str(born), str(day)
    if then <= now:
        birthdays = sum(f"{year:04}{then[4:]}" <= now for year in range(int(then[:4]) + 1, int(now[:4]) + 1))
        assert birthdays == age_on(then, now)
