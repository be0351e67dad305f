"""The Python client: `connect(...)` gives a `Holdfast`, with one typed method for each question a cluster answers.

    with connect(["127.0.0.1:7401", "127.0.0.1:7402"], owner_key=key) as holdfast:
        hold = holdfast.hold("AA1-JFK-2026-12-01", ["12A", "12B"], ttl_ms=900_000)
        order = holdfast.confirm(hold.hold_id, [Passenger("Byron", "Ada"), Passenger("Babbage", "Charles")])

Every write carries a request_id; where the caller gives none, one is drawn. An error of a write carries it too, so after
OutcomeUnknown the same call with the same `request_id` gives the answer to what happened, and nothing happens twice.
A Holdfast may be shared by any number of threads; what they hold at the same time travels together.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from client.addresses import balancers_of, is_file, tls_of_file
from client.asking import new_request_id
from client.bulk import BulkHolds
from client.changes import Changes
from datastore import messages
from datastore.edge import Address, EdgeLimits, Tls
from datastore.errors import HoldfastError, InvalidRequest, shown
from datastore.model import Passenger
from loadbalancer.stub import BalancerStub

__all__ = ["Address", "Holdfast", "HoldfastError", "Passenger", "connect", "new_request_id"]

DEADLINE_MS = 10_000
SERVICES_REMEMBERED = 4_096
# Answers to what changed seats of one service.
WRITTEN = (messages.HoldAnswer, messages.HoldEachAnswer, messages.OrderAnswer, messages.SeatsChanged, messages.ServiceChanged)


def connect(
    addresses: str | Path | Iterable[str | Address],
    *,
    owner_key: str | None = None,
    deadline_ms: int = DEADLINE_MS,
    tls: Tls | None = None,
    limits: EdgeLimits | None = None,
) -> Holdfast:
    """Return a client; connections are made when they are needed.

    Args:
        addresses: The load balancers ("host:port" or Address), or the path of a cluster.toml that names them.
        owner_key: Who holds: a secret of 16 to 128 characters that the caller keeps. None draws one for this client.
        deadline_ms: How long each call may take, unless it is told otherwise.
        tls: The caller's certificate, where the cluster wants one; None takes what a cluster.toml says.
    Raises:
        ConfigInvalid: No address is given, or one cannot be read.
    """
    found = balancers_of(addresses)
    if tls is None and (isinstance(addresses, Path) or is_file(addresses)):
        tls = tls_of_file(Path(str(addresses)))
    return Holdfast(BalancerStub(found, tls=tls, limits=limits), owner_key or secrets.token_urlsafe(32), deadline_ms)


class Holdfast(Changes, BulkHolds):
    """A cluster as its callers see it. Close it, or use it as a context."""

    def __init__(self, stub: BalancerStub, owner_key: str, deadline_ms: int = DEADLINE_MS) -> None:
        self._stub = stub
        self.owner_key = owner_key
        self.deadline_ms = deadline_ms
        self.written: dict[str, int] = {}  # service id -> lsn of this owner's last write there; oldest first
        self.on_written: Callable[[str, int], object] = lambda service_id, lsn: None  # told of each, for who keeps them longer

    def __enter__(self) -> Holdfast:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._stub.close()

    def call(self, method: str, request: messages.Request) -> messages.Answer:
        """Return the answer to any question of `messages.METHODS`, as the typed methods below do.

        What is asked about a service includes this client's own writes there, at whichever balancer; an answer that had
        to be given without them says so in `partial`.

        Raises:
            HoldfastError: The cluster's error; `request_id` is set for a write.
        """
        # The structs check their limits where they are decoded; a caller should hear of a slip without a round trip.
        try:
            messages.decode_request(method, messages.encode(request))
        except UnicodeEncodeError as error:
            raise InvalidRequest(f"{shown(error.object)} is not valid Unicode", field="text") from error
        except OverflowError as error:
            field = next((name for name in request.__struct_fields__ if _is_beyond_64_bits(getattr(request, name))), "number")
            raise InvalidRequest(f"{field}: a number of at most 64 bits is expected", field=field) from error
        if isinstance(request, messages.SeatMap | messages.ListSeats | messages.QuerySeat) and not request.min_lsn:
            request = msgspec.structs.replace(request, min_lsn=self.written.get(request.service_id, 0))
        try:
            answer = self._stub.call(method, request)
            if isinstance(request, messages.Write):
                self._remember(answer)
            return answer
        except HoldfastError as error:
            if isinstance(request, messages.Write) and not error.request_id:
                error.request_id = request.request_id
            raise

    def _remember(self, answer: messages.Answer | None) -> None:
        """Keep how far a balancer's view must be for this client to see what it wrote."""
        if isinstance(answer, WRITTEN):
            lsn = self.written[answer.service_id] = max(answer.lsn, self.written.pop(answer.service_id, 0))
            while len(self.written) > SERVICES_REMEMBERED:
                # Another thread may have dropped the same one.
                self.written.pop(next(iter(self.written)), None)
            self.on_written(answer.service_id, lsn)

    # --- looking --------------------------------------------------------------------------------------------------

    def operators(self, like: str = "") -> list[messages.OperatorInfo]:
        """Return the operators whose code or name contains `like`; all by default."""
        return self._ask("operators", messages.Operators(like=like), messages.OperatorsAnswer).operators

    def places(self, like: str = "") -> list[messages.PlaceInfo]:
        """Return airports and halls whose code, city or name is like `like`, the most likely first; typing slips are forgiven."""
        return self._ask("places", messages.Places(like=like), messages.PlacesAnswer).places

    def services(
        self, date: str, *, operator: str = "", origin: str = "", destination: str = "", limit: int = 100, after: str = "", min_lsn: int = 0
    ) -> messages.ServicesAnswer:
        """Return a page of the services of one local date (YYYY-MM-DD), sorted by departure; `next` continues it.

        Args:
            after: `next` of the page before.
            min_lsn: Of `operator`: a write of the caller that the answer must include.
        """
        request = messages.ListServices(
            date=date,
            operator=operator,
            origin=origin,
            destination=destination,
            limit=limit,
            after=after,
            min_lsn=min_lsn,
        )
        return self._ask("services", request, messages.ServicesAnswer)

    def seat_map(self, service_id: str, *, min_lsn: int = 0) -> messages.SeatMapAnswer:
        """Return all seats of a service, the caller's own marked."""
        request = messages.SeatMap(service_id=service_id, owner_key=self.owner_key, min_lsn=min_lsn)
        return self._ask("seat_map", request, messages.SeatMapAnswer)

    def watch_seats(self, service_id: str, *, seen: int = 0, wait_ms: int = 0) -> messages.SeatStatesAnswer:
        """Return the seats that are not available as soon as they differ from what the answer `seen` told; `taken` is None
        where nothing changed for `wait_ms`. A live map: one `seat_map`, then this again and again with the last `seen`."""
        request = messages.WatchSeats(
            service_id=service_id,
            owner_key=self.owner_key,
            seen=seen,
            wait_ms=wait_ms,
        )
        return self._ask("watch_seats", request, messages.SeatStatesAnswer, 4 * wait_ms + self.deadline_ms)

    def list_seats(self, service_id: str, *, cabin: str = "", state: str = "", limit: int = 100, after: str = "") -> messages.SeatsAnswer:
        """Return a page of a service's seats; `state`: available, held, occupied, blocked or "" for all."""
        request = messages.ListSeats(
            service_id=service_id,
            owner_key=self.owner_key,
            cabin=cabin,
            state=state,
            limit=limit,
            after=after,
        )
        return self._ask("list_seats", request, messages.SeatsAnswer)

    def query_seat(self, service_id: str, seat: str) -> messages.SeatAnswer:
        """Return one seat with its price and state."""
        request = messages.QuerySeat(service_id=service_id, seat=seat, owner_key=self.owner_key)
        return self._ask("query_seat", request, messages.SeatAnswer)

    # --- holding --------------------------------------------------------------------------------------------------

    def hold(
        self, service_id: str, seats: Sequence[str], *, ttl_ms: int = 0, request_id: str = "", deadline_ms: int = 0, offer: str = ""
    ) -> messages.HoldAnswer:
        """Take the named seats out of sale, all or none; `ttl_ms` 0 means the cluster's default.

        Args:
            offer: Of a search: nothing is held unless it is still true.
        Raises:
            SeatUnavailable: Somebody has one of them; `fields["seats"]` says which.
            PriceChanged: The offer is no longer true; `fields["offer"]` is the new one.
        """
        request = messages.HoldSeats(
            request_id=request_id, owner_key=self.owner_key, service_id=service_id, seats=self.listed(seats), ttl_ms=ttl_ms, offer=offer
        )
        return self._ask("hold", request, messages.HoldAnswer, deadline_ms)

    def hold_any(
        self,
        service_id: str,
        count: int,
        *,
        cabin: str = "",
        together: bool = False,
        ttl_ms: int = 0,
        request_id: str = "",
        offer: str = "",
    ) -> messages.HoldAnswer:
        """Hold `count` of the best seats left; `together` takes them side by side or not at all.

        Args:
            offer: Of a search, with this service alone: seats at the price offered, or nothing.
        Raises:
            PriceChanged: The offer is no longer true; `fields["offer"]` is the new one.
        """
        if count < 1:
            raise InvalidRequest(f"{count} seats cannot be held; give 1 or more", field="count")
        request = messages.HoldSeats(
            request_id=request_id,
            owner_key=self.owner_key,
            service_id=service_id,
            count=count,
            cabin=cabin,
            together=together,
            ttl_ms=ttl_ms,
            offer=offer,
        )
        return self._ask("hold", request, messages.HoldAnswer)

    def hold_trip(
        self,
        legs: Sequence[tuple[str, Sequence[str] | int]],
        *,
        together: bool = False,
        cabin: str = "",
        ttl_ms: int = 0,
        request_id: str = "",
        deadline_ms: int = 0,
        offer: str = "",
    ) -> messages.HoldAnswer:
        """Hold seats on every leg of a trip or on none, over any operators: one hold with one deadline.

        Args:
            legs: (service id, seats by name) or (service id, how many of the best), in the order of travel.
            together, cabin: For the legs where the best are asked for: side by side, in that cabin alone.
            offer: Of a search, with these legs: seats at the price offered, or nothing.
        Raises:
            SeatUnavailable: `fields["legs"]` lists every seat in the way on every leg, and what it is now.
        """
        wishes = [
            messages.LegWish(service_id=service_id, count=wanted, cabin=cabin)
            if isinstance(wanted, int)
            else messages.LegWish(service_id=service_id, seats=list(wanted))
            for service_id, wanted in legs
        ]
        request = messages.HoldTrip(
            request_id=request_id,
            owner_key=self.owner_key,
            legs=wishes,
            together=together,
            ttl_ms=ttl_ms,
            offer=offer,
        )
        return self._ask("hold_trip", request, messages.HoldAnswer, deadline_ms)

    def renew(self, hold_id: str, *, ttl_ms: int = 0, request_id: str = "") -> messages.HoldAnswer:
        """Take the seats of a hold that has ended again, if they are free; return the new hold."""
        request = messages.RenewHold(
            request_id=request_id,
            owner_key=self.owner_key,
            hold_id=hold_id,
            ttl_ms=ttl_ms,
        )
        return self._ask("renew", request, messages.HoldAnswer)

    def extend(self, hold_id: str, ttl_ms: int, *, request_id: str = "") -> messages.HoldAnswer:
        """Let the hold end `ttl_ms` from now, within the cluster's longest hold."""
        request = messages.ExtendHold(
            request_id=request_id,
            owner_key=self.owner_key,
            hold_id=hold_id,
            ttl_ms=ttl_ms,
        )
        return self._ask("extend", request, messages.HoldAnswer)

    def release(self, hold_id: str, *, request_id: str = "") -> messages.HoldAnswer:
        """Give the seats of a hold back."""
        request = messages.ReleaseHold(
            request_id=request_id, owner_key=self.owner_key, hold_id=hold_id
        )
        return self._ask("release", request, messages.HoldAnswer)

    def get_hold(self, hold_id: str) -> messages.HoldAnswer:
        """Return one of the caller's holds as it is now."""
        request = messages.GetHold(owner_key=self.owner_key, hold_id=hold_id)
        return self._ask("get_hold", request, messages.HoldAnswer)

    def my_holds(self) -> messages.HoldsAnswer:
        """Return the caller's open holds with all operators; `partial` names operators that did not answer."""
        return self._ask("my_holds", messages.MyHolds(owner_key=self.owner_key), messages.HoldsAnswer)

    # --- orders ---------------------------------------------------------------------------------------------------

    def confirm(
        self, hold_id: str, passengers: Sequence[Passenger], *, request_id: str = "", payment_method: str = ""
    ) -> messages.OrderAnswer:
        """Turn a hold into an order: a passenger for each seat, and infants on laps; keep `manage_token`, changing the order needs it.

        `payment_method`: the card that pays, where the cluster takes payments; see `process_payment`.
        """
        request = messages.ConfirmHold(
            request_id=request_id,
            owner_key=self.owner_key,
            hold_id=hold_id,
            passengers=list(passengers),
            payment_method=payment_method,
        )
        return self._ask("confirm", request, messages.OrderAnswer)

    def process_payment(
        self, hold_id: str, passengers: Sequence[Passenger], payment_method: str, *, request_id: str = ""
    ) -> messages.OrderAnswer:
        """Pay for a hold and turn it into an order: both, or neither.

        Args:
            payment_method: The card, as the provider knows it, e.g. "pm_card_visa".
        Raises:
            PaymentDeclined, PaymentActionRequired: Not paid; the hold stays until its deadline.
            PaymentsUnavailable: The provider does not answer; nothing is booked.
        """
        return self.confirm(hold_id, passengers, request_id=request_id, payment_method=payment_method)

    def order(self, reference: str, *, surname: str = "", token: str = "") -> messages.OrderAnswer:
        """Return an order: whole with its `token`, a reduced record with a passenger's `surname`."""
        request = messages.GetOrder(reference=reference, surname=surname, token=token)
        return self._ask("order", request, messages.OrderAnswer)

    def orders(self, tokens: Sequence[tuple[str, str]]) -> messages.OrdersAnswer:
        """Return the orders whose (reference, manage token) the caller keeps."""
        return self._ask("orders", messages.GetOrders(tokens=list(tokens)), messages.OrdersAnswer)

    # --- the brief's four calls -----------------------------------------------------------------------------------

    def free_seats(self, service_id: str) -> list[str]:
        """Return the ids of all seats that can be had now, front to back."""
        return [seat.seat_id for seat in self.seat_map(service_id).seats if seat.state == "available"]

    def reserve(self, service_id: str, seats: Sequence[str]) -> messages.HoldAnswer:
        """Hold seats for the cluster's default time."""
        return self.hold(service_id, seats)

    def confirm_reserve(self, hold_id: str, passengers: Sequence[Passenger]) -> messages.OrderAnswer:
        """Turn a reservation into a booking."""
        return self.confirm(hold_id, passengers)

    def cancel_reserve(self, word: str, token: str = "") -> messages.HoldAnswer | messages.OrderAnswer:
        """Give seats back: a hold by its hold_id, a booking by its reference and manage token."""
        if "." in word:  # A hold_id is OPERATOR.random; a booking reference has no dot.
            return self.release(word)
        if not token:
            raise InvalidRequest("a booking is cancelled with its manage token; a hold_id looks like AA.k3j5…", field="token")
        return self.cancel(word, token)

    # --- operators and administrators -----------------------------------------------------------------------------

    def block(
        self, operator_key: str, service_id: str, seats: Sequence[str], reason: str, *, request_id: str = ""
    ) -> messages.SeatsChanged:
        """Take free seats out of sale for a reason that travellers may read."""
        request = messages.BlockSeats(
            request_id=request_id,
            operator_key=operator_key,
            service_id=service_id,
            seats=self.listed(seats),
            reason=reason,
        )
        return self._ask("block", request, messages.SeatsChanged)

    def unblock(self, operator_key: str, service_id: str, seats: Sequence[str], *, request_id: str = "") -> messages.SeatsChanged:
        """Put blocked seats back into sale."""
        request = messages.UnblockSeats(
            request_id=request_id,
            operator_key=operator_key,
            service_id=service_id,
            seats=self.listed(seats),
        )
        return self._ask("unblock", request, messages.SeatsChanged)

    def change_service(
        self, operator_key: str, service_id: str, state: str, reason: str = "", *, ask_travellers: bool = False, request_id: str = ""
    ) -> messages.ServiceChanged:
        """Set a service "open", "closed" (nothing new is sold) or "cancelled" (orders are cancelled too, unless their travellers
        are asked what now); "moved" only asks them."""
        request = messages.ChangeService(
            request_id=request_id,
            operator_key=operator_key,
            service_id=service_id,
            state=state,
            reason=reason,
            ask_travellers=ask_travellers,
        )
        return self._ask("change_service", request, messages.ServiceChanged)

    def manifest(self, operator_key: str, service_id: str) -> messages.ManifestAnswer:
        """Return who sits where."""
        request = messages.Manifest(operator_key=operator_key, service_id=service_id)
        return self._ask("manifest", request, messages.ManifestAnswer)

    def count(self, operator_key: str, operator: str, counter: str, add: int, *, request_id: str = "") -> messages.Counted:
        """Add to a counter of an operator, exactly once for a request id; 0 only asks. See examples/counter.py."""
        request = messages.Count(
            request_id=request_id,
            operator_key=operator_key,
            operator=operator,
            counter=counter,
            add=add,
        )
        return self._ask("count", request, messages.Counted)

    def create_operator(
        self,
        admin_key: str,
        code: str,
        name: str,
        kind: str,
        operator_key_digest: bytes = b"",
        *,
        nodes: Sequence[str] = (),
        accounting: str = "",
        request_id: str = "",
    ) -> messages.Created:
        """Make an operator known to the cluster, on nodes of its own where any are named, and set the digest of its key."""
        request = messages.CreateOperator(
            request_id=request_id,
            admin_key=admin_key,
            code=code,
            name=name,
            kind=kind,
            operator_key_digest=operator_key_digest,
            nodes=list(nodes),
            accounting=accounting,
        )
        return self._ask("create_operator", request, messages.Created)

    def import_timetable(
        self, key: str, operator: str, dataset: str, body: bytes, *, dry_run: bool = False, request_id: str = ""
    ) -> messages.Imported:
        """Replace one operator's rows of one dataset; `body` is what `client.importing` packs."""
        request = messages.ImportTimetable(
            request_id=request_id,
            key=key,
            operator=operator,
            dataset=dataset,
            body=body,
            dry_run=dry_run,
        )
        return self._ask("import", request, messages.Imported)

    def dataset_numbers(self, operator: str, dataset: str) -> messages.DatasetNumbersAnswer:
        """Return the (number, origin) pairs that other datasets of the operator use."""
        request = messages.DatasetNumbers(operator=operator, dataset=dataset)
        return self._ask("dataset_numbers", request, messages.DatasetNumbersAnswer)

    def status(self, *, deadline_ms: int = 0) -> messages.StatusAnswer:
        """Return the cluster as one balancer sees it."""
        return self._ask("status", messages.Status(), messages.StatusAnswer, deadline_ms)

    def locks(self, limit: int = 200) -> messages.LocksAnswer:
        """Return which locks stand on the lock servers now, whose, for how long yet and on how many; at most `limit` (1 to 1,000)."""
        return self._ask("locks", messages.Locks(limit=limit), messages.LocksAnswer)


def _is_beyond_64_bits(value: object) -> bool:
    return isinstance(value, int) and not -(1 << 63) <= value < 1 << 64
