"""Offers: what a search offers can be held at that price, or the hold says what changed and offers anew."""

from __future__ import annotations

import zlib

import pytest
from msgspec.structs import replace

from datastore import errors, messages, wire
from datastore.model import DAY_MS, Place, Schedule
from loadbalancer.balancer import wall_ms
from loadbalancer.offers import Scene as OfferScene
from loadbalancer.offers import check_offer, make_offer, offer_id, read_offer
from loadbalancer.waiting import now_ms
from tests.unit.loadbalancer.scenery import ADMIN_KEY, CABIN, DAY, FLIGHT, OPERATOR_KEY, OTHER, OWNER, PLACES, Scene, scene
from tests.waiting import wait_until

RETURN = "LA1140-EZE-" + DAY


def searched(here: Scene, passengers: int = 2, **more: object) -> messages.Trip:
    """Return the best trip of the scene's day."""
    request = messages.SearchTrips(origin="EZE", destination="GRU", date=DAY, passengers=passengers, **more)  # type: ignore[arg-type]
    answer = here.ask("search", request)
    assert isinstance(answer, messages.TripsAnswer)
    return answer.outbound[0]


def judging(here: Scene, at_ms: int = 0) -> OfferScene:
    return here.server.balancer.finder.scene(at_ms or wall_ms(), now_ms() + 10_000)


def test_an_offer_is_held_at_its_price() -> None:
    """The seats taken are the ones that the offer pays for, though better ones of another zone are free."""
    with scene() as here:
        trip = searched(here)
        held = here.hold(count=2, offer=trip.offer)
        assert held.total == trip.total
        assert held.refundable_percent == trip.refundable_percent


def test_what_one_balancer_offers_another_checks() -> None:
    """An offer needs no memory of the balancer that made it."""
    with scene() as here:
        trip = searched(here)
        with scene(managers=here.managers) as twin:
            assert twin.hold(count=2, offer=trip.offer).total == trip.total


def test_what_was_sold_since_is_not_offered_again() -> None:
    """An offer for more seats than its cabin has left is refused with what is left, and the next search goes to another cabin."""
    with scene() as here:
        trip = searched(here, passengers=9, cabin="Y")
        here.hold(count=9, cabin="Y", owner=OTHER)
        here.hold(count=9, cabin="Y", owner=OTHER)
        wait_until(lambda: len(here.server.balancer.catalogue.operators["AR"].taken.get(FLIGHT, ())) == 18, "the view", 5)
        with pytest.raises(errors.SeatUnavailable) as few:
            here.hold(count=9, offer=trip.offer)
        assert few.value.fields["free"] == 5
        mixed = searched(here, passengers=5)
        assert {part.cabin for leg in mixed.legs for part in leg.parts} == {"Y"}
        here.hold(count=1, cabin="Y", owner=OTHER)
        wait_until(lambda: len(here.server.balancer.catalogue.operators["AR"].taken.get(FLIGHT, ())) == 19, "the view", 5)
        assert {part.cabin for part in searched(here, passengers=5).legs[0].parts} == {"J"}


def test_a_changed_timetable_is_refused_with_the_new_offer() -> None:
    """A price, a refund or a time that is another now is a changed price: the refusal says what, and the new offer holds."""
    with scene() as here:
        trip = searched(here)
        offer = read_offer(trip.offer)
        leg = offer.legs[0]
        part = leg.parts[0]._replace(each_minor=leg.parts[0].each_minor - 100)
        cheaper = replace(offer, legs=(replace(leg, parts=(part,)),))
        earlier = replace(offer, legs=(replace(leg, departs_ms=leg.departs_ms - 60_000, refundable_percent=100),))
        for changed, words in ((cheaper, ["cost 264.00 and costs 266.00"]), (earlier, ["departs +1 min", "100 % refundable and is 80 %"])):
            with pytest.raises(errors.PriceChanged) as refused:
                here.hold(count=2, offer=offer_id(changed))
            assert all(word in refused.value.detail for word in words)
            assert refused.value.fields["now"] == {"minor": 26_600, "currency": "USD"}
        assert here.hold(count=2, offer=str(refused.value.fields["offer"])).total.minor == 26_600


def test_a_late_offer_is_refused() -> None:
    """After its time an offer holds nothing, whatever the price is by then."""
    with scene(offer_ttl_ms=1_000) as here:
        trip = searched(here)
        wait_until(lambda: wall_ms() > trip.expires_ms, "the offer to expire", 5)
        with pytest.raises(errors.OfferExpired):
            here.hold(count=2, offer=trip.offer)
        assert here.server.balancer.catalogue.operators["AR"].taken == {}


def test_a_repeat_gets_the_first_answer_though_the_price_has_changed_since() -> None:
    """The same request gives the same hold after the offer expired: it is not refused for what it did itself."""
    with scene(offer_ttl_ms=1_000) as here:
        trip = searched(here)
        request_id = here.request_id()
        first = here.hold(count=2, offer=trip.offer, request_id=request_id)
        wait_until(lambda: wall_ms() > trip.expires_ms, "the offer to expire", 5)
        assert here.hold(count=2, offer=trip.offer, request_id=request_id).hold_id == first.hold_id


def test_a_closed_service_is_not_sold_by_an_old_offer() -> None:
    """What the operator closed is refused by name, and no search offers it."""
    with scene() as here:
        trip = searched(here)
        closing = messages.ChangeService(
            request_id=here.request_id(), operator_key=OPERATOR_KEY, service_id=FLIGHT, state="closed", reason="storm"
        )
        changed = here.ask("change_service", closing)
        assert isinstance(changed, messages.ServiceChanged)
        assert here.server.balancer.follower.wait_for("AR", changed.lsn, 5_000)
        with pytest.raises(errors.ServiceClosed, match="storm"):
            here.hold(count=2, offer=trip.offer)
        answer = here.ask("search", messages.SearchTrips(origin="EZE", destination="GRU", date=DAY))
        assert isinstance(answer, messages.TripsAnswer) and answer.outbound == []


def test_an_offer_of_something_else_is_refused() -> None:
    """Another service, another party, a torn or an invented text: each is said."""
    with scene(("AR", "LA")) as here:
        trip = searched(here)
        other = FLIGHT if trip.legs[0].service.service_id == RETURN else RETURN
        own = trip.legs[0].service.service_id
        for service, count, offer, words in (
            (other, 2, trip.offer, "the offer is of"),
            (own, 3, trip.offer, "2 seats in cabin Y"),
            (own, 2, trip.offer[:-3], "is not an offer"),
            (own, 2, "AAAA", "is not an offer"),
            (own, 2, "päng!", "is not an offer"),
        ):
            with pytest.raises(errors.InvalidRequest, match=words):
                here.hold(service=service, count=count, offer=offer)


def onward(here: Scene, departs_min: int, refundable_percent: int = -1) -> None:
    """Have LA fly from GRU to JFK, and nowhere else."""
    schedule = Schedule("700", "GRU", "JFK", departs_min, departs_min + 480, 0, "1234567", "2020-01-01", "2099-12-31", "E190", 4762)
    places = [*PLACES, Place("JFK", "Kennedy", "New York", "US", "America/New_York", 40.6, -73.8)]
    rows = wire.ImportBody("On", "none", [replace(schedule, refundable_percent=refundable_percent)], [CABIN], places)
    body = zlib.compress(wire.encode(rows))
    request = messages.ImportTimetable(request_id=here.request_id(), key=ADMIN_KEY, operator="LA", dataset="test", body=body)
    answer = here.ask("import", request)
    assert isinstance(answer, messages.Imported)
    assert here.server.balancer.follower.wait_for("LA", answer.lsn, 5_000)


def connected(here: Scene) -> messages.TripsAnswer:
    request = messages.SearchTrips(origin="Buenos Aires", destination="new york", date=DAY, passengers=2)
    answer = here.ask("search", request)
    assert isinstance(answer, messages.TripsAnswer)
    return answer


def hold_trip(here: Scene, trip: messages.Trip, request_id: str = "") -> messages.HoldAnswer:
    legs = [messages.LegWish(service_id=leg.service.service_id, count=2) for leg in trip.legs]
    request = messages.HoldTrip(request_id=request_id or here.request_id(), owner_key=OWNER, legs=legs, offer=trip.offer)
    answer = here.ask("hold_trip", request)
    assert isinstance(answer, messages.HoldAnswer)
    return answer


def test_a_trip_over_two_airlines_is_held_by_its_offer() -> None:
    """Both legs at the offered prices in one hold; once a condition of one leg has changed nothing is held and the new offer is given."""
    with scene(("AR", "LA")) as here:
        onward(here, 900)
        trip = connected(here).outbound[0]
        assert [leg.service.operator for leg in trip.legs] == ["AR", "LA"] and trip.changes_airline
        assert [wait.place for wait in trip.layovers] == ["GRU"]
        assert trip.layovers[0].minutes >= trip.layovers[0].least_min == 90
        request_id = here.request_id()
        held = hold_trip(here, trip, request_id)
        assert held.total == trip.total
        assert [leg.service_id for leg in held.legs] == [leg.service.service_id for leg in trip.legs]
        onward(here, 900, refundable_percent=10)
        with pytest.raises(errors.PriceChanged) as refused:
            hold_trip(here, trip)
        assert "80 % refundable and is 10 %" in refused.value.detail
        assert hold_trip(here, trip, request_id).hold_id == held.hold_id, "a repeat was refused for what it did itself"
        assert hold_trip(here, replace(trip, offer=str(refused.value.fields["offer"]))).refundable_percent == 10


def test_a_trip_that_cannot_be_connected_any_more_is_refused() -> None:
    """The onward service leaves earlier now: the old offer is refused for its connection, and no search finds the trip."""
    with scene(("AR", "LA")) as here:
        onward(here, 900)
        trip = connected(here).outbound[0]
        onward(here, 800)
        with pytest.raises(errors.ConnectionTooShort, match="at GRU there are 40 min"):
            hold_trip(here, trip)
        assert connected(here).outbound == []


def test_a_trip_of_two_services_is_checked_as_a_whole() -> None:
    """Legs that do not meet, or meet too late, are refused; one that holds gives its legs with prices."""
    with scene(("AR", "LA")) as here:
        made = judging(here)
        with pytest.raises(errors.InvalidRequest, match="does not begin where"):
            make_offer(made, [FLIGHT, RETURN], 1, ["", ""])
        one = make_offer(made, [FLIGHT], 3, ["J"])
        legs = check_offer(made, offer_id(one)).legs
        assert [(leg.service_id, leg.cabin, sum(part.seats for part in leg.parts)) for leg in legs] == [(FLIGHT, "J", 3)]
        late = judging(here, one.expires_ms + DAY_MS)
        with pytest.raises(errors.OfferExpired):
            check_offer(late, offer_id(one))
