"""One run: a cluster of its own, people who use it, faults under a seed, quiet at the end, and the verdict."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from client import keys
from client.history import DONE, WRITES, Header, History, Record
from client.judging import Judgement, judge
from datastore import messages
from datastore.errors import HoldfastError
from tests.faults.chaos.callers import OPERATORS, OURS, Buyer, Caller, Clerk, Reader, Recorder, Stage, Traveller
from tests.faults.chaos.cluster import EXIT_DISK, HurtCluster
from tests.faults.chaos.faults import KINDS, DamagedFile, Fault, ShiftClocks
from tests.faults.chaos.hosts import HostsCluster
from tests.faults.chaos.ledgers import judged
from tests.faults.chaos.machine import require
from tests.faults.chaos.scenarios import SCENARIOS, Scenario
from tests.integration.harness import FAULT_MARKS
from tests.waiting import wait_until

BUYERS = 5
STAGE_S = 12.0
POLL_S = 0.02
RECOVER_S = 180  # Machines that do other things stall for tens of seconds: how long it took is told, and is no verdict.
DRAWS = 12
PATIENCE_S = 90
DONE_LEAST = 20  # Fewer sales than this prove nothing.


class Happened(NamedTuple):
    """A fault as it was: times in microseconds of the recorder's clock."""

    kind: str
    what: str
    at_us: int
    until_us: int


class Pause(NamedTuple):
    """The longest time in which nothing of an operator's was sold or given back; `during`: what was being done to the cluster then."""

    operator: str
    lasted_us: int
    at_us: int
    during: list[str]


@dataclass
class Outcome:
    """What a run came to.

    Attributes:
        faults: What is wrong, sentences.
        left_out: What the machine could not do.
        pauses: The longest one of each operator.
        sold_twice: Seats with two owners by a ledger, and seats of which no order explains the answers.
        lost: Acknowledged writes that are not in the ledger.
        damage_found: Flipped bits that the check of the ledgers found and named.
    """

    scenario: Scenario
    seed: int
    seconds: float
    history: History
    judgement: Judgement
    happened: list[Happened]
    faults: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    unknown_left: int = 0
    resumed_s: float = 0.0
    pauses: list[Pause] = field(default_factory=list)
    sold_twice: int = 0
    lost: int = 0
    damage_found: list[str] = field(default_factory=list)
    file: Path = Path()

    @property
    def verdict(self) -> str:
        if self.faults:
            return "broken"
        return "undecided" if self.judgement.undecided else "kept"


class Nemesis:
    """Injects and heals, as the dice say, until the time is over."""

    def __init__(self, cluster: HurtCluster, scenario: Scenario, dice: random.Random, say: Callable[[str], None]) -> None:
        self._cluster = cluster
        self._scenario = scenario
        self._dice = dice
        self._say = say
        self._active: list[tuple[Fault, float, int]] = []  # fault, until (monotonic s), since (us)
        self._cooling: list[Fault] = []
        self.happened: list[Happened] = []
        self.unexpected: list[str] = []
        self.damaged: set[tuple[str, str]] = set()  # (node, operator) of files with flipped bits

    def rage(self, seconds: float, is_enough: Callable[[], bool]) -> None:
        """Go on for so long, and on a slow machine until it was enough to prove anything; then heal everything."""
        end = time.monotonic() + seconds
        latest = end + PATIENCE_S
        due = time.monotonic() + self._dice.uniform(*self._scenario.pause_s)
        pause = threading.Event()
        while time.monotonic() < end or (time.monotonic() < latest and not (self.happened and is_enough())):
            now = time.monotonic()
            self._heal(now)
            self._watch()
            if now >= due and len(self._active) < self._scenario.at_once:
                self._strike()
                due = time.monotonic() + self._dice.uniform(*self._scenario.pause_s)
            pause.wait(POLL_S)
        self._heal(float("inf"))

    def _strike(self) -> None:
        taken = frozenset().union(*(fault.needs for fault, _, _ in self._active), *(fault.needs for fault in self._cooling))
        for _ in range(DRAWS):
            fault = self._scenario.draw(self._cluster, self._dice)
            if not fault.needs & taken and self._is_minority(fault):
                break
        else:
            return
        self._say(fault.what)
        fault.inject()
        self._active.append((fault, time.monotonic() + fault.lasts_s, Recorder.now_us()))

    def _is_minority(self, fault: Fault) -> bool:
        """Return whether all that is hurt with this fault too is less than half of each kind of several, or one of two."""
        hurt = fault.hurts.union(*(one.hurts for one, _, _ in self._active))
        for kind in KINDS:
            names = self._cluster.names_of(kind)
            if len(hurt & set(names)) > len(names) // 2:
                return False
        return True

    def _heal(self, now: float) -> None:
        for fault, until, since in list(self._active):
            if until <= now:
                fault.heal()
                if isinstance(fault, DamagedFile):
                    self.damaged.add((fault.name, fault.operator))
                self._active.remove((fault, until, since))
                self._cooling.append(fault)
                self.happened.append(Happened(fault.kind, fault.what, since, Recorder.now_us()))
        self._cooling = [fault for fault in self._cooling if not fault.is_over()]

    def _watch(self) -> None:
        """Start again who ended by itself, and note it: nothing that is done here is a reason to end but a full disk."""
        hurt = frozenset().union(*(fault.needs for fault, _, _ in self._active))
        for name, code in self._cluster.dead().items():
            if name == self._cluster.small_disk and code == EXIT_DISK:
                self._cluster.revive(name)  # It was still ending when its disk had room again.
            elif name not in hurt:
                self.unexpected.append(f"{name} ended by itself with exit code {code}")
                self._cluster.revive(name)


def run(
    name: str, seconds: float, seed: int, folder: Path, say: Callable[[str], None] = lambda _: None, file: Path | None = None
) -> Outcome:
    """Run a scenario and return what it came to; `folder` is for the cluster, `file` for the history.

    Raises:
        AssertionError: The cluster did not start, or a capability that was declared is missing.
        NothingToDo: This machine can do none of it.
    """
    scenario, left_out = _possible(SCENARIOS[name])
    header = _header(scenario, seed)
    dice = random.Random(seed)
    recorder = Recorder(file or folder / "history.jsonl", header)
    faults: list[str] = []
    with _cluster_for(scenario, folder, seed) as cluster:
        cluster.faults_expected = set(cluster.names)  # Its logs are read below, and a fault found there is part of the verdict.
        say("the cluster serves")
        stage = Stage(cluster, max(STAGE_S, seconds / 40))
        crowd = _callers(cluster, recorder, stage, seed)
        nemesis = Nemesis(cluster, scenario, dice, say)
        with _running(crowd):
            nemesis.rage(seconds, lambda: recorder.done() >= DONE_LEAST)
            healed_us = recorder.now_us()
            say("all is healed")
            faults += _wait_progress(cluster, recorder, healed_us)
            over_us = recorder.now_us()
        resumed_s = _resumed_s(recorder, healed_us)
        pauses = [_longest_pause(recorder.records, operator, over_us, nemesis.happened) for operator in OPERATORS]
        unknown_left, more = _settle(cluster, recorder, stage)
        faults += [*more, *_unbalanced(cluster), *nemesis.unexpected]
        recorder.close()
        history = History(header, sorted(recorder.records, key=lambda record: record.call_us))
        cluster.stop_all()
        ledgers = judged(cluster, history.records, nemesis.damaged)
        faults += ledgers.faults
        faults += _log_faults(cluster, {scenario.small_disk})
    say("judging")
    judgement = judge(history)
    faults = [*judgement.faults, *_heard(history), *_vacuous(history, nemesis.happened), *faults]
    return Outcome(
        scenario,
        seed,
        seconds,
        history,
        judgement,
        nemesis.happened,
        faults,
        left_out,
        unknown_left,
        resumed_s,
        pauses,
        sold_twice=ledgers.sold_twice + len(judgement.unexplained),
        lost=ledgers.lost,
        damage_found=ledgers.found,
        file=file or folder / "history.jsonl",
    )


def _possible(scenario: Scenario) -> tuple[Scenario, list[str]]:
    """Return what this machine can do of a scenario, and why not the rest."""
    left_out = []
    for capability in scenario.needs:
        reason = require(capability)
        if reason:
            left_out.append(f"{capability}: {reason}")
            scenario = scenario.without(capability)
    if not scenario.faults:
        raise NothingToDo("; ".join(left_out))
    return scenario, left_out


def _header(scenario: Scenario, seed: int) -> Header:
    began = datetime.now(UTC).isoformat(timespec="seconds")
    shift_ms = 1000 * ShiftClocks.SHIFT_S_MAX if scenario.clocks else 0
    return Header(scenario=scenario.name, seed=seed, began=began, clock_shift_ms=shift_ms, late_payments=True)


def _cluster_for(scenario: Scenario, folder: Path, seed: int) -> HurtCluster:
    if scenario.hosts:
        return HostsCluster(folder, seed)
    return HurtCluster(folder, seed, clocks=scenario.clocks, small_disk=scenario.small_disk)


class NothingToDo(Exception):
    """The machine can do none of the scenario's faults; the reason is the message."""


def _callers(cluster: HurtCluster, recorder: Recorder, stage: Stage, seed: int) -> list[Caller]:
    def told(name: str, balancers: tuple[str, ...] = ()) -> tuple[object, ...]:
        return name, cluster.caller(f"owner-key-of-{name}", balancers), recorder, stage, random.Random(f"{seed} {name}")

    made: list[Caller] = [Buyer(*told(f"buyer-{number}")) for number in range(BUYERS)]  # type: ignore[arg-type]
    made += [Traveller(*told(f"traveller-{number}")) for number in range(2)]  # type: ignore[arg-type]
    made += [Reader(*told(f"reader-{number}", (f"balancer-{number}",))) for number in (1, 2)]
    made.append(Clerk(*told("clerk"), keys={operator: cluster.operator_key(operator) for operator in OPERATORS}))
    return made


@contextmanager
def _running(crowd: list[Caller]) -> Iterator[None]:
    """Let everybody go on while the block runs; an error of a caller's own ends the run."""
    over = threading.Event()
    raised: list[BaseException] = []

    def live(caller: Caller) -> None:
        try:
            caller.run(over)
        except BaseException as error:  # Raised below, in the thread that waits.
            raised.append(error)

    threads = [threading.Thread(target=live, args=(caller,), name=caller.name, daemon=True) for caller in crowd]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join(90)
    if raised:
        raise raised[0]
    assert not any(thread.is_alive() for thread in threads), "a caller waits for ever"


def _wait_progress(cluster: HurtCluster, recorder: Recorder, healed_us: int) -> list[str]:
    """Wait until both operators sell again, each by a write that began after everything was healed."""

    def sells() -> bool:
        later = [one for one in list(recorder.records) if one.call_us >= healed_us and one.operation.kind in WRITES]
        return {one.operation.operator for one in later if one.answer.outcome == DONE} >= set(OPERATORS)

    try:
        wait_until(sells, "sales to go on after everything was healed", RECOVER_S)
    except AssertionError as error:
        return [f"{error}; {cluster.unequal()}"]
    return []


def _resumed_s(recorder: Recorder, healed_us: int) -> float:
    found = [
        one.return_us - healed_us
        for one in recorder.records
        if one.return_us is not None and one.operation.kind in WRITES and one.answer.outcome == DONE and one.return_us >= healed_us
    ]
    return min(found, default=0) / 1e6


def _longest_pause(records: Sequence[Record], operator: str, until_us: int, happened: Sequence[Happened]) -> Pause:
    """Return an operator's longest pause from the first question until everybody stopped asking."""
    mine = [one for one in records if one.operation.operator == operator and one.operation.kind in WRITES]
    done = sorted(one.return_us for one in mine if one.answer.outcome == DONE and one.return_us is not None and one.return_us < until_us)
    moments = [min((one.call_us for one in mine), default=until_us), *done, until_us]
    lasted_us, at_us = max((after - before, before) for before, after in pairwise(moments))
    during = [one.what for one in happened if one.at_us < at_us + lasted_us and one.until_us > at_us]
    return Pause(operator, lasted_us, at_us, during)


def _settle(cluster: HurtCluster, recorder: Recorder, stage: Stage) -> tuple[int, list[str]]:
    """Ask again what is open, read what is there in the end, and wait until all copies are whole. Return (still unknown, faults)."""
    try:
        wait_until(lambda: not cluster.unequal(), "all copies to be whole and equally long", RECOVER_S)
        cluster.wait_ready()
        unequal: list[str] = []
    except AssertionError as error:
        unequal = [f"{str(error).splitlines()[0]}: {cluster.unequal()}"]
    left = recorder.resolve(RECOVER_S)
    told = ("clerk-at-the-end", cluster.client("owner-key-of-the-end", deadline_ms=10_000), recorder, stage, random.Random(0))
    clerk = Clerk(*told, keys={operator: cluster.operator_key(operator) for operator in OPERATORS})
    last = Buyer("buyer-at-the-end", told[1], recorder, stage, random.Random(0))
    unequal += [f"{leg.service_id}: nothing can be sold in the end" for leg in stage.now()[0] if not last.book_one(leg)]
    for service_id in stage.used:
        try:
            manifest = clerk.look(service_id)
            if manifest is None or clerk.look_at_map(service_id, manifest.lsn) is None:
                unequal.append(f"{service_id} cannot be read in the end")
        except HoldfastError as error:
            unequal.append(f"{service_id} cannot be read in the end: {error.detail}")
    return left, unequal


def _unbalanced(cluster: HurtCluster) -> list[str]:
    """Return what keeps the books from balancing: charged if and only if booked, by orders, ledgers and the provider's own list (Z15)."""
    client = cluster.client("owner-key-of-the-books", deadline_ms=20_000)
    admin_key = keys.read_secret(cluster.folders.secrets / "admin.key")
    books: list[messages.AccountsAnswer] = []

    def closed() -> bool:
        try:
            books.append(client.accounts(admin_key))
        except HoldfastError:
            return False
        return not any(line.open for line in books[-1].lines) and not books[-1].findings

    try:
        wait_until(closed, "every payment to be finished, and the books to balance", RECOVER_S)
    except AssertionError as error:
        found = [*books[-1].findings, *books[-1].cases, f"{sum(line.open for line in books[-1].lines)} open"] if books else []
        return [f"{error}: {found[:10]}"]
    if not any(line.captured for line in books[-1].lines):
        return ["nothing was paid: that proves nothing"]
    return [f"a case for a person: {case}" for case in books[-1].cases]


def _log_faults(cluster: HurtCluster, expected: set[str]) -> list[str]:
    """Return the faults that processes found in themselves, by their logs."""
    found = []
    for path in sorted(cluster.folders.logs.glob("*.log")):
        text = path.read_text(encoding="utf-8", errors="replace")
        for mark in FAULT_MARKS:
            place = text.find(mark)
            if place >= 0 and path.stem not in expected:
                found.append(f"{path.name} has {mark!r}: {text[max(0, place - 200) : place + 1500]}")
    return found


def _heard(history: History) -> list[str]:
    """Callers hear refusals, or that nobody answered in time; never an error of ours."""
    return [f"{one.named()} was answered {one.answer.code}" for one in history.records if one.answer.code in OURS]


def _vacuous(history: History, happened: list[Happened]) -> list[str]:
    """A run that did nothing proves nothing (I14)."""
    done = sum(one.operation.kind in WRITES and one.answer.outcome == DONE for one in history.records)
    found = [] if done >= DONE_LEAST else [f"only {done} writes were done: that proves nothing"]
    return found if happened else [*found, "no fault was injected: that proves nothing"]
