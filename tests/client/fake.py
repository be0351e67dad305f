"""A client for the screens' edge cases: the same questions as `client.api.Holdfast`, answered from memory, failing when told to.

It keeps what a cluster keeps (a seat has one owner, all seats of a hold or none), so that a screen that misuses it is refused.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from client.tui.legs import legs_of
from datastore import messages
from datastore.errors import (
    HoldExpired,
    HoldfastError,
    InvalidRequest,
    NodeUnreachable,
    PaymentActionRequired,
    PaymentDeclined,
    SeatUnavailable,
    UnknownOrder,
    UnknownService,
)
from datastore.model import Layout, LayoutSpec, Money, Passenger, Section

PRICE = Money(12_300, "USD")
SPEC = LayoutSpec(
    "E190", "Embraer 190", (Section("Y", "A", tuple(str(row) for row in range(1, 21)), ("A", "B", "", "C", "D"), exit_rows=("9",)),)
)
DAY = "2026-12-01"
ME, RIVAL = "me", "rival"


def service(number: int, operator: str = "AR", origin: str = "EZE", destination: str = "GRU") -> messages.ServiceInfo:
    hour = 6 + 4 * number
    return messages.ServiceInfo(
        f"{operator}{number}-{origin}-{DAY}", operator, f"{operator} Air", "airline", origin, f"{origin} Airport", destination,
        f"{destination} Airport", DAY, f"{DAY}T{hour:02d}:00:00-03:00", f"{DAY}T{hour + 2:02d}:00:00-03:00", hour * 3_600_000,
        (hour + 2) * 3_600_000, 120, "", "E190", "Embraer 190", "open", 80, 80, PRICE, "test", "formula",
    )  # fmt: skip


@dataclass
class FakeClient:
    """Two flights EZE-GRU-MIA. `failure`: raised by every question until taken away; `ttl_ms`: of new holds."""

    ttl_ms: int = 900_000
    failure: HoldfastError | None = None
    cluster: messages.StatusAnswer = field(
        default_factory=lambda: messages.StatusAnswer(
            processes=[messages.ProcessStatus(f"lock-{number}", "lock server", "h:1", "running", "ok") for number in (1, 2, 3)],
            partitions=[messages.PartitionLine("AR", "node-1", 1, 5, {"node-2": 0}, "ok")],
            verdict="ok",
            as_of_ms=0,
        )
    )
    deadline_ms: int = 1_000
    spec: LayoutSpec = SPEC

    def __post_init__(self) -> None:
        self.found = {one.service_id: one for one in (service(1), service(2, "QR", "GRU", "MIA"))}
        self.owners: dict[tuple[str, str], str] = {}  # (service, seat) -> whoever has it
        self.held: dict[str, tuple[str, list[tuple[str, list[str]]], float]] = {}  # hold -> (owner, legs, end)
        self.booked: dict[str, messages.OrderAnswer] = {}
        self.charged: list[str] = []  # Cards that paid.
        self.consented: list[str] = []  # Requests whose card's holder consented.
        self.version = 1
        self.asked: list[str] = []
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)

    # --- what the screens ask ----------------------------------------------------------------------------------------

    def _heard(self, question: str) -> None:
        with self._lock:
            self.asked.append(question)
            self._expire()
            if self.failure is not None:
                raise self.failure

    def call(self, method: str, request: messages.Request) -> messages.Answer:
        raise InvalidRequest(f"{method}: not in this fake", field="method")

    def operators(self, like: str = "") -> list[messages.OperatorInfo]:
        self._heard("operators")
        return [messages.OperatorInfo("AR", "AR Air", "airline", 1, ["test"])]

    def places(self, like: str = "") -> list[messages.PlaceInfo]:
        self._heard("places")
        known = [
            messages.PlaceInfo(code, f"{code} Airport", city, "AR", "UTC") for code, city in (("EZE", "Buenos Aires"), ("GRU", "São Paulo"))
        ]
        return [place for place in known if like.casefold() in f"{place.code} {place.city}".casefold()]

    def services(self, date: str, **wanted: Any) -> messages.ServicesAnswer:
        self._heard("services")
        return messages.ServicesAnswer(services=list(self.found.values()), next=None, as_of_ms=0)

    def search(self, origin: str, destination: str, date: str, **wanted: Any) -> messages.TripsAnswer:
        self._heard("search")
        legs = list(self.found.values())
        parts = [messages.TripLeg(one, [], PRICE, 80, 80) for one in legs]
        wait = messages.Layover("GRU", "GRU Airport", 120, 60, True, False)
        trip = messages.Trip(
            "offer", 0, "EZE", "MIA", legs[0].departs, legs[1].arrives, legs[0].departs_ms, legs[1].arrives_ms, 0, 360, 1, parts, [wait],
            ["AR", "QR"], True, 80, Money(24_600, "USD"), 80, "cheapest",
        )  # fmt: skip
        return messages.TripsAnswer(
            origins=[], destinations=[], passengers=wanted.get("passengers", 1), outbound=[trip], inbound=[], more=0, as_of_ms=0
        )

    def calendar(self, origin: str, destination: str, month: str, **wanted: Any) -> messages.CalendarAnswer:
        self._heard("calendar")
        days = [messages.CalendarDay(f"{month}-{number:02d}", PRICE if number % 2 else None) for number in range(1, 29)]
        return messages.CalendarAnswer(origins=[], destinations=[], passengers=1, days=days, as_of_ms=0)

    def seat_map(self, service_id: str) -> messages.SeatMapAnswer:
        self._heard("seat_map")
        if service_id not in self.found:
            raise UnknownService(f"no service {service_id}")
        seats = []
        for one in Layout(self.spec).seats:
            state, mine = self._state(service_id, one.seat_id)
            seats.append(
                messages.SeatInfo(
                    one.seat_id,
                    one.designator,
                    state,
                    mine,
                    one.cabin,
                    one.zone,
                    one.row,
                    one.column,
                    one.x,
                    one.y,
                    one.window,
                    one.aisle,
                    one.exit,
                    one.accessible,
                    PRICE,
                )
            )
        return messages.SeatMapAnswer(service=self.found[service_id], seats=seats, aisles=[(0, 19, [2])], lsn=1, as_of_ms=0)

    def _state(self, service_id: str, seat: str) -> tuple[str, bool]:
        owner = self.owners.get((service_id, seat), "")
        booked = any(service_id == leg.service_id and seat in leg.seats for order in self.booked.values() for leg in legs_of(order))
        return ("available" if not owner else "occupied" if booked else "held"), owner == ME

    def watch_seats(self, service_id: str, *, seen: int = 0, wait_ms: int = 0) -> messages.SeatStatesAnswer:
        self._heard("watch_seats")
        with self._changed:
            self._changed.wait_for(lambda: self.version != seen or self.failure is not None, min(wait_ms, 500) / 1000)
            if self.failure is not None:
                raise self.failure
            taken = [(seat, *self._state(service_id, seat), "") for where, seat in self.owners if where == service_id]
            news = taken if self.version != seen else None
            return messages.SeatStatesAnswer(service_id=service_id, state="open", seen=self.version, taken=news, lsn=1, as_of_ms=0)

    def hold(self, service_id: str, seats: Sequence[str], *, ttl_ms: int = 0, request_id: str = "") -> messages.HoldAnswer:
        self._heard("hold")
        return self.take(ME, [(service_id, list(seats))])

    def hold_any(self, service_id: str, count: int, **wanted: Any) -> messages.HoldAnswer:
        self._heard("hold_any")
        return self.take(ME, [(service_id, self._free(service_id, count))])

    def hold_trip(self, legs: Sequence[tuple[str, Sequence[str] | int]], **wanted: Any) -> messages.HoldAnswer:
        self._heard("hold_trip")
        named = [(one, self._free(one, seats) if isinstance(seats, int) else list(seats)) for one, seats in legs]
        return self.take(ME, named)

    def renew(self, hold_id: str, *, ttl_ms: int = 0, request_id: str = "") -> messages.HoldAnswer:
        self._heard("renew")
        owner, legs, _ = self.held[hold_id]
        return self.take(owner, legs)

    def extend(self, hold_id: str, ttl_ms: int, *, request_id: str = "") -> messages.HoldAnswer:
        self._heard("extend")
        self._need(hold_id)
        owner, legs, _ = self.held[hold_id]
        self.held[hold_id] = (owner, legs, time.monotonic() + ttl_ms / 1000)
        return self._answer(hold_id)

    def release(self, hold_id: str, *, request_id: str = "") -> messages.HoldAnswer:
        self._heard("release")
        answer = self._answer(hold_id)
        answer.state = "released"
        self._free_of(hold_id)
        return answer

    def my_holds(self) -> messages.HoldsAnswer:
        self._heard("my_holds")
        return messages.HoldsAnswer(
            holds=[self._answer(one) for one, (owner, _, end) in self.held.items() if owner == ME and end > time.monotonic()]
        )

    def confirm(
        self, hold_id: str, passengers: Sequence[Passenger], *, request_id: str = "", payment_method: str = ""
    ) -> messages.OrderAnswer:
        self._heard("confirm")
        with self._lock:
            return self._confirm(hold_id, passengers, request_id, payment_method)

    def _confirm(self, hold_id: str, passengers: Sequence[Passenger], request_id: str, card: str) -> messages.OrderAnswer:
        self._need(hold_id)
        self._charge(card, request_id)
        hold = self._answer(hold_id)
        reference = f"REF{len(self.booked):03d}"
        order = messages.OrderAnswer(
            reference=reference, operator="AR", state="confirmed", service=None, service_id=hold.service_id, seats=hold.seats,
            passengers=list(passengers), prices=hold.prices, total=hold.total, refundable_percent=80, refund=None, created_ms=0, history=[],
            lsn=1, receipt="AR:1", manage_token="t" * 22, legs=hold.legs,
            available_actions=["cancel", "cancel_leg", "change_seat", "change_service"],
        )  # fmt: skip
        self.booked[reference] = order
        del self.held[hold_id]
        self._news()
        return order

    def orders(self, tokens: Sequence[tuple[str, str]]) -> messages.OrdersAnswer:
        self._heard("orders")
        return messages.OrdersAnswer(orders=[self.booked[reference] for reference, _ in tokens if reference in self.booked])

    def order(self, reference: str, *, surname: str = "", token: str = "") -> messages.OrderAnswer:
        self._heard("order")
        if reference not in self.booked:
            raise UnknownOrder("no such booking")
        return self.booked[reference]

    def price_party(self, hold_id: str, passengers: Sequence[Passenger]) -> messages.PartyPriced:
        """A child pays half."""
        self._heard("price_party")
        with self._lock:
            self._need(hold_id)
            hold = self._answer(hold_id)
        children = sum(one.type == "CHD" for one in passengers) * len(legs_of(hold))
        total = Money(hold.total.minor - children * PRICE.minor // 2, "USD")
        return messages.PartyPriced(hold_id=hold_id, passengers=list(passengers), legs=legs_of(hold), total=total)

    def query_transaction(self, hold_id: str = "", *, reference: str = "", token: str = "") -> messages.TransactionAnswer:
        self._heard("transaction")
        return messages.TransactionAnswer(hold_id="AR.1", operator="AR", state="none")

    def quote_cancel(self, reference: str, token: str, **wanted: Any) -> messages.QuoteAnswer:
        """Half comes back, or all where it is asked in full."""
        self._heard("quote_cancel")
        order = self.booked[reference]
        back = Money(order.total.minor if wanted.get("full") else order.total.minor // 2, "USD")
        kept = Money(order.total.minor - back.minor, "USD")
        return messages.QuoteAnswer(
            reference=reference, what=f"cancel {wanted}", quote="cancel", lines=[], given_up=order.total, refund=back, retained=kept
        )

    def quote_change(self, reference: str, token: str, **wanted: Any) -> messages.QuoteAnswer:
        """A change costs ten more."""
        self._heard("quote_change")
        more, none = Money(1_000, "USD"), Money(0, "USD")
        return messages.QuoteAnswer(
            reference=reference, what="change", quote=f"change {wanted.get('swaps')}", lines=[], given_up=PRICE, refund=none,
            retained=none, difference=more, to_pay=more,
        )  # fmt: skip

    def change(
        self, reference: str, token: str, quote: str, *, payment_method: str = "", request_id: str = ""
    ) -> messages.OrderAnswer:
        self._heard("change")
        self._charge(payment_method, request_id)
        self.booked[reference].history.append((0, quote))
        return self.booked[reference]

    def cancel(self, reference: str, token: str, *, quote: str = "", request_id: str = "") -> messages.OrderAnswer:
        self._heard("cancel")
        order = self.booked[reference]
        order.state, order.refund, order.available_actions, order.action_required = "cancelled", order.total, [], ""
        return order

    def alternatives(self, reference: str, token: str, *, leg: int = 0) -> messages.AlternativesAnswer:
        self._heard("alternatives")
        order = self.booked[reference]
        lost = order.affected[0]
        way = messages.Alternative(1, "way 1", "AR.way1", legs_of(order), f"{DAY}T10:00:00", f"{DAY}T12:00:00", 0)
        return messages.AlternativesAnswer(reference=reference, leg=1, lost=lost, why="was cancelled", alternatives=[way])

    def keep(self, reference: str, token: str) -> messages.OrderAnswer:
        self._heard("keep")
        self.booked[reference].action_required = ""
        return self.booked[reference]

    def _charge(self, card: str, request_id: str) -> None:
        """Refuse a card that is declined; ask once for consent where its bank wants that."""
        if "Declined" in card:
            raise PaymentDeclined("the card was declined")
        if "authentication" in card and request_id not in self.consented:
            self.consented.append(request_id)
            raise PaymentActionRequired("consent is needed", action="http://bank.test/consent")
        self.charged += [card] if card else []

    def tickets(self, reference: str, token: str) -> messages.TicketsAnswer:
        raise InvalidRequest("not in this fake", field="method")

    def block(self, *_: Any, **__: Any) -> messages.SeatsChanged:
        raise InvalidRequest("not in this fake", field="method")

    unblock = change_service = manifest = accounts = block  # type: ignore[assignment]

    def status(self, *, deadline_ms: int = 0) -> messages.StatusAnswer:
        self._heard("status")
        return self.cluster

    def locks(self, limit: int = 200) -> messages.LocksAnswer:
        return messages.LocksAnswer(locks=[], asked=3, quorum=2)

    def close(self) -> None:
        with self._changed:
            self.failure = NodeUnreachable("closed")
            self._changed.notify_all()

    # --- what the tests do -------------------------------------------------------------------------------------------

    def take(self, owner: str, legs: list[tuple[str, list[str]]]) -> messages.HoldAnswer:
        """Hold all or nothing, as anybody."""
        with self._changed:
            self._expire()
            conflicts = [
                {
                    "service_id": one,
                    "seats": [{"seat": seat, "state": self._state(one, seat)[0]} for seat in seats if (one, seat) in self.owners],
                }
                for one, seats in legs
            ]
            conflicts = [leg for leg in conflicts if leg["seats"]]
            if conflicts:
                raise SeatUnavailable("somebody has them", seats=conflicts[0]["seats"], legs=conflicts)
            hold_id = f"AR.hold{len(self.asked)}-{self.version}"
            self.held[hold_id] = (owner, legs, time.monotonic() + self.ttl_ms / 1000)
            for one, seats in legs:
                for seat in seats:
                    self.owners[one, seat] = owner
            self._news()
            return self._answer(hold_id)

    def end(self, hold_id: str) -> None:
        """Let a hold's time be over."""
        with self._changed:
            owner, legs, _ = self.held[hold_id]
            self.held[hold_id] = (owner, legs, 0.0)
            self._expire()

    def _free(self, service_id: str, count: int) -> list[str]:
        return [seat.seat_id for seat in Layout(self.spec).seats if (service_id, seat.seat_id) not in self.owners][:count]

    def _answer(self, hold_id: str) -> messages.HoldAnswer:
        _, legs, end = self.held[hold_id]
        infos = [
            messages.LegInfo(one[:2], one, seats, [PRICE] * len(seats), Money(PRICE.minor * len(seats), "USD"), 80) for one, seats in legs
        ]
        total = Money(sum(leg.total.minor for leg in infos), "USD")
        remaining_ms = max(0, int(1000 * (end - time.monotonic())))
        return messages.HoldAnswer(
            hold_id=hold_id, operator="AR", service_id=legs[0][0], seats=legs[0][1], state="active" if remaining_ms else "expired",
            created_ms=0,
            expires_ms=0, remaining_ms=remaining_ms, prices=infos[0].prices, total=total, refundable_percent=80, lsn=1,
            legs=infos if len(infos) > 1 else [],
        )  # fmt: skip

    def _need(self, hold_id: str) -> None:
        if hold_id not in self.held or self.held[hold_id][2] <= time.monotonic():
            raise HoldExpired("the hold is over", state="expired")

    def _expire(self) -> None:
        for hold_id, (_, _, end) in list(self.held.items()):
            if end <= time.monotonic():
                self._free_of(hold_id, forget=False)

    def _free_of(self, hold_id: str, *, forget: bool = True) -> None:
        _, legs, _ = self.held[hold_id]
        gone = [(one, seat) for one, seats in legs for seat in seats if self._belongs(hold_id, one, seat)]
        for key in gone:
            self.owners.pop(key, None)
        if forget:
            del self.held[hold_id]
        if gone:
            self._news()

    def _belongs(self, hold_id: str, service_id: str, seat: str) -> bool:
        """Return whether no other hold that lasts has the seat."""
        lasting = [legs for one, (_, legs, end) in self.held.items() if one != hold_id and end > time.monotonic()]
        return (service_id, seat) in self.owners and not any(
            (service_id, seat) in [(a, b) for a, bs in legs for b in bs] for legs in lasting
        )

    def _news(self) -> None:
        with self._changed:
            self.version += 1
            self._changed.notify_all()
