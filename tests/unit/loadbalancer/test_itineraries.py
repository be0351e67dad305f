"""Trips over several operators through a whole balancer, with the tiers below in this process."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from datastore import commands, errors, messages, wire
from datastore.model import HoldState, Passenger, SeatState
from datastore.rows import Kind, SeatRow, decode_row
from tests.unit.loadbalancer.scenery import DAY, FLIGHT, OPERATOR_KEY, OTHER, OWNER, Scene, scene
from tests.waiting import wait_until

THERE, ON, BACK = (f"{code}1140-EZE-{DAY}" for code in ("AR", "QR", "LA"))
PARTY = [Passenger("Byron", "Ada"), Passenger("Babbage", "Charles")]


@pytest.fixture
def trips() -> Iterator[Scene]:
    with scene(("AR", "QR", "LA"), hold_ttl_ms=60_000) as made:
        yield made


def wish(service_id: str, *seats: str, count: int = 0) -> messages.LegWish:
    return messages.LegWish(service_id=service_id, seats=list(seats), count=count)


def hold(made: Scene, *legs: messages.LegWish, owner: str = OWNER, request_id: str = "", **more: object) -> messages.HoldAnswer:
    request = messages.HoldTrip(request_id=request_id or made.request_id(), owner_key=owner, legs=list(legs), **more)  # type: ignore[arg-type]
    answer = made.ask("hold_trip", request)
    assert isinstance(answer, messages.HoldAnswer)
    return answer


def confirm(made: Scene, hold_id: str, *, request_id: str = "") -> messages.OrderAnswer:
    request = messages.ConfirmHold(request_id=request_id or made.request_id(), owner_key=OWNER, hold_id=hold_id, passengers=PARTY)
    answer = made.ask("confirm", request)
    assert isinstance(answer, messages.OrderAnswer)
    return answer


def seats(made: Scene, operator: str) -> dict[str, SeatState]:
    rows = made.managers.operators[operator].rows.scan(Kind.SEAT)
    found = {key.rpartition("/")[2]: decode_row(Kind.SEAT, value) for key, value in rows}
    return {seat: row.state for seat, row in found.items() if isinstance(row, SeatRow) and row.state != SeatState.FREE}


def wait_all_booked(made: Scene) -> None:
    wait_until(lambda: all(set(seats(made, code).values()) == {SeatState.BOOKED} for code in ("AR", "QR", "LA")), "all legs booked", 10)


def wait_nothing_open(made: Scene) -> None:
    operators = made.managers.operators.values()
    wait_until(lambda: not any(one.state.baskets or one.state.legs for one in operators), "nothing left open", 10)


def trip(made: Scene, request_id: str = "") -> messages.HoldAnswer:
    return hold(made, wish(THERE, "3A", "3B"), wish(ON, "4A", "4B"), wish(BACK, count=2), request_id=request_id, together=True)


def test_a_trip_is_one_hold_and_one_order(trips: Scene) -> None:
    """Held on all legs or none, sold in one entry, and every operator's manifest shows its own seats and names."""
    held = trip(trips)
    assert (held.operator, held.state, len(held.legs)) == ("AR", "active", 3)
    assert held.total.minor == sum(leg.total.minor for leg in held.legs)
    assert all(set(seats(trips, code).values()) == {SeatState.HELD} for code in ("AR", "QR", "LA"))
    assert trips.locks.held == {} or wait_until(lambda: not trips.locks.held, "the lock given back", 5) is None
    order = confirm(trips, held.hold_id)
    assert [leg.service_id for leg in order.legs] == [THERE, ON, BACK]
    assert order.legs[1].service is not None and order.legs[1].service.operator == "QR"
    wait_all_booked(trips)
    wait_nothing_open(trips)
    for service_id, taken in ((THERE, ["3A", "3B"]), (ON, ["4A", "4B"]), (BACK, order.legs[2].seats)):
        manifest = trips.ask("manifest", messages.Manifest(operator_key=OPERATOR_KEY, service_id=service_id))
        assert isinstance(manifest, messages.ManifestAnswer)
        assert sorted(line.seat_id for line in manifest.lines) == sorted(taken)
        assert {line.surname for line in manifest.lines} == {"Byron", "Babbage"}
        assert {line.reference for line in manifest.lines} == {order.reference}
    found = trips.ask("order", messages.GetOrder(reference=order.reference, token=order.manage_token))
    assert isinstance(found, messages.OrderAnswer) and found.total == held.total and len(found.legs) == 3


def test_a_refusal_lists_the_seats_of_every_leg_and_gives_all_back(trips: Scene) -> None:
    """Z6: what stood in the way on any leg is told, and nothing of the basket is left."""
    trips.hold("4B", owner=OTHER, service=ON)
    trips.hold("5A", owner=OTHER, service=BACK)
    with pytest.raises(errors.SeatUnavailable) as refusal:
        hold(trips, wish(THERE, "3A", "3B"), wish(ON, "4A", "4B"), wish(BACK, "5A", "5B"))
    legs = {one["service_id"]: one["seats"] for one in refusal.value.fields["legs"]}
    assert legs == {ON: [{"seat": "4B", "state": "held"}], BACK: [{"seat": "5A", "state": "held"}]}
    assert (seats(trips, "AR"), seats(trips, "QR"), seats(trips, "LA")) == ({}, {"4B": SeatState.HELD}, {"5A": SeatState.HELD})
    wait_nothing_open(trips)
    hold(trips, wish(THERE, "3A", "3B"), wish(ON, "4A", "4C"))


def before_look_at_legs(made: Scene, meddle: Callable[[], None]) -> None:
    """Call `meddle` once, when the balancer has read a trip's record and is about to ask how its legs stand (Z4)."""
    balancer = made.server.balancer
    read = balancer.read_all

    def look(items: Sequence[wire.ReadItem], deadline_ms: int) -> list[wire.ReadResult]:
        if any(item.query == "leg" for item in items):
            balancer.read_all = read  # type: ignore[method-assign]
            meddle()
        return read(items, deadline_ms)

    balancer.read_all = look  # type: ignore[method-assign]


def test_the_same_request_gets_the_same_trip(trips: Scene) -> None:
    """Z3: also where the seats were chosen by us, and at whichever balancer it comes again."""
    first = trip(trips, request_id="request-of-a-trip")
    again = trip(trips, request_id="request-of-a-trip")
    assert (first.hold_id, [leg.seats for leg in first.legs]) == (again.hold_id, [leg.seats for leg in again.legs])
    with scene(managers=trips.managers) as twin:
        third = trip(twin, request_id="request-of-a-trip")
        assert (third.hold_id, [leg.seats for leg in third.legs]) == (first.hold_id, [leg.seats for leg in first.legs])
    order = confirm(trips, first.hold_id, request_id="confirm-of-a-trip")
    assert confirm(trips, first.hold_id, request_id="confirm-of-a-trip").reference == order.reference
    with pytest.raises(errors.AlreadyConfirmed):
        confirm(trips, first.hold_id)


@pytest.mark.parametrize("request_id", ["confirm-of-two-tries", "confirm-of-another-try"])
def test_a_try_that_looks_while_another_one_sells_hears_of_the_sale(trips: Scene, request_id: str) -> None:
    """It has read that the trip is open; when it looks at the legs they are booked. "The hold is over" would be a lie."""
    held, sold = trip(trips), list[messages.OrderAnswer]()

    def sell() -> None:
        sold.append(confirm(trips, held.hold_id, request_id="confirm-of-two-tries"))
        wait_until(lambda: not any(one.state.legs for one in trips.managers.operators.values()), "all legs to be booked", 10)

    before_look_at_legs(trips, sell)
    if request_id == "confirm-of-two-tries":
        assert confirm(trips, held.hold_id, request_id=request_id).reference == sold[0].reference
    else:
        with pytest.raises(errors.AlreadyConfirmed) as caught:
            confirm(trips, held.hold_id, request_id=request_id)
        assert caught.value.fields["reference"] == sold[0].reference


def test_an_operator_that_is_cut_off_costs_nobody_a_seat(trips: Scene) -> None:
    """The trip fails as a whole, says whose fault it is, and a repeat of the request gets another attempt."""
    trips.managers.cut = {"QR"}
    with pytest.raises(errors.OperatorUnavailable):
        hold(trips, wish(THERE, "3A"), wish(ON, "4A"), request_id="request-cut-off", deadline_ms=2_000)
    assert seats(trips, "AR") == {}
    trips.managers.cut = set()
    assert hold(trips, wish(THERE, "3A"), wish(ON, "4A"), request_id="request-cut-off").state == "active"
    assert (set(seats(trips, "AR")), set(seats(trips, "QR"))) == ({"3A"}, {"4A"})


def test_the_owner_extends_and_releases_a_trip_as_any_hold(trips: Scene) -> None:
    held = trip(trips)
    longer = trips.ask("extend", messages.ExtendHold(request_id=trips.request_id(), owner_key=OWNER, hold_id=held.hold_id, ttl_ms=600_000))
    assert isinstance(longer, messages.HoldAnswer) and longer.expires_ms > held.expires_ms
    mine = trips.ask("my_holds", messages.MyHolds(owner_key=OWNER))
    assert isinstance(mine, messages.HoldsAnswer) and [one.hold_id for one in mine.holds] == [held.hold_id]
    with pytest.raises(errors.HoldNotYours):
        trips.ask("release", messages.ReleaseHold(request_id=trips.request_id(), owner_key=OTHER, hold_id=held.hold_id))
    trips.ask("release", messages.ReleaseHold(request_id=trips.request_id(), owner_key=OWNER, hold_id=held.hold_id))
    wait_nothing_open(trips)
    assert all(seats(trips, code) == {} for code in ("AR", "QR", "LA"))


def test_an_ended_hold_is_renewed_in_one_call(trips: Scene) -> None:
    """If the seats are free: a trip and a single hold alike; one that stands is not."""
    held = trip(trips)
    single = trips.hold("7A", service=ON)
    for hold_id in (held.hold_id, single.hold_id):
        renew = messages.RenewHold(request_id=trips.request_id(), owner_key=OWNER, hold_id=hold_id)
        with pytest.raises(errors.InvalidRequest):
            trips.ask("renew", renew)
        trips.ask("release", messages.ReleaseHold(request_id=trips.request_id(), owner_key=OWNER, hold_id=hold_id))
    wait_nothing_open(trips)
    again = trips.ask("renew", messages.RenewHold(request_id=trips.request_id(), owner_key=OWNER, hold_id=held.hold_id))
    assert isinstance(again, messages.HoldAnswer) and again.hold_id != held.hold_id
    assert [leg.seats for leg in again.legs] == [leg.seats for leg in held.legs]
    one = trips.ask("renew", messages.RenewHold(request_id=trips.request_id(), owner_key=OWNER, hold_id=single.hold_id))
    assert isinstance(one, messages.HoldAnswer) and one.seats == ["7A"]


def test_cancelling_frees_every_leg(trips: Scene) -> None:
    order = confirm(trips, trip(trips).hold_id)
    wait_all_booked(trips)
    cancelled = trips.ask(
        "cancel", messages.CancelOrder(request_id=trips.request_id(), reference=order.reference, token=order.manage_token)
    )
    assert isinstance(cancelled, messages.OrderAnswer) and cancelled.state == "cancelled"
    wait_until(lambda: not any(seats(trips, code) for code in ("AR", "QR", "LA")), "all legs free", 10)
    wait_nothing_open(trips)


def test_a_buyer_who_meets_a_due_leg_gets_the_seat(trips: Scene) -> None:
    """Z5: the anchor is asked on the way, unseen by the buyer; with the anchor silent nobody says that the seat is taken."""
    offset = [0]
    clock = trips.managers.clock
    for operator in trips.managers.operators.values():
        operator.clock = lambda: clock() + offset[0]
    hold(trips, wish(THERE, "3A"), wish(ON, "4A"), ttl_ms=30_000)
    trips.managers.cut = {"AR"}
    offset[0] = 60_000
    with pytest.raises(errors.OperatorUnavailable) as failure:
        trips.hold("4A", owner=OTHER, service=ON, deadline_ms=1_500)
    assert failure.value.fields["operator"] == "AR"
    trips.managers.cut = set()
    assert trips.hold("4A", owner=OTHER, service=ON).seats == ["4A"]
    wait_nothing_open(trips)
    assert seats(trips, "AR") == {}


def test_what_a_dead_balancer_left_is_finished_by_another(trips: Scene) -> None:
    """B9: the decision stands at the anchor and nothing more was done; a balancer that only looks does the rest."""
    held = trip(trips)
    with scene(managers=trips.managers, reconciles=False) as dead:
        dead.server.reconciler.close()
        order = confirm(dead, held.hold_id)
    wait_all_booked(trips)
    wait_nothing_open(trips)
    assert order.state == "confirmed"


def test_a_leg_that_the_anchor_never_heard_of_is_given_back(trips: Scene) -> None:
    """B6: a balancer died between the legs; when the hint is due, the anchor writes a tombstone and the seat is free."""
    basket_id = f"AR.trip.{'a' * 20}"
    leg = commands.Leg("QR", ON, ("4A",), (1_000,), 80)
    lonely = commands.HoldLegs("request-lonely", b"d", basket_id, "somebody", "AR", (leg,), (1,), "USD", 300, 1, 99, "n", 9, 9)
    item = wire.SubmitItem("QR", wire.encode([lonely]))
    (outcome,) = wire.decode(wire.OUTCOMES, trips.managers.operators["QR"].submit(item).outcomes)
    assert outcome.unwrap()["state"] == HoldState.ACTIVE
    wait_until(lambda: seats(trips, "QR") == {}, "the lonely leg free", 8)
    wait_nothing_open(trips)
    assert trips.managers.operators["AR"].state.basket(basket_id).why == "no record"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("legs", "said"),
    [
        ((wish(THERE, "3A"), wish(THERE, "3B")), "twice"),
        ((wish(THERE, "3A"), wish(ON, count=2)), "one size"),
        ((wish(THERE),), "one of both"),
        ((wish(THERE, "3A"), messages.LegWish(service_id=ON, seats=["4A"], count=1)), "one of both"),
        ((wish(THERE, "3A", "3a"),), "twice"),
    ],
)
def test_what_cannot_be_a_trip_is_told_before_anything_is_sent(trips: Scene, legs: tuple[messages.LegWish, ...], said: str) -> None:
    with pytest.raises(errors.InvalidRequest, match=said):
        hold(trips, *legs)
    assert not trips.locks.held


def test_opposite_trips_make_progress(trips: Scene) -> None:
    """A+B against B+A, over and over: no deadlock, every seat pair goes to one of the two, nothing is left half held."""
    won: list[str] = []

    def buy(owner: str, first: str, second: str) -> None:
        for row in ("3", "4", "5"):
            try:
                hold(trips, wish(first, f"{row}A"), wish(second, f"{row}A"), owner=owner)
                won.append(f"{row} {owner}")
            except errors.SeatUnavailable:
                pass

    threads = [threading.Thread(target=buy, args=args) for args in ((OWNER, THERE, ON), (OTHER, ON, THERE))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(one[0] for one in won) == ["3", "4", "5"]
    assert set(seats(trips, "AR")) == set(seats(trips, "QR")) == {"3A", "4A", "5A"}
    assert FLIGHT == THERE
