"""Orders, operators' verbs and views through the whole balancer, over the engine itself."""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import pytest

from datastore import messages
from datastore.edge import Peer
from datastore.errors import (
    AlreadyCancelled,
    AlreadyConfirmed,
    HoldfastError,
    HoldNotYours,
    InvalidRequest,
    NotAuthorised,
    OperatorUnavailable,
    RateLimited,
    SeatBlocked,
    ServiceClosed,
    UnknownOrder,
)
from datastore.model import Passenger, SeatState
from datastore.rows import Kind, SeatRow, encode_row
from loadbalancer.server import BalancerServer
from tests.unit.loadbalancer.scenery import DAY, FLIGHT, OPERATOR_KEY, OTHER, OWNER, Scene, scene

ANA = [Passenger("García-Núñez", "Ana"), Passenger("Müller", "Bo")]


def confirmed(here: Scene, *seats: str, request_id: str = "") -> messages.OrderAnswer:
    hold = here.hold(*seats)
    request = messages.ConfirmHold(
        request_id=request_id or here.request_id(), owner_key=OWNER, hold_id=hold.hold_id, passengers=ANA[: len(seats)]
    )
    order = here.ask("confirm", request)
    assert isinstance(order, messages.OrderAnswer)
    repeat = here.ask("confirm", request)
    assert isinstance(repeat, messages.OrderAnswer) and as_decided(repeat) == as_decided(order)
    with pytest.raises(AlreadyConfirmed, match=order.reference):
        here.ask("confirm", msgspec.structs.replace(request, request_id=here.request_id()))
    return order


def as_decided(order: messages.OrderAnswer) -> messages.OrderAnswer:
    """Return an order without what the view adds: free seats go on changing."""
    return msgspec.structs.replace(order, service=None)


def by_surname(here: Scene, reference: str, surname: str) -> Any:
    return here.ask("order", messages.GetOrder(reference=reference, surname=surname))


def test_confirm_look_up_cancel() -> None:
    """A hold becomes an order with a reference and a token; the token shows and cancels it, the surname shows initials."""
    with scene(("AR", "LA")) as here:
        order = confirmed(here, "3A", "3B")
        assert (order.state, order.operator, len(order.reference), len(order.manage_token)) == ("confirmed", "AR", 6, 32)
        assert order.passengers == [Passenger("García-Núñez", "Ana", "3A"), Passenger("Müller", "Bo", "3B")]
        whole: Any = here.ask("order", messages.GetOrder(reference=order.reference.lower(), token=order.manage_token))
        assert (whole.passengers, whole.reduced, whole.manage_token) == (order.passengers, False, "")
        reduced = by_surname(here, order.reference, " garcia nunez")
        assert reduced.reduced and reduced.passengers == [Passenger("G.", "A.", "3A"), Passenger("M.", "B.", "3B")]
        mine: Any = here.ask("orders", messages.GetOrders(tokens=[(order.reference, order.manage_token)]))
        assert [one.reference for one in mine.orders] == [order.reference]
        cancel = messages.CancelOrder(request_id=here.request_id(), reference=order.reference, token=order.manage_token)
        cancelled: Any = here.ask("cancel", cancel)
        assert cancelled.state == "cancelled" and cancelled.refund.minor == order.total.minor * order.refundable_percent // 100
        again: Any = here.ask("cancel", cancel)
        assert as_decided(again) == as_decided(cancelled)
        with pytest.raises(AlreadyCancelled):
            here.ask("cancel", msgspec.structs.replace(cancel, request_id=here.request_id()))
        assert here.hold("3A", owner=OTHER).seats == ["3A"]


def test_unknown_and_wrong_look_alike() -> None:
    """An unknown reference, a wrong surname and a wrong token give one error with one text."""
    with scene() as here:
        order = confirmed(here, "4A")
        details = set()
        for request in (
            messages.GetOrder(reference=order.reference, surname="Smith"),
            messages.GetOrder(reference=order.reference, token="0" * 32),
        ):
            with pytest.raises(UnknownOrder) as refused:
                here.ask("order", request)
            details.add(refused.value.detail)
        with pytest.raises(UnknownOrder) as refused:
            by_surname(here, "ZZZZZZ", "Smith")
        details.add(refused.value.detail.replace("ZZZZZZ", order.reference))
        assert len(details) == 1
        with pytest.raises(UnknownOrder):
            here.ask("cancel", messages.CancelOrder(request_id=here.request_id(), reference=order.reference, token="0" * 32))
        with pytest.raises(InvalidRequest):
            here.ask("order", messages.GetOrder(reference=order.reference))


def test_looking_up_is_limited() -> None:
    """Guessing surnames ends in rate_limited after the configured tries; the token is not limited."""
    with scene(lookup_per_minute=3) as here:
        order = confirmed(here, "4C")
        for _ in range(3):
            with pytest.raises(UnknownOrder):
                by_surname(here, order.reference, "Guess")
        with pytest.raises(RateLimited) as refused:
            by_surname(here, order.reference, "García-Núñez")
        assert refused.value.fields["retry_after_ms"] > 0
        assert here.ask("order", messages.GetOrder(reference=order.reference, token=order.manage_token))


def test_an_operator_that_does_not_answer_is_not_an_unknown_booking() -> None:
    """A look-up that could not ask the operator says so; a list of mine is partial."""
    with scene() as here:
        order = confirmed(here, "5A")
        here.managers.cut.add("AR")
        with pytest.raises(OperatorUnavailable):
            by_surname(here, order.reference, "Müller")
        mine: Any = here.ask("orders", messages.GetOrders(tokens=[(order.reference, order.manage_token)]))
        assert mine.orders == [] and set(mine.partial) == {"AR"}


def test_passengers_and_owners_are_checked() -> None:
    """One passenger a seat, with a surname and no control characters; another's hold cannot be confirmed."""
    with scene() as here:
        hold = here.hold("5A", "5B")
        bad: list[list[Passenger]] = [[ANA[0]], [Passenger(" "), ANA[0]], [Passenger("A\x07"), ANA[0]], [Passenger("A" * 101), ANA[0]]]
        for passengers in bad:
            with pytest.raises(InvalidRequest):
                here.ask(
                    "confirm",
                    messages.ConfirmHold(request_id=here.request_id(), owner_key=OWNER, hold_id=hold.hold_id, passengers=passengers),
                )
        with pytest.raises(HoldNotYours):
            here.ask(
                "confirm", messages.ConfirmHold(request_id=here.request_id(), owner_key=OTHER, hold_id=hold.hold_id, passengers=ANA)
            )


def test_operators_verbs() -> None:
    """With the operator's key seats are blocked and freed, the manifest lists who travels, and a service closes and is cancelled."""
    with scene() as here:
        order = confirmed(here, "6A")
        key = OPERATOR_KEY
        block = messages.BlockSeats(request_id=here.request_id(), operator_key=key, service_id=FLIGHT, seats=["6c"], reason="crew")
        changed: Any = here.ask("block", block)
        assert changed.seats == ["6C"]
        with pytest.raises(NotAuthorised):
            here.ask("block", msgspec.structs.replace(block, operator_key="not-the-operators-key"))
        with pytest.raises(SeatBlocked):
            here.hold("6C")
        manifest: Any = here.ask("manifest", messages.Manifest(operator_key=key, service_id=FLIGHT))
        assert [(line.seat_id, line.surname, line.reference) for line in manifest.lines] == [("6A", "García-Núñez", order.reference)]
        assert (manifest.blocked, manifest.held, manifest.free) == ([("6C", "crew")], 0, 27)
        unblock = messages.UnblockSeats(request_id=here.request_id(), operator_key=key, service_id=FLIGHT, seats=["6C"])
        here.ask("unblock", unblock)
        assert here.hold("6C").seats == ["6C"]
        for state in ("closed", "cancelled"):
            change = messages.ChangeService(
                request_id=here.request_id(), operator_key=key, service_id=FLIGHT, state=state, reason="weather"
            )
            answer: Any = here.ask("change_service", change)
            assert answer.state == state
            with pytest.raises(ServiceClosed, match="weather"):
                here.hold("7A")
        assert (answer.orders_cancelled, answer.holds_released) == ([order.reference], 1)


def test_views_show_what_was_written() -> None:
    """A caller that names its lsn sees its own write: in the seat map, the list, the single seat and the services."""
    with scene() as here:
        hold = here.hold("7A", "7B")
        shown: Any = here.ask("seat_map", messages.SeatMap(service_id=FLIGHT, owner_key=OWNER, min_lsn=hold.lsn))
        assert [(seat.seat_id, seat.state) for seat in shown.seats if seat.mine] == [("7A", "held"), ("7B", "held")]
        assert (shown.service.free, shown.service.capacity, shown.partial) == (27, 29, {})
        assert shown.aisles == [(0, 1, [1]), (2, 7, [2])]
        assert {seat.seat_id for seat in shown.seats if seat.exit} == {"5A", "5B", "5C", "5D"}
        one: Any = here.ask("query_seat", messages.QuerySeat(service_id=FLIGHT, seat="7a", owner_key=OTHER))
        assert (one.seat.state, one.seat.mine) == ("held", False)
        page: Any = here.ask("list_seats", messages.ListSeats(service_id=FLIGHT, cabin="Y", state="available", limit=15))
        rest: Any = here.ask("list_seats", messages.ListSeats(service_id=FLIGHT, cabin="Y", state="available", limit=15, after=page.next))
        assert len(page.seats) + len(rest.seats) == 21 and rest.next is None and page.free == 27
        listed: Any = here.ask("services", messages.ListServices(date=DAY, origin="eze", operator="AR", min_lsn=hold.lsn))
        (service,) = listed.services
        assert (service.service_id, service.free, service.duration_min, service.price_label) == (FLIGHT, 27, 155, "formula")
        assert service.departs == f"{DAY}T10:05-03:00" and service.from_price.minor > 0
        with pytest.raises(InvalidRequest, match="EZE"):
            here.ask("services", messages.ListServices(date=DAY, origin="EZA"))
        late: Any = here.ask("seat_map", messages.SeatMap(service_id=FLIGHT, min_lsn=hold.lsn + 1_000))
        assert "lsn" in late.partial["AR"]


def test_create_and_import_need_the_right_key() -> None:
    """Only the administrator makes operators; a new one is there at once, and its datasets know what others use."""
    with scene() as here:
        new = messages.CreateOperator(
            request_id=here.request_id(), admin_key="not-the-admins-key", code="LUM", name="Cine Lumen", kind="cinema"
        )
        with pytest.raises(NotAuthorised):
            here.ask("create_operator", new)
        with pytest.raises(InvalidRequest, match="cinema"):
            here.ask("create_operator", msgspec.structs.replace(new, admin_key="the-administrators-key", kind="cinemas"))
        here.ask("create_operator", msgspec.structs.replace(new, admin_key="the-administrators-key"))
        known: Any = here.ask("operators", messages.Operators(like="lumen"))
        assert [(one.code, one.kind) for one in known.operators] == [("LUM", "cinema")]
        numbers: Any = here.ask("dataset_numbers", messages.DatasetNumbers(operator="AR", dataset="another"))
        assert (numbers.known, numbers.taken) == (True, [("1140", "EZE")])
        own: Any = here.ask("dataset_numbers", messages.DatasetNumbers(operator="AR", dataset="test"))
        assert own.taken == []


def test_malformed_questions_are_refused() -> None:
    """Bytes that are no question, unknown fields and values out of bounds are refused by name before anything is done."""
    with scene() as here:
        server: BalancerServer = here.server
        for payload in (b"", b"\xc1", msgspec.msgpack.encode({"date": DAY, "limit": -1}), msgspec.msgpack.encode({"dates": DAY})):
            with pytest.raises(InvalidRequest):
                server._handle("services", payload, Peer("127.0.0.1:1"))
        errors: list[HoldfastError] = []
        with pytest.raises(InvalidRequest) as refused:
            server._handle("hold", msgspec.msgpack.encode({"request_id": "x"}), Peer("127.0.0.1:1"))
        errors.append(refused.value)
        assert "request_id" in errors[0].detail or "owner_key" in errors[0].detail


def test_a_map_is_of_one_entry() -> None:
    """What asks while news are being taken in waits for the end of them: the rows shown are those of the lsn named beside them."""
    with scene() as here:
        hold = here.hold("7A", "7B")
        here.ask("seat_map", messages.SeatMap(service_id=FLIGHT, min_lsn=hold.lsn))
        view = here.server.balancer.catalogue.operators["AR"]
        answers: list[Any] = []
        asking = threading.Thread(target=lambda: answers.append(here.ask("seat_map", messages.SeatMap(service_id=FLIGHT))))
        with view.guard:
            lsn = view.lsn
            free = SeatRow(SeatState.FREE, "", 0, "", 1, 1, "n")
            view.apply([(Kind.SEAT, f"{FLIGHT}/7A", encode_row(free))])
            asking.start()
            asking.join(0.3)  # Its chance to answer from amid the news.
            view.apply([(Kind.SEAT, f"{FLIGHT}/7B", encode_row(free))])
            view.lsn = lsn + 1
        asking.join(30)
        (shown,) = answers
        assert (shown.lsn, [seat.seat_id for seat in shown.seats if seat.state == "held"]) == (lsn + 1, [])
