"""Parties of adults, children and infants through a whole balancer: what they pay, where they may sit, what each operator learns."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.show_search import party_words
from datastore import messages
from datastore.conditions import laps_of
from datastore.errors import InvalidRequest, OrderNotPayable, PaymentDeclined
from datastore.model import Document, Layout, Leg, Passenger, Schedule
from datastore.passengers import TYPES, check_party, seated
from loadbalancer.alternatives import at_no_charge
from loadbalancer.fares import typed_fares
from loadbalancer.parties import nearest_off_exit
from loadbalancer.travellers import leg_record, order_record, passengers_of, record_digest
from tests.unit.loadbalancer.scenery import CABIN, DAY, FLIGHT, OPERATOR_KEY, OWNER, SCHEDULE, Scene, scene
from tests.unit.loadbalancer.test_changing import cancel, quoted
from tests.unit.loadbalancer.test_paying import Till, till
from tests.unit.loadbalancer.test_rebooking import change, offered

__all__ = ["till"]

ANA = Passenger("Díaz", "Ana", document=Document("ARG", "AB123456"), loyalty=("AR1234567",), requests=("VGML",))
TOM = Passenger("Díaz", "Tom", type="CHD", born="2019-05-01")
EVA = Passenger("Díaz", "Eva", type="INF")
LEGS = [f"{code}1140-EZE-{DAY}" for code in ("AR", "QR")]


def confirm(here: Scene, hold_id: str, *people: Passenger, request_id: str = "", card: str = "") -> messages.OrderAnswer:
    request = messages.ConfirmHold(
        request_id=request_id or here.request_id(), owner_key=OWNER, hold_id=hold_id, passengers=list(people), payment_method=card
    )
    answer = here.ask("confirm", request)
    assert isinstance(answer, messages.OrderAnswer)
    return answer


def test_children_and_infants_pay_their_share() -> None:
    """As quoted before: 75 % for a child, 10 % more for the adult with an infant; the order, its repeat and its refund agree."""
    with scene() as here:
        held = here.hold("3A", "3B")
        priced: Any = here.ask("price_party", messages.PriceParty(owner_key=OWNER, hold_id=held.hold_id, passengers=[ANA, TOM, EVA]))
        adult = held.prices[0].minor
        expected = [adult + (adult * 10 + 50) // 100, (adult * 75 + 50) // 100]
        assert expected == [price.minor for price in priced.legs[0].prices] and sum(expected) == priced.total.minor
        request_id = here.request_id()
        order = confirm(here, held.hold_id, ANA, TOM, EVA, request_id=request_id)
        assert (expected, sum(expected)) == ([price.minor for price in order.prices], order.total.minor)
        seats = [(one.given, one.seat_id, one.with_adult) for one in order.passengers]
        assert [("Ana", "3A", 0), ("Tom", "3B", 0), ("Eva", "", 1)] == seats
        again = confirm(here, held.hold_id, ANA, TOM, EVA, request_id=request_id)
        assert (order.reference, order.total, order.receipt) == (again.reference, again.total, again.receipt)
        cancel = messages.CancelOrder(request_id=here.request_id(), reference=order.reference, token=order.manage_token)
        gone: Any = here.ask("cancel", cancel)
        assert gone.refund.minor == sum(expected) * order.refundable_percent // 100


def test_the_manifest_has_what_the_operator_needs_and_a_surname_shows_none_of_it() -> None:
    """Types, documents, requests; the infant at its adult's seat; seats are counted without laps."""
    with scene() as here:
        order = confirm(here, here.hold("3A", "3B").hold_id, ANA, TOM, EVA)
        found: Any = here.ask("manifest", messages.Manifest(operator_key=OPERATOR_KEY, service_id=FLIGHT))
        assert [("3A", "ADT", "Ana"), ("3A", "INF", "Eva"), ("3B", "CHD", "Tom")] == [
            (line.seat_id, line.type, line.given) for line in found.lines
        ]
        assert (ANA.document, ("VGML",)) == (found.lines[0].document, found.lines[0].requests)
        assert found.free + 2 == found.service.capacity
        reduced: Any = here.ask("order", messages.GetOrder(reference=order.reference, surname="Diaz"))
        assert all((one.document, one.born, one.loyalty, one.requests) == (None, "", (), ()) for one in reduced.passengers)


def test_nobody_sits_at_an_exit_who_may_not() -> None:
    """A child, an adult with an infant, one who needs assistance: each refused with the nearest free seat off the exit; the hold stays."""
    with scene() as here:
        here.hold("4A", owner="another-owner-of-seats")
        held = here.hold("5A", "6B")
        assert here.server.balancer.follower.wait_for("AR", held.lsn, 5_000)
        wheels = Passenger("Díaz", "Ana", requests=("WCHR",))
        for people, why in (((TOM, ANA), "no child"), ((ANA, TOM, EVA), "infant on the lap"), ((wheels, ANA), "WCHR")):
            with pytest.raises(InvalidRequest, match=why) as refused:
                confirm(here, held.hold_id, *people)
            assert (["6A"], "5A") == (refused.value.fields["nearest"], refused.value.fields["seat"])
        assert "confirmed" == confirm(here, held.hold_id, ANA, TOM).state


def test_ages_and_parties_are_checked_before_anything_is_sold() -> None:
    """Two infants and one adult, a child of twenty, a party of another size."""
    with scene() as here:
        held = here.hold("3A")
        old = Passenger("Díaz", "Tom", type="CHD", born="1990-01-01")
        size = "1 seat and 2 passengers"
        for people, why in (((ANA, EVA, EVA), "needs one"), ((old,), "no adult"), ((ANA, TOM), size), ((EVA,), "0 pass")):
            with pytest.raises(InvalidRequest, match=why):
                confirm(here, held.hold_id, *people)
        two = here.hold("4A", "4B")
        with pytest.raises(InvalidRequest, match="ADT, not CHD"):
            confirm(here, two.hold_id, ANA, old)
        assert "active" == here.ask("get_hold", messages.GetHold(owner_key=OWNER, hold_id=held.hold_id)).state  # type: ignore[attr-defined]


def test_a_trip_with_a_child_is_priced_on_every_leg() -> None:
    """The anchor's order has the fares of all legs; each operator's manifest its own passengers."""
    with scene(("AR", "QR")) as here:
        legs = [messages.LegWish(service_id=one, seats=["3A", "3B"]) for one in LEGS]
        held: Any = here.ask("hold_trip", messages.HoldTrip(request_id=here.request_id(), owner_key=OWNER, legs=legs))
        order = confirm(here, held.hold_id, ANA, TOM, EVA)
        for leg, before in zip(order.legs, held.legs, strict=True):
            adult = before.prices[0].minor
            assert [adult + (adult * 10 + 50) // 100, (adult * 75 + 50) // 100] == [price.minor for price in leg.prices]
        assert order.total.minor == sum(leg.total.minor for leg in order.legs)
        read = messages.Manifest(operator_key=OPERATOR_KEY, service_id=LEGS[1])
        lines: list[messages.ManifestLine] = []
        for _ in range(200):  # The other operator follows by the reconciler.
            lines = here.ask("manifest", read).lines  # type: ignore[attr-defined]
            if lines:
                break
        assert [("3A", "Ana"), ("3A", "Eva"), ("3B", "Tom")] == [(line.seat_id, line.given) for line in lines]


def test_what_is_paid_is_what_the_party_costs(till: Till) -> None:
    """Set aside, captured and booked are one amount; once a card has been tried the types stand."""
    here = till.scene
    held = here.hold("3A", "3B")
    with pytest.raises(PaymentDeclined):
        confirm(here, held.hold_id, ANA, TOM, EVA, card="pm_card_visa_chargeDeclined")
    with pytest.raises(OrderNotPayable, match="other types"):
        confirm(here, held.hold_id, ANA, ANA, card="pm_card_visa")
    order = confirm(here, held.hold_id, ANA, TOM, EVA, card="pm_card_visa")
    paid = till.wait_state(held.hold_id, "succeeded")
    assert (order.total, order.total) == (paid.amount, paid.captured) and order.total != held.total
    assert ([], []) == (till.books().findings, till.books().cases)


def test_a_paid_trip_with_a_child_balances(till: Till) -> None:
    """Over two operators: one payment of what all legs cost the party."""
    held = till.trip()
    order = confirm(till.scene, held.hold_id, Passenger("Díaz", "Tom", type="CHD", requests=("UMNR",)), card="pm_card_visa")
    assert order.total == till.wait_state(held.hold_id, "succeeded").captured
    assert order.total.minor < held.total.minor
    books = till.books()
    assert [] == books.findings and order.total.minor == sum(line.share for line in books.lines)


@given(st.integers(0, 10**9), st.lists(st.sampled_from(sorted(TYPES)), min_size=1, max_size=9), st.integers(-1, 100))
def test_fares_are_shares_of_the_price(price: int, types: list[str], percent: int) -> None:
    """Never above twice the price, adults alone pay it exactly, and a stated percentage wins over the default."""
    people = [Passenger("Díaz", f"P{number}", type=kind) for number, kind in enumerate(types)]
    schedule = Schedule(*msgspec.structs.astuple(SCHEDULE)[:15], child_percent=percent)
    if types.count("INF") > types.count("ADT") or not seated(people):
        return
    party = check_party(people, minors_alone=True)
    fares = typed_fares(schedule, [price] * len(seated(party)), party)
    assert all(0 <= fare <= 2 * price for fare in fares) and len(fares) == len(seated(party))
    if set(types) == {"ADT"}:
        assert set(fares) == {price}
    if set(types) == {"CHD"}:
        assert set(fares) == {(price * (percent if percent >= 0 else 75) + 50) // 100}


def test_a_plain_passengers_record_is_as_it_was() -> None:
    """So that a booking confirmed again at a newer balancer has the digest that stands in the ledger."""
    record = order_record("token", [Passenger("Byron", "Ada", "3A")])
    assert {"surname": "Byron", "given": "Ada", "seat_id": "3A"} == msgspec.msgpack.decode(record)[1][0]
    people = [Passenger("Díaz", "Ana", "3A", requests=("VGML",)), Passenger("Díaz", "Eva", type="INF", with_adult=1)]
    own = leg_record(order_record("token", people), 1, ["9C"], [0])
    assert [("9C", ("VGML",)), ("", ())] == [(one.seat_id, one.requests) for one in passengers_of(own)]
    assert record_digest(own) == record_digest(leg_record(order_record("token", people), 1, ["9C"], [0]))


def test_the_nearest_seat_off_an_exit() -> None:
    """Of the same cabin, by rows and then along the row; None where nothing is left."""
    layout = Layout(CABIN)
    seat = layout.by_id["5B"]
    assert "4B" == nearest_off_exit(layout, seat, {"4A"}).seat_id  # type: ignore[union-attr]
    assert "6B" == nearest_off_exit(layout, seat, {"4B", "4A"}).seat_id  # type: ignore[union-attr]
    assert nearest_off_exit(layout, seat, {one.seat_id for one in layout.seats}) is None




def test_price_parts_are_what_each_pays() -> None:
    """An infant on a lap has a part of its own, in quote and booking, and the parts add up to the cent, before and after a change."""
    with scene() as here:
        held = here.hold("3A", "3B")
        priced: Any = here.ask("price_party", messages.PriceParty(owner_key=OWNER, hold_id=held.hold_id, passengers=[ANA, TOM, EVA]))
        order = confirm(here, held.hold_id, ANA, TOM, EVA)
        adult = held.prices[0].minor
        lap = (adult * 10 + 50) // 100
        expected = [("ADT", "3A", adult), ("CHD", "3B", (held.prices[1].minor * 75 + 50) // 100), ("INF", "3A", lap)]
        for answer in (priced, order):
            assert [(part.type, part.seat_id, part.amount.minor) for part in answer.price_parts] == expected
            assert sum(part.amount.minor for part in answer.price_parts) == answer.total.minor
            assert [answer.passengers[part.passenger - 1].given for part in answer.price_parts] == ["Ana", "Tom", "Eva"]
        left = cancel(here, order, quoted(here, order, passengers=[2]).quote)
        assert [(part.type, part.amount.minor) for part in left.price_parts] == [("ADT", adult), ("INF", lap)]
        moved = change(here, order, offered(here, order, "3A 4C").quote)
        assert [(part.type, part.seat_id) for part in moved.price_parts] == [("ADT", "4C"), ("INF", "4C")]
        assert sum(part.amount.minor for part in moved.price_parts) == moved.total.minor


def test_a_search_says_what_the_booking_costs() -> None:
    """What a search says that a party with a child and an infant pays together is what the offer's booking costs, to the cent."""
    with scene() as here:
        found: Any = here.ask("search", messages.SearchTrips(origin="EZE", destination="GRU", date=DAY, passengers=2))
        trip = found.outbound[0]
        order = confirm(here, here.hold(count=2, offer=trip.offer).hold_id, ANA, TOM, EVA)
        assert party_words(trip, 2, 1, 1).startswith(f"together {order.total}: 1 ADT {order.price_parts[0].amount} + 1 CHD")
        assert party_words(trip, 2, 0, 0) == f"together {trip.total}: 2 ADT {trip.total}"


def test_who_is_taken_elsewhere_pays_what_he_paid() -> None:
    """Alternatives for a lost leg cost each passenger what the leg did, over one service or two, infants on laps apart."""
    lost = Leg("AR", FLIGHT, ("3A", "3B"), (1_101, 750), 80, (101, 0))
    one = Leg("QR", LEGS[1], ("4A", "4B"), (500, 500), 50)
    assert [(leg.prices, leg.laps, leg.refundable_percent) for leg in at_no_charge(lost, [one])] == [((1_101, 750), (101, 0), 80)]
    two = at_no_charge(lost, [one, Leg("LA", FLIGHT, ("5A", "5B"), (1_000, 999), 20)])
    assert [sum(leg.prices[place] for leg in two) for place in (0, 1)] == [1_101, 750]
    assert sum(leg.laps[0] for leg in two) == 101
    assert all(lap <= price for leg in two for lap, price in zip(laps_of(leg), leg.prices, strict=True))
