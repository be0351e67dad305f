"""Views, replays, recordings and new primaries agree on every seat, however pages, feed, batches and old rows interleave."""

from __future__ import annotations

import random
from typing import Any

import pytest

from client.recording import SEAT_WORDS, seat_changes
from datastore import commands, feed, state, wire
from datastore.commands import HoldEach
from datastore.engine import decide
from datastore.feed import page_of, part_of
from datastore.ledger import Position, position_of
from datastore.model import SeatState, bulk_hold_id
from datastore.rows import ROWS_FORM, SeatRow
from datastore.state import AppliedState
from loadbalancer.view import OperatorView
from tests.unit.datastore.inventory import SERVICE, import_command, schedule
from tests.unit.datastore.test_audit import EPOCH, Ledger

SERVICES = (SERVICE, SERVICE.replace("1140", "1141"), SERVICE.replace("1140", "1142"))
SEATS = [f"{row}{column}" for row in "123" for column in "ABCD"]
OWNERS = ("ann", "bob")


class World:
    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.ledger = Ledger()
        self.ledger.decide(import_command([schedule(), schedule("1141"), schedule("1142")]))
        self.hold_ids = ["AR.none"]
        self.count = 0
        self.old = self.dice.random() < 0.5

    def position(self) -> Position:
        return position_of(self.ledger.entries[-1])

    def step(self) -> None:
        ledger, dice = self.ledger, self.dice
        wanted = [self._command() for _ in range(dice.choice([1, 1, 2, 3, 6]))]
        lsn = ledger.tail().lsn + 1
        rows_form = 0 if self.old and dice.random() < 0.4 else ROWS_FORM
        decision = decide(ledger.state, wanted, ledger.now_ms, lsn, EPOCH, lambda _: None, rows_form)
        if decision.events:
            ledger.forge(*decision.events)
        ledger.now_ms += dice.choice([0, 1, 400, 2_600])

    def _command(self) -> wire.AnyCommand:
        dice = self.dice
        self.count += 1
        name, service, owner = f"b{self.count}", dice.choice(SERVICES), dice.choice(OWNERS)
        hold_id, request = dice.choice(self.hold_ids[-20:]), f"r{self.count}"
        kind = dice.choice(["each"] * 5 + ["hold", "release", "release", "extend", "confirm", "confirm", "cancel", "block", "unblock",
                                          "sweep", "paying", "close"])  # fmt: skip
        fence = (1, self.count, f"n{self.count}")
        if kind == "each":
            flat, groups = dice.sample(SEATS, dice.randint(1, 9)), []
            while flat:
                size = dice.choice([1, 1, 2, 3])
                groups.append(tuple(flat[:size]))
                flat = flat[size:]
            self.hold_ids += [bulk_hold_id(f"AR.{name}", number + 1) for number in range(len(groups))]
            return HoldEach(request, b"", f"AR.{name}", owner, service, tuple(groups), dice.choice([500, 3_000, 9_000]), *fence, "USD",
                            tuple(tuple(1 for _ in group) for group in groups), tuple(5 for _ in groups), 90, 90)  # fmt: skip
        if kind == "hold":
            self.hold_ids.append(f"AR.{name}")
            return wire.Hold(request, b"", f"AR.{name}", owner, service, (dice.choice(SEATS),), 3_000, *fence, "USD", (1,), 5, 90, 90)
        seat = (dice.choice(SEATS),)
        held = self.ledger.state.open_holds.get(hold_id)
        makers: dict[str, Any] = {
            "release": lambda: wire.Release(request, b"", hold_id, owner),
            "extend": lambda: wire.Extend(request, b"", hold_id, owner, 6_000, 20_000),
            "confirm": lambda: wire.Confirm(request, b"", hold_id, owner, (f"R{self.count:05d}",), b"t", b"s", held.intent if held else ""),
            "cancel": lambda: wire.Cancel(request, b"", f"R{dice.randrange(self.count):05d}", b"t"),
            "block": lambda: wire.Block(request, b"", service, seat, "why", *fence),
            "unblock": lambda: wire.Unblock(request, b"", service, seat),
            "sweep": lambda: wire.Sweep("", b""),
            "paying": lambda: commands.Paying("", b"", hold_id, owner, f"pi{self.count}", sum(held.prices) if held else 1, "USD", (), 4_000,
                                              20_000),
            "close": lambda: wire.SetService(request, b"", SERVICES[2], 2 if dice.random() < 0.02 else 0, "x"),
        }  # fmt: skip
        return makers[kind]()

    def truth(self) -> dict[str, dict[str, SeatRow]]:
        rebuilt = AppliedState("AR", self.ledger.store)
        for service in SERVICES:
            assert rebuilt.seats(service) == self.ledger.state.seats(service)
        assert rebuilt.open_holds == self.ledger.state.open_holds
        found = {one: {seat: row for seat, row in rebuilt.seats(one).items() if row.state != SeatState.FREE} for one in SERVICES}
        assert rebuilt.services_with_taken_seats() == {one: set(rows) for one, rows in found.items() if rows}
        for one, rows in found.items():
            for seat, row in rows.items():
                # Old rows and new: nobody's fence is lost.
                assert row.generation == 1 and row.counter > 0 and row.nonce == f"n{row.counter}"
                if row.state == SeatState.HELD:
                    hold = rebuilt.open_holds.get(row.hold_id)
                    assert hold is not None and seat in hold.seats and hold.service_id == one and hold.owner == row.owner
        return found


def begin(world: World) -> OperatorView:
    """Fill a view from pages of random sizes with entries in between."""
    view, after, first = OperatorView("AR"), (0, ""), True
    while after is not None:
        page = page_of(world.ledger.store, world.position(), after, world.dice.choice([1, 1, 2, 3, 7, 40]))
        if first:
            view.lsn, first = page.lsn, False
        view.apply(page.rows)
        after = page.next
        for _ in range(world.dice.choice([0, 0, 1, 1, 2])):
            world.step()
    return view


def follow(world: World, view: OperatorView) -> None:
    while view.lsn < world.position().lsn:
        last = min(len(world.ledger.entries), view.lsn + world.dice.randint(1, 5))
        part = part_of("AR", world.ledger.entries[view.lsn : last])
        assert part is not None
        before, changes = {one: view.seats_taken(one) for one in SERVICES}, dict(view.seat_changes)
        view.apply(part.events)
        view.lsn = part.lsn
        for one in SERVICES:  # What was worked out of the seats is good until this moves.
            assert view.seats_taken(one) == before[one] or view.seat_changes.get(one) != changes.get(one)


def check(world: World, view: OperatorView) -> None:
    truth = world.truth()
    assert {one: view.seats_taken(one) for one in SERVICES} == truth
    assert view.taken.keys() == {one for one, rows in truth.items() if rows}
    assert {one for day in view.touched.values() for one in day} >= view.taken.keys()


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_views_recordings_and_new_primaries_agree(first: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(first, first + 20):
        world = World(seed)
        monkeypatch.setattr(state, "SERVICES_CACHED", world.dice.choice([1, 2, 4096]))
        monkeypatch.setattr(feed, "PART_BYTES_MAX", world.dice.choice([1, 300, 1 << 20]))
        monkeypatch.setattr(feed, "PAGE_BYTES_MAX", world.dice.choice([1, 300, 1 << 20]))
        monkeypatch.setattr(feed, "BULKS_READ", world.dice.choice([1, 2, 32]))
        for _ in range(world.dice.choice([0, 15, 40])):
            world.step()
        views = [begin(world) for _ in range(3)]
        for view in views:
            for _ in range(world.dice.randrange(4)):
                world.step()
            follow(world, view)
            check(world, view)
        for _ in range(10):
            world.step()
            for view in views:
                follow(world, view)
                check(world, view)
        from_genesis = OperatorView("AR")
        follow(world, from_genesis)
        check(world, from_genesis)
        told: dict[str, tuple[str, str]] = {}
        for sealed in world.ledger.entries:
            told.update(seat_changes(sealed))
        free = SEAT_WORDS[SeatState.FREE]
        assert {key: word for key, (word, _) in told.items() if word != free} == {
            f"{one}/{seat}": SEAT_WORDS[SeatState(row.state)] for one, rows in world.truth().items() for seat, row in rows.items()
        }
        assert world.ledger.violations() == []
