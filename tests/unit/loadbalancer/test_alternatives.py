"""A service is cancelled or moved: whose booking it is, is asked, offered other ways, and pays or gets back what is right."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from datastore import errors, messages
from tests.unit.loadbalancer.scenery import DAY, FLIGHT, OPERATOR_KEY, Scene, scene
from tests.unit.loadbalancer.test_changing import BACK, ON, THERE, cancel, confirm, looked_up, manifest, quoted, trip, wait_taken
from tests.unit.loadbalancer.test_rebooking import change
from tests.waiting import wait_until


@pytest.fixture
def trips() -> Iterator[Scene]:
    with scene(("AR", "QR", "LA"), hold_ttl_ms=60_000) as made:
        yield made


def take_away(made: Scene, service_id: str, state: str = "cancelled", reason: str = "strike") -> messages.ServiceChanged:
    request = messages.ChangeService(
        request_id=made.request_id(), operator_key=OPERATOR_KEY, service_id=service_id, state=state, reason=reason, ask_travellers=True
    )
    answer = made.ask("change_service", request)
    assert isinstance(answer, messages.ServiceChanged)
    return answer


def wait_asked(made: Scene, order: messages.OrderAnswer, why: str) -> messages.OrderAnswer:
    wait_until(lambda: why in looked_up(made, order).action_required, f"the traveller to be asked: {why}", 30)
    return looked_up(made, order)


def affected(made: Scene, service_id: str) -> list[messages.AffectedLine]:
    answer = made.ask("affected", messages.Affected(operator_key=OPERATOR_KEY, service_id=service_id))
    assert isinstance(answer, messages.AffectedAnswer)
    return answer.lines


def others(made: Scene, order: messages.OrderAnswer, leg: int = 0, request_id: str = "") -> messages.AlternativesAnswer:
    request = messages.FindAlternatives(
        request_id=request_id or made.request_id(), reference=order.reference, token=order.manage_token, leg=leg, deadline_ms=20_000
    )
    answer = made.ask("alternatives", request)
    assert isinstance(answer, messages.AlternativesAnswer)
    return answer


def test_a_booking_of_a_cancelled_flight_stands_until_its_traveller_says(trips: Scene) -> None:
    """Other ways are found over all operators and held at no charge; one is taken, and the booking goes on with it."""
    order = confirm(trips, trips.hold("3A", "3B"))
    changed = take_away(trips, FLIGHT)
    assert (changed.orders_asked, changed.orders_cancelled) == ([order.reference], [])
    asked = wait_asked(trips, order, "strike")
    assert (asked.state, asked.affected, asked.total) == ("confirmed", [FLIGHT], order.total)
    assert {"accept_alternative", "refund"} <= set(asked.available_actions)
    assert [(line.reference, line.asked) for line in affected(trips, FLIGHT)] == [(order.reference, True)]
    request_id = trips.request_id()
    found = others(trips, order, request_id=request_id)
    assert found.lost == FLIGHT and len(found.alternatives) == 3
    assert all(sum(leg.total.minor for leg in one.legs) == order.total.minor for one in found.alternatives)
    again = others(trips, order, request_id=request_id)
    assert [one.hold_id for one in again.alternatives] == [one.hold_id for one in found.alternatives]
    chosen = found.alternatives[0]
    taken = change(trips, order, chosen.quote)
    assert (taken.action_required, taken.service_id, taken.total) == ("", chosen.legs[0].service_id, order.total)
    assert change(trips, order, chosen.quote).service_id == taken.service_id
    with pytest.raises(errors.QuoteExpired):
        change(trips, order, found.alternatives[1].quote)
    assert manifest(trips, FLIGHT) == {}
    assert set(manifest(trips, taken.service_id).values()) == {"Byron", "Babbage"}
    with pytest.raises(errors.InvalidRequest):
        others(trips, order)


@pytest.mark.parametrize("service_id", [THERE, ON, BACK])
def test_the_whole_price_comes_back_whichever_leg_was_lost(trips: Scene, service_id: str) -> None:
    """Whatever the fare says, for all legs; and never without a loss."""
    order = trip(trips, AR="3A 3B", QR="4A 4B", LA="5A 5B")
    with pytest.raises(errors.InvalidRequest):
        quoted(trips, order, full=True)
    take_away(trips, service_id)
    wait_asked(trips, order, "strike")
    wait_taken(trips, AR="3A 3B", QR="4A 4B", LA="5A 5B")
    ordinary, whole = quoted(trips, order), quoted(trips, order, full=True)
    assert ordinary.refund.minor < whole.refund.minor == order.total.minor
    done = cancel(trips, order, whole.quote)
    assert (done.state, done.refund, done.action_required) == ("cancelled", order.total, "")
    wait_taken(trips, AR="", QR="", LA="")


def test_another_operators_leg_is_replaced_and_the_rest_stands(trips: Scene) -> None:
    """The loss is told through the anchor; what comes in fits between the legs that stay."""
    order = trip(trips, AR="3A 3B", QR="4A 4B")
    take_away(trips, ON)
    wait_asked(trips, order, "strike")
    assert [(line.decided_by, line.asked) for line in affected(trips, ON)] == [("AR", True)]
    found = others(trips, order)
    assert (found.leg, found.lost) == (2, ON)
    taken = change(trips, order, found.alternatives[0].quote)
    assert taken.legs[0].seats == ["3A", "3B"] and taken.legs[1].service_id != ON
    assert taken.total == order.total
    wait_until(lambda: manifest(trips, ON) == {}, "the lost leg given up", 30)
    wait_until(lambda: set(manifest(trips, taken.legs[1].service_id).values()) == {"Byron", "Babbage"}, "the new leg booked", 30)


def test_a_moved_flight_may_be_kept(trips: Scene) -> None:
    """It goes on selling; a traveller keeps it, and one of a cancelled flight cannot."""
    order, other = confirm(trips, trips.hold("3A")), trip(trips, QR="4A", LA="4A")
    assert take_away(trips, FLIGHT, "moved", "leaves at 14:20").state == "open"
    wait_asked(trips, order, "14:20")
    keep = messages.KeepOrder(request_id=trips.request_id(), reference=order.reference, token=order.manage_token)
    kept = trips.ask("keep", keep)
    assert isinstance(kept, messages.OrderAnswer) and kept.action_required == "" and kept.history[-1][1] == "kept as it is"
    assert trips.hold("5A").seats == ["5A"]
    take_away(trips, ON)
    wait_asked(trips, other, "strike")
    with pytest.raises(errors.ServiceClosed):
        trips.ask("keep", messages.KeepOrder(request_id=trips.request_id(), reference=other.reference, token=other.manage_token))


def test_who_is_not_asked_is_refunded_at_once(trips: Scene) -> None:
    """Without the question bookings are cancelled as ever; and the question is for cancelled and moved services alone."""
    order = trip(trips, AR="3A", QR="4A")
    request = messages.ChangeService(request_id=trips.request_id(), operator_key=OPERATOR_KEY, service_id=ON, state="cancelled")
    trips.ask("change_service", request)
    wait_until(lambda: looked_up(trips, order).state == "cancelled", "the booking cancelled", 30)
    assert looked_up(trips, order).refund == order.total
    for state in ("closed", "open", "lost"):
        with pytest.raises(errors.InvalidRequest):
            take_away(trips, f"LA1140-EZE-{DAY}", state)
