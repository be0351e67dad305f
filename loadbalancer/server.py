"""A load balancer's RPyC server half: decode, hand to the right handler, encode."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from datastore import messages, wire
from datastore.edge import Address, EdgeLimits, EdgeServer, Later, Peer, Quick, Tls
from datastore.errors import HoldfastError
from loadbalancer.accounting import Accounting
from loadbalancer.alternatives import Alternatives
from loadbalancer.auditing import Auditing
from loadbalancer.balancer import Balancer, Managers
from loadbalancer.batching import Pipeline
from loadbalancer.booking import Booking
from loadbalancer.bulk import Bulk
from loadbalancer.cashier import Cashier
from loadbalancer.changing import Changing
from loadbalancer.collecting import Collector
from loadbalancer.config import LoadBalancerConfig
from loadbalancer.following import Follower
from loadbalancer.itineraries import Itineraries
from loadbalancer.looking import Looking
from loadbalancer.operating import Operating
from loadbalancer.paying import Paying
from loadbalancer.payments import PaymentProvider
from loadbalancer.payments_config import PaymentsConfig
from loadbalancer.rebooking import Rebooking
from loadbalancer.reconciler import Reconciler
from loadbalancer.searching import Searching
from loadbalancer.selling import Begun, Selling
from loadbalancer.ticketing import Signer, Ticketing
from loadbalancer.view import Catalogue
from loadbalancer.watching import Watching
from lockstore.seatlocks import SeatLocks

EXIT_FAULT = 70  # EX_SOFTWARE of sysexits.h

# Who may ask, where certificates say who is asking. What an operator or the administrator may do is a matter of keys, not of
# certificates; a twin asks for the status. Nodes and managers never call a balancer.
ROLES: Mapping[str, Sequence[str]] = {method: ("client", "lb", "admin") for method in messages.METHODS}

Handler = Callable[[Any, Peer], messages.Answer | Begun]


class BalancerServer:
    """One load balancer: views, pipeline and handlers behind an edge."""

    def __init__(
        self,
        name: str,
        address: Address,
        config: LoadBalancerConfig,
        *,
        locks: SeatLocks,
        managers: Managers,
        admin_digest: bytes = b"",
        addresses: Mapping[str, Address] | None = None,
        tls: Tls | None = None,
        payments: PaymentsConfig | None = None,
        provider: PaymentProvider | None = None,
        signer: Signer | None = None,
        on_broken: Callable[[], None] = lambda: os._exit(EXIT_FAULT),
    ) -> None:
        """Prepare; `start` starts.

        Args:
            admin_digest: Digest of the administrator's key; b"" admits nobody.
            addresses: Of nodes and managers by name, for the status.
            payments: Whether and how payments are taken; None takes none.
            provider: Who moves the money, where payments are taken.
            signer: Of tickets; None makes keys that nobody else knows.
            on_broken: Called when the pipeline meets a fault of our own; it should end the process.
        """
        catalogue = Catalogue(threading.RLock)
        follower = Follower(catalogue, managers, wait_ms=config.feed_wait_ms)
        pipeline = Pipeline(locks, managers, lanes=config.lanes, batch_max=config.batch_max, on_broken=on_broken)
        self.balancer = Balancer(name, config, catalogue, follower, pipeline, managers, locks, admin_digest)
        payments = payments or PaymentsConfig()
        self._watching = Watching(self.balancer, addresses or {}, tls, payments.sandboxes)
        self.reconciler = Reconciler(self.balancer)
        cashier = Cashier(self.balancer, payments, provider)
        self.collector = Collector(self.balancer, cashier)
        self._selling = Selling(self.balancer, self.reconciler)
        self._handlers = _handlers(self.balancer, self._selling, self._watching, self.reconciler, cashier, signer or Signer())
        limits = EdgeLimits(frame_bytes_max=config.frame_bytes_max, connections_max=config.connections_max)
        quick = Quick(("hold",), self._begin, pipeline.go, lambda: pipeline.is_idle)
        self._edge = EdgeServer(
            address, self._handle, methods=self._handlers, limits=limits, tls=tls, roles=ROLES if tls else None, name=name, quick=quick
        )

    @property
    def address(self) -> Address:
        """Where it listens; the port is known after `start`."""
        return self._edge.address

    def start(self) -> None:
        """Follow the nodes, start the pipeline, accept callers.

        Raises:
            ConfigInvalid: The address cannot be bound.
        """
        self.balancer.follower.start()
        self.balancer.pipeline.start()
        self.reconciler.start()
        self.collector.start()
        self._edge.start()

    def close(self) -> None:
        """Stop accepting, let what is under way end."""
        self._edge.close()
        self.reconciler.close()
        self.collector.close()
        self.balancer.pipeline.close()
        self.balancer.follower.close()
        self._watching.close()

    def _handle(self, method: str, payload: bytes, peer: Peer) -> bytes | Later:
        request = messages.decode_request(method, payload)
        try:
            answer = self._handlers[method](request, peer)
        except HoldfastError as error:
            raise _naming(error, request) from error.__cause__
        if not isinstance(answer, Begun):
            return messages.encode(answer)
        if answer.waiter.is_done:  # This thread brought the outcomes itself, or another did meanwhile.
            return _made(answer, request, answer.waiter.wait(answer.deadline_ms))
        return self._later(answer, request)

    def _begin(self, _method: str, payload: bytes, _peer: Peer, unread_ms: int) -> Later | None:
        """Begin a hold of named seats without waiting; None, or an error, where `_handle` has to see to it."""
        request = messages.decode_request("hold", payload)
        begun = self._selling.begin_hold(request, unread_ms)
        return self._later(begun, request) if begun is not None else None

    def _later(self, begun: Begun, request: Any) -> Later:
        later = Later()

        def give(outcomes: list[wire.Outcome]) -> None:
            later.give(lambda: _made(begun, request, outcomes))

        self.balancer.pipeline.answer_later(begun.waiter, begun.deadline_ms, give)
        return later


def _made(begun: Begun, request: Any, outcomes: list[wire.Outcome]) -> bytes:
    """Return the answer's bytes, or raise the error that it is."""
    try:
        return messages.encode(begun.answer(outcomes))
    except HoldfastError as error:
        raise _naming(error, request) from error.__cause__


def _naming(error: HoldfastError, request: Any) -> HoldfastError:
    """Return the error with the id of the request that met it; questions have none."""
    if not error.request_id:
        with contextlib.suppress(AttributeError):
            error.request_id = request.request_id
    return error


def _handlers(
    balancer: Balancer, selling: Selling, watching: Watching, reconciler: Reconciler, cashier: Cashier, signer: Signer
) -> dict[str, Handler]:
    looking = Looking(balancer)
    itineraries = Itineraries(balancer, reconciler, selling.proposals)
    booking = Booking(balancer, itineraries)
    paying = Paying(balancer, booking, itineraries, cashier)
    ticketing = Ticketing(balancer, booking, signer)
    changing = Changing(balancer, booking, itineraries)
    rebooking = Rebooking(balancer, changing, itineraries, cashier)
    operating, searching, auditing = Operating(balancer), Searching(balancer), Auditing(balancer)
    accounting = Accounting(balancer, cashier)
    alternatives = Alternatives(balancer, changing, rebooking, itineraries, searching)
    plain: dict[str, Callable[[Any], messages.Answer | Begun]] = {
        "operators": looking.operators,
        "places": searching.places,
        "services": looking.services,
        "seat_map": looking.seat_map,
        "watch_seats": looking.watch_seats,
        "list_seats": looking.list_seats,
        "query_seat": looking.query_seat,
        "search": searching.search,
        "calendar": searching.calendar,
        "routes": searching.routes,
        "paths": searching.paths,
        "hold": selling.hold,
        "hold_many": selling.hold_many,
        "hold_each": Bulk(balancer).hold_each,
        "hold_trip": itineraries.hold,
        "renew": itineraries.renew,
        "extend": selling.extend,
        "release": selling.release,
        "get_hold": selling.get_hold,
        "my_holds": selling.my_holds,
        "confirm": paying.confirm,
        "price_party": paying.price_party,
        "tickets": ticketing.tickets,
        "ticket_key": ticketing.key,
        "check_ticket": ticketing.check,
        "transaction": paying.transaction,
        "accounts": accounting.accounts,
        "payment_cases": accounting.cases,
        "close_payment_case": accounting.close_case,
        "orders": booking.orders,
        "quote_cancel": changing.quote_cancel,
        "cancel": changing.cancel,
        "quote_change": rebooking.quote_change,
        "change": rebooking.change,
        "alternatives": alternatives.alternatives,
        "keep": alternatives.keep,
        "affected": operating.affected,
        "block": operating.block,
        "unblock": operating.unblock,
        "change_service": operating.change_service,
        "manifest": operating.manifest,
        "count": operating.count,
        "administer": operating.administer,
        "create_operator": operating.create_operator,
        "import": operating.import_timetable,
        "dataset_numbers": operating.dataset_numbers,
        "status": watching.status,
        "locks": watching.locks,
        "check": auditing.check,
        "ledger_page": auditing.ledger_page,
        "find_person": auditing.find_person,
        "erase_person": auditing.erase_person,
        "remove_operator": auditing.remove_operator,
        "about": watching.about,
    }
    handlers: dict[str, Handler] = {method: _without_peer(handler) for method, handler in plain.items()}
    handlers["order"] = booking.order
    handlers["receipt"] = auditing.receipt
    assert handlers.keys() == messages.METHODS.keys()
    return handlers


def _without_peer(handler: Callable[[Any], messages.Answer | Begun]) -> Handler:
    return lambda request, _peer: handler(request)
