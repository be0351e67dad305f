"""Trips as bars: every bar has its width, its parts in order, and all bars one clock."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from client.tui import timeline
from datastore.messages import Layover, ServiceInfo, Trip, TripLeg
from datastore.model import Money

HOUR_MS = 3_600_000
PRICE = Money(10_000, "USD")


def service(operator: str, departs_ms: int, arrives_ms: int) -> ServiceInfo:
    return ServiceInfo(
        service_id=f"{operator}1-AAA-2026-12-01", operator=operator, operator_name=operator, kind="airline", origin="AAA",
        origin_name="A", destination="BBB", destination_name="B", date="2026-12-01", departs="2026-12-01T00:00:00+00:00",
        arrives="2026-12-01T01:00:00+00:00", departs_ms=departs_ms, arrives_ms=arrives_ms, duration_min=60, title="", layout_id="x",
        layout_name="x", state="open", free=1, capacity=1, from_price=PRICE, dataset="d", price_label="formula",
    )  # fmt: skip


def trip(*legs: tuple[str, int, int]) -> Trip:
    """Return a trip of (operator, departs, arrives) legs, hours from the start of time."""
    services = [service(operator, begin * HOUR_MS, end * HOUR_MS) for operator, begin, end in legs]
    waits = [
        Layover(
            place="GRU", place_name="G", minutes=(after.departs_ms - before.arrives_ms) // 60_000, least_min=30,
            changes_airline=before.operator != after.operator, overnight=False,
        )
        for before, after in pairwise(services)
    ]  # fmt: skip
    return Trip(
        offer="o", expires_ms=0, origin="AAA", destination="ZZZ", departs=services[0].departs, arrives=services[-1].arrives,
        departs_ms=services[0].departs_ms, arrives_ms=services[-1].arrives_ms, days_later=0, duration_min=65, stops=len(legs) - 1,
        legs=[TripLeg(service=one, parts=[], total=PRICE, seats_left=3, refundable_percent=0) for one in services], layovers=waits,
        airlines=[], changes_airline=False, seats_left=3, total=PRICE, refundable_percent=80, why="cheapest",
    )  # fmt: skip


def test_a_change_of_airline_is_another_role_and_the_wait_names_its_place() -> None:
    """What changes is seen without reading: line, dots with the place, another line."""
    drawn = timeline.bar(trip(("AR", 0, 10), ("QR", 20, 40)), (0, 40 * HOUR_MS), 40)
    assert [timeline.FLYING, timeline.WAITING, timeline.CHANGED] == [piece.role for piece in drawn]
    assert ["━━━━AR━━━━", "┄┄┄GRU┄┄┄┄", "━━━━━━━━━QR━━━━━━━━━"] == [piece.text for piece in drawn]


def test_all_bars_share_one_clock() -> None:
    """Who leaves later begins further right."""
    early, late = trip(("AR", 0, 5)), trip(("AR", 5, 10))
    span = timeline.stretch([early, late])
    assert (0, 10 * HOUR_MS) == span
    assert 0 == leading(timeline.bar(early, span, 20)) and 10 == leading(timeline.bar(late, span, 20))


def leading(pieces: list[timeline.Piece]) -> int:
    text = "".join(piece.text for piece in pieces)
    return len(text) - len(text.lstrip())


@given(st.lists(st.integers(0, 100), min_size=2, max_size=8).map(sorted), st.integers(0, 300))
def test_a_bar_is_exactly_as_wide_as_asked(hours: list[int], width: int) -> None:
    """Whatever the times, a line of the list never breaks; the least width is the module's own."""
    pairs = list(zip(hours[::2], hours[1::2], strict=False))
    one = trip(*(("AR", begin, end) for begin, end in pairs))
    drawn = timeline.bar(one, timeline.stretch([one]), width)
    assert max(width, timeline.WIDTH_MIN) == sum(len(piece.text) for piece in drawn)


def test_words() -> None:
    """The route names waits with their hours; changes and conditions are told in words."""
    one = trip(("AR", 0, 10), ("QR", 12, 40))
    assert "AAA → GRU 2h00! → ZZZ" == timeline.route_words(one)
    assert "1 stop" == timeline.stops_words(one)
    assert "cheapest; changes airline in GRU; 80 % back" == timeline.terms_words(one)


@given(st.integers(0, 47), st.integers(1, 60), st.integers(12, 200))
def test_the_clock_names_moments_where_the_bars_have_them(begin: int, length: int, width: int) -> None:
    """Each mark stands where a departure at that hour would begin its bar; none is cut off, and none stands on another."""
    found = trip(("AR", begin, begin + length))
    found.departs = f"2026-12-01T{begin % 24:02d}:00:00+00:00"
    line = timeline.clock([found], width)
    assert len(line) <= max(width, timeline.WIDTH_MIN)
    for place in (place for place, character in enumerate(line) if character == "╷"):
        label = line[place + 1 :].split(" ")[0].split("╷")[0]
        hour, _, days = label.partition(":00")
        moment = int(hour) + 24 * int(days or 0)
        assert place == round((moment - begin % 24) * max(width, timeline.WIDTH_MIN) / length)
