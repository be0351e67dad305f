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
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from lockstore.redlock import Certified, Granted, Missing, Uncertain, certify, judge

LATE = Missing("late", sent=True)
PENDING, SPENT = -1, 0  # an acquire that may still be carried out; one whose reply matters no more
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


class State(NamedTuple):
    """Everything that can matter for the future."""

    servers: tuple[Server, ...]
    attempts: tuple[Attempt, ...]
    lost: bool


Packed = tuple[tuple[int, ...], int, bool]  # a state: numbers of its servers, number of its attempts, and whether a disk was lost


class Violation(Exception):
    """P1 or P2 does not hold."""


def start(rules: Rules) -> State:
    """Return the state before anything happened."""
    count = len(rules.nonces)
    servers = [Server(-1, counter, (PENDING,) * count, ("",) * count) for counter in rules.counters]
    return canonical(servers, [Attempt("idle", 0, 0, False)] * count, False)


def canonical(servers: list[Server], attempts: list[Attempt], lost: bool) -> State:
    """Return the state, with servers in an order of their own."""
    return State(tuple(sorted(servers)), tuple(attempts), lost)


def steps(state: State, rules: Rules) -> Iterator[State]:
    """Yield every state that may come next.

    Raises:
        Violation: A token was settled that breaks P1 or P2.
    """
    yield from client_steps(state, rules)
    seen: set[Server] = set()
    for index, server in enumerate(state.servers):
        if server in seen:
            continue
        seen.add(server)
        for after in server_steps(server, state, rules):
            yield canonical([*state.servers[:index], after, *state.servers[index + 1 :]], list(state.attempts), state.lost)
    if rules.rejoin is not Rejoin.NEVER:
        yield from disk_steps(state, rules)


def server_steps(server: Server, state: State, rules: Rules) -> Iterator[Server]:
    """What one server may do next: carry out an acquire or a write-back, or lose the lock."""
    if server.holder >= 0:
        yield server._replace(holder=-1)
    if server.counter < 0:
        return
    for number, attempt in enumerate(state.attempts):
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


def client_steps(state: State, rules: Rules) -> Iterator[State]:
    """What the clients may do next: begin, decide on the replies that arrived, or settle a write-back."""
    for number, attempt in enumerate(state.attempts):
        if attempt.phase == "idle":
            # Attempts are alike up to their nonces and begin in their order.
            floor = max((other.token for other in state.attempts if other.phase == "done"), default=0)
            yield changed(state, number, Attempt("asking", 0, floor, False), list(state.servers))
            break
    for number, attempt in enumerate(state.attempts):
        if attempt.phase == "asking":
            yield from decisions(state, number, rules)
        elif attempt.phase == "writing":
            accepted = {i for i, server in enumerate(state.servers) if "a" in server.written[number]}
            counted = frozenset(i for i, server in enumerate(state.servers) if "g" in server.written[number])
            if not rules.count_only_granted:
                counted = frozenset(range(len(state.servers)))
            if certify(Uncertain(attempt.token, counted), accepted, rules.needed):
                yield settled(state, number, attempt.token)


def decisions(state: State, number: int, rules: Rules) -> Iterator[State]:
    """Every decision that may follow from some of the replies having arrived."""
    granted = [i for i, server in enumerate(state.servers) if server.acquired[number] > 0]
    for size in range(rules.needed, len(granted) + 1):
        for arrived in itertools.combinations(granted, size):
            replies = [Granted(server.acquired[number]) if i in arrived else LATE for i, server in enumerate(state.servers)]
            verdict = judge(replies, 0, rules.needed)
            if isinstance(verdict, Certified):
                yield settled(state, number, verdict.token)
            elif isinstance(verdict, Uncertain):
                if not rules.write_back:
                    yield settled(state, number, verdict.token)
                    continue
                # The write-back goes to every server, also to those whose grant did not arrive.
                servers = [
                    spent(server, number)._replace(written=put(server.written, number, "gp" if i in verdict.servers else "p"))
                    for i, server in enumerate(state.servers)
                ]
                yield changed(state, number, state.attempts[number]._replace(phase="writing", token=verdict.token), servers)


def disk_steps(state: State, rules: Rules) -> Iterator[State]:
    """A server loses its disk (once), and comes back by the rule under test."""
    for index, server in enumerate(state.servers):
        others = [other.counter for i, other in enumerate(state.servers) if i != index]
        attempts = list(state.attempts)
        if not state.lost:
            after = server._replace(holder=-1, counter=-1)
            old = [a._replace(older_than_loss=True) if a.phase in ("asking", "writing") else a for a in attempts]
            yield canonical([*state.servers[:index], after, *state.servers[index + 1 :]], old, True)
        elif server.counter < 0:
            if rules.rejoin is Rejoin.EMPTY:
                choices = [0]
            elif rules.rejoin is Rejoin.ONE_PEER:
                choices = [counter + STEP for counter in others]
            else:
                peers = len(state.servers) - rules.needed + 1
                choices = [max(chosen) + STEP for chosen in itertools.combinations(others, peers)]
            if rules.rejoin is Rejoin.WAITING:
                # By the time the counters are read, every attempt that began before the loss has given up.
                attempts = [a._replace(phase="failed", token=0, older_than_loss=False) if a.older_than_loss else a for a in attempts]
            for counter in set(choices):
                after = server._replace(counter=counter)
                yield canonical([*state.servers[:index], after, *state.servers[index + 1 :]], attempts, True)


def settled(state: State, number: int, token: int) -> State:
    """Record a token, after checking it."""
    attempt = state.attempts[number]
    if token <= attempt.floor:
        raise Violation(f"P2: attempt {number} settled {token}, but {attempt.floor} was settled before it began")
    if any(other.phase == "done" and other.token == token for other in state.attempts):
        raise Violation(f"P1: attempt {number} settled {token}, which another has")
    servers = [
        spent(server, number)._replace(written=put(server.written, number, "p" if "p" in server.written[number] else ""))
        for server in state.servers
    ]
    return changed(state, number, attempt._replace(phase="done", token=token, older_than_loss=False), servers)


def changed(state: State, number: int, attempt: Attempt, servers: list[Server]) -> State:
    return canonical(servers, [*state.attempts[:number], attempt, *state.attempts[number + 1 :]], state.lost)


def spent(server: Server, number: int) -> Server:
    """Forget a granted value that nobody will look at again, so that equal futures are one state."""
    return server._replace(acquired=put(server.acquired, number, min(server.acquired[number], SPENT)))


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


def explore(rules: Rules) -> int:
    """Visit every reachable state; return how many there are.

    There are far fewer servers and sets of attempts than states of all together, so both are numbered, and what a server may do next
    beside such a set is worked out once.

    Raises:
        Violation: Some order of events breaks a property.
    """
    servers, attempts = Numbers(), Numbers()
    known: dict[tuple[int, int], list[int]] = {}

    def packed(state: State) -> Packed:
        return tuple(sorted([servers[server] for server in state.servers])), attempts[state.attempts], state.lost

    def next_of(packed_state: Packed) -> Iterator[Packed]:
        numbers, set_number, lost = packed_state
        state = State(tuple([servers.values_by_number[number] for number in numbers]), attempts.values_by_number[set_number], lost)
        yield from map(packed, client_steps(state, rules))
        for place, number in enumerate(numbers):
            if place and numbers[place - 1] == number:
                continue  # Servers are alike.
            found = known.get((number, set_number))
            if found is None:
                found = [servers[after] for after in server_steps(state.servers[place], state, rules)]
                known[number, set_number] = found
            rest = numbers[:place] + numbers[place + 1 :]
            for after in found:
                yield tuple(sorted((*rest, after))), set_number, lost
        if rules.rejoin is not Rejoin.NEVER:
            yield from map(packed, disk_steps(state, rules))

    first = packed(start(rules))
    visited = {first}
    frontier = [first]
    while frontier:
        for after in next_of(frontier.pop()):
            if after not in visited:
                visited.add(after)
                frontier.append(after)
    return len(visited)


def walk(rules: Rules, seed: int, length: int) -> int:
    """Take one random walk; return how many tokens were settled."""
    dice, state = random.Random(seed), start(rules)
    for _ in range(length):
        choices = list(steps(state, rules))
        if not choices:
            break
        state = dice.choice(choices)
    return sum(attempt.phase == "done" for attempt in state.attempts)
