"""Redlock with fencing tokens, decided: from replies and times to outcomes. Reaches no server and no clock.

The rules, in the numbers of the published algorithm where it has them:

1. The caller reads its monotonic clock and makes a fresh nonce for each request and attempt.
2. It asks all servers at once. Each sets all keys of a request or none, and answers with its counter.
3. A request is granted only by a majority of all *configured* servers, reachable or not, and only while
   validity = ttl - elapsed - drift is positive.
4. A request that failed is released wherever its keys may stand.
5. An extension counts only if a majority still held the keys, within the validity.

On top of that stands the fencing token T, which orders all acquisitions of one key without any consensus:

- fast path: a majority returned one and the same counter value v. T = v.
- slow path: T = the greatest value granted. It is written back to the servers that granted: each raises its counter to T
  *only if all keys still hold this nonce*. When a majority said so, T stands; otherwise the attempt fails, and the next
  one uses a new nonce.

Why it holds: call the majority that certified an acquisition A (returned v, or accepted the write-back) W_A. On each of
its servers the key held A's nonce from A's acquire until the certification, and the counter was then at least T_A. Two
acquisitions of one key share a server of W_A and W_B; one key holds one nonce at a time, so one of them, say A, was
certified there before the other's acquire, which therefore met a counter of at least T_A and returned more; and T_B is
at least what each server of W_B returned. So T_A < T_B. Clocks, expiry and lost replies do not occur in the argument.

What follows from it for this module: only a server whose *grant was received* may count for the certification. One that
executed the acquire late and accepts the write-back would have returned a value which T never saw.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from lockstore import scripts

# Customary drift allowance of the algorithm: 1 % of the ttl for clock rates, 2 ms for the precision of expiry.
DRIFT_DIVISOR: Final = 100
DRIFT_FLOOR_MS: Final = 2
MARK_LENGTH: Final = 8  # Of the 32 characters of a nonce.


@dataclass(frozen=True, slots=True)
class LockRequest:
    """A wish to lock all of these keys or none; `hint` is the counter that a data node demanded with STALE_FENCE."""

    keys: tuple[str, ...]
    hint: int = 0


@dataclass(frozen=True, slots=True)
class Grant:
    """A lock that is held.

    Attributes:
        fence: (generation of the lock servers, counter), ordered for each key over all time.
        valid_until_ms: On the holder's monotonic clock, in milliseconds; past it the lock may be another's.
        fast: Whether the first round settled the fence; False if a write-back was needed.
        extensions: How often this lock was extended.
    """

    keys: tuple[str, ...]
    nonce: str
    fence: tuple[int, int]
    valid_until_ms: int
    fast: bool
    extensions: int = 0


@dataclass(frozen=True, slots=True)
class Contended:
    """Others hold some of the keys: `keys` are those that servers found taken (the first of each server)."""

    keys: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Unavailable:
    """No majority of the lock servers could be used; `reasons` tells why, by server name."""

    reasons: dict[str, str]


LockOutcome = Grant | Contended | Unavailable


@dataclass(frozen=True, slots=True)
class Missing:
    """A server gave no usable answer.

    Attributes:
        sent: Whether the request may have reached the server, and so may take effect there at any later time.
    """

    reason: str
    sent: bool


@dataclass(frozen=True, slots=True)
class Granted:
    """A server's answer to one batch: its counter after the batch, and a code for each request (None: all granted)."""

    counter: int
    codes: tuple[int, ...] | None = None


AcquireReply = Granted | Missing


def mark(name: str) -> str:
    """Return what the nonces of the client of that name begin with, or "" for a client without a name.

    So that a person can be told whose a lock is. The rest of a nonce is drawn anew each time and stays secret.
    """
    return sha256(name.encode()).hexdigest()[:MARK_LENGTH] if name else ""


def quorum(servers: int) -> int:
    """Return the majority of that many configured servers."""
    return servers // 2 + 1


def drift_ms(ttl_ms: int) -> int:
    """Return what clocks may disagree by during one ttl, rounded up."""
    return -(-ttl_ms // DRIFT_DIVISOR) + DRIFT_FLOOR_MS


def valid_until_ms(ttl_ms: int, started_ms: int) -> int:
    """Return until when a lock asked for at `started_ms` may be relied on, on the same monotonic clock.

    Counted from before the first request, because no server can have started the ttl earlier. The validity that remains
    at a time `now` is the difference; zero or less means that the lock was not acquired.
    """
    return started_ms + ttl_ms - drift_ms(ttl_ms)


def parse_acquire(reply: bytes, requests: int) -> AcquireReply:
    """Return what a server's reply to the acquire script says."""
    counter, _, rest = reply.partition(b",")
    if not counter.startswith(b"-"):
        if not rest:
            return Granted(int(counter))
        codes = tuple(map(int, rest.split(b",")))
        if len(codes) == requests:
            return Granted(int(counter), codes)
        return Missing(f"answered for {len(codes)} of {requests} requests", sent=True)
    return Missing(refusal_reason(reply), sent=False)


def refusal_reason(reply: bytes) -> str:
    """Return the sentence for a script's refusal of a whole call (nothing was changed)."""
    code, _, detail = reply.partition(b",")
    if code == scripts.NOT_INITIALISED:
        return "not initialised: it is new or lost its data, and must be admitted first"
    if code == scripts.OTHER_GENERATION:
        return f"belongs to generation {detail.decode(errors='replace')} of the lock servers"
    if code == scripts.COUNTER_EXHAUSTED:
        return "its counter has no room left; a new generation is needed"
    return f"unknown refusal {reply[:40]!r}"


def unanimous_counter(replies: Sequence[AcquireReply], needed: int) -> int | None:
    """Return the value on which a quorum agrees for a whole batch, or None if requests must be judged one by one.

    This is the fast path for every request at once, and by far the most frequent case.
    """
    tally: dict[int, int] = {}
    for reply in replies:
        if isinstance(reply, Granted) and reply.codes is None:
            count = tally.get(reply.counter, 0) + 1
            if count >= needed:
                # Two values cannot both reach a majority, so the first that does is the only one.
                return reply.counter
            tally[reply.counter] = count
    return None


@dataclass(frozen=True, slots=True)
class Certified:
    """The token is settled."""

    token: int


@dataclass(frozen=True, slots=True)
class Uncertain:
    """A majority granted with different values: `token` must be written back to `servers` (those that granted)."""

    token: int
    servers: frozenset[int]


@dataclass(frozen=True, slots=True)
class Refused:
    """The request failed.

    Attributes:
        contended: A majority answered; others hold a key. Otherwise too few servers were usable.
        taken: Positions (from 0) of keys found taken.
        reasons: By server number, why it did not grant.
        maybe_held: Servers on which the keys may stand or may yet come to stand.
    """

    contended: bool
    taken: tuple[int, ...] = ()
    reasons: Mapping[int, str] = field(default_factory=dict)
    maybe_held: frozenset[int] = frozenset()


Verdict = Certified | Uncertain | Refused


def judge(replies: Sequence[AcquireReply], request: int, needed: int) -> Verdict:
    """Return the verdict on one request of a batch after the first round.

    Args:
        replies: One for each *configured* server, in their order.
        request: Position of the request in the batch.
        needed: The quorum of all configured servers.
    """
    granted: dict[int, int] = {}
    taken: set[int] = set()
    reasons: dict[int, str] = {}
    maybe_held: set[int] = set()
    contending = 0
    for server, reply in enumerate(replies):
        if isinstance(reply, Missing):
            reasons[server] = reply.reason
            if reply.sent:
                maybe_held.add(server)
            continue
        code = scripts.CODE_GRANTED if reply.codes is None else reply.codes[request]
        if code == scripts.CODE_GRANTED:
            granted[server] = reply.counter
            maybe_held.add(server)
        elif code == scripts.CODE_HINT_REFUSED:
            reasons[server] = "the hint is too far above its counter"
        else:
            contending += 1
            taken.add(code - 1)
            reasons[server] = "taken"
    if len(granted) < needed:
        return Refused(
            # A majority that answered, with a refusal among it, shows that others hold a key: trying again will help.
            contended=contending > 0 and len(granted) + contending >= needed,
            taken=tuple(sorted(taken)),
            reasons=reasons,
            maybe_held=frozenset(maybe_held),
        )
    values = list(granted.values())
    for value in set(values):
        if values.count(value) >= needed:
            return Certified(value)
    return Uncertain(max(values), frozenset(granted))


def certify(uncertain: Uncertain, accepted: Collection[int], needed: int) -> bool:
    """Return whether a write-back settled the token.

    Args:
        accepted: Servers that said "all keys still hold the nonce, the counter is now at least the token". Only those
            whose grant had been received count; see the module's theory of operation.
    """
    return sum(1 for server in uncertain.servers if server in accepted) >= needed


def held_by_quorum(flags: Sequence[bytes | None], request: int, needed: int) -> bool:
    """Return whether enough servers said "held" for one request (extend); None stands for a server without an answer."""
    one = ord("1")
    return sum(1 for text in flags if text is not None and text[request] == one) >= needed


def may_extend(grant: Grant, now_ms: int, extensions_max: int) -> bool:
    """Return whether a lock may be extended: while it is valid, and not for ever, so that no holder starves the rest."""
    return now_ms < grant.valid_until_ms and grant.extensions < extensions_max


def has_time(valid_until: int, now_ms: int) -> bool:
    """Return whether validity remains; a lock whose validity is used up counts as not acquired."""
    return now_ms < valid_until
