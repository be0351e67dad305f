"""Bookings cancelled whole and in part through a whole balancer: as quoted, to the cent, on every leg."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from datastore import errors, messages
from datastore.model import Passenger, SeatState
from datastore.rows import Kind, SeatRow, decode_row
from tests.unit.loadbalancer.scenery import DAY, FLIGHT, OPERATOR_KEY, OTHER, OWNER, Scene, scene
from tests.waiting import wait_until

THERE, ON, BACK = (f"{code}1140-EZE-{DAY}" for code in ("AR", "QR", "LA"))
PARTY = [Passenger("Byron", "Ada"), Passenger("Babbage", "Charles"), Passenger("Lovelace", "Annabella")]


@pytest.fixture
def trips() -> Iterator[Scene]:
    with scene(("AR", "QR", "LA"), hold_ttl_ms=60_000) as made:
        yield made


def confirm(made: Scene, held: messages.HoldAnswer) -> messages.OrderAnswer:
    people = PARTY[: len(held.seats)]
    answer = made.ask(
        "confirm", messages.ConfirmHold(request_id=made.request_id(), owner_key=OWNER, hold_id=held.hold_id, passengers=people)
    )
    assert isinstance(answer, messages.OrderAnswer)
    return answer


def trip(made: Scene, **seats: str) -> messages.OrderAnswer:
    """Book seats, e.g. "3A 3B", on the flights of the operators named."""
    legs = [messages.LegWish(service_id=f"{code}1140-EZE-{DAY}", seats=words.split()) for code, words in seats.items()]
    held = made.ask("hold_trip", messages.HoldTrip(request_id=made.request_id(), owner_key=OWNER, legs=legs))
    assert isinstance(held, messages.HoldAnswer)
    return confirm(made, held)


def quoted(made: Scene, order: messages.OrderAnswer, **part: object) -> messages.QuoteAnswer:
    request = messages.QuoteCancel(reference=order.reference, token=order.manage_token, **part)  # type: ignore[arg-type]
    answer = made.ask("quote_cancel", request)
    assert isinstance(answer, messages.QuoteAnswer)
    return answer


def cancel(made: Scene, order: messages.OrderAnswer, quote: str = "", request_id: str = "") -> messages.OrderAnswer:
    request = messages.CancelOrder(
        request_id=request_id or made.request_id(), reference=order.reference, token=order.manage_token, quote=quote
    )
    answer = made.ask("cancel", request)
    assert isinstance(answer, messages.OrderAnswer)
    return answer


def looked_up(made: Scene, order: messages.OrderAnswer) -> messages.OrderAnswer:
    answer = made.ask("order", messages.GetOrder(reference=order.reference, token=order.manage_token))
    assert isinstance(answer, messages.OrderAnswer)
    return answer


def taken(made: Scene, operator: str) -> set[str]:
    rows = made.managers.operators[operator].rows.scan(Kind.SEAT)
    found = {key.rpartition("/")[2]: decode_row(Kind.SEAT, value) for key, value in rows}
    return {seat for seat, row in found.items() if isinstance(row, SeatRow) and row.state != SeatState.FREE}


def wait_taken(made: Scene, **seats: str) -> None:
    """Wait until just these seats are taken, and no operator has anything left to follow."""
    wanted = {code: set(words.split()) for code, words in seats.items()}
    operators = made.managers.operators
    wait_until(
        lambda: all(taken(made, code) == words for code, words in wanted.items())
        and not any(one.state.baskets or one.state.legs for one in operators.values()),
        f"just {wanted} to be taken",
        30,
    )


def manifest(made: Scene, service_id: str) -> dict[str, str]:
    answer = made.ask("manifest", messages.Manifest(operator_key=OPERATOR_KEY, service_id=service_id))
    assert isinstance(answer, messages.ManifestAnswer)
    return {line.seat_id: line.surname for line in answer.lines}


def test_a_quote_is_by_leg_and_passenger_and_accepting_does_just_that(trips: Scene) -> None:
    """Nothing happens by asking; then exactly the quoted amount goes back, and the seats of every leg are on sale."""
    order = trip(trips, AR="3A 3B", QR="4A 4B")
    quote = quoted(trips, order)
    assert [(line.leg, line.passenger, line.seat, line.name) for line in quote.lines] == [
        (1, 1, "3A", "Ada Byron"), (1, 2, "3B", "Charles Babbage"), (2, 1, "4A", "Ada Byron"), (2, 2, "4B", "Charles Babbage"),
    ]
    assert sum(line.refund.minor for line in quote.lines) == quote.refund.minor < quote.given_up.minor == order.total.minor
    assert quote.retained.minor == order.total.minor - quote.refund.minor
    wait_taken(trips, AR="3A 3B", QR="4A 4B")
    done = cancel(trips, order, quote.quote)
    assert (done.state, done.refund, done.available_actions) == ("cancelled", quote.refund, [])
    wait_taken(trips, AR="", QR="")
    with pytest.raises(errors.AlreadyCancelled):
        quoted(trips, order)


def test_one_passenger_leaves_every_leg(trips: Scene) -> None:
    """The others stay where they sit, at every operator; what went back in parts is what the whole gives back."""
    order = trip(trips, AR="3A 3B 3C", QR="4A 4B 4C", LA="5A 5B 5C")
    whole = quoted(trips, order).refund.minor
    first = quoted(trips, order, passengers=[2])
    left = cancel(trips, order, first.quote)
    assert (left.state, left.refund, left.seats) == ("confirmed", first.refund, ["3A", "3C"])
    assert [leg.seats for leg in left.legs] == [["3A", "3C"], ["4A", "4C"], ["5A", "5C"]]
    assert [one.surname for one in left.passengers] == ["Byron", "Lovelace"]
    assert left.history[-1][1] == "passenger 2 cancelled"
    wait_taken(trips, AR="3A 3C", QR="4A 4C", LA="5A 5C")
    assert manifest(trips, THERE) == {"3A": "Byron", "3C": "Lovelace"}
    assert manifest(trips, ON) == {"4A": "Byron", "4C": "Lovelace"}
    assert trips.hold("4B", owner=OTHER, service=ON).seats == ["4B"]
    rest = cancel(trips, order, quoted(trips, order).quote)
    assert rest.refund is not None and rest.refund.minor == whole
    wait_taken(trips, AR="", QR="4B", LA="")


def test_one_leg_is_given_up_whoever_operates_it(trips: Scene) -> None:
    """The anchor's own, or another's: the rest of the trip stands; the last leg left is an order like any other."""
    order = trip(trips, AR="3A 3B", QR="4A 4B", LA="5A 5B")
    cancel(trips, order, quoted(trips, order, legs=[2]).quote)
    wait_taken(trips, AR="3A 3B", QR="", LA="5A 5B")
    left = cancel(trips, order, quoted(trips, order, legs=[1]).quote)
    assert [leg.service_id for leg in left.legs] == [BACK]
    assert "cancel_leg" not in left.available_actions and "cancel_passenger" in left.available_actions
    wait_taken(trips, AR="", QR="", LA="5A 5B")
    assert looked_up(trips, order).service_id == BACK
    assert cancel(trips, order).state == "cancelled"
    wait_taken(trips, AR="", QR="", LA="")


def test_one_passenger_of_one_service(trips: Scene) -> None:
    """An order that is no trip is changed in the same way."""
    order = confirm(trips, trips.hold("3A", "3B"))
    left = cancel(trips, order, quoted(trips, order, passengers=[1]).quote)
    assert (left.seats, [one.surname for one in left.passengers]) == (["3B"], ["Babbage"])
    wait_taken(trips, AR="3B")
    assert manifest(trips, FLIGHT) == {"3B": "Babbage"}
    assert cancel(trips, order).state == "cancelled"
    wait_taken(trips, AR="")


def test_a_quote_that_is_no_longer_true_is_refused_with_the_new_one(trips: Scene) -> None:
    """Whoever was faster changed the booking: nothing is done, and the refusal has what it comes to now."""
    order = trip(trips, AR="3A 3B", QR="4A 4B")
    slow = quoted(trips, order)
    cancel(trips, order, quoted(trips, order, passengers=[1]).quote)
    with pytest.raises(errors.QuoteExpired) as refusal:
        cancel(trips, order, slow.quote)
    wait_taken(trips, AR="3B", QR="4B")
    done = cancel(trips, order, refusal.value.fields["quote"])
    assert done.state == "cancelled" and done.refund == slow.refund


def test_accepting_again_is_told_the_first_answer(trips: Scene) -> None:
    """The answer was lost: the same request gives up nothing more."""
    order = trip(trips, AR="3A 3B", QR="4A 4B")
    quote, request_id = quoted(trips, order, passengers=[1]).quote, trips.request_id()
    first = cancel(trips, order, quote, request_id)
    again = cancel(trips, order, quote, request_id)
    assert (again.seats, again.refund) == (first.seats, first.refund)
    with pytest.raises(errors.QuoteExpired):
        cancel(trips, order, quote)
    wait_taken(trips, AR="3B", QR="4B")


def test_what_cannot_be_cancelled_is_told(trips: Scene) -> None:
    """Numbers that the booking has not, both kinds at once, another's quote, a text that is none, another's token."""
    order, other = trip(trips, AR="3A 3B", QR="4A 4B"), trip(trips, AR="5A", QR="5B")
    for part in ({"legs": [3]}, {"passengers": [3]}, {"legs": [1], "passengers": [1]}, {"full": True}):
        with pytest.raises(errors.InvalidRequest):
            quoted(trips, order, **part)
    for word in (quoted(trips, other).quote, "not-a-quote", "AAAA"):
        with pytest.raises(errors.InvalidRequest):
            cancel(trips, order, word)
    with pytest.raises(errors.UnknownOrder):
        trips.ask("quote_cancel", messages.QuoteCancel(reference=order.reference, token="0" * 32))
    wait_taken(trips, AR="3A 3B 5A", QR="4A 4B 5B")


def test_a_part_of_a_dead_balancers_sale_is_finished_by_another(trips: Scene) -> None:
    """A passenger leaves before the other operators have heard of the sale at all: they end with what is left."""
    legs = [messages.LegWish(service_id=service_id, seats=["3A", "3B"]) for service_id in (THERE, ON)]
    with scene(managers=trips.managers, reconciles=False) as dead:
        dead.server.reconciler.close()
        held = dead.ask("hold_trip", messages.HoldTrip(request_id=dead.request_id(), owner_key=OWNER, legs=legs))
        assert isinstance(held, messages.HoldAnswer)
        trips.server.reconciler.close()
        order = confirm(dead, held)
        cancel(dead, order, quoted(dead, order, passengers=[1]).quote)
        assert taken(trips, "QR") == {"3A", "3B"}
    with scene(managers=trips.managers) as third:
        wait_taken(third, AR="3B", QR="3B")
