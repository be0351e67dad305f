"""What the screens ask of the cluster, without stopping the screen: calls go to threads, answers come back as awaitables."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from datastore import messages
from datastore.model import Passenger

THREADS = 12  # Long polls of live maps included.
T = TypeVar("T")


class Client(Protocol):
    """The part of `client.api.Holdfast` that the screens use; the tests' fake has the same."""

    deadline_ms: int

    def call(self, method: str, request: messages.Request) -> messages.Answer: ...
    def operators(self, like: str = "") -> list[messages.OperatorInfo]: ...
    def places(self, like: str = "") -> list[messages.PlaceInfo]: ...
    def services(
        self, date: str, *, operator: str = "", origin: str = "", destination: str = "", limit: int = 100, after: str = ""
    ) -> messages.ServicesAnswer: ...
    def search(
        self,
        origin: str,
        destination: str,
        date: str,
        *,
        return_date: str = "",
        passengers: int = 1,
        stops_max: int = 2,
        cabin: str = "",
        airlines: Sequence[str] = (),
        sort: str = "price",
        limit: int = 50,
    ) -> messages.TripsAnswer: ...
    def calendar(
        self, origin: str, destination: str, month: str, *, passengers: int = 1, stops_max: int = 2, cabin: str = ""
    ) -> messages.CalendarAnswer: ...
    def seat_map(self, service_id: str) -> messages.SeatMapAnswer: ...
    def watch_seats(self, service_id: str, *, seen: int = 0, wait_ms: int = 0) -> messages.SeatStatesAnswer: ...
    def hold(self, service_id: str, seats: Sequence[str], *, ttl_ms: int = 0, request_id: str = "") -> messages.HoldAnswer: ...
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
    ) -> messages.HoldAnswer: ...
    def hold_trip(
        self,
        legs: Sequence[tuple[str, Sequence[str] | int]],
        *,
        together: bool = False,
        cabin: str = "",
        ttl_ms: int = 0,
        request_id: str = "",
        offer: str = "",
    ) -> messages.HoldAnswer: ...
    def renew(self, hold_id: str, *, ttl_ms: int = 0, request_id: str = "") -> messages.HoldAnswer: ...
    def extend(self, hold_id: str, ttl_ms: int, *, request_id: str = "") -> messages.HoldAnswer: ...
    def release(self, hold_id: str, *, request_id: str = "") -> messages.HoldAnswer: ...
    def my_holds(self) -> messages.HoldsAnswer: ...
    def confirm(
        self, hold_id: str, passengers: Sequence[Passenger], *, request_id: str = "", payment_method: str = ""
    ) -> messages.OrderAnswer: ...
    def orders(self, tokens: Sequence[tuple[str, str]]) -> messages.OrdersAnswer: ...
    def price_party(self, hold_id: str, passengers: Sequence[Passenger]) -> messages.PartyPriced: ...
    def order(self, reference: str, *, surname: str = "", token: str = "") -> messages.OrderAnswer: ...
    def query_transaction(self, hold_id: str = "", *, reference: str = "", token: str = "") -> messages.TransactionAnswer: ...
    def quote_cancel(
        self, reference: str, token: str, *, legs: Sequence[int] = (), passengers: Sequence[int] = (), full: bool = False
    ) -> messages.QuoteAnswer: ...
    def cancel(self, reference: str, token: str, *, quote: str = "", request_id: str = "") -> messages.OrderAnswer: ...
    def quote_change(
        self,
        reference: str,
        token: str,
        *,
        leg: int = 0,
        swaps: Sequence[tuple[str, str]] = (),
        service_id: str = "",
        seats: Sequence[str] = (),
    ) -> messages.QuoteAnswer: ...
    def change(
        self, reference: str, token: str, quote: str, *, payment_method: str = "", request_id: str = ""
    ) -> messages.OrderAnswer: ...
    def alternatives(self, reference: str, token: str, *, leg: int = 0) -> messages.AlternativesAnswer: ...
    def keep(self, reference: str, token: str) -> messages.OrderAnswer: ...
    def tickets(self, reference: str, token: str) -> messages.TicketsAnswer: ...
    def block(
        self, operator_key: str, service_id: str, seats: Sequence[str], reason: str, *, request_id: str = ""
    ) -> messages.SeatsChanged: ...
    def unblock(self, operator_key: str, service_id: str, seats: Sequence[str], *, request_id: str = "") -> messages.SeatsChanged: ...
    def change_service(
        self, operator_key: str, service_id: str, state: str, reason: str = "", *, ask_travellers: bool = False, request_id: str = ""
    ) -> messages.ServiceChanged: ...
    def manifest(self, operator_key: str, service_id: str) -> messages.ManifestAnswer: ...
    def accounts(self, admin_key: str, operators: Sequence[str] = ()) -> messages.AccountsAnswer: ...
    def payment_cases(self, admin_key: str, operators: Sequence[str] = (), *, closed: bool = False) -> messages.CasesAnswer: ...
    def close_payment_case(self, admin_key: str, intent: str, who: str, why: str, *, request_id: str = "") -> messages.CaseClosed: ...
    def status(self, *, deadline_ms: int = 0) -> messages.StatusAnswer: ...
    def locks(self, limit: int = 200) -> messages.LocksAnswer: ...
    def close(self) -> None: ...


class Gateway:
    """The client behind threads of its own."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="ask")

    async def ask(self, question: Callable[[Client], T]) -> T:
        """Return the answer to `question(client)`, asked on another thread.

        Raises:
            HoldfastError: What the client raised.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, question, self.client)

    def close(self) -> None:
        """End; a question under way ends with its connection."""
        self.client.close()
        self._threads.shutdown(wait=False, cancel_futures=True)


def now_ms() -> int:
    """Return the monotonic clock in whole milliseconds."""
    return time.monotonic_ns() // 1_000_000
