"""Properties of the engine over any sequence of commands: the promises that no example can give."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from datastore import wire
from datastore.commands import HoldEach
from datastore.events import seats_in
from datastore.model import HoldState, SeatState, bulk_hold_id
from datastore.rows import Kind, decode_row
from datastore.state import AppliedState
from tests.holds_told import holds_in
from tests.unit.datastore.inventory import SERVICE, Partition, import_command, schedule

SEATS = ["1A", "1B", "1C", "1D", "2A"]
OWNERS = ["ann", "bob"]
NAMES = [f"h{number}" for number in range(12)]
BULKS = [f"b{number}" for number in range(6)]
CODES_WITHOUT_EFFECT = {"stale_fence", "resolve_needed", "request_in_progress", "idempotency_key_reused"}


class Sales(RuleBasedStateMachine):
    """Batches of up to four random commands, with time passing, late locks and repeats."""

    def __init__(self) -> None:
        super().__init__()
        self.partition = Partition()
        self.first: dict[str, wire.Outcome] = {}
        self.numbers = 0

    def fresh(self) -> str:
        self.numbers += 1
        return f"request-{self.numbers}"

    def holds(self, draw: st.DrawFn) -> wire.Hold:
        name = draw(st.sampled_from(NAMES))
        seats = tuple(draw(st.lists(st.sampled_from(SEATS), min_size=1, max_size=3, unique=True)))
        late = draw(st.booleans()) and self.partition.counter > 2
        return self.partition.hold(
            name,
            *seats,
            owner=draw(st.sampled_from(OWNERS)),
            ttl_ms=draw(st.sampled_from([500, 5000])),
            counter=draw(st.integers(1, self.partition.counter)) if late else 0,
            request_id=self.fresh(),
        )

    def each(self, draw: st.DrawFn) -> HoldEach:
        seats = draw(st.lists(st.sampled_from(SEATS), min_size=1, max_size=4, unique=True))
        cut = draw(st.integers(0, len(seats) - 1))
        holds = ((*seats[: cut + 1],), *((seat,) for seat in seats[cut + 1 :]))
        like = self.partition.hold("any", *seats, owner=draw(st.sampled_from(OWNERS)))
        return HoldEach(
            self.fresh(), b"each", "AR." + draw(st.sampled_from(BULKS)), like.owner, SERVICE, holds, draw(st.sampled_from([500, 5000])),
            like.generation, like.counter, like.nonce, "USD", tuple(tuple(1 for _ in held) for held in holds), tuple(80 for _ in holds),
            draw(st.sampled_from([2, 50])), 10,
        )  # fmt: skip

    @rule(data=st.data(), size=st.integers(1, 4))
    def batch(self, data: st.DataObject, size: int) -> None:
        commands: list[wire.AnyCommand] = []
        for _ in range(size):
            commands.append(self.one(data))
        if data.draw(st.booleans()):
            commands.append(commands[0])  # A duplicate in the same batch.
        decision = self.partition.decide(*commands)
        for command, outcome in zip(commands, decision.outcomes, strict=True):
            if command.request_id and outcome.error.get("code") not in CODES_WITHOUT_EFFECT:
                assert self.first.setdefault(command.request_id, outcome) == outcome
        for command in commands:
            if command.request_id in self.first:
                again = self.partition.decide(command)
                assert not again.changed
                assert again.outcomes[0] == self.first[command.request_id]

    def one(self, data: st.DataObject) -> wire.AnyCommand:
        kind = data.draw(
            st.sampled_from(
                ["hold", "hold", "hold", "each", "each", "release", "extend", "confirm", "cancel", "block", "unblock", "sweep", "close"]
            )
        )
        hold_id = "AR." + data.draw(st.sampled_from(NAMES))
        if data.draw(st.booleans()):
            hold_id = bulk_hold_id("AR." + data.draw(st.sampled_from(BULKS)), data.draw(st.integers(1, 3)))
        owner = data.draw(st.sampled_from(OWNERS))
        seats = (data.draw(st.sampled_from(SEATS)),)
        reference = data.draw(st.sampled_from(["AAA222", "BBB333", "CCC444"]))
        if kind == "hold":
            return self.holds(data.draw)  # type: ignore[arg-type]
        if kind == "each":
            return self.each(data.draw)  # type: ignore[arg-type]
        self.partition.counter += 1
        makers: dict[str, wire.AnyCommand] = {
            "release": wire.Release(self.fresh(), b"", hold_id, owner),
            "extend": wire.Extend(self.fresh(), b"", hold_id, owner, 3000, 9000),
            "confirm": wire.Confirm(self.fresh(), b"", hold_id, owner, (reference,), b"token", b"side"),
            "cancel": wire.Cancel(self.fresh(), b"", reference, b"token"),
            "block": wire.Block(self.fresh(), b"", SERVICE, seats, "test", 1, self.partition.counter, f"b{self.partition.counter}"),
            "unblock": wire.Unblock(self.fresh(), b"", SERVICE, seats),
            "sweep": wire.Sweep("", b""),
            "close": wire.SetService(self.fresh(), b"", SERVICE, data.draw(st.sampled_from([0, 0, 1])), "test"),
        }
        return makers[kind]

    @rule(passed_ms=st.sampled_from([1, 400, 600, 6000]))
    def time_passes(self, passed_ms: int) -> None:
        self.partition.now_ms += passed_ms

    @rule()
    def import_again(self) -> None:
        assert self.partition.decide(import_command([schedule()])).events == []

    @invariant()
    def one_owner_a_seat_and_every_owner_has_a_record(self) -> None:
        """A held seat belongs to one open hold, a booked one to one converted hold with a confirmed order, and back."""
        rows = {key.split("/")[1]: decode_row(Kind.SEAT, value) for key, value in self.partition.rows.scan(Kind.SEAT)}
        for _, value in self.partition.rows.scan(Kind.BULK):
            said = decode_row(Kind.BULK, value).seat_rows()
            assert not {row.state for seat, row in rows.items() if seat in said} - {SeatState.FREE}
            rows |= said
        open_holds = {key: decode_row(Kind.OPEN_HOLD, value) for key, value in self.partition.rows.scan(Kind.OPEN_HOLD)}
        for _, value in self.partition.rows.scan(Kind.BULK):
            members = {hold.hold_id: hold for hold in holds_in(Kind.BULK, value)}
            assert members and not members.keys() & open_holds.keys()
            open_holds |= members
        closed = {key: decode_row(Kind.CLOSED_HOLD, value) for key, value in self.partition.rows.scan(Kind.CLOSED_HOLD)}
        orders = {key: decode_row(Kind.ORDER, value) for key, value in self.partition.rows.scan(Kind.ORDER)}
        assert not open_holds.keys() & closed.keys()
        held = {seat: row.hold_id for seat, row in rows.items() if row.state == SeatState.HELD}
        booked = {seat: row.hold_id for seat, row in rows.items() if row.state == SeatState.BOOKED}
        assert self.partition.state.taken(SERVICE) == {seat for seat, row in rows.items() if row.state != SeatState.FREE}
        assert held == {seat: hold_id for hold_id, hold in open_holds.items() for seat in hold.seats}
        assert booked == {seat: order.hold_id for order in orders.values() if order.state == 0 for seat in order.seats}
        assert all(closed[order.hold_id].state == HoldState.CONVERTED for order in orders.values())

    @invariant()
    def rebuilt_from_rows_the_state_is_the_same(self) -> None:
        """What a new primary loads equals what the old one had followed."""
        rebuilt = AppliedState("AR", self.partition.rows)
        assert rebuilt.open_holds == self.partition.state.open_holds
        assert all(rebuilt.open_holds.get(hold_id) for owner in OWNERS for hold_id in rebuilt.open_holds.ids_of(owner))
        assert len(rebuilt.open_holds) == sum(len(rebuilt.open_holds.ids_of(owner)) for owner in OWNERS)
        assert rebuilt.seats(SERVICE) == self.partition.state.seats(SERVICE)
        assert rebuilt.services == self.partition.state.services

    @invariant()
    def fences_never_fall(self) -> None:
        newest: dict[str, tuple[int, int]] = {}
        for event in self.partition.history:
            # Of a bulk's row that some have left, the others' seats are said again: their fence must not have risen meanwhile.
            said = seats_in(*event, lsn=0)
            if event.kind == Kind.BULK and event.value:
                said = {f"{SERVICE}/{seat}": row for seat, row in decode_row(Kind.BULK, event.value).seat_rows().items()}
            for key, row in said.items():
                assert newest.get(key, (0, 0)) <= (row.generation, row.counter)
                newest[key] = (row.generation, row.counter)

    @invariant()
    def replaying_the_events_gives_equal_rows(self) -> None:
        replayed: dict[tuple[int, str], bytes] = {}
        for kind, key, value in self.partition.history:
            if value:
                replayed[(kind, key)] = value
            else:
                replayed.pop((kind, key), None)
        assert replayed == self.partition.rows.rows


Sales.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck))
TestSales = Sales.TestCase
