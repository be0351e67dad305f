"""Walking about in a seat map, and what it says of a trip and its holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.tui.cabin import Cabin, price_digits
from client.tui.clock import Holds, countdown
from client.tui.trip import Trip
from datastore.messages import HoldAnswer, SeatInfo, SeatMapAnswer, ServiceInfo
from datastore.model import Layout, LayoutSpec, Money, Section

SPEC = LayoutSpec(
    "E190",
    "Embraer 190",
    (
        Section("J", "A", ("1", "2"), ("A", "", "C", "D")),
        Section("Y", "B", tuple(str(row) for row in range(3, 13)), ("A", "B", "", "C", "D"), missing=("8D",), exit_rows=("7",)),
    ),
)


def service() -> ServiceInfo:
    return ServiceInfo(
        "AR1-EZE-2026-12-01", "AR", "Air", "airline", "EZE", "Ezeiza", "GRU", "Guarulhos", "2026-12-01", "2026-12-01T06:00:00-03:00",
        "2026-12-01T09:00:00-03:00", 1, 2, 180, "", "E190", "Embraer 190", "open", 1, 2, None, "test", "formula",
    )  # fmt: skip


def cabin() -> Cabin:
    seats = [
        SeatInfo(
            s.seat_id, s.designator, "available", False, s.cabin, s.zone, s.row, s.column, s.x, s.y, s.window, s.aisle, s.exit,
            s.accessible, Money(50_000 if s.cabin == "J" else 10_000, "USD"),
        )
        for s in Layout(SPEC).seats
    ]  # fmt: skip
    return Cabin(SeatMapAnswer(service=service(), seats=seats, aisles=[(0, 1, [1]), (2, 11, [2])], lsn=1, as_of_ms=1))


WALKS = [
    ("1A", 1, 0, "1C"),  # over the aisle
    ("1A", -1, 0, "1A"),  # the wall
    ("7D", 0, 1, "8C"),  # 8D is missing: the seat beside it
    ("2D", 0, 1, "3C"),  # another cabin, other columns: the nearest place
    ("12A", 0, 1, "12A"),
]


@pytest.mark.parametrize(("start", "across", "along", "end"), WALKS)
def test_a_step_goes_to_the_next_real_seat(start: str, across: int, along: int, end: str) -> None:
    """Aisles and missing seats are stepped over; at the edge one stays."""
    assert end == cabin().step(start, across, along)


@given(st.lists(st.sampled_from([(1, 0), (-1, 0), (0, 1), (0, -1)]), max_size=60), st.sampled_from(["1A", "5C", "12D"]))
def test_no_walk_leaves_the_seats_and_each_is_drawn_once(steps: list[tuple[int, int]], start: str) -> None:
    """Wherever one goes there is a seat, and the picture holds every seat exactly once within its width."""
    here = cabin()
    at = start
    for across, along in steps:
        at = here.step(at, across, along)
        assert at in here.seats
    drawn = [cell.seat_id for line in here.lines for cell in line.cells]
    assert sorted(drawn) == sorted(here.seats)
    assert all(cell.left + here.pitch <= here.width for line in here.lines for cell in line.cells)


def test_columns_rows_and_names_are_found() -> None:
    """A letter keeps the row where it can, a row number the column, and what is not there is None."""
    here = cabin()
    assert "5B" == here.in_column("5A", "b")
    assert "3B" == here.in_column("1A", "B")
    assert here.in_column("1A", "K") is None
    assert "9C" == here.in_row("5C", "9")
    assert here.in_row("5C", "44") is None
    assert "7C" == here.named("7c") and here.named("99Z") is None


def test_news_changes_exactly_what_changed() -> None:
    """What is not named is free; the seats that differ from before are told, and the nearest free one is in the same cabin."""
    here = cabin()
    assert {"5A", "5B"} == set(here.take([("5A", "held", False, ""), ("5B", "occupied", True, "")]))
    assert ("held", True) == (here.seats["5A"].state, here.seats["5B"].mine)
    assert ["5A"] == here.take([("5B", "occupied", True, "")])
    assert here.nearest_free("5B") in ("5A", "5C")
    here.take([(seat_id, "occupied", False, "") for seat_id, seat in here.seats.items() if seat.cabin == "J"])
    assert here.nearest_free("1A") is None


def test_prices_are_ranked() -> None:
    digits = price_digits(cabin().seats)
    assert ("2", "1") == (digits["1A"], digits["12A"])


def test_a_trip_takes_a_seat_for_each_of_the_party() -> None:
    """One too many replaces the first; what somebody has cannot be chosen, and what is lost is given up."""
    here = cabin()
    trip = Trip.of([service(), service()], 2)
    for seat_id in ("5A", "5B", "5C"):
        assert "" == trip.toggle(0, here.seats[seat_id])
    assert ["5B", "5C"] == [seat.seat_id for seat in trip.segments[0].seats]
    assert not trip.complete and 1 == trip.next_open(0)
    here.take([("6A", "held", False, ""), ("6B", "blocked", False, "crew")])
    assert "held" in trip.toggle(1, here.seats["6A"]) and "crew" in trip.toggle(1, here.seats["6B"])
    trip.toggle(1, here.seats["7A"])
    trip.toggle(1, here.seats["7B"])
    assert trip.complete and trip.next_open(0) is None
    assert [Money(40_000, "USD")] == trip.totals()
    assert ["5B"] == [seat.seat_id for seat in trip.lose(0, ["5B", "9A"])] and 0 == trip.next_open(1)


def hold(remaining_ms: int, state: str = "active") -> HoldAnswer:
    price = Money(100, "USD")
    return HoldAnswer(
        hold_id="AR.1", operator="AR", service_id="AR1-EZE-2026-12-01", seats=["1A"], state=state, created_ms=0, expires_ms=0,
        remaining_ms=remaining_ms, prices=[price], total=price, refundable_percent=80, lsn=1,
    )  # fmt: skip


def test_a_hold_is_announced_once_at_each_bound_and_at_its_end() -> None:
    """Sixty seconds, fifteen, the end: each said once; an extension makes them due again."""
    holds = Holds()
    holds.put(hold(100_000), 0)
    assert [] == holds.tick(39_000)
    assert [60] == [notice.seconds for notice in holds.tick(41_000)]
    assert [] == holds.tick(42_000)
    holds.put(hold(100_000), 50_000)
    assert [60] == [notice.seconds for notice in holds.tick(95_000)]
    assert [15] == [notice.seconds for notice in holds.tick(136_000)]
    assert 14_000 == holds.remaining_ms("AR.1", 136_000)
    assert [0] == [notice.seconds for notice in holds.tick(150_000)]
    assert [] == holds.open() and [] == holds.tick(151_000)


def test_an_ended_hold_is_forgotten() -> None:
    holds = Holds()
    holds.put(hold(100_000), 0)
    holds.put(hold(0, "converted"), 10)
    assert [] == holds.open()
    assert ("15:00", "0:01", "0:00") == (countdown(900_000), countdown(1), countdown(0))


def test_a_list_that_was_asked_for_earlier_does_not_undo_what_was_told_since() -> None:
    """A hold that was given back, booked or extended meanwhile stays so; one that nothing was heard of comes in."""
    for told in (lambda holds: holds.put(hold(0, "released"), 10), lambda holds: holds.drop("AR.1"), lambda holds: holds.expire(hold(0))):
        holds = Holds()
        holds.put(hold(100_000), 0)
        asked = holds.moment
        told(holds)
        holds.found([hold(90_000)], asked, 20)
        assert [] == holds.open()
    holds = Holds()
    holds.found([hold(90_000)], holds.moment, 0)
    assert 90_000 == holds.remaining_ms("AR.1", 0)
    asked = holds.moment
    holds.put(hold(500_000), 10)
    holds.found([hold(90_000)], asked, 20)
    assert 500_000 == holds.remaining_ms("AR.1", 10)
    holds.found([hold(80_000)], holds.moment, 30)
    assert 80_000 == holds.remaining_ms("AR.1", 30)


def test_the_best_side_by_side_are_of_the_cabin_that_was_offered_and_cheap() -> None:
    """A party that was offered economy is never proposed business, though that is further ahead; without room there it is."""
    here = cabin()
    assert ["3A", "3B"] == here.free_run(2, "Y") and ["1C", "1D"] == here.free_run(2, "J")
    assert ["3A", "3B"] == here.free_run(2) and "Y" == here.cheapest() and "3A" == here.first("Y") and "1A" == here.first()
    here.seats["3A"].price = Money(90_000, "USD")
    assert ["3C", "3D"] == here.free_run(2, "Y")
    here.take([(seat_id, "held", False, "") for seat_id, seat in here.seats.items() if seat.cabin == "Y"])
    assert ["1C", "1D"] == here.free_run(2, "Y")
    assert [] == here.free_run(5) and [] == here.free_run(0)


def test_a_narrow_section_stands_in_the_middle() -> None:
    """The picture of a front cabin with fewer seats is as far from the left as from the right, and its seats stay where their cells say."""
    here = cabin()
    front, back = here.lines[here.line_of[0]], here.lines[here.line_of[5]]
    end = front.cells[-1].left - front.indent + here.pitch + here.label_width + 4
    assert 0 == back.indent and front.indent == (here.width - end) // 2 > 0
    assert all(cell.left >= line.indent for line in here.lines for cell in line.cells)


def test_doors_and_galleys_stand_in_the_picture_and_move_no_seat() -> None:
    """A line before the first row and one behind the last; a row's line still holds its seats."""
    seats = list(cabin().seats.values())
    fixtures = [(0, ["door", "galley", "door"]), (2, ["lavatory"]), (12, ["galley"])]
    made = Cabin(SeatMapAnswer(service=service(), seats=seats, aisles=[(0, 1, [1]), (2, 11, [2])], lsn=1, as_of_ms=1, fixtures=fixtures))
    texts = [line.text.strip(" ┄") for line in made.lines if line.text]
    wanted = ["door galley door", "lavatory", "galley"]
    assert [text for text in texts if text in wanted] == wanted
    assert made.lines[-1].text.strip(" ┄") == "galley"
    for seat in made.seats.values():
        assert seat.seat_id in [cell.seat_id for cell in made.lines[made.line_of[seat.y]].cells]
    assert made.width >= max(len(line.text) for line in made.lines)
