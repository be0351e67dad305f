"""What people are told besides the answer: hints, and why a hold's time is not what was asked."""

from io import StringIO

import pytest
from rich.cells import cell_len
from rich.console import Console

from client import show_search
from client.commands_selling import _not_as_asked
from client.terminal import hints
from datastore.errors import SeatUnavailable
from datastore.messages import HoldAnswer
from datastore.model import Money
from tests.client.fake import FakeClient

MINUTE = 60_000


def held(remaining_ms: int, state: str = "active") -> HoldAnswer:
    """Return a hold made ten minutes ago."""
    return HoldAnswer(
        hold_id="AR.h", operator="AR", service_id="AR1-EZE-2026-12-01", seats=["1A"], state=state, created_ms=0,
        expires_ms=10 * MINUTE + remaining_ms, remaining_ms=remaining_ms, prices=[], total=Money(1, "USD"), refundable_percent=0, lsn=1,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("remaining_ms", "asked_ms", "said"),
    [
        (20 * MINUTE, 120 * MINUTE, "a hold ends 30 min after it was made at the latest: 20 min are left, not 2 h"),
        (12 * MINUTE, MINUTE, "the hold lasts longer than that already and is not shortened: 12 min are left"),
        (15 * MINUTE - 400, 15 * MINUTE, ""),
        (15 * MINUTE, 15 * MINUTE, ""),
    ],
)
def test_a_time_that_is_not_as_asked_is_explained(remaining_ms: int, asked_ms: int, said: str) -> None:
    """Neither the limit nor a longer time that stays is passed over in silence."""
    assert said == _not_as_asked(held(remaining_ms), asked_ms)


def test_a_hint_names_the_service() -> None:
    """A command in a hint can be copied as it stands."""
    known = SeatUnavailable("taken", service_id="AR1-EZE-2026-12-01")
    assert ["see what is left with: holdfast seats AR1-EZE-2026-12-01"] == hints(known)
    assert ["see what is left with: holdfast seats SERVICE"] == hints(SeatUnavailable("taken"))


@pytest.mark.parametrize("width", [60, 80, 99, 100, 140])
def test_a_trip_of_two_services_stays_within_the_terminal(width: int) -> None:
    """No line is broken by the terminal; each service is whole, below the one before it where both have no room on one line."""
    fake, said = FakeClient(), StringIO()
    show_search.trips(Console(file=said, width=width), fake.search("EZE", "MIA", "2026-12-01"))
    table = said.getvalue().split("\n\n")[0]  # Below it stands how to hold a trip: a sentence, which may be broken.
    assert all(service in table and "246.00 USD" in table and "cheapest" in table for service in fake.found)
    assert all(cell_len(line) <= width for line in table.splitlines())
