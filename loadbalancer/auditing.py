"""What is asked of the ledgers through a balancer: checks of all copies, exports, the erasure of a person (Z12)."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from datastore import commands, messages, receipts, wire, wire_ledger
from datastore.edge import Peer
from datastore.errors import InvalidRequest, UnknownOperator, nearest, shown
from datastore.ledger import unseal
from datastore.model import Passenger
from loadbalancer.balancer import Balancer
from loadbalancer.identity import ask_digest, is_key
from loadbalancer.limits import Buckets
from loadbalancer.names import is_among
from loadbalancer.reference import normalised
from loadbalancer.travellers import blank, packed, passengers_of, record_digest
from loadbalancer.waiting import now_ms


class Auditing:
    """The handlers of checks, exports and erasures."""

    def __init__(self, balancer: Balancer) -> None:
        self._balancer = balancer
        self._tries_of_peer = Buckets(balancer.config.lookup_per_minute_peer, "from this address")

    def check(self, request: messages.CheckCluster) -> messages.CheckAnswer:
        """Return what every copy says of its state and its ledger."""
        self._balancer.require_admin(request.admin_key)
        places = {place.operator: place for place in self._balancer.managers.topology().operators}
        for operator in request.operators:
            if operator not in places:
                raise UnknownOperator(f"no operator {shown(operator)}", operator=shown(operator), nearest=nearest(operator, places))
        items = [
            wire_ledger.CheckItem(operator, request.at.get(operator, 0), request.deep) for operator in request.operators or sorted(places)
        ]
        checked = self._balancer.managers.check(items)
        copies = [
            messages.CopyState(
                operator=reply.operator,
                node=reply.node,
                role=reply.role,
                digests=[(lsn, digest.hex()) for lsn, digest in reply.digests],
                sealed_lsn=reply.ledger.sealed_lsn,
                segments=reply.ledger.segments,
                missing=reply.ledger.missing,
                verified_lsn=reply.ledger.verified_lsn,
                checks_done=reply.ledger.checks_done,
                check=reply.check,
                damage=reply.error or reply.ledger.damage,
                damage_lsn=reply.ledger.damage_lsn,
                damage_file=reply.ledger.damage_file,
            )
            for reply in checked.replies
        ]
        wanted = request.operators or sorted(places)
        return messages.CheckAnswer(
            copies=copies,
            silent=checked.silent,
            nodes_of={operator: list(places[operator].nodes) for operator in wanted},
            primaries={operator: places[operator].primary for operator in wanted},
        )

    def remove_operator(self, request: messages.RemoveOperator) -> messages.Removed:
        """Take an operator out of sale for good."""
        self._balancer.require_admin(request.admin_key)
        self._balancer.catalogue.operator(request.code)
        command = commands.Retire(request.request_id, ask_digest("retire", request.code))
        value = self._balancer.decide(request.code, command, now_ms() + request.deadline_ms)
        self._balancer.follower.wait_for(request.code, value["lsn"], self._balancer.config.view_wait_ms)
        return messages.Removed(code=value["code"], lsn=value["lsn"])

    def ledger_page(self, request: messages.LedgerPage) -> messages.LedgerPageAnswer:
        """Return entries of an operator's ledger; they hold digests of personal data, never the data."""
        if not is_key(request.key, self._balancer.admin_digest):
            self._balancer.require_operator(request.operator, request.key)
        if request.from_lsn < 1:
            raise InvalidRequest("a ledger begins with entry 1", field="from_lsn")
        asked = wire_ledger.LedgerRequest(request.operator, request.from_lsn, request.limit)
        return messages.LedgerPageAnswer(entries=self._balancer.managers.ledger(asked))

    def receipt(self, request: messages.CheckReceipt, peer: Peer) -> messages.ReceiptAnswer:
        """Say whether the primary's ledger has the entry that a receipt names.

        What an entry is otherwise is said to anybody; whose booking it made only to whoever knows its hash.
        """
        self._tries_of_peer.take(peer.address.rpartition(":")[0], now_ms())
        wanted = receipts.parse(request.receipt)
        self._balancer.catalogue.operator(wanted.operator)
        if wanted.lsn < 1:
            raise InvalidRequest("a ledger begins with entry 1", field="receipt")
        entries = self._balancer.managers.ledger(wire_ledger.LedgerRequest(wanted.operator, wanted.lsn, 1))
        if not entries:
            last_lsn = self._balancer.read(wanted.operator, "open", {}, now_ms() + request.deadline_ms).lsn
            found = [f"the ledger of {wanted.operator} ends at entry {last_lsn}, before entry {wanted.lsn}"]
            return messages.ReceiptAnswer(receipt=str(wanted), differences=found, last_lsn=last_lsn)
        sealed = unseal(entries[0])
        found = receipts.differences(wanted, sealed)
        if sealed.hash != wanted.hash:
            found = [one for one in found if wanted.reference not in one]
        return messages.ReceiptAnswer(receipt=str(wanted), differences=found)

    # --- persons --------------------------------------------------------------------------------------------------

    def find_person(self, request: messages.FindPerson) -> messages.PersonsAnswer:
        """Find the records that name a person, a page of the operator's orders, then of its legs of trips, at a time."""
        self._balancer.require_operator(request.operator, request.operator_key)
        reference = normalised(request.reference) if request.reference else ""
        if bool(reference) == bool(request.name.strip()):
            raise InvalidRequest("name either a booking or a person", field="name")
        of, _, after = request.after.partition("/") if request.after else ("orders", "", "")
        value = self._page(request.operator, of, after, now_ms() + request.deadline_ms)
        found: list[messages.PersonFound] = []
        for of_order, service_id, record in value["records"]:
            passengers = passengers_of(record)
            named = passengers if of_order == reference else _named(request.name, passengers)
            named = [one for one in named if one.surname or one.given]
            if named:
                seats = [one.seat_id for one in named]
                found.append(messages.PersonFound(of_order, service_id, seats, len(passengers), record_digest(record).hex()))
        following = f"{of}/{value['next']}" if value["next"] is not None else "legs/" if of == "orders" else None
        return messages.PersonsAnswer(found=found, next=following)

    def erase_person(self, request: messages.ErasePerson) -> messages.ErasedAnswer:
        """Erase passengers of one record: it goes from every copy, and one with blanks for them takes its place."""
        self._balancer.require_operator(request.operator, request.operator_key)
        deadline_ms = now_ms() + request.deadline_ms
        reference = normalised(request.reference)
        record = self._record(request.operator, reference, request.record, deadline_ms)
        passengers = passengers_of(record)
        gone = _named(request.name, passengers) if request.name.strip() else passengers
        if not gone:
            return messages.ErasedAnswer(reference=reference, seats=[], lsn=0)
        sides: dict[bytes, bytes] = {}
        if any((one.surname or one.given) and one not in gone for one in passengers):
            # Places stay: the record's passengers stand beside the booking's seats.
            blanked = [blank(one) if one in gone else one for one in passengers]
            replacement = packed(secrets.token_bytes(16), blanked)
            sides = {record_digest(replacement): replacement}
        # Not the name, whose digest in the ledger anybody could guess back; the old record's is salted.
        asked = ask_digest("erase", request.operator, request.record)
        command = wire.Erase(request.request_id, asked, record_digest(record), next(iter(sides), b""))
        value = self._balancer.decide(request.operator, command, deadline_ms, sides)
        return messages.ErasedAnswer(reference=reference, seats=[one.seat_id for one in gone], lsn=value["lsn"])

    def _record(self, operator: str, reference: str, digest: str, deadline_ms: int) -> bytes:
        """Return the record of that digest, looked for among those of a booking; b"" where it is gone already."""
        for of in ("orders", "legs"):
            after: str | None = ""
            while after is not None:
                value = self._page(operator, of, after, deadline_ms)
                for of_order, _, record in value["records"]:
                    if of_order == reference and record_digest(record).hex() == digest:
                        found: bytes = record
                        return found
                after = value["next"]
        return b""

    def _page(self, operator: str, of: str, after: str, deadline_ms: int) -> dict[str, Any]:
        page: dict[str, Any] = self._balancer.read(operator, "records", {"of": of, "after": after}, deadline_ms).value
        return page


def _named(name: str, passengers: Sequence[Passenger]) -> list[Passenger]:
    """Return those whose surname, or surname and given name in either order, is `name` (compared as surnames are)."""
    return [one for one in passengers if is_among(name, (one.surname, f"{one.surname} {one.given}", f"{one.given} {one.surname}"))]
