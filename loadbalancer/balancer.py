"""What one load balancer's handlers share: the tiers below, the views, the pipeline, and the ways to ask them."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from datastore import commands, wire, wire_ledger
from datastore.edge import Address
from datastore.errors import HoldfastError, NotAuthorised, OperatorUnavailable, OutcomeUnknown, UnknownService, error_from_data
from datastore.model import parse_service_id
from loadbalancer.basket import NO_SIDES, Basket
from loadbalancer.batching import Pipeline, Submitter
from loadbalancer.config import LoadBalancerConfig
from loadbalancer.finding import Finder
from loadbalancer.following import FeedSource, Follower
from loadbalancer.identity import is_key
from loadbalancer.itinerary import Reply, Send, Tell
from loadbalancer.offers import TripOffer, check_offer
from loadbalancer.view import Catalogue, Sale
from loadbalancer.waiting import Waiter, now_ms
from lockstore.probing import ServerState
from lockstore.standing import Standing

# A feed answers at least every `feed_wait_ms`; a view not confirmed for this much longer is said to be old.
STALE_AFTER_MS = 3_000
READ_MS_MAX = 5_000


class Managers(Submitter, FeedSource, Protocol):
    """What a balancer needs of the managers (manager.stub.ManagerStub)."""

    def read(self, items: Sequence[wire.ReadItem], deadline_ms: int) -> list[wire.ReadResult]:
        """Answer linearizable questions."""
        ...

    def statuses(self) -> Mapping[Address, wire.ManagerStatus | str]:
        """Return what each manager sees, or why it does not answer."""
        ...

    def topology(self) -> wire.Topology:
        """Return where each operator is."""
        ...

    def check(self, items: Sequence[wire_ledger.CheckItem]) -> wire_ledger.CopiesChecked:
        """Return what every copy says of itself."""
        ...

    def ledger(self, request: wire_ledger.LedgerRequest) -> list[bytes]:
        """Return committed entries, sealed."""
        ...

    def administer(self, wish: bytes, deadline_ms: int) -> bytes:
        """Pass an administrator's wish on, unopened."""
        ...

    def create_operators(self, operators: Sequence[str], deadline_ms: int, nodes: Mapping[str, Sequence[str]] | None = None) -> object:
        """Make partitions for operators that have none, on the nodes named where any are."""
        ...


class LockProbe(Protocol):
    """What the status asks of lockstore.SeatLocks."""

    def probe(self) -> list[ServerState]:
        """Ask every lock server how it is."""
        ...

    def standing(self, names: Collection[str], limit: int) -> Standing:
        """Ask every lock server which locks stand on it; `names`: of those that may hold some."""
        ...


@dataclass
class Balancer:
    """One load balancer's parts.

    Attributes:
        admin_digest: Digest of the administrator's key; b"" admits nobody.
        started_ms: Monotonic time of the start.
    """

    name: str
    config: LoadBalancerConfig
    catalogue: Catalogue
    follower: Follower
    pipeline: Pipeline
    managers: Managers
    locks: LockProbe
    admin_digest: bytes
    started_ms: int = field(default_factory=now_ms)

    def __post_init__(self) -> None:
        """Make the search index, empty until the first search."""
        self.finder = Finder(self.catalogue, self.config.offer_ttl_ms)

    def decide(
        self, operator: str, command: wire.AnyCommand, deadline_ms: int, sides: dict[bytes, bytes] = NO_SIDES
    ) -> dict[str, Any]:
        """Have the operator's partition decide a command that needs no lock; return its answer.

        Args:
            deadline_ms: Monotonic.
        Raises:
            HoldfastError: The refusal, or why there is no answer.
        """
        return self.decide_at(operator, command, deadline_ms, sides)[0]

    def decide_at(
        self, operator: str, command: wire.AnyCommand, deadline_ms: int, sides: dict[bytes, bytes] = NO_SIDES
    ) -> tuple[dict[str, Any], commands.Evidence]:
        """As `decide`; also return the position of the operator's log at which the answer stands (a repeat's is a later one)."""
        waiter = Waiter(1)
        basket = Basket(operator, deadline_ms, command=command, sides=sides, waiter=waiter)
        self.pipeline.put([basket])
        return waiter.wait(deadline_ms)[0].unwrap(), basket.position

    def decide_all(self, sends: Sequence[Send], deadline_ms: int) -> list[Reply]:
        """Have several operators decide at once; return their replies beside `sends`, with the positions they stand at."""
        waiter = Waiter(len(sends))
        baskets = [
            Basket(send.operator, deadline_ms, command=send.command, sides=dict(send.sides), waiter=waiter, place=place)
            for place, send in enumerate(sends)
        ]
        self.pipeline.put(baskets)
        outcomes = waiter.wait(deadline_ms) if baskets else []
        return [Reply(outcome.value, outcome.error, basket.position) for outcome, basket in zip(outcomes, baskets, strict=True)]

    def tell(self, send: Send | Tell, deadline_ms: int) -> None:
        """Have an operator decide a command of which nobody awaits the answer."""
        self.pipeline.leave([Basket(send.operator, deadline_ms, command=send.command, waiter=Waiter(1))])

    def read_all(self, items: Sequence[wire.ReadItem], deadline_ms: int) -> list[wire.ReadResult]:
        """Return the answers to linearizable questions, those that failed with their `error`."""
        left_ms = min(deadline_ms - now_ms(), READ_MS_MAX)
        if left_ms <= 0:
            raise OperatorUnavailable("no time left to ask", operators=[item.operator for item in items])
        return self.managers.read(items, left_ms) if items else []

    def read_each(self, items: Sequence[wire.ReadItem], deadline_ms: int) -> list[wire.ReadResult]:
        """Return the answers to linearizable questions, all of which are needed.

        Raises:
            HoldfastError: The first that could not be answered.
        """
        results = self.read_all(items, deadline_ms)
        for result in results:
            if result.error:
                raise error_from_data(result.error)
        return results

    def read(self, operator: str, query: str, arguments: Mapping[str, Any], deadline_ms: int) -> wire.ReadResult:
        """Return the answer to one linearizable question.

        Raises:
            HoldfastError: The operator cannot answer now.
        """
        (result,) = self.read_each([wire.ReadItem(operator, query, dict(arguments))], deadline_ms)
        return result

    def sale(self, service_id: str, deadline_ms: int) -> Sale:
        """Return the service with its current prices.

        A view may be behind: one that follows a node which has just come back lacks the latest timetable for a moment. So
        nobody is told "unknown" before the operator's primary has said it.

        Args:
            deadline_ms: On the monotonic clock; until then the primary is asked.
        Raises:
            UnknownOperator, UnknownService, InvalidRequest: There is no such service; the nearest are in the message.
            OperatorUnavailable: There may be, but this balancer cannot serve it now; nothing was done.
        """
        try:
            return self.catalogue.sale(service_id, wall_ms())
        except UnknownService as denial:
            operator = parse_service_id(service_id, frozenset(self.catalogue.operators)).operator
            try:
                self.read(operator, "seats", {"service_id": service_id}, deadline_ms)
            except UnknownService:
                raise denial from None
            except OutcomeUnknown as error:
                raise OperatorUnavailable(f"{operator} does not answer", operator=operator) from error
            raise OperatorUnavailable(f"this balancer's view of {operator} is behind", operator=operator) from denial

    def checked_offer(self, offer: str, deadline_ms: int) -> TripOffer:
        """Return what an offer offers, all of which is true now (`deadline_ms`: monotonic).

        Raises:
            InvalidRequest, OfferExpired, PriceChanged, ServiceClosed, SeatUnavailable, ConnectionTooShort: See `offers.check_offer`.
        """
        return check_offer(self.finder.scene(wall_ms(), deadline_ms), offer)

    def staleness(self, operators: Sequence[str]) -> dict[str, str]:
        """Return the operators of which nothing was heard of late, with the reason: what `partial` says."""
        now = now_ms()
        found = {}
        for code in operators:
            view = self.catalogue.operators.get(code)
            if view is None:
                found[code] = "not loaded yet"
            elif now - view.heard_ms > self.config.feed_wait_ms + STALE_AFTER_MS:
                found[code] = f"not heard of for {(now - view.heard_ms) // 1000} s"
        return found

    def as_of_ms(self, operators: Sequence[str]) -> int:
        """Return the UTC time of which what is shown of these operators is: that of the oldest of their views."""
        heard = [view.heard_ms for code in operators if (view := self.catalogue.operators.get(code)) is not None]
        return wall_ms() - (now_ms() - min(heard) if heard else 0)

    def require_operator(self, operator: str, key: str) -> None:
        """Check that `key` is the operator's.

        Raises:
            NotAuthorised: It is not. UnknownOperator: There is no such operator.
        """
        view = self.catalogue.operator(operator)
        if view.row is None or not is_key(key, view.row.key_digest):
            raise NotAuthorised(f"that is not the key of operator {operator}", operator=operator)

    def require_admin(self, key: str) -> None:
        """Check that `key` is the administrator's.

        Raises:
            NotAuthorised: It is not.
        """
        if not is_key(key, self.admin_digest):
            raise NotAuthorised("that is not the administrator's key")


def failed(result: wire.ReadResult) -> HoldfastError | None:
    """Return the error of a read, or None."""
    return error_from_data(result.error) if result.error else None


def wall_ms() -> int:
    """Return the wall clock in UTC milliseconds: for people to read and for prices by the day, never for a decision."""
    return time.time_ns() // 1_000_000
