"""A small airline and a cinema for the balancer's tests, and a balancer over the tiers of `local_tiers`."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from datastore import messages, wire
from datastore.edge import Address, Later, Peer
from datastore.errors import HoldfastError
from datastore.model import LayoutSpec, Place, Schedule, Section
from datastore.settings import ProcessAddress
from loadbalancer.config import LoadBalancerConfig
from loadbalancer.identity import key_digest
from loadbalancer.payments import PaymentProvider
from loadbalancer.payments_config import PaymentsConfig
from loadbalancer.server import BalancerServer
from tests.unit.loadbalancer.local_tiers import LocalLocks, LocalManagers
from tests.waiting import wait_until

DAY = (datetime.now(UTC) + timedelta(days=40)).date().isoformat()
OWNER, OTHER = "owner-key-of-ana-0001", "owner-key-of-bob-0002"
OPERATOR_KEY, ADMIN_KEY = "operator-key-of-airline", "the-administrators-key"
FLIGHT = f"AR1140-EZE-{DAY}"
CABIN = LayoutSpec(
    "E190",
    "Embraer 190",
    (
        Section("J", "A", ("1", "2"), ("A", "", "C", "D")),
        Section("Y", "B", tuple(str(row) for row in range(3, 9)), ("A", "B", "", "C", "D"), missing=("8D",), exit_rows=("5",)),
    ),
)
PLACES = [
    Place("EZE", "Ministro Pistarini", "Buenos Aires", "AR", "America/Argentina/Buenos_Aires", -34.8, -58.5),
    Place("GRU", "Guarulhos", "São Paulo", "BR", "America/Sao_Paulo", -23.4, -46.5),
]
SCHEDULE = Schedule("1140", "EZE", "GRU", 605, 760, 0, "1234567", "2020-01-01", "2099-12-31", "E190", 1056)
_names = iter(range(1_000_000))  # Request ids are used once in all, as a caller's are.
PEER = Peer("127.0.0.1:50000")


def body(schedules: Sequence[Schedule] = (SCHEDULE,)) -> bytes:
    """Return an import's body of these schedules."""
    return zlib.compress(wire.encode(wire.ImportBody("Test", "none", list(schedules), [CABIN], PLACES)))


def config(**changes: Any) -> LoadBalancerConfig:
    plain = LoadBalancerConfig((ProcessAddress("balancer-1", "127.0.0.1", 1),), feed_wait_ms=50, lanes=4)
    return replace(plain, **changes)


class Scene:
    """A balancer with its local tiers; `ask(method, request)` goes the way of a caller's bytes, without the network."""

    def __init__(self, server: BalancerServer, managers: LocalManagers, locks: LocalLocks) -> None:
        self.server = server
        self.managers = managers
        self.locks = locks
        self.numbers = iter(range(1_000_000))
        self.name = next(_names)

    def ask(self, method: str, request: messages.Request) -> messages.Answer:
        reply = self.server._handle(method, messages.encode(request), PEER)
        if isinstance(reply, Later):
            failures: list[HoldfastError] = []

            def made(make: Callable[[], bytes]) -> bytes:
                try:
                    return make()
                except HoldfastError as error:
                    failures.append(error)
                    return b""

            reply = reply.wrapped(made).wait()
            if failures:
                raise failures[0]
        answer: messages.Answer = messages.decode_answer(method, reply)
        return answer

    def request_id(self) -> str:
        return f"request-{self.name}-{next(self.numbers):06d}"

    def hold(self, *seats: str, owner: str = OWNER, request_id: str = "", service: str = FLIGHT, **more: object) -> messages.HoldAnswer:
        request = messages.HoldSeats(
            request_id=request_id or self.request_id(), owner_key=owner, service_id=service, seats=list(seats), **more  # type: ignore[arg-type]
        )
        answer = self.ask("hold", request)
        assert isinstance(answer, messages.HoldAnswer)
        return answer


@contextmanager
def scene(
    operators: Sequence[str] = ("AR",),
    managers: LocalManagers | None = None,
    *,
    reconciles: bool = True,
    payments: PaymentsConfig | None = None,
    provider: PaymentProvider | None = None,
    **changes: Any,
) -> Iterator[Scene]:
    """Give a balancer that knows the operators, each with the flight 1140."""
    locks = LocalLocks()
    fresh = managers is None
    managers = managers or LocalManagers(operators)
    broken: list[str] = []
    server = BalancerServer(
        "balancer-1",
        Address("127.0.0.1", 0),
        config(**changes),
        locks=locks,  # type: ignore[arg-type]
        managers=managers,
        admin_digest=key_digest(ADMIN_KEY),
        payments=payments,
        provider=provider,
        on_broken=lambda: broken.append("broken"),
    )
    server.balancer.follower.start()
    server.balancer.pipeline.start()
    if reconciles:
        server.reconciler.start()
        server.collector.start()
    made = Scene(server, managers, locks)
    try:
        wait_until(lambda: len(server.balancer.catalogue.operators) == len(managers.operators), "views", 5)
        for code in operators if fresh else ():
            digest = key_digest(OPERATOR_KEY)
            made.ask(
                "create_operator",
                messages.CreateOperator(
                    request_id=made.request_id(),
                    admin_key=ADMIN_KEY,
                    code=code,
                    name=f"Air {code}",
                    kind="airline",
                    operator_key_digest=digest,
                ),
            )
            imported = made.ask(
                "import",
                messages.ImportTimetable(request_id=made.request_id(), key=ADMIN_KEY, operator=code, dataset="test", body=body()),
            )
            assert isinstance(imported, messages.Imported) and imported.added == 1
            assert server.balancer.follower.wait_for(code, imported.lsn, 5_000)
        yield made
    finally:
        server.close()
    assert broken == []
