"""Answers to linearizable questions, from applied state. Pure.

The partition asks here only after a majority has confirmed the reign since the question arrived (docs/replication.md). Queries:

    hold {hold_id}            one hold, open or closed, with its owner
    holds {owner}             the owner's open holds
    order {reference}         one order with its owner, token digest and side record (bytes, b"" when erased)
    orders {references, evidence} those that exist, as above; with `evidence` true, that of the entry which made each (few only)
    seats {service_id}        touched seats that are not free: seat id -> [state, hold id, owner, reason, whether its hold's time is
                              over: then whoever wants it may take it, the basket whose anchor is to be asked whether it is: "" if none]
    counter {counter}         {"counter", "value"}
    manifest {service_id}     {"orders": [as above], "legs": [booked here as part of a trip], "blocked": {seat id: reason},
                              "held": seats of open holds}
    records {of, after}       a page of (reference, service id, side record) of "orders" or of "legs", and the next `after`
    request {request_id}      {"digest", "outcome"} as first given, or None
    baskets {basket_ids}      those that exist, at their anchor, with the evidence of their last decision and the side record
    leg {basket_id}           what is held or booked here for a basket anchored elsewhere: {"state", "lsn", "numbers"}, or None
    payments {intents}        those that exist, settled or not
    accounts {of, after}      a page of "orders" (paid ones), "payments" or "settled" payments, and the next `after`
    affected {service_id}     who has booked seats: [reference, seats, who decides, whether the traveller is asked, why]
    open {}                   what is left to be done: {"baskets", "legs", "payments"}
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from datastore.charges import payment_value
from datastore.engine import FirstAnswer
from datastore.errors import InvalidRequest, SnapshotNeeded, UnknownHold, UnknownOrder, UnknownService, nearest, shown
from datastore.model import BASKET_MARK, HoldState, OrderState, SeatState, is_basket
from datastore.outcomes import basket_value, hold_value, order_value
from datastore.rows import BasketRow, ErasedRow, HoldRow, Kind, OrderRow, SeatRow, decode_row
from datastore.state import AppliedState

REFERENCES_MAX = 500
PROVEN_MAX = 4  # Each may open a sealed segment, on the thread that sells.
OPEN_MAX = 500
TEXT_LENGTH_MAX = 128
RECORDS_PAGE = 500
REPLACEMENTS_MAX = 64

Sides = Callable[[Sequence[bytes]], dict[bytes, bytes]]
Evidence = tuple[int, int, bytes]


def no_evidence(lsn: int) -> Evidence:
    """Stand where no ledger lies behind the state: its answers prove nothing to other operators."""
    return (0, lsn, b"")


class Reader:
    """What questions are answered from."""

    def __init__(
        self, state: AppliedState, sides: Sides, first_answer: FirstAnswer, evidence: Callable[[int], Evidence] = no_evidence
    ) -> None:
        """Read from `state`; `evidence` gives (epoch's counter, lsn, hash) of a committed entry."""
        self._state = state
        self._given_sides = sides
        self._sides = self._resolved
        self._first_answer = first_answer
        self._evidence = evidence

    def answer(self, query: str, arguments: Mapping[str, Any], now_ms: int) -> Any:
        """Return the answer as plain data.

        Raises:
            InvalidRequest: No such query, or an argument is missing or of a wrong type.
            UnknownHold, UnknownOrder, UnknownService: There is no such thing.
        """
        handler = _QUERIES.get(query)
        if handler is None:
            raise InvalidRequest(f"no query {shown(query)}", field="query", nearest=nearest(query, _QUERIES))
        return handler(self, arguments, now_ms)

    def _hold(self, arguments: Mapping[str, Any], now_ms: int) -> dict[str, Any]:
        hold_id = _text(arguments, "hold_id")
        if is_basket(hold_id):
            basket = self._state.basket(hold_id)
            if basket is None:
                raise UnknownHold(f"no hold {shown(hold_id)}", hold_id=shown(hold_id))
            return {**basket_value(basket, now_ms), "owner": basket.owner}
        row = self._state.open_holds.get(hold_id) or self._state.closed_hold(hold_id)
        if row is None:
            raise UnknownHold(f"no hold {shown(hold_id)}", hold_id=shown(hold_id))
        return {**hold_value(_as_of(row, now_ms), now_ms), "owner": row.owner, "intent": row.intent}

    def _holds(self, arguments: Mapping[str, Any], now_ms: int) -> list[dict[str, Any]]:
        held = self._state.open_holds.ids_of(_text(arguments, "owner"))
        rows = [row for hold_id in held if (row := self._state.open_holds.get(hold_id)) is not None]
        # One whose time is over is nobody's any more, whether or not the sweeper has come by.
        found = [{**hold_value(row, now_ms), "owner": row.owner} for row in rows if row.expires_ms > now_ms and not row.basket]
        # A basket is one hold, told of by its anchor alone.
        for basket_id in dict.fromkeys(row.basket for row in rows if row.basket and not row.anchor and row.expires_ms > now_ms):
            found.append({**basket_value(self._state.baskets[basket_id], now_ms), "owner": self._state.baskets[basket_id].owner})
        return found

    def _order(self, arguments: Mapping[str, Any], now_ms: int) -> dict[str, Any]:
        row = self._state.order(_text(arguments, "reference"))
        if row is None:
            raise UnknownOrder("no such booking")
        return self._orders_with_sides([row], now_ms)[0]

    def _orders(self, arguments: Mapping[str, Any], now_ms: int) -> list[dict[str, Any]]:
        references = arguments.get("references")
        if not isinstance(references, list | tuple) or len(references) > REFERENCES_MAX:
            raise InvalidRequest(f"references: a list of up to {REFERENCES_MAX} is needed", field="references")
        rows = [self._state.order(reference) for reference in references if isinstance(reference, str)]
        found = self._orders_with_sides([row for row in rows if row is not None], now_ms)
        if arguments.get("evidence") is True and len(found) <= PROVEN_MAX:
            for value in found:
                # The entry may be in a sealed segment that is not back-filled yet: the order stands, its receipt comes later.
                with contextlib.suppress(SnapshotNeeded):
                    value["evidence"] = self._evidence(value["made_lsn"])
        return found

    def _orders_with_sides(self, rows: Sequence[OrderRow], now_ms: int) -> list[dict[str, Any]]:
        records = self._sides([row.passengers for row in rows if row.passengers])
        return [
            {
                **order_value(row, now_ms),
                "owner": row.owner,
                "token_digest": row.token_digest,
                "record": records.get(row.passengers, b""),
            }
            for row in rows
        ]

    def _seats(self, arguments: Mapping[str, Any], now_ms: int) -> dict[str, Any]:
        service_id = self._service(arguments)
        due = {seat_id for hold in self._state.due_holds(service_id, now_ms) for seat_id in hold.seats}
        return {
            seat_id: [int(row.state), row.hold_id, row.owner, row.reason, seat_id in due, self._to_be_asked(row, now_ms)]
            for seat_id, row in self._state.seats(service_id).items()
            if row.state != SeatState.FREE
        }

    def _to_be_asked(self, row: SeatRow, now_ms: int) -> str:
        """Return the basket that another operator decides and whose time is over by our hint, if it has the seat."""
        if row.state != SeatState.HELD or BASKET_MARK not in row.hold_id:
            return ""
        hold = self._state.open_holds.get(row.hold_id)
        return hold.basket if hold is not None and hold.anchor and hold.expires_ms <= now_ms else ""

    def _manifest(self, arguments: Mapping[str, Any], now_ms: int) -> dict[str, Any]:
        rows = self._state.seats(self._service(arguments))
        holds = dict.fromkeys(row.hold_id for row in rows.values() if row.state == SeatState.BOOKED)
        closed = [hold for hold in map(self._state.closed_hold, holds) if hold is not None]
        legs = [hold for hold in closed if hold.basket]
        records = self._sides([leg.passengers for leg in legs if leg.passengers])
        alone = {hold.reference: hold.seats for hold in closed if not hold.basket}
        orders = [order for order in map(self._state.order, alone) if order is not None and order.state == OrderState.CONFIRMED]
        return {
            # What a change has moved elsewhere is not in the hold any more (B11).
            "orders": [{**order, "issued": order, "seats": alone[order["reference"]]} for order in self._orders_with_sides(orders, now_ms)],
            "legs": [
                {
                    "reference": leg.reference,
                    "seats": leg.seats,
                    "record": records.get(leg.passengers, b""),
                    "issued": self._issued(leg, now_ms),
                }
                for leg in legs
            ],
            "blocked": {seat_id: row.reason for seat_id, row in rows.items() if row.state == SeatState.BLOCKED},
            "held": [seat_id for seat_id, row in rows.items() if row.state == SeatState.HELD],
        }

    def _issued(self, leg: HoldRow, now_ms: int) -> dict[str, Any]:
        """Return the order of a leg where it is this operator's, with the tickets that it issued; {} where another decided."""
        order = self._state.order(leg.reference) if not leg.anchor else None
        return {} if order is None else order_value(order, now_ms)

    def _affected(self, arguments: Mapping[str, Any], _now_ms: int) -> list[list[Any]]:
        service_id = self._service(arguments)
        rows = self._state.seats(service_id)
        holds = dict.fromkeys(row.hold_id for row in rows.values() if row.state == SeatState.BOOKED)
        found: list[list[Any]] = []
        for hold in filter(None, map(self._state.closed_hold, holds)):
            asked, why = False, ""
            if hold.anchor:
                leg = self._state.leg(hold.basket)
                asked = leg is not None and service_id in leg.asks.split()
            elif (order := self._state.order(hold.reference)) is not None:
                why = dict(order.action).get(service_id, "")
                asked = bool(why)
            found.append([hold.reference, list(hold.seats), hold.anchor or self._state.operator, asked, why])
        return sorted(found)

    def _counter(self, arguments: Mapping[str, Any], _now_ms: int) -> dict[str, Any]:
        name = _text(arguments, "counter")
        return {"counter": name, "value": self._state.counter(name)}

    def _baskets(self, arguments: Mapping[str, Any], now_ms: int) -> list[dict[str, Any]]:
        wanted = arguments.get("basket_ids")
        if not isinstance(wanted, list | tuple) or len(wanted) > REFERENCES_MAX:
            raise InvalidRequest(f"basket_ids: a list of up to {REFERENCES_MAX} is needed", field="basket_ids")
        rows = [self._state.basket(basket_id) for basket_id in wanted if isinstance(basket_id, str)]
        return [self._basket(row, now_ms) for row in rows if row is not None]

    def _basket(self, row: BasketRow, now_ms: int) -> dict[str, Any]:
        record = self._sides([row.passengers]).get(row.passengers, b"") if row.passengers else b""
        return {
            **basket_value(row, now_ms),
            "owner": row.owner,
            "digest": row.digest,
            "holds": row.holds,
            "record": record,
            "evidence": self._evidence(row.decided_lsn or row.lsn),
        }

    def _leg(self, arguments: Mapping[str, Any], _now_ms: int) -> dict[str, Any] | None:
        row = self._state.leg(_text(arguments, "basket_id"))
        if row is None:
            return None
        return {"state": int(row.state), "lsn": row.lsn, "numbers": row.numbers, "due_ms": row.due_ms, "lost": row.lost}

    def _open(self, _arguments: Mapping[str, Any], now_ms: int) -> dict[str, Any]:
        waiting = [row for row in self._state.baskets.values() if row.undone or row.expires_ms <= now_ms]
        return {
            "baskets": [self._basket(row, now_ms) for row in waiting[:OPEN_MAX]],
            "legs": [
                {"basket_id": row.basket_id, "anchor": row.anchor, "due_ms": row.due_ms, "lost": row.lost}
                for row in list(self._state.legs.values())[:OPEN_MAX]
            ],
            "payments": [payment_value(row) for row in list(self._state.payments.values())[:OPEN_MAX]],
        }

    def _payments(self, arguments: Mapping[str, Any], _now_ms: int) -> list[dict[str, Any]]:
        wanted = arguments.get("intents")
        if not isinstance(wanted, list | tuple) or len(wanted) > REFERENCES_MAX:
            raise InvalidRequest(f"intents: a list of up to {REFERENCES_MAX} is needed", field="intents")
        rows = [self._state.payment(intent) for intent in wanted if isinstance(intent, str)]
        return [payment_value(row) for row in rows if row is not None]

    def _accounts(self, arguments: Mapping[str, Any], now_ms: int) -> dict[str, Any]:
        kind, after = arguments.get("of"), arguments.get("after", "")
        if kind not in _ACCOUNT_KINDS or not isinstance(after, str) or len(after) > TEXT_LENGTH_MAX:
            raise InvalidRequest(f"accounts: say of which of {', '.join(_ACCOUNT_KINDS)}", field="of")
        page = self._state.store.scan(_ACCOUNT_KINDS[kind], "", after, RECORDS_PAGE)
        rows = [decode_row(_ACCOUNT_KINDS[kind], value) for _, value in page]
        paid = [order_value(row, now_ms) for row in rows if row.intent or row.intents] if kind == "orders" else []
        found = paid if kind == "orders" else [payment_value(row) for row in rows]
        return {"rows": found, "next": page[-1][0] if len(page) == RECORDS_PAGE else None}

    def _records(self, arguments: Mapping[str, Any], _now_ms: int) -> dict[str, Any]:
        kind, after = arguments.get("of"), arguments.get("after", "")
        if kind not in _RECORD_KINDS or not isinstance(after, str) or len(after) > TEXT_LENGTH_MAX:
            raise InvalidRequest(f"records: say of which of {', '.join(_RECORD_KINDS)}", field="of")
        page = self._state.store.scan(_RECORD_KINDS[kind], "", after, RECORDS_PAGE)
        rows: list[OrderRow | HoldRow] = [decode_row(_RECORD_KINDS[kind], value) for _, value in page]
        sides = self._sides([row.passengers for row in rows if row.passengers])
        found = [(row.reference, row.service_id, sides[row.passengers]) for row in rows if row.passengers in sides]
        return {"records": found, "next": page[-1][0] if len(page) == RECORDS_PAGE else None}

    def _resolved(self, digests: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the records of these digests: where one was erased and has a replacement, that (Z12)."""
        found = self._given_sides(digests)
        for digest in digests:
            current, seen = digest, 0
            while digest not in found and seen < REPLACEMENTS_MAX:
                row = self._state.store.get(Kind.ERASED, current.hex())
                erased: ErasedRow | None = None if row is None else decode_row(Kind.ERASED, row)
                if erased is None or not erased.replacement:
                    break
                current, seen = erased.replacement, seen + 1
                record = self._given_sides([current]).get(current)
                if record is not None:
                    found[digest] = record
        return found

    def _service(self, arguments: Mapping[str, Any]) -> str:
        service_id = _text(arguments, "service_id")
        if self._state.facts(service_id) is None:
            raise UnknownService(f"{self._state.operator} has no service {shown(service_id)}", service_id=shown(service_id))
        return service_id

    def _request(self, arguments: Mapping[str, Any], _now_ms: int) -> dict[str, Any] | None:
        first = self._first_answer(_text(arguments, "request_id"))
        if first is None:
            return None
        digest, outcome = first
        return {"digest": digest, "outcome": msgspec.to_builtins(outcome, builtin_types=(bytes,))}


def _text(arguments: Mapping[str, Any], name: str) -> str:
    value = arguments.get(name)
    if not isinstance(value, str) or not value or len(value) > TEXT_LENGTH_MAX:
        raise InvalidRequest(f"{name}: a text of 1 to {TEXT_LENGTH_MAX} characters is needed", field=name)
    return value


# Who travels stands in an order's record and, for each leg of a basket, in one of the leg's own operator.
_RECORD_KINDS = {"orders": Kind.ORDER, "legs": Kind.CLOSED_HOLD}

_ACCOUNT_KINDS = {"orders": Kind.ORDER, "payments": Kind.PAYMENT, "settled": Kind.CLOSED_PAYMENT}

_QUERIES: dict[str, Callable[[Reader, Mapping[str, Any], int], Any]] = {
    "hold": Reader._hold,
    "holds": Reader._holds,
    "order": Reader._order,
    "orders": Reader._orders,
    "seats": Reader._seats,
    "manifest": Reader._manifest,
    "counter": Reader._counter,
    "request": Reader._request,
    "baskets": Reader._baskets,
    "leg": Reader._leg,
    "affected": Reader._affected,
    "open": Reader._open,
    "payments": Reader._payments,
    "accounts": Reader._accounts,
    "records": Reader._records,
}


def _as_of(row: HoldRow, now_ms: int) -> HoldRow:
    """Return the hold as it is now: over when its time is, though no entry has said so yet."""
    is_over = row.state in (HoldState.ACTIVE, HoldState.PAYING) and row.expires_ms <= now_ms and not row.anchor
    return msgspec.structs.replace(row, state=HoldState.EXPIRED) if is_over else row
