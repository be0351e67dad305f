"""A whole cluster under one scenario: built, troubled, calmed, and judged.

    founded and loaded -> faults while buyers buy -> calm: everything is mended and started -> quiet -> judged

After the last fault the cluster has `PROGRESS_MS` to sell again, and `QUIET_MS` more to agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from datastore import wire
from datastore.model import SeatState
from datastore.rows import Kind
from manager.config import ManagerConfig
from manager.goals import Address, Goals
from tests.checkers import Answer, Final
from tests.simulation import invariants, party_checks, trip_checks
from tests.simulation.balancers import Balancer, Sells
from tests.simulation.buyers import Asked, Buyer, Habits, Looker, Seen
from tests.simulation.lockclients import LockHeld
from tests.simulation.lockservers import Administrator, LockServer
from tests.simulation.managers import Manager
from tests.simulation.network import Network
from tests.simulation.nodes import DataNode
from tests.simulation.observer import Observer
from tests.simulation.parties import HALL, Notes
from tests.simulation.sandboxes import SimulatedSandbox
from tests.simulation.scenario import CALM, SEATS, SETTLED_S, Fault, Scenario, lock_names, node_names
from tests.simulation.sitters import Sitter
from tests.simulation.threads import installed
from tests.simulation.traps import trap_of
from tests.simulation.travellers import Traveller, TripAsked
from tests.simulation.world import Process, Violation, World
from tests.unit.datastore.inventory import LAYOUT, import_command, schedule

PROGRESS_MS = 10_000
QUIET_MS = 6_000
OVERDUE_MS = 5_000
DATE = "2026-12-01"
SPARE_SEAT = "5D"  # Of the layout, and never among the seats that buyers fight for.
PROVIDER_FAULTS = ("lost", "down", "slow", "error")
WORDS = {SeatState.FREE: "available", SeatState.HELD: "held", SeatState.BOOKED: "occupied", SeatState.BLOCKED: "blocked"}


@dataclass
class Parts:
    """The classes that a cluster is built of; a mutation replaces one."""

    node: type[DataNode] = DataNode
    manager: type[Manager] = Manager
    balancer: type[Balancer] = Balancer
    lock_server: type[LockServer] = LockServer
    administrator: type[Administrator] = Administrator
    buyer: type[Buyer] = Buyer
    traveller: type[Traveller] = Traveller


class Tally(NamedTuple):
    """What a run did: for people, and for the check that it did enough (I14)."""

    steps: int
    simulated_ms: int
    operations: int
    done: int
    refused: int
    unknown: int
    entries: int
    epochs: int
    locks: int
    slow_locks: int
    expired: int
    faults: int
    reads: int
    installs: int = 0
    bulks: int = 0
    trips_sold: int = 0
    trips_ended: int = 0
    resolved: int = 0
    charged: int = 0
    given_back: int = 0
    chosen: int = 0
    no_room: int = 0


class Cluster:
    """One run of a scenario."""

    def __init__(self, scenario: Scenario, parts: Parts | None = None) -> None:
        self.scenario = scenario
        self.parts = parts or Parts()
        seed = f"{scenario.seed}/{scenario.profile}"
        self.world = World(Network(f"{seed} network", scenario.weather), seed)
        self.observer = Observer()
        self.history: list[Asked] = []
        self.seen: list[Seen] = []
        self.locks: list[LockHeld] = []
        self.first_success_us = 0
        self.final_reads: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {}
        self.final_stamps: dict[str, int] = {}
        nodes, lock_servers = node_names(scenario), lock_names(scenario)
        times = scenario.times
        config = ManagerConfig(
            (),
            heartbeat_ms=times.heartbeat_ms,
            suspicion_ms=times.suspicion_ms,
            promote_lease_ms=2_000,
            node_timeout_ms=times.suspicion_ms // 2,
        )
        goals = Goals(
            {name: Address("127.0.0.1", 1 + number) for number, name in enumerate(nodes)},
            dict.fromkeys(scenario.operators, nodes[0]),
            min(scenario.copies, len(nodes)),
        )
        managers = [f"manager-{number + 1}" for number in range(scenario.managers)]
        self.notes: Notes = {}
        self.judged = 0  # choices that could be
        sells = Sells(trips=scenario.travellers > 0, takes_payments=scenario.payments, notes=self.notes)
        balancers = [f"balancer-{number + 1}" for number in range(scenario.balancers)]
        self.nodes = [self.parts.node(self.world, name, times, self.observer, f"{seed} {name}") for name in nodes]
        for node in self.nodes:
            node.meet(nodes)
        self.lock_servers = [self.parts.lock_server(self.world, name) for name in lock_servers]
        self.administrator = self.parts.administrator(self.world, "admin", lock_servers, scenario.lock_ttl_ms, 200)
        self.managers = [self.parts.manager(self.world, name, config, goals, lock_servers, seed) for name in managers]
        self.balancers = [
            self.parts.balancer(
                self.world, name, managers[first:] + managers[:first], lock_servers, self.locks, seed, scenario.lock_ttl_ms, sells
            )
            for number, name in enumerate(balancers)
            for first in [number % len(managers) if scenario.own_managers else 0]
        ]
        self.habits = [
            Habits(
                scenario.seats,
                f"{operator}1140-EZE-{DATE}",
                operator,
                pause_ms=scenario.pause_ms,
                reads=scenario.reads,
                bulks=scenario.bulks,
            )
            for operator in scenario.operators
        ]
        names = [f"buyer-{number + 1}" for number in range(scenario.buyers)]
        self.buyers = [self.parts.buyer(self.world, name, balancers, self.habits, self.history, self.seen, seed) for name in names]
        names = [f"looker-{number + 1}" for number in range(scenario.lookers)]
        self.lookers = [Looker(self.world, name, balancers, self.habits, self.history, self.seen, seed) for name in names]
        names = [f"sitter-{number + 1}" for number in range(scenario.sitters)]
        locks_type, ttl_ms = self.parts.balancer.locks_type, scenario.lock_ttl_ms
        self.sitters = [Sitter(self.world, name, locks_type, lock_servers, self.locks, seed, ttl_ms, scenario.sits) for name in names]
        names = [f"traveller-{number + 1}" for number in range(scenario.travellers)]
        self.trips: list[TripAsked] = []
        self.travellers = [
            self.parts.traveller(
                self.world,
                name,
                balancers,
                self.habits,
                self.trips,
                seed,
                pays=scenario.payments,
                impatience=scenario.impatience,
                dawdles=scenario.dawdles,
                parties=scenario.parties,
                deadline_ms=scenario.deadline_ms,
            )
            for name in names
        ]
        self.sandbox = SimulatedSandbox(self.world) if scenario.payments else None
        self.prober = Prober(self, balancers, seed)

    # -- the run -----------------------------------------------------------------------------------------------------

    def run(self, steps_max: int = 10_000_000, judged_every_ms: int = 0) -> Tally:
        """Run to the end, or to so many steps, and judge.

        Args:
            judged_every_ms: Judge what happened so far as often as that too: what must never be is never undone, so a run that is bound
                to fail ends soon. 0: at the end alone, where nothing is missed either.
        Raises:
            Violation: Something is as it must never be.
        """
        with installed(self.world):
            return self._run(steps_max, judged_every_ms * 1000)

    def _run(self, steps_max: int, judged_every_us: int) -> Tally:
        try:
            self._begin()
            lasts_us = self.scenario.lasts_ms * 1000
            for until_us in range(judged_every_us, lasts_us + 1, judged_every_us) if judged_every_us else ():
                if not self.world.run(until_us, steps_max):
                    break
                self._judge(final=False)
            if self.world.run(lasts_us, steps_max):
                self._calm()
                self.world.run(lasts_us + (PROGRESS_MS + QUIET_MS) * 1000, steps_max)
                self._judge_quiet(lasts_us)
                self._judge(final=True)
            else:
                self._judge(final=False)
            return self.tally()
        finally:
            self.world.close()

    def _begin(self) -> None:
        below = (*self.lock_servers, self.administrator, *self.nodes, *self.managers, *([self.sandbox] if self.sandbox else []))
        for process in (*below, *self.balancers, self.prober):
            process.start()
        self.world.network.weather = CALM
        self.world.at(2_000_000, lambda _: self._open_shop())
        for fault in self.scenario.faults:
            self.world.at(fault.at_ms * 1000, lambda _, fault=fault: self.trouble(fault))  # type: ignore[misc]

    def _open_shop(self) -> None:
        self.world.network.weather = self.scenario.weather
        for one in self._callers():
            one.start()

    def _callers(self) -> tuple[Buyer | Traveller | Sitter, ...]:
        return (*self.buyers, *self.travellers, *self.lookers, *self.sitters)

    def _calm(self) -> None:
        """The last fault is over: everything is mended, started and goes on."""
        self.world.tell("world", "is calm")
        self.world.network.mend()
        self.world.network.weather = CALM
        for process in self.world.processes.values():
            process.thaw()
            process.start()
        for node in self.nodes:
            node.disk.fails = False
            node.disk.disarm()
        if self.sandbox is not None:
            self.sandbox.faults.plan({"kind": "none"})
        for one in self._callers():
            one.closing = True
        self.prober.probe()

    # -- faults ------------------------------------------------------------------------------------------------------

    def trouble(self, fault: Fault) -> None:
        """Let one thing go wrong, and right again when its time is over."""
        world, process = self.world, self._target(fault)
        ends_us = fault.lasts_ms * 1000
        world.tell("nemesis", "{} {} for {} ms", fault.kind, process.name, fault.lasts_ms)
        match fault.kind:
            case "kill":
                process.kill()
                world.at(ends_us, lambda _: process.start())
            case "freeze":
                process.freeze()
                world.at(ends_us, lambda _: process.thaw())
            case "apart" | "deaf" | "mute" | "split" | "bridge" | "secluded":
                cuts = self.cuts(fault.kind, process)
                world.network.cuts |= cuts
                world.at(ends_us, partial(self.mend, cuts))
            case "unheard" | "late" | "asleep" | "tardy":
                world.network.traps.append(trap_of(self, fault, process))
            case "reshape":
                assert isinstance(process, Manager)
                process.reshape(fault.number)
            case "jump":
                process.clock.wall_offset_ms += fault.number
            case "drift":
                process.clock.drift(world.now_us, 1 + fault.number / 1_000_000)
            case "forget":
                assert isinstance(process, LockServer)
                process.forget()
            case "provider":
                assert self.sandbox is not None
                kind = PROVIDER_FAULTS[fault.number % len(PROVIDER_FAULTS)]
                self.sandbox.faults.plan({"on": "any", "kind": kind, "count": str(1 + fault.number // 10), "delay_ms": "700"})
            case _:
                assert isinstance(process, DataNode)
                self._trouble_disk(fault, process)

    def cuts(self, kind: str, process: Process) -> set[tuple[str, str]]:
        """Return the directions in which nothing gets through."""
        names = set(self.world.processes)
        side = {process.name}
        if kind in ("split", "bridge"):
            # Callers and lock servers reach both sides, so that what one side does can be compared with what the other says.
            side |= {self.managers[-1].name, self.balancers[-1].name}
            names = {one.name for one in (*self.nodes, *self.managers, *self.balancers)}
        if kind == "bridge":
            names -= {next(node.name for node in self.nodes if node is not process)}
        if kind == "secluded":
            names -= {self.administrator.name}
        out = {(name, other) for name in side for other in names - side}
        back = {(other, name) for name, other in out}
        return {"deaf": back, "mute": out}.get(kind, out | back)

    def _target(self, fault: Fault) -> Process:
        if fault.target != "primary":
            return self.world.processes[fault.target]
        leading = [node for node in self.nodes if node.alive and any(one.machine.is_primary for one in node.partitions.values())]
        return (leading or self.nodes)[-1]

    def _trouble_disk(self, fault: Fault, node: DataNode) -> None:
        if fault.kind == "power":
            node.disk.arm(abs(fault.number), after=fault.number < 0)
        elif fault.kind == "full":
            node.disk.fails = True
            self.world.at(fault.lasts_ms * 1000, lambda _: setattr(node.disk, "fails", False))
        elif fault.kind == "rot":
            node.kill()
            for store in node.stores.values():
                store.rot(fault.number)
            self.world.at(fault.lasts_ms * 1000, lambda _: node.start())
        elif fault.kind == "backup":
            node.back_up()
            self.world.at(fault.lasts_ms * 1000, lambda _: self._go_back(node))
        else:
            node.kill()
            node.lose_disk()
            node.start()

    def _go_back(self, node: DataNode) -> None:
        node.kill()
        node.put_backup_back()
        node.start()

    def mend(self, cuts: set[tuple[str, str]], _: object) -> None:
        self.world.network.cuts -= cuts

    # -- judgement ---------------------------------------------------------------------------------------------------

    def _judge_quiet(self, calm_us: int) -> None:
        """Progress, and equal copies."""
        if not self.first_success_us:
            waiting = {manager.name: manager.watch.waiting() for manager in self.managers}
            raise Violation("progress", f"nothing could be sold within {PROGRESS_MS} ms after the last fault; managers say {waiting}")
        for one in (*self.buyers, *self.travellers):
            if not one.is_done:
                raise Violation("progress", f"{one.name} still waits for an answer")
        for operator in self.scenario.operators:
            found = [(node.name, node.stores[operator]) for node in self.nodes if operator in node.stores]
            newest = max((store for _, store in found if store.summary().configs), key=lambda store: store.applied_lsn)
            config = newest.summary().configs[-1][1]
            wanted = self.managers[0].watch.roster.goals.wanted(operator, config.voters.values())
            if set(config.voters.values()) != set(wanted) or config.learners:
                raise Violation("copies are where they are wanted", f"{operator}: at {config}, wanted at {', '.join(wanted)}")
            # A store that was taken out keeps what it had then.
            taking_part = config.voters.keys() | config.learners.keys()
            copies = {name: (store.applied_lsn, store.state_digest()) for name, store in found if store.store_uuid in taking_part}
            if len(set(copies.values())) != 1:
                lsns = {name: lsn for name, (lsn, _) in copies.items()}
                raise Violation("copies are equal", f"{operator}: applied entries {lsns}, digests differ")

    def _judge(self, *, final: bool) -> None:
        faults = invariants.check_locks(self.locks, clocks_keep_bounds=self.scenario.clocks_keep_bounds)
        ledgers = {operator: trip_checks.rows_of(ledger.entries) for operator, ledger in self.observer.ledgers.items()}
        if self.scenario.travellers:
            faults += trip_checks.check_trips(ledgers) + trip_checks.check_told(self.trips, ledgers)
        if self.scenario.parties:
            faults += party_checks.check_one_hold(self.trips, ledgers)
            found, self.judged = self._judge_choices()
            faults += found
        if self.scenario.travellers and final:
            faults += trip_checks.check_quiet_trips(ledgers, OVERDUE_MS)
        if self.sandbox is not None and final:
            faults += trip_checks.check_payments(ledgers, self.sandbox.intents())
        for habits in self.habits:
            operator = habits.operator
            ledger = self.observer.ledgers.get(operator)
            entries = ledger.entries if ledger else []
            asked = [one for one in self.history if one.operator == operator]
            seen = [one for one in self.seen if one.operator == operator]
            faults += invariants.check_ledger(operator, entries)
            faults += invariants.check_answers(entries, asked)
            faults += invariants.check_order(asked, seen, invariants.seat_states(entries, habits.service_id))
            if final:
                faults += invariants.check_overdue(entries, self.final_stamps[operator], OVERDUE_MS)
                lock_s = 0.9 * self.scenario.lock_ttl_ms / 1000
                asked_for = party_checks.as_named(self.trips, ledgers)
                trips = trip_checks.as_operations(asked_for, ledgers, habits.service_id, self.scenario.settled_by, lock_s)
                told = self._as_told([*asked, *trips])
                faults += invariants.check_buyers(told, habits.service_id, self._final(operator), self._now())
        if faults:
            raise Violation(faults[0][0], faults[0][1] + (f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""))

    def _judge_choices(self) -> tuple[list[invariants.Fault], int]:
        """Return what is wrong about the best available, and how many choices could be judged."""
        faults: list[invariants.Fault] = []
        judged = 0
        for habits in self.habits:
            ledger = self.observer.ledgers.get(habits.operator)
            entries = ledger.entries if ledger else []
            found, count = party_checks.check_choices(self.notes, self.trips, habits.service_id, entries)
            faults += found + party_checks.check_no_room(self.trips, habits.service_id, entries)
            judged += count
        return faults, judged

    def _as_told(self, asked: list[Asked | TripAsked]) -> list[Asked | TripAsked]:
        """Holds end by the log's clock (R17): what a buyer may count on in true time is a little less, or nothing if clocks jump."""
        for one in asked:
            if one.kind == "hold":
                one.lasts_s = max(0.0, 0.98 * one.lasts_s - 0.3) if self.scenario.clocks_keep_bounds else 0.0
        return asked

    def _final(self, operator: str) -> Final:
        seats, manifest = self.final_reads[operator]
        known = dict.fromkeys((*SEATS, *self.scenario.seats), "available")
        states = known | {seat: WORDS[SeatState(row[0])] for seat, row in seats.items()}
        booked = {seat: order["reference"] for order in [*manifest["orders"], *manifest["legs"]] for seat in order["seats"]}
        held = {seat: basket_of(row[1]) for seat, row in seats.items() if row[0] == SeatState.HELD}
        return Final(states, booked, held)

    def _now(self) -> float:
        return self.world.now_us / 1_000_000

    def tally(self) -> Tally:
        answers = [one.answer for one in (*self.history, *self.trips)]
        entries = [sealed for ledger in self.observer.ledgers.values() for sealed in ledger.entries]
        return Tally(
            steps=self.world.steps,
            simulated_ms=self.world.now_us // 1000,
            operations=len(answers),
            done=answers.count(Answer.DONE),
            refused=answers.count(Answer.REFUSED),
            unknown=answers.count(Answer.UNKNOWN),
            entries=len(entries),
            epochs=len(self.observer.leaders),
            locks=len(self.locks),
            slow_locks=sum(not one.fast for one in self.locks),
            expired=sum(one.code == "hold_expired" for one in (*self.history, *self.trips)),
            faults=len(self.scenario.faults),
            reads=len(self.seen),
            installs=sum(node.installs for node in self.nodes),
            bulks=len({key for sealed in entries for kind, key, _ in sealed.entry.events if kind == Kind.BULK}),
            chosen=self.judged,
            no_room=sum(one.count > 0 and one.code in party_checks.NO_ROOM for one in self.trips),
            **trip_checks.tally_trips({name: trip_checks.rows_of(ledger.entries) for name, ledger in self.observer.ledgers.items()}),
        )


def basket_of(hold_id: str) -> str:
    """Return the trip that a hold is a leg of, or the hold itself."""
    return hold_id.rpartition(".")[0] if hold_id.count(".") > 2 else hold_id


class Prober(Buyer):
    """Loads the timetable, and at the end sees whether the cluster sells again and what is there."""

    def __init__(self, cluster: Cluster, balancers: list[str], seed: str) -> None:
        super().__init__(cluster.world, "prober", balancers, cluster.habits, cluster.history, cluster.seen, seed)
        self._cluster = cluster

    def boot(self) -> None:
        if not self.incarnation > 1:
            self.run(self._load)

    def probe(self) -> None:
        self.run(self._probe)

    def _load(self) -> None:
        for habits in self._habits:
            layout = HALL if self._cluster.scenario.parties else LAYOUT
            rows = import_command([schedule("1140")], request_id=f"import-{habits.operator}", layout=layout)
            while not self.publish(habits.operator, rows):
                self.sleep(50)

    def _probe(self) -> None:
        for habits in self._habits:
            self._until(lambda habits=habits: self._buys(habits))  # type: ignore[misc]
        self._cluster.first_success_us = self.world.now_us
        while not all(one.is_done for one in (*self._cluster.buyers, *self._cluster.travellers)):
            self.sleep(50)
        if self._cluster.travellers:
            # What was decided last is carried out at the other operators within this time (Z5): before it their seats may still be held.
            self.sleep(round(SETTLED_S * 1000))
        for habits in self._habits:
            self._until(lambda habits=habits: self._reads(habits))  # type: ignore[misc]

    def _until(self, attempt: Callable[[], bool]) -> None:
        while not attempt():
            self.sleep(50)

    def _buys(self, habits: Habits) -> bool:
        """Take a seat that nobody else wants, and give it back."""
        hold = self.hold(habits, (SPARE_SEAT,), 1_000)
        return hold.answer is Answer.DONE and self.change(habits, "release", hold).answer is Answer.DONE

    def _reads(self, habits: Habits) -> bool:
        found = []
        for query in ("seats", "manifest"):
            item = wire.ReadItem(habits.operator, query, {"service_id": habits.service_id})
            result = self._read(item)
            if result is None or result.error:
                return False
            found.append(result)
        if found[0].lsn != found[1].lsn:
            return False
        self._cluster.final_stamps[habits.operator] = found[0].stamp_ms
        self._cluster.final_reads[habits.operator] = (found[0].value, found[1].value)
        return True
