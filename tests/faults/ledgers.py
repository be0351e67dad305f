"""What the ledgers say of trips when all is quiet: rows folded from the entries, and the anchors' words that others name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from datastore import wire_ledger
from datastore.ledger import unseal
from datastore.model import BasketState, HoldState, Leg, OrderState, Part, SeatState
from datastore.rows import Kind, OrderRow, SeatRow, decode_row
from tests.faults.buyers import node_stubs, primary_of
from tests.integration.harness import ClusterUnderTest
from tests.waiting import wait_until


@dataclass
class Ledger:
    """One operator's rows as its primary's entries make them, its entries' hashes, and when each basket took which step."""

    operator: str
    rows: dict[tuple[int, str], Any] = field(default_factory=dict)
    hashes: dict[int, bytes] = field(default_factory=dict)
    steps: dict[str, dict[str, int]] = field(default_factory=dict)  # basket -> step -> the entry's stamp

    def of(self, *kinds: Kind) -> dict[str, Any]:
        return {key: row for (kind, key), row in self.rows.items() if kind in kinds}

    def seats(self) -> dict[str, SeatRow]:
        """Return "service/seat" -> who has it, whichever row says so."""
        found = self.of(Kind.SEAT)
        for bulk in self.of(Kind.BULK).values():
            found.update({f"{bulk.service_id}/{seat_id}": row for seat_id, row in bulk.seat_rows().items()})
        return found

    def take(self, data: bytes) -> int:
        sealed = unseal(data)
        self.hashes[sealed.entry.lsn] = sealed.hash
        for kind, key, value in sealed.entry.events:
            if not value:
                self.rows.pop((kind, key), None)
                continue
            row = self.rows[kind, key] = decode_row(kind, value)
            if kind in (Kind.BASKET, Kind.CLOSED_BASKET):
                self.steps.setdefault(key, {}).setdefault(BasketState(row.state).name, sealed.entry.stamp_ms)
            elif kind in (Kind.LEG, Kind.CLOSED_LEG):
                self.steps.setdefault(key, {}).setdefault(f"leg {HoldState(row.state).name}", sealed.entry.stamp_ms)
        return sealed.entry.lsn


def read_ledger(cluster: ClusterUnderTest, operator: str) -> Ledger:
    """Return the operator's ledger, from its primary."""
    stubs = node_stubs(cluster)
    found = Ledger(operator)
    lsn = 1
    try:
        stub = stubs[primary_of(cluster, operator)]
        while page := stub.entries(wire_ledger.EntriesRequest(operator, lsn), 10_000):
            for data in page:
                lsn = found.take(data) + 1
    finally:
        for one in stubs.values():
            one.close()
    return found


def read_ledgers(cluster: ClusterUnderTest, operators: Sequence[str]) -> dict[str, Ledger]:
    return {operator: read_ledger(cluster, operator) for operator in operators}


def wait_nothing_open(cluster: ClusterUnderTest, operators: Sequence[str], deadline_s: float) -> dict[str, Ledger]:
    """Wait until no trip is under way or half done anywhere; return the ledgers."""
    found: dict[str, Ledger] = {}

    def is_quiet() -> bool:
        found.update(read_ledgers(cluster, operators))
        return not any(ledger.of(Kind.BASKET, Kind.LEG) for ledger in found.values())

    try:
        wait_until(is_quiet, "every trip to end", deadline_s)
    except AssertionError as error:
        left = {operator: ledger.of(Kind.BASKET, Kind.LEG) for operator, ledger in found.items()}
        raise AssertionError(f"{error}: {left}\n{cluster.evidence()}") from error
    return found


def booked_by(order: OrderRow) -> list[tuple[str, Leg, tuple[str, ...]]]:
    """Return (hold, the order's leg, the seats of it) of all that an order of a trip, or one that was changed, has booked."""
    parts = order.parts or tuple(Part(order.hold_id, number, number, leg.seats) for number, leg in enumerate(order.legs))
    return [
        (f"{part.hold_id}.{part.number}" if part.number >= 0 else part.hold_id, order.legs[part.place], part.seats) for part in parts
    ]


def faults_of(ledgers: dict[str, Ledger]) -> list[str]:
    """Return where the operators contradict each other: all legs or none, and nobody follows a word that was not given (I3, I9)."""
    faults: list[str] = []
    sold: dict[str, str] = {}  # hold id of a leg -> order
    for ledger in ledgers.values():
        for order in ledger.of(Kind.ORDER).values():
            for hold_id, leg, seats in booked_by(order):
                if order.state == OrderState.CONFIRMED:
                    sold[hold_id] = order.reference
                rows = ledgers[leg.operator].seats()
                for seat in seats:
                    row = rows.get(f"{leg.service_id}/{seat}")
                    booked = row is not None and (row.state, row.hold_id) == (SeatState.BOOKED, hold_id)
                    if booked != (order.state == OrderState.CONFIRMED):
                        faults.append(f"order {order.reference} ({OrderState(order.state).name}), {leg.service_id} {seat}: {row}")
    for ledger in ledgers.values():
        for key, row in ledger.seats().items():
            if ".trip." in row.hold_id and row.state == SeatState.BOOKED and row.hold_id not in sold:
                faults.append(f"{key} is booked by {row.hold_id}, which was not sold")
            if ".trip." in row.hold_id and row.state == SeatState.HELD:
                faults.append(f"{key} is still held by {row.hold_id}")
        for leg in ledger.of(Kind.CLOSED_LEG).values():
            epoch, lsn, digest = leg.evidence
            if not epoch or ledgers[leg.anchor].hashes.get(lsn) != digest:
                faults.append(f"{ledger.operator} followed {leg.anchor} at {lsn}, whose ledger has another entry there")
    return faults


def windows_at(ledgers: dict[str, Ledger], stamp_ms: int) -> set[str]:
    """Return between which steps some trip stood at a moment: what a death at that moment interrupted."""
    found: set[str] = set()
    baskets = {basket_id for ledger in ledgers.values() for basket_id in ledger.steps}
    for basket_id in baskets:
        anchor = basket_id.partition(".")[0]
        own = ledgers[anchor].steps.get(basket_id, {})
        others = [ledger.steps[basket_id] for code, ledger in ledgers.items() if code != anchor and basket_id in ledger.steps]
        begun = min([*own.values(), *(stamp for steps in others for stamp in steps.values())])
        held = max([own.get("PENDING", 1 << 62), *(steps.get("leg ACTIVE", 1 << 62) for steps in others)])
        sold = own.get("COMMITTED", 1 << 62)
        ended = max([own.get("ABORTED", 0), own.get("CANCELLED", 0), *(max(steps.values()) for steps in others)])
        if begun <= stamp_ms < min(held, sold):
            found.add("B2: some legs are held")
        if held <= stamp_ms < sold and sold < 1 << 62:
            found.add("B4: all legs are held, the sale is not decided")
        if sold <= stamp_ms < ended:
            found.add("B5: sold, and not all follow")
    return found
