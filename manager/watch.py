"""The watch over all operators: carries out what each `OperatorWatch` instructs, many operators to a message.

One thread drives all machines. A round looks at what the nodes said last, gives each machine its part, and carries the
instructions out until none is left: leases of all operators in one round to the lock servers, then one message for each
node and step. Twenty operators or five hundred that need a primary at a cluster's start take the same few messages.
"""

from __future__ import annotations

import logging
import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from datastore import wire
from datastore.administration import Moved
from datastore.cluster_record import LEAVING, NODE, REMOVED
from datastore.errors import HoldfastError, InvariantBroken, OperatorUnavailable
from datastore.model import EPOCH_NONE
from manager import failover_steps as steps
from manager import membership
from manager.carrying import Asked, Carrier
from manager.config import ManagerConfig
from manager.failover import OperatorWatch
from manager.failover_steps import Serving, Sighting
from manager.leases import PromoteLeases
from manager.membership import Copies, MoveAway, Step, Wait
from manager.nodes import at_once
from manager.polling import LastSeen
from manager.roster import Roster

log = logging.getLogger(__name__)

MOVE_SUSPICIONS = 2
EXIT_FAULT = 70  # EX_SOFTWARE of sysexits.h.


class Place(NamedTuple):
    """Where one operator's copies are: the primary's node, those of the voters, and those where copies are wanted."""

    leader: str
    voters: tuple[str, ...]
    wanted: tuple[str, ...]


class _Wanted(NamedTuple):
    """A move that somebody waits for; the answer is put into `ended`."""

    operator: str
    move: steps.MoveWanted
    ended: list[Moved]
    patient_until_ms: int  # Until then it waits for a primary that is just settling in.


class Watch:
    """Sees to it that every operator has one serving primary, and knows which."""

    # How calls to several nodes are made at the same time: by threads, which the simulator does without.
    _at_once = staticmethod(at_once)

    def __init__(
        self,
        name: str,
        config: ManagerConfig,
        make_roster: Callable[[Callable[[], None]], Roster],
        leases: PromoteLeases,
        on_fault: Callable[[], object] = lambda: os._exit(EXIT_FAULT),
        now_ms: Callable[[], int] | None = None,
    ) -> None:
        """Prepare; `start` begins.

        Args:
            name: Of this manager, for the records of promotions.
            make_roster: Makes the roster; it calls what it is given whenever a node has news.
            on_fault: Called when the watch itself is at fault. Without a watch no operator would get a primary any more, so
                the process ends and is started anew; nothing is lost with it.
            now_ms: The monotonic clock in milliseconds; the simulator gives its own.
        """
        self._now_ms = now_ms or _now_ms
        self._name = name
        self._config = config
        self._leases = leases
        self._on_fault = on_fault
        # R3 rests on it: no two processes ever use the same epoch.
        self.uuid = uuid.uuid4().hex
        self._machines: dict[str, OperatorWatch] = {}
        self._wanted: set[str] = set()
        self._changed = threading.Condition()
        # Replaced as a whole, never changed: readers on other threads take no lock.
        self._routes: dict[str, Serving] = {}
        self._topology = wire.Topology([], [], [])
        self._waiting: dict[str, str] = {}
        self._changing: dict[str, str] = {}
        self._copies: dict[str, Copies] = {}
        self._moves: list[_Wanted] = []
        self._random = random.SystemRandom()
        self._wake = threading.Event()
        self._closed = False
        self.roster = make_roster(self._wake.set)
        self._carrier = Carrier(self.roster, leases, config.node_timeout_ms, self._tell, at_once=self._at_once, now_ms=self._now_ms)
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    # -- what others ask ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        self.roster.start()
        self._thread.start()

    def close(self) -> None:
        """End the watch; a step under way ends first. What it began is safe to be left so (R3)."""
        self._closed = True
        self._wake.set()
        self.roster.stop()
        if self._thread.ident is not None:
            self._thread.join(4 * self._config.node_timeout_ms / 1000)
        with self._changed:
            self._changed.notify_all()

    def routes(self) -> Mapping[str, Serving]:
        """Return operator -> the primary that served last; it may have died since."""
        return self._routes

    def wait_for_change(self, routes: Mapping[str, Serving], timeout_ms: int) -> None:
        """Return when the routes are no longer `routes`, or the time is up."""
        with self._changed:
            self._changed.wait_for(lambda: self._routes is not routes or self._closed, max(0, timeout_ms) / 1000)

    def knows(self, operator: str) -> bool:
        """Return whether the operator is configured, wanted, or on some node."""
        return operator in self._machines or operator in self._routes

    def operators(self) -> list[str]:
        return list(self._machines)

    def topology(self) -> wire.Topology:
        return self._topology

    def seen(self) -> dict[str, LastSeen]:
        return self.roster.seen()

    def waiting(self) -> dict[str, str]:
        """Return operator -> why it has no serving primary."""
        return self._waiting

    def look_again(self) -> None:
        """Look at all operators now, not at the next heartbeat."""
        self.roster.hurry(True)
        self._wake.set()

    def known_copies(self) -> dict[str, Copies]:
        """Return what is known of the copies of each operator that is served."""
        return self._copies

    def places(self) -> dict[str, Place]:
        """Return where the copies of each operator are and are wanted."""
        goals = self.roster.goals
        found = {}
        for operator, machine in self._machines.items():
            voters = machine.voting_nodes()
            leader = machine.serving.node if machine.serving is not None else ""
            found[operator] = Place(leader, voters, goals.wanted(operator, voters))
        return found

    def copies(self) -> dict[str, list[str]]:
        """Return operator -> where its copies are wanted, its primary first."""
        places = self.places().items()
        return {operator: sorted(place.wanted, key=lambda node: node != place.leader) for operator, place in places if place.voters}

    def changing(self) -> dict[str, str]:
        """Return operator -> what is being done to its copies."""
        return self._changing

    def move(self, moves: Mapping[str, steps.MoveWanted], deadline_s: float) -> list[Moved]:
        """Move primaries, all at the same time; return what became of each, in order.

        Args:
            deadline_s: On the monotonic clock. A move that has not ended by then may still be carried out.
        """
        patient_until_ms = self._now_ms() + MOVE_SUSPICIONS * self._config.suspicion_ms
        wanted = [_Wanted(operator, move, [], patient_until_ms) for operator, move in moves.items()]
        with self._changed:
            self._moves += wanted
        self._wake.set()
        with self._changed:
            self._changed.wait_for(lambda: self._closed or all(one.ended for one in wanted), max(0.0, deadline_s - time.monotonic()))
            self._moves = [one for one in self._moves if one not in wanted]
        return [one.ended[0] if one.ended else Moved(one.operator, "", "", error="not done in time; look with: history") for one in wanted]

    def create(self, operators: Iterable[str], deadline_s: float) -> None:
        """Have partitions made for those that have none, and return when all serve.

        Args:
            deadline_s: On the monotonic clock.
        Raises:
            OperatorUnavailable: Not all served in time; the work goes on, asking again is harmless.
        """
        wanted = set(operators)
        with self._changed:
            self._wanted |= wanted
        self.roster.hurry(True)
        self._wake.set()

        def all_serve() -> bool:
            return self._closed or all(operator in self._routes and operator not in self._waiting for operator in wanted)

        with self._changed:
            if self._changed.wait_for(all_serve, max(0.0, deadline_s - time.monotonic())) and not self._closed:
                return
        unserved = [operator for operator in sorted(wanted) if operator in self._waiting or operator not in self._routes]
        reasons = {operator: self._waiting.get(operator, "not looked at yet") for operator in unserved}
        operator, why = next(iter(reasons.items()), ("", "the manager stops"))
        raise OperatorUnavailable(f"{operator}: no primary serves yet: {why}", operator=operator, waiting=reasons)

    # -- rounds ------------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not self._closed:
                self._round()
                self._wake.wait(self._config.heartbeat_ms / 1000)
                self._wake.clear()
        except InvariantBroken:
            log.critical("an invariant is broken in the watch", exc_info=True)
            self._on_fault()
        except Exception:
            log.critical("a fault in the watch", exc_info=True)
            self._on_fault()

    def _round(self) -> None:
        seen = self.roster.look()
        asked: list[Asked] = []
        # One draw for all: rivals differ, and operators that wait for the same reason go on in the same messages.
        jitter = self._random.random()
        sightings: dict[str, Sighting] = {}
        for operator, sighting in self._sightings(seen).items():
            machine = self._machines.get(operator)
            if machine is None:
                config = self._config
                machine = OperatorWatch(operator, self.uuid, config.heartbeat_ms, config.suspicion_ms, by=self._name)
                # A copy, as other threads read it: a dictionary must not grow under a reader.
                self._machines = {**self._machines, operator: machine}
            sightings[operator] = sighting
            asked += self._tell(operator, steps.Observed(sighting, jitter))
        self._publish(seen)
        reshaping = self._next_steps(sightings)
        asked += self._begin_moves(reshaping)
        self.roster.hurry(bool(self._changing) or any(machine.serving is None for machine in self._machines.values()))
        self._act(asked, seen)
        self._carrier.reshape({operator: step for operator, step in reshaping.items() if not isinstance(step[1], MoveAway)})
        self._settle_nodes(seen)

    def _act(self, asked: list[Asked], seen: Mapping[str, LastSeen]) -> None:
        """Carry out instructions until none is left."""
        asked = self._noted(asked)
        if not asked:
            return
        operators, began_ms = len({one.operator for one in asked}), self._now_ms()
        try:
            while asked and not self._closed:
                asked = self._noted(self._carrier.carry_out(asked))
        finally:
            self._leases.release_all()
        log.info("acted operators=%s took_ms=%s", operators, self._now_ms() - began_ms)
        self._publish(seen)

    def _noted(self, asked: Sequence[Asked]) -> list[Asked]:
        """Tell people and who waits what came to an end; return the rest."""
        for operator, instruction in asked:
            if isinstance(instruction, steps.Report):
                log.info("promoted operator=%s node=%s epoch=%s why=%s", operator, instruction.node, *instruction[1:])
            elif isinstance(instruction, steps.MoveEnded):
                self._move_ended(operator, instruction)
        return [one for one in asked if not isinstance(one.instruction, steps.Report | steps.MoveEnded)]

    def _begin_moves(self, reshaping: Mapping[str, tuple[str, Step]]) -> list[Asked]:
        """Begin the moves that people wait for, one an operator, and those that membership needs."""
        with self._changed:
            firsts = {one.operator: one for one in reversed(self._moves) if not one.ended}
        asked: list[Asked] = []
        for operator, one in firsts.items():
            if operator in self._machines:
                if one.move.force or operator in self._copies or self._now_ms() >= one.patient_until_ms:
                    asked += self._tell(operator, one.move)
            else:
                self._end(one, Moved(operator, "", "", error=f"no operator {operator}"))
        for operator, (_, step) in reshaping.items():
            if isinstance(step, MoveAway) and operator not in firsts:
                asked += self._tell(operator, steps.MoveWanted(step.node, False, step.why, self._name))
        return asked

    def _move_ended(self, operator: str, ended: steps.MoveEnded) -> None:
        began_ms = self._carrier.stopped_ms.pop(operator, None)
        pause_ms = self._now_ms() - began_ms if began_ms is not None else 0
        moved = Moved(operator, ended.before, ended.node, ended.epoch.counter, pause_ms, ended.error)
        log.info("move ended operator=%s from=%s to=%s pause_ms=%s error=%s", operator, ended.before, ended.node, pause_ms, ended.error)
        with self._changed:
            waiting = [one for one in self._moves if one.operator == operator and not one.ended][:1]
        for one in waiting:
            self._end(one, moved)

    def _end(self, one: _Wanted, moved: Moved) -> None:
        with self._changed:
            one.ended.append(moved)
            self._moves = [other for other in self._moves if other is not one]
            self._changed.notify_all()

    def _next_steps(self, sightings: Mapping[str, Sighting]) -> dict[str, tuple[str, Step]]:
        """Return operator -> (primary's node, next step of membership) where there is something to do."""
        goals, config = self.roster.goals, self._config
        found: dict[str, tuple[str, Step]] = {}
        changing: dict[str, str] = {}
        known: dict[str, Copies] = {}
        for operator, sighting in sightings.items():
            serving = self._machines[operator].serving
            report = sighting.reports.get(serving.node) if serving is not None else None
            if serving is None or report is None or not report.serving:
                continue
            wanted = goals.wanted(operator, report.voters.values())
            preferred = goals.preferred(operator)
            copies = Copies(
                serving.node, report, sighting.reports, wanted, goals.unfit, config.replace_lost, preferred, config.return_primaries
            )
            known[operator] = copies
            step = membership.next_step(copies)
            if not isinstance(step, Wait):
                found[operator] = (serving.node, step)
                changing[operator] = membership.told(step)
            elif not step.settled:
                changing[operator] = step.why
        self._changing, self._copies = changing, known
        return found

    def _settle_nodes(self, seen: Mapping[str, LastSeen]) -> None:
        """Have a node that is leaving removed for good when no operator keeps a copy there any more."""
        goals = self.roster.goals
        leaving = [name for name, member in goals.nodes.items() if member.state == LEAVING]
        if not leaving or any(machine.serving is None for machine in self._machines.values()):
            return
        if any(last.status is None for name, last in seen.items() if name not in leaving):
            return  # A node that is silent may keep an operator that is not known here yet.
        for name in leaving:
            if not any(machine.keeps(name) for machine in self._machines.values()):
                address = goals.nodes[name].address
                try:
                    self.roster.write({NODE + name: {"host": address.host, "port": address.port, "state": REMOVED}}, self._name)
                    log.info("removed node=%s", name)
                except HoldfastError as error:
                    log.warning("removal of node=%s waits: %s", name, error.detail)

    def _sightings(self, seen: Mapping[str, LastSeen]) -> dict[str, Sighting]:
        by_node = {
            node: {partition.operator: partition for partition in last.status.partitions}
            for node, last in seen.items()
            if last.status is not None
        }
        silent = frozenset(node for node, last in seen.items() if last.status is None)
        goals = self.roster.goals
        operators = dict.fromkeys([*goals.primaries, *sorted(self._wanted), *self._machines])
        for partitions in by_node.values():
            operators.update(dict.fromkeys(partitions))
        return {
            operator: Sighting(
                goals.placed(operator), {node: partitions.get(operator) for node, partitions in by_node.items()}, silent, goals.paused
            )
            for operator in operators
        }

    def _tell(self, operator: str, event: steps.Event) -> list[Asked]:
        return [Asked(operator, instruction) for instruction in self._machines[operator].receive(event, self._now_ms())]

    # -- what it found -----------------------------------------------------------------------------------------------

    def _publish(self, seen: Mapping[str, LastSeen]) -> None:
        routes = dict(self._routes)
        for operator, machine in self._machines.items():
            if machine.serving is not None:
                routes[operator] = machine.serving
        waiting = {operator: machine.waiting for operator, machine in self._machines.items() if machine.serving is None}
        for operator in sorted(waiting.keys() - self._waiting.keys()):
            log.info("no primary operator=%s why=%s", operator, waiting[operator])
        for operator in sorted(self._waiting.keys() - waiting.keys()):
            log.info("served operator=%s node=%s", operator, routes[operator].node)
        places = []
        for operator, machine in self._machines.items():
            serving = machine.serving
            primary, epoch = (serving.node, serving.epoch) if serving else ("", EPOCH_NONE)
            places.append(wire.OperatorPlace(operator, machine.nodes(), primary, epoch))
        reachable = [node for node, last in seen.items() if last.status is not None]
        with self._changed:
            self._topology = wire.Topology(list(seen), reachable, places)
            self._waiting = waiting
            if routes != self._routes:
                self._routes = routes
            self._changed.notify_all()


def _now_ms() -> int:
    return int(time.monotonic() * 1000)
