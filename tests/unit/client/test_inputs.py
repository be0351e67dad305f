"""What people type: durations, dates, passengers, seats."""

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client import inputs
from datastore.errors import InvalidRequest
from datastore.model import Passenger

TODAY = date(2026, 11, 21)


@pytest.mark.parametrize(
    ("text", "expected"), [("15m", 900_000), ("90s", 90_000), ("1h30m", 5_400_000), ("2", 120_000), (" 1D ", 86_400_000)]
)
def test_durations(text: str, expected: int) -> None:
    """A duration is numbers with units; a bare number is minutes."""
    assert expected == inputs.duration_ms(text)


@pytest.mark.parametrize("text", ["", "m", "fifteen", "-5m", "1.5h", "0s", "0", "9" * 40, "15m\0", "１５m"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """Nothing is guessed: a wrong guess holds seats for the wrong time."""
    with pytest.raises(InvalidRequest) as caught:
        inputs.duration_ms(text)
    assert "for" == caught.value.fields["field"]


@pytest.mark.parametrize("text", ["1d1s", "99999d", "1441", "fifteen", ""])
def test_what_no_hold_lasts_is_refused(text: str) -> None:
    """In the words in which it was asked; other durations may be longer."""
    with pytest.raises(InvalidRequest) as caught:
        inputs.hold_ms(text)
    assert "for" == caught.value.fields["field"]
    assert (86_400_000, 2 * 86_400_000) == (inputs.hold_ms("1d"), inputs.duration_ms("2d"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-12-01", "2026-12-01"),
        ("today", "2026-11-21"),
        ("Tomorrow", "2026-11-22"),
        ("yesterday", "2026-11-20"),
        ("+10d", "2026-12-01"),
        ("+0", "2026-11-21"),
        ("2028-02-29", "2028-02-29"),
    ],
)
def test_dates(text: str, expected: str) -> None:
    """A date is ISO, or counted from today."""
    assert expected == inputs.day(text, TODAY)


@pytest.mark.parametrize("text", ["2026-02-30", "1.12.2026", "+99999d", "-3d", "2026-12-01T00:00", "20261201"])
def test_what_is_no_date_is_refused(text: str) -> None:
    """A date in another country's order is refused, not read the wrong way."""
    with pytest.raises(InvalidRequest):
        inputs.day(text, TODAY)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Ada Byron", Passenger("Byron", "Ada")),
        ("Byron/Ada", Passenger("Byron", "Ada")),
        ("  Ana   María  García ", Passenger("García", "Ana María")),
        ("García Márquez/Gabriel", Passenger("García Márquez", "Gabriel")),
        ("Pelé", Passenger("Pelé", "")),
    ],
)
def test_passengers(text: str, expected: Passenger) -> None:
    """The surname is the last word, or what stands before the slash."""
    assert expected == inputs.passenger(text)


@pytest.mark.parametrize("text", ["", "  ", "/Ada", "Ada\x07 Byron", "Ada\nByron"])
def test_who_is_nobody_is_refused(text: str) -> None:
    """A passenger has a surname, and no name has control characters."""
    with pytest.raises(InvalidRequest):
        inputs.passenger(text)


def test_seats_are_split_and_upper_case() -> None:
    """Seats may be given apart or with commas."""
    assert ["12A", "12B", "C4"] == inputs.seats(["12a,12B", " c4 ", ","])


def test_an_empty_seat_is_not_passed_over() -> None:
    """Whoever's script has lost a seat wants to hear of it."""
    with pytest.raises(InvalidRequest, match="empty"):
        inputs.seats(["12A", " "])


@given(st.integers(min_value=0, max_value=10**12))
def test_a_duration_for_people_has_at_most_two_units(milliseconds: int) -> None:
    """It is read at a glance, whatever the number."""
    text = inputs.duration_text(milliseconds)
    assert 1 <= len(text.split()) // 2 <= 2, text


def test_a_duration_for_people_says_what_is_left() -> None:
    """The two largest units; a zero one is left out."""
    assert ["14 min 59 s", "15 min", "0 s", "2 h 5 min", "3 d"] == [
        inputs.duration_text(number) for number in (899_999, 900_000, 0, 7_500_000, 3 * 86_400_000)
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ar1140-eze-2026-12-01", "AR1140-EZE-2026-12-01"),
        ("AR1140-EZE-tomorrow", "AR1140-EZE-2026-11-22"),
        ("ar1140-eze-Today", "AR1140-EZE-2026-11-21"),
        ("AR1140-EZE-+10d", "AR1140-EZE-2026-12-01"),
        ("whatever", "WHATEVER"),
    ],
)
def test_a_services_date_may_be_a_word(text: str, expected: str) -> None:
    """What cannot be read is passed on: the cluster names the nearest right one."""
    assert expected == inputs.service_id(text, TODAY)


@pytest.mark.parametrize(
    ("text", "meant"), [("AR1140-EZE-tomorow", "tomorrow"), ("AR1140-EZE-toady", "today"), ("AR1140-EZE-yesterdy", "yesterday")]
)
def test_a_date_word_typed_wrong_is_told_with_the_nearest(text: str, meant: str) -> None:
    """The cluster knows no such words, so that only here the right one can be named; a place that is like one is left alone."""
    for ask, word in ((inputs.service_id, text), (inputs.day, text.rpartition("-")[2])):
        with pytest.raises(InvalidRequest) as caught:
            ask(word, TODAY)
        assert f"did you mean {meant}?" in caught.value.detail
    assert "AR1140-TODA" == inputs.service_id("AR1140-toda", TODAY)
