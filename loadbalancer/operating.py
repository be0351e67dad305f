"""What operators and administrators do: block seats, change services, manifests, imports."""

from __future__ import annotations

from typing import Any

import msgspec

from datastore import messages, wire
from datastore.errors import InvalidRequest, nearest, shown
from datastore.import_changes import RowChange
from datastore.model import DATASET_PATTERN, OPERATOR_PATTERN, OperatorKind, ServiceState
from datastore.passengers import LAP_INFANT
from loadbalancer.answers import SERVICE_WORDS, manifest_lines, service_info
from loadbalancer.balancer import Balancer, wall_ms
from loadbalancer.basket import Basket, BlockDraft
from loadbalancer.identity import ask_digest, is_key
from loadbalancer.nearby import no_such_seat
from loadbalancer.view import Sale
from loadbalancer.waiting import Waiter, now_ms

MOVED = "moved"
STATE_OF_WORD = {word: state for state, word in SERVICE_WORDS.items()}


class Operating:
    """The handlers for operators' staff and administrators."""

    def __init__(self, balancer: Balancer) -> None:
        self._balancer = balancer

    def block(self, request: messages.BlockSeats) -> messages.SeatsChanged:
        """Take free seats out of sale; locked like a hold (Z7)."""
        sale = self._sale(request)
        seats = _seat_ids(sale, request.seats)
        if not request.reason.isprintable():
            raise InvalidRequest(f"the reason has control characters: {shown(request.reason)}", field="reason")
        deadline_ms = now_ms() + request.deadline_ms
        digest = ask_digest("block", request.service_id, seats, request.reason)
        draft = BlockDraft(request.request_id, digest, request.service_id, seats, request.reason)
        keys = tuple(sale.offers[seat].key for seat in seats)
        waiter = Waiter(1)
        self._balancer.pipeline.put([Basket(sale.operator, deadline_ms, keys=keys, draft=draft, waiter=waiter)])
        return _seats_changed(waiter.wait(deadline_ms)[0].unwrap())

    def unblock(self, request: messages.UnblockSeats) -> messages.SeatsChanged:
        """Put blocked seats back on sale."""
        sale = self._sale(request)
        seats = _seat_ids(sale, request.seats)
        digest = ask_digest("unblock", request.service_id, seats)
        command = wire.Unblock(request.request_id, digest, request.service_id, seats)
        return _seats_changed(self._balancer.decide(sale.operator, command, now_ms() + request.deadline_ms))

    def change_service(self, request: messages.ChangeService) -> messages.ServiceChanged:
        """Open, close or cancel a service."""
        sale = self._sale(request)
        words = [*STATE_OF_WORD, MOVED]
        state = ServiceState.OPEN if request.state == MOVED else STATE_OF_WORD.get(request.state)
        if state is None:
            near = nearest(request.state, words)
            raise InvalidRequest(f"{shown(request.state)} is none of {', '.join(words)}", field="state", nearest=near)
        if request.ask_travellers and request.state not in (MOVED, SERVICE_WORDS[ServiceState.CANCELLED]):
            raise InvalidRequest("travellers are asked about a service that is cancelled, or moved", field="ask_travellers")
        asks = request.state if request.ask_travellers or request.state == MOVED else ""
        if not request.reason.isprintable():
            raise InvalidRequest(f"the reason has control characters: {shown(request.reason)}", field="reason")
        digest = ask_digest("service", request.service_id, int(state), request.reason, *([asks] if asks else []))
        command = wire.SetService(request.request_id, digest, request.service_id, int(state), request.reason, asks)
        value = self._balancer.decide(sale.operator, command, now_ms() + request.deadline_ms)
        return messages.ServiceChanged(
            service_id=value["service_id"],
            state=SERVICE_WORDS[ServiceState(value["state"])],
            orders_cancelled=list(value["orders_cancelled"]),
            orders_asked=list(value["orders_asked"]),
            holds_released=value["holds_released"],
            lsn=value["lsn"],
        )

    def affected(self, request: messages.Affected) -> messages.AffectedAnswer:
        """List the bookings of a service, and whose travellers are still asked what now."""
        sale = self._sale(request)
        result = self._balancer.read(sale.operator, "affected", {"service_id": request.service_id}, now_ms() + request.deadline_ms)
        lines = [messages.AffectedLine(row[0], row[1], row[2], row[3], row[4]) for row in result.value]
        return messages.AffectedAnswer(service_id=request.service_id, lines=lines)

    def manifest(self, request: messages.Manifest) -> messages.ManifestAnswer:
        """List who travels on a service, as the primary has it now."""
        sale = self._sale(request)
        deadline_ms = now_ms() + request.deadline_ms
        result = self._balancer.read(sale.operator, "manifest", {"service_id": request.service_id}, deadline_ms)
        # A trip's leg has here what an order has that is this operator's alone: seats, reference, and its own names (Z12).
        found = (*result.value["orders"], *result.value["legs"])
        lines = [line for order in found for line in manifest_lines(order, sale.operator, request.service_id)]
        blocked = sorted(result.value["blocked"].items(), key=lambda pair: _position(sale, pair[0]))
        held = len(result.value["held"])
        view = self._balancer.catalogue.operators[sale.operator]
        return messages.ManifestAnswer(
            service=service_info(view, sale.service, sale.layout, wall_ms(), sale),
            lines=sorted(lines, key=lambda line: (_position(sale, line.seat_id), line.type == LAP_INFANT)),
            blocked=blocked,
            held=held,
            free=sale.layout.capacity - held - sum(line.type != LAP_INFANT for line in lines) - len(blocked),
            lsn=result.lsn,
        )

    def count(self, request: messages.Count) -> messages.Counted:
        """Add to a counter: exactly once under its request id, whoever dies meanwhile."""
        self._balancer.require_operator(request.operator, request.operator_key)
        deadline_ms = now_ms() + request.deadline_ms
        if request.add:
            asked = ask_digest("count", request.operator, request.counter, request.add)
            command = wire.Count(request.request_id, asked, request.counter, request.add)
            value = self._balancer.decide(request.operator, command, deadline_ms)
        else:
            result = self._balancer.read(request.operator, "counter", {"counter": request.counter}, deadline_ms)
            value = {**result.value, "lsn": result.lsn}
        return messages.Counted(operator=request.operator, **value)

    def administer(self, request: messages.Administer) -> messages.Administered:
        """Pass an administrator's wish on to a manager; this tier only checks who asks."""
        self._balancer.require_admin(request.admin_key)
        return messages.Administered(result=self._balancer.managers.administer(request.wish, request.deadline_ms))

    def create_operator(self, request: messages.CreateOperator) -> messages.Created:
        """Make an operator and its partition, or change who acts for it."""
        self._balancer.require_admin(request.admin_key)
        if not OPERATOR_PATTERN.fullmatch(request.code):
            raise InvalidRequest(f"{shown(request.code)} is not an operator's code: 2 to 8 letters A-Z and digits", field="code")
        kinds = [kind.value for kind in OperatorKind]
        if request.kind not in kinds:
            raise InvalidRequest(
                f"{shown(request.kind)} is none of {', '.join(kinds)}", field="kind", nearest=nearest(request.kind, kinds)
            )
        if not request.name.strip() or not request.name.isprintable():
            raise InvalidRequest("an operator has a name without control characters", field="name")
        if len(request.operator_key_digest) not in (0, 32):
            raise InvalidRequest("a key's digest has 32 bytes", field="operator_key_digest")
        deadline_ms = now_ms() + request.deadline_ms
        if request.code not in self._balancer.catalogue.operators:
            self._balancer.managers.create_operators(
                [request.code], request.deadline_ms, {request.code: request.nodes} if request.nodes else None
            )
            self._balancer.follower.refresh()
        coded = (request.accounting,) if request.accounting else ()
        asked = ask_digest("operator", request.code, request.name, request.kind, request.operator_key_digest, *coded)
        named = (request.code, request.name, request.kind, request.operator_key_digest, request.accounting)
        command = wire.SetOperator(request.request_id, asked, *named)
        value = self._balancer.decide(request.code, command, deadline_ms)
        # Whoever made an operator goes on with it: a moment for the view saves it a refusal.
        self._balancer.follower.wait_for(request.code, value["lsn"], self._balancer.config.view_wait_ms)
        return messages.Created(code=value["code"], lsn=value["lsn"])

    def import_timetable(self, request: messages.ImportTimetable) -> messages.Imported:
        """Replace the rows of one (operator, dataset); the primary checks them all, and takes all or none."""
        if not is_key(request.key, self._balancer.admin_digest):
            self._balancer.require_operator(request.operator, request.key)
        if not OPERATOR_PATTERN.fullmatch(request.operator):
            raise InvalidRequest(f"{shown(request.operator)} is not an operator's code", field="operator")
        if not DATASET_PATTERN.fullmatch(request.dataset):
            raise InvalidRequest(f"{shown(request.dataset)} is not a dataset's name: a-z, 0-9 and '-', up to 32", field="dataset")
        asked = ask_digest("import", request.operator, request.dataset, request.body, request.dry_run)
        command = wire.Import(request.request_id, asked, request.dataset, request.body, request.dry_run)
        value = self._balancer.decide(request.operator, command, now_ms() + request.deadline_ms)
        return messages.Imported(
            operator=request.operator,
            dataset=request.dataset,
            added=value["added"],
            changed=value["changed"],
            removed=value["removed"],
            unchanged=value["unchanged"],
            lsn=value["lsn"],
            rows=msgspec.convert(value.get("rows", ()), tuple[RowChange, ...]),
            rows_left_off=value.get("rows_left_off", 0),
        )

    def dataset_numbers(self, request: messages.DatasetNumbers) -> messages.DatasetNumbersAnswer:
        """List the numbers that other datasets of an operator use."""
        deadline_ms = now_ms() + request.deadline_ms
        view = self._balancer.catalogue.operators.get(request.operator)
        if view is None:
            self._balancer.catalogue.require_loaded(request.operator)
            return messages.DatasetNumbersAnswer(known=False, taken=[])
        # An import just before must be seen: the view waits for where the primary is now.
        lsn = self._balancer.read(request.operator, "holds", {"owner": "nobody"}, deadline_ms).lsn
        partial = {}
        if not self._balancer.follower.wait_for(request.operator, lsn, max(0, deadline_ms - now_ms())):
            partial[request.operator] = f"has not reached lsn {lsn} yet"
        view = self._balancer.catalogue.operator(request.operator)
        with view.guard:
            pairs = {
                (schedule.number, schedule.origin)
                for dataset, schedule in view.timetable.schedules.values()
                if dataset != request.dataset
            }
        return messages.DatasetNumbersAnswer(known=True, taken=sorted(pairs), partial=partial)

    def _sale(
        self,
        request: messages.BlockSeats | messages.UnblockSeats | messages.ChangeService | messages.Manifest | messages.Affected,
    ) -> Sale:
        sale = self._balancer.sale(request.service_id, now_ms() + request.deadline_ms)
        self._balancer.require_operator(sale.operator, request.operator_key)
        return sale


def _seat_ids(sale: Sale, words: list[str]) -> tuple[str, ...]:
    """Return the ids of an operator's list of seats.

    Raises:
        InvalidRequest: None, or one twice. UnknownSeat: The nearest are in the message.
    """
    if not words:
        raise InvalidRequest("no seat was named", field="seats")
    found = []
    for word in words:
        offer = sale.offers.get(word.strip()) or sale.offers.get(word.strip().lower())
        if offer is None:
            raise no_such_seat(sale.service.service_id, sale.layout, word)
        found.append(offer.seat_id)
    if len(set(found)) < len(found):
        raise InvalidRequest("a seat was named twice", field="seats")
    return tuple(found)


def _position(sale: Sale, seat_id: str) -> int:
    seat = sale.layout.by_id.get(seat_id)
    return seat.position if seat is not None else sale.layout.capacity


def _seats_changed(value: dict[str, Any]) -> messages.SeatsChanged:
    return messages.SeatsChanged(service_id=value["service_id"], seats=list(value["seats"]), lsn=value["lsn"])
