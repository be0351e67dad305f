"""An explorer of every order in which lock servers and clients can act, around the production decisions.

Several attempts want one key. Anything may happen at any time: an acquire or a write-back is carried out late or never,
a reply is lost, a lock vanishes (expiry, release or a clock jump: the model does not care), a server loses its disk. The
client's decisions are `lockstore.redlock.judge` and `certify` themselves; the servers' side is a few lines below that
say what the scripts do. Two properties are checked whenever a token is settled:

P1  no two attempts settle the same token;
P2  a token is greater than all that were settled before its attempt began.

Servers are alike, so states that differ only by the order of servers are one state.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from lockstore.redlock import Certified, Granted, Missing, Uncertain, certify, judge

LATE = Missing("late", sent=True)
PENDING, SPENT = -1, 0  # an acquire that may still be carried out; one whose reply matters no more
SETTLED = "settled"  # what a settled token leaves at every server
# Production adds 2^20 when a server rejoins. Within the small bounds of a model that margin would hide a wrong rule.
STEP = 0


class Rejoin(Enum):
    """How a server that lost its disk comes back."""

    NEVER = 0
    EMPTY = 1
    ONE_PEER = 2
    AT_ONCE = 3
    WAITING = 4


@dataclass(frozen=True)
class Rules:
    """The protocol as it is, and each way to break it."""

    servers: int = 3
    needed: int = 2
    write_back: bool = True
    check_held: bool = True
    count_only_granted: bool = True
    nonces: tuple[int, ...] = (0, 1, 2)
    hints: tuple[int, ...] = (0, 0, 0)
    counters: tuple[int, ...] = (0, 0, 0)
    rejoin: Rejoin = Rejoin.NEVER


class Server(NamedTuple):
    """One server and what each attempt's messages did there.

    acquired: PENDING, SPENT, or the counter value that was granted. written: for each attempt, whether its grant here
    counts ("g"), whether the write-back is still to come ("p") and whether it was accepted ("a").
    """

    holder: int  # a nonce, or -1
    counter: int  # -1 while the server has lost its data and refuses
    acquired: tuple[int, ...]
    written: tuple[str, ...]


class Attempt(NamedTuple):
    """phase: idle, asking, writing, done, failed. floor: the greatest token settled before it began."""

    phase: str
    token: int
    floor: int
    older_than_loss: bool


Attempts = tuple[Attempt, ...]


class Seen(NamedTuple):
    """What of a server the clients can act on: who asks looks at what was granted, who writes back at what became of that."""

    acquired: tuple[int, ...]
    written: tuple[str, ...]


class State(NamedTuple):
    """Everything that can matter for the future."""

    servers: tuple[Server, ...]
    attempts: Attempts
    lost: bool


class Move(NamedTuple):
    """What a client does: its attempt afterwards, and for each server what that changes there (`marked`)."""

    number: int
    attempt: Attempt
    marks: tuple[str, ...]


class Violation(Exception):
    """P1 or P2 does not hold."""


def start(rules: Rules) -> State:
    """Return the state before anything happened."""
    count = len(rules.nonces)
    servers = [Server(-1, counter, (PENDING,) * count, ("",) * count) for counter in rules.counters]
    return canonical(State(tuple(servers), (Attempt("idle", 0, 0, False),) * count, False))


def canonical(state: State) -> State:
    """Return the state with its servers in an order of their own."""
    return state._replace(servers=tuple(sorted(state.servers)))


def steps(state: State, rules: Rules) -> Iterator[State]:
    """Yield every state that may come next, its servers in any order.

    Raises:
        Violation: A token was settled that breaks P1 or P2.
    """
    for move in client_moves(state.attempts, state.servers, rules):
        servers = tuple([marked(server, move.number, mark) for server, mark in zip(state.servers, move.marks, strict=True)])
        yield State(servers, with_attempt(state.attempts, move), state.lost)
    known: set[Server] = set()
    for index, server in enumerate(state.servers):
        if server in known:
            continue
        known.add(server)
        for after in server_steps(server, state.attempts, rules):
            yield State(put(state.servers, index, after), state.attempts, state.lost)
    if rules.rejoin is not Rejoin.NEVER:
        for index, server in enumerate(state.servers):
            others = [other.counter for other in (*state.servers[:index], *state.servers[index + 1 :])]
            for after, attempts in disk_steps(server, others, state.attempts, state.lost, rules):
                yield State(put(state.servers, index, after), attempts, True)


def server_steps(server: Server, attempts: Attempts, rules: Rules) -> Iterator[Server]:
    """What one server may do next: carry out an acquire or a write-back, or lose the lock."""
    if server.holder >= 0:
        yield server._replace(holder=-1)
    if server.counter < 0:
        return
    for number, attempt in enumerate(attempts):
        nonce = rules.nonces[number]
        if attempt.phase != "idle" and server.acquired[number] == PENDING:
            if server.holder >= 0:
                yield server._replace(acquired=put(server.acquired, number, SPENT))
            else:
                counter = max(server.counter, rules.hints[number]) + 1
                value = counter if attempt.phase == "asking" else SPENT
                yield server._replace(holder=nonce, counter=counter, acquired=put(server.acquired, number, value))
        if "p" in server.written[number]:
            flags = server.written[number].replace("p", "")
            if server.holder == nonce or not rules.check_held:
                counter = max(server.counter, attempt.token)
                yield server._replace(counter=counter, written=put(server.written, number, flags + "a"))
            elif attempt.phase == "writing":
                yield server._replace(written=put(server.written, number, flags))


def seen(server: Server, attempts: Attempts) -> Seen:
    """Return what the clients can act on, and nothing else: what is left out is as if it had never been."""
    acquired = [value if attempt.phase == "asking" else PENDING for value, attempt in zip(server.acquired, attempts, strict=True)]
    written = [flags if attempt.phase == "writing" else "" for flags, attempt in zip(server.written, attempts, strict=True)]
    return Seen(tuple(acquired), tuple(written))


def client_moves(attempts: Attempts, servers: Sequence[Seen | Server], rules: Rules) -> Iterator[Move]:
    """What the clients may do next: begin, decide on the replies that arrived, or settle a write-back."""
    for number, attempt in enumerate(attempts):
        if attempt.phase == "idle":
            # Attempts are alike up to their nonces and begin in their order.
            floor = max((other.token for other in attempts if other.phase == "done"), default=0)
            yield Move(number, Attempt("asking", 0, floor, False), ("",) * len(servers))
            break
    for number, attempt in enumerate(attempts):
        if attempt.phase == "asking":
            yield from decisions(attempts, number, [server.acquired[number] for server in servers], rules)
        elif attempt.phase == "writing":
            accepted = {i for i, server in enumerate(servers) if "a" in server.written[number]}
            counted = frozenset(i for i, server in enumerate(servers) if "g" in server.written[number])
            if not rules.count_only_granted:
                counted = frozenset(range(len(servers)))
            if certify(Uncertain(attempt.token, counted), accepted, rules.needed):
                yield settled(attempts, number, attempt.token, len(servers))


def decisions(attempts: Attempts, number: int, acquired: Sequence[int], rules: Rules) -> Iterator[Move]:
    """Every decision that may follow from some of the replies having arrived."""
    granted = [i for i, value in enumerate(acquired) if value > 0]
    for size in range(rules.needed, len(granted) + 1):
        for arrived in itertools.combinations(granted, size):
            replies = [Granted(value) if i in arrived else LATE for i, value in enumerate(acquired)]
            verdict = judge(replies, 0, rules.needed)
            if isinstance(verdict, Certified):
                yield settled(attempts, number, verdict.token, len(acquired))
            elif isinstance(verdict, Uncertain):
                if not rules.write_back:
                    yield settled(attempts, number, verdict.token, len(acquired))
                    continue
                # The write-back goes to every server, also to those whose grant did not arrive.
                marks = tuple(["gp" if i in verdict.servers else "p" for i in range(len(acquired))])
                yield Move(number, attempts[number]._replace(phase="writing", token=verdict.token), marks)


def settled(attempts: Attempts, number: int, token: int, servers: int) -> Move:
    """Record a token, after checking it."""
    attempt = attempts[number]
    if token <= attempt.floor:
        raise Violation(f"P2: attempt {number} settled {token}, but {attempt.floor} was settled before it began")
    if any(other.phase == "done" and other.token == token for other in attempts):
        raise Violation(f"P1: attempt {number} settled {token}, which another has")
    return Move(number, attempt._replace(phase="done", token=token, older_than_loss=False), (SETTLED,) * servers)


def marked(server: Server, number: int, mark: str) -> Server:
    """Return a server after what an attempt's client did: "" nothing there, SETTLED, or the flags of a write-back on its way.

    A granted value that nobody will look at again is forgotten, so that equal futures are one state.
    """
    if not mark:
        return server
    flags = mark if mark != SETTLED else "p" if "p" in server.written[number] else ""
    acquired = put(server.acquired, number, min(server.acquired[number], SPENT))
    return server._replace(acquired=acquired, written=put(server.written, number, flags))


def with_attempt(attempts: Attempts, move: Move) -> Attempts:
    return put(attempts, move.number, move.attempt)


def disk_steps(server: Server, others: Sequence[int], attempts: Attempts, lost: bool, rules: Rules) -> Iterator[tuple[Server, Attempts]]:
    """A server loses its disk (once), and comes back by the rule under test; `others`: the counters of the other servers."""
    if not lost:
        old = tuple([a._replace(older_than_loss=True) if a.phase in ("asking", "writing") else a for a in attempts])
        yield server._replace(holder=-1, counter=-1), old
    elif server.counter < 0:
        if rules.rejoin is Rejoin.EMPTY:
            choices = [0]
        elif rules.rejoin is Rejoin.ONE_PEER:
            choices = [counter + STEP for counter in others]
        else:
            peers = len(others) + 2 - rules.needed
            choices = [max(chosen) + STEP for chosen in itertools.combinations(others, peers)]
        if rules.rejoin is Rejoin.WAITING:
            # By the time the counters are read, every attempt that began before the loss has given up.
            attempts = tuple([a._replace(phase="failed", token=0, older_than_loss=False) if a.older_than_loss else a for a in attempts])
        for counter in set(choices):
            yield server._replace(counter=counter), attempts


def put(values: tuple[Any, ...], index: int, value: Any) -> tuple[Any, ...]:
    return (*values[:index], value, *values[index + 1 :])


class Numbers(dict[Any, int]):
    """Numbers for values, in the order in which they are met: equal values are compared once and told apart by a number ever after."""

    def __init__(self) -> None:
        super().__init__()
        self.values_by_number: list[Any] = []

    def __missing__(self, value: Any) -> int:
        number = self[value] = len(self.values_by_number)
        self.values_by_number.append(value)
        return number


Crew = tuple[int, ...]  # the numbers of a state's servers, in order


class Scene:
    """All states that differ in their servers alone: beside the same attempts, before a disk was lost or after it.

    There are far fewer servers than states, and what one server may do does not depend on the others. So it is worked out once a
    scene, as is what clients do at what they see, and a disk's loss and return.
    """

    def __init__(self, attempts: Attempts, lost: bool, rules: Rules, servers: Numbers) -> None:
        self.attempts = attempts
        self.lost = lost
        self.rules = rules
        self.servers = servers
        self.visited: set[Crew] = set()
        self.frontier: list[Crew] = []
        self._after: dict[int, tuple[int, ...]] = {}
        self._seen: dict[int, Seen] = {}
        self._moves: dict[tuple[Seen, ...], list[Move]] = {}
        self._marked: dict[tuple[int, int, str], int] = {}
        self._disks: set[int] = set()  # whose may be lost now, or come back
        self._disk_after: dict[tuple[int, ...], list[tuple[int, Attempts]]] = {}

    def add(self, crew: Crew) -> bool:
        """Take a state in, if it is new; return whether it is the first that waits."""
        if crew in self.visited:
            return False
        self.visited.add(crew)
        self.frontier.append(crew)
        return len(self.frontier) == 1

    def visit(self) -> Iterator[tuple[Attempts, bool, Crew]]:
        """Go through all that servers may do from here; yield the states of other scenes that may come next."""
        visited, frontier, known, views, moves = self.visited, self.frontier, self._after, self._seen, self._moves
        disks = self._disks
        while frontier:
            crew = frontier.pop()
            before = -1
            for place, number in enumerate(crew):
                if number == before:
                    continue  # Servers are alike.
                before = number
                if number not in known:
                    self._meet(number)
                rest = crew[:place] + crew[place + 1 :]
                for after in known[number]:
                    found = tuple(sorted((*rest, after)))
                    if found not in visited:
                        visited.add(found)
                        frontier.append(found)
                if number in disks:
                    for after, attempts in self._disk_steps(number, rest):
                        yield attempts, True, tuple(sorted((*rest, after)))
            view = tuple([views[number] for number in crew])
            found_moves = moves.get(view)
            if found_moves is None:
                found_moves = moves[view] = list(client_moves(self.attempts, view, self.rules))
            for move in found_moves:
                after_move = [self._mark(number, move.number, mark) for number, mark in zip(crew, move.marks, strict=True)]
                yield with_attempt(self.attempts, move), self.lost, tuple(sorted(after_move))

    def _meet(self, number: int) -> None:
        server = self.servers.values_by_number[number]
        self._after[number] = tuple([self.servers[after] for after in server_steps(server, self.attempts, self.rules)])
        self._seen[number] = seen(server, self.attempts)
        if self.rules.rejoin is not Rejoin.NEVER and (not self.lost or server.counter < 0):
            self._disks.add(number)

    def _mark(self, number: int, attempt: int, mark: str) -> int:
        found = self._marked.get((number, attempt, mark))
        if found is None:
            found = self._marked[number, attempt, mark] = self.servers[marked(self.servers.values_by_number[number], attempt, mark)]
        return found

    def _disk_steps(self, number: int, rest: Crew) -> list[tuple[int, Attempts]]:
        counters = [self.servers.values_by_number[other].counter for other in rest]
        key = (number, *counters)
        found = self._disk_after.get(key)
        if found is None:
            steps = disk_steps(self.servers.values_by_number[number], counters, self.attempts, self.lost, self.rules)
            found = self._disk_after[key] = [(self.servers[after], attempts) for after, attempts in steps]
        return found


def explore(rules: Rules) -> int:
    """Visit every reachable state; return how many there are.

    Raises:
        Violation: Some order of events breaks a property.
    """
    servers = Numbers()
    scenes: dict[tuple[Attempts, bool], Scene] = {}
    first = start(rules)
    waiting = [Scene(first.attempts, first.lost, rules, servers)]
    scenes[first.attempts, first.lost] = waiting[0]
    waiting[0].add(tuple(sorted([servers[server] for server in first.servers])))
    while waiting:
        scene = waiting.pop()
        for attempts, lost, crew in scene.visit():
            other = scenes.get((attempts, lost))
            if other is None:
                other = scenes[attempts, lost] = Scene(attempts, lost, rules, servers)
            if other.add(crew):
                waiting.append(other)
    return sum(len(scene.visited) for scene in scenes.values())


def walk(rules: Rules, seed: int, length: int) -> int:
    """Take one random walk; return how many tokens were settled."""
    dice, state = random.Random(seed), start(rules)
    for _ in range(length):
        choices = list(steps(state, rules))
        if not choices:
            break
        state = canonical(dice.choice(choices))
    return sum(attempt.phase == "done" for attempt in state.attempts)
