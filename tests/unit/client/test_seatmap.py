"""The seat map as text: glyphs, aisles, exits, widths."""

from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client import seatmap
from datastore.messages import SeatInfo, SeatMapAnswer, ServiceInfo
from datastore.model import Layout, LayoutSpec, Money, Section
from loadbalancer.answers import fixtures

SERVICE = ServiceInfo(
    "AA1-JFK-2026-12-01", "AA", "American", "airline", "JFK", "Kennedy", "MIA", "Miami", "2026-12-01", "", "", 0, 0, 0, "", "738", "737",
    "open", 0, 0, None, "brief", "formula",
)  # fmt: skip
JET = LayoutSpec(
    "738",
    "Boeing 737",
    (
        Section("F", "", ("1", "2"), ("A", "B", "", "E", "F")),
        Section("Y", "X", ("10",), ("A", "B", "C", "", "D", "E", "F"), missing=("10A",), exit_rows=("10",)),
        Section("Y", "S", ("11", "12"), ("A", "B", "C", "", "D", "E", "F")),
    ),
)
HALL = LayoutSpec("H", "Hall", (Section("STALLS", "A", tuple("ABC"), (*map(str, range(1, 11)), "", *map(str, range(11, 41)))),))


def answer(spec: LayoutSpec, states: Mapping[str, str] | None = None, mine: tuple[str, ...] = ()) -> SeatMapAnswer:
    """Return what a balancer answers for a layout, with the states given."""
    seats = [
        SeatInfo(
            seat.seat_id, seat.designator, (states or {}).get(seat.seat_id, "available"), seat.seat_id in mine, seat.cabin, seat.zone,
            seat.row, seat.column, seat.x, seat.y, seat.window, seat.aisle, seat.exit, seat.accessible,
            Money(10_000 if seat.zone == "X" else 20_000, "USD"),
        )
        for seat in Layout(spec).seats
    ]  # fmt: skip
    aisles, y = [], 0
    for section in spec.sections:
        aisles.append((y, y + len(section.rows) - 1, [x for x, column in enumerate(section.columns) if not column]))
        y += len(section.rows)
    return SeatMapAnswer(service=SERVICE, seats=seats, aisles=aisles, lsn=1, as_of_ms=0, fixtures=fixtures(Layout(spec)))


def test_the_whole_map_of_a_small_jet() -> None:
    """Cabins with headings, an aisle as a gap, the exit marked, a missing seat empty, each state its own glyph."""
    states = {"1A": "held", "1B": "occupied", "11D": "blocked", "12A": "held"}
    drawn = seatmap.text(seatmap.draw(answer(JET, states, mine=("12A",))))
    assert """\
First  6 of 8 free
    A B    E F
1   ◐ ×    · ·   1
2   · ·    · ·   2

Economy  15 of 17 free
     A B C    D E F
10 »   · ·    · · · « 10
11   · · ·    ▒ · ·   11
12   ● · ·    · · ·   12

· free 21   ◐ held 1   × taken 1   ● yours 1   ▒ blocked 1   » « exit row
First                              200.00 USD   6 of 8 free
Economy, zone X                    100.00 USD   5 of 5 free
Economy, zone S                    200.00 USD   10 of 12 free""" == drawn


def test_every_seat_is_drawn_once_with_the_glyph_of_its_state() -> None:
    """Colour only repeats what the glyph says: without it the map counts the same."""
    states = {"1A": "held", "1B": "occupied", "2A": "occupied", "11D": "blocked"}
    lines = seatmap.draw(answer(JET, states))
    spans = [span for line in lines[: len(lines) - 4] for span in line if span.text in seatmap.GLYPHS.values()]
    counted = {role: sum(span.role == role for span in spans) for role in seatmap.GLYPHS}
    assert {"free": 21, "accessible": 0, "held": 1, "taken": 2, "yours": 0, "blocked": 1} == counted
    assert all(seatmap.GLYPHS[span.role] == span.text for span in spans)


@pytest.mark.parametrize("width", [24, 40, 60, 80, 120, 200])
def test_a_wide_hall_fits_any_terminal(width: int) -> None:
    """Spaced where there is room, compact where not, in blocks of columns where even that is too wide."""
    drawn = seatmap.draw(answer(HALL), width)
    seats = ["".join(span.text for span in line) for line in drawn if any(span.text == "·" for span in line)][:-1]
    assert 120 == sum(line.count("·") for line in seats)
    assert all(len(line) <= width for line in seats), max(len(line) for line in seats)


@settings(max_examples=40, deadline=None)
@given(
    rows=st.integers(1, 12),
    columns=st.lists(st.booleans(), min_size=1, max_size=60).filter(any),
    width=st.integers(20, 140),
)
def test_any_layout_at_any_width_loses_no_seat(rows: int, columns: list[bool], width: int) -> None:
    """However a hall is cut into blocks, each seat is drawn exactly once and no line is too long."""
    names = tuple(str(number) if seat else "" for number, seat in enumerate(columns, 1))
    spec = LayoutSpec("P", "P", (Section("Y", "", tuple(f"R{row}X" for row in range(rows)), names),))
    whole = answer(spec)
    lines = seatmap.draw(whole, width)
    body = lines[: lines.index([])]
    assert len(whole.seats) == sum(span.text == "·" for line in body for span in line)
    assert all(len("".join(span.text for span in line)) <= width for line in body[1:])


def test_rows_of_a_prefixed_section_are_labelled_as_their_seats_are() -> None:
    """What is read off the map can be typed: the circle's A5 is CIRA5."""
    spec = LayoutSpec(
        "H",
        "Hall",
        (
            Section("STALLS", "A", ("A", "B"), ("1", "2")),
            Section("CIRCLE", "A", ("A", "B"), ("1", "2", "", "3"), accessible=("CIRA3",), prefix="CIR"),
        ),
    )
    drawn = seatmap.text(seatmap.draw(answer(spec)))
    assert """\
Circle  6 of 6 free   seats CIRA1 to CIRB3
       1 2    3
CIRA   · ·    &   CIRA
CIRB   · ·    ·   CIRB

· free 10   & of them accessible 1""" in drawn
    assert "A   · ·   A" in drawn


def test_cabins_have_names_for_people() -> None:
    """A letter of an airline and a word of a theatre both read well."""
    assert ["Business", "Stalls", "Q"] == [seatmap.cabin_name(word) for word in ("J", "STALLS", "Q")]


def test_doors_and_galleys_are_drawn_where_they_stand() -> None:
    """Before the first row, between cabins, behind the last row; two parts of one cabin with a galley between them are drawn apart."""
    spec = LayoutSpec(
        "L",
        "L",
        (
            Section("J", "A", ("1",), ("A", "", "B", "C", "", "D"), ahead=("door", "galley", "door")),
            Section("Y", "A", ("2", "3"), ("A", "B", "", "C", "D", "", "E", "F")),
            Section("Y", "A", ("4",), ("A", "B", "", "C", "D", "", "E", "F"), ahead=("lavatory",)),
        ),
        behind=("galley",),
    )
    drawn = seatmap.text(seatmap.draw(answer(spec)))
    assert """\
Business  4 of 4 free
    door galley door
    A    B C    D
1   ·    · ·    ·   1

Economy  12 of 12 free
    A B    C D    E F
2   · ·    · ·    · ·   2
3   · ·    · ·    · ·   3

Economy  6 of 6 free
    ┄┄┄┄ lavatory ┄┄┄
    A B    C D    E F
4   · ·    · ·    · ·   4
    ┄┄┄┄┄ galley ┄┄┄┄
""" in drawn


@given(st.lists(st.sampled_from(["door", "galley", "lavatory", "stage"]), min_size=1, max_size=8), st.integers(1, 80))
def test_fixtures_fill_the_width_in_their_order(words: list[str], width: int) -> None:
    """Every word stands there once, in order; the line is as wide as asked, or as the words need."""
    line = seatmap.fixture_line(words, width)
    assert [word for word in line.replace(seatmap.WALL, " ").split() if word] == words
    assert len(line) == width or line == " ".join(words)
