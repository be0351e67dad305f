"""SeatLocks: Redlock for many keys at once, with fences, as a drop-in for `redlock.Redlock`.

The class inherits from redlock-py's `Redlock` and keeps its key form and its values (one string under the key itself),
so that a plain client and this one exclude each other. What it replaces, and why, is in docs/redlock.md; in short: one
round for a whole batch, minority failures tolerated, the monotonic clock, a fresh nonce for every attempt, extension,
and a fence for each lock.

The decisions are in `lockstore.redlock`; this module carries them out. Any number of threads may share one SeatLocks:
each call takes a set of connections of its own.
"""

from __future__ import annotations

import random
import secrets
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, cast

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redlock import CannotObtainLock, Lock, Redlock

from lockstore import redlock, scripts
from lockstore.config import TTL_MAX_MS
from lockstore.errors import LockConfigInvalid, LockRequestInvalid, LocksUnavailable, LockTimeout
from lockstore.links import (
    Answer,
    Command,
    LinkSet,
    LinkSettings,
    Reviver,
    ScriptText,
    ServerAddress,
    ServerHealth,
)
from lockstore.preparing import LinkTls
from lockstore.probing import ServerState, patient, probe_all
from lockstore.redlock import AcquireReply, Contended, Grant, LockOutcome, LockRequest, Missing, Unavailable
from lockstore.standing import Standing, standing

__all__ = [
    "KEYS_PER_REQUEST_MAX",
    "Contended",
    "Grant",
    "LockOutcome",
    "LockRequest",
    "SeatLocks",
    "ServerAddress",
    "ServerState",
    "Unavailable",
]

EXTENSIONS_MAX: Final = 10_000
KEYS_PER_REQUEST_MAX: Final = scripts.KEYS_PER_REQUEST_MAX
RETRY_FIRST_MS: Final = 2
RETRY_LAST_MS: Final = 64
# Of each nonce behind the mark of the client's name.
DRAWN_BYTES: Final = (scripts.NONCE_LENGTH - redlock.MARK_LENGTH) // 2

_ACQUIRE = ScriptText(scripts.ACQUIRE)
_WRITE_BACK = ScriptText(scripts.WRITE_BACK)
_EXTEND = ScriptText(scripts.EXTEND)
_RELEASE = ScriptText(scripts.RELEASE)


class QuorumUnreachable(LocksUnavailable, CannotObtainLock):  # type: ignore[misc]
    """LocksUnavailable for callers of the redlock-py interface, who expect its CannotObtainLock."""


class SeatLocks(Redlock):  # type: ignore[misc]
    """Locks over all lock servers of one set.

    Args:
        servers: All configured servers, reachable or not: quorums are counted over this list, so every client of the
            set must be given the same one.
        ttl_ms: Default life of a lock.
        timeout_ms: How long a server may take for one call.
        suspect_ms: How often a server that failed is tried again in the background.
        generation: Of the set of lock servers; a server admitted to another one does not grant.
        tls: With which files to speak TLS; None speaks plain text.
        extensions_max: How often one lock may be extended before its holder must acquire it anew.
        retry_count: Attempts of the redlock-py style `lock`, as in redlock-py.
        retry_delay: Longest pause between them in seconds, as in redlock-py; the pause is drawn at random below it.
        now_ms: The monotonic clock in milliseconds; the simulator gives its own.
        draw_hex: Unguessable bytes as hexadecimal text; the simulator's follow from its seed.
        name: Of this client, which `standing` tells as the holder; "" leaves its locks without one.
    """

    def __init__(
        self,
        servers: Sequence[ServerAddress],
        *,
        ttl_ms: int = 5_000,
        timeout_ms: int = 80,
        suspect_ms: int = 500,
        generation: int = 1,
        username: str = "",
        password: str = "",
        tls: LinkTls | None = None,
        extensions_max: int = EXTENSIONS_MAX,
        retry_count: int = Redlock.default_retry_count,
        retry_delay: float = Redlock.default_retry_delay,
        now_ms: Callable[[], int] | None = None,
        draw_hex: Callable[[int], str] = secrets.token_hex,
        name: str = "",
    ) -> None:
        addresses = _validated(servers)
        now_ms = now_ms or _now_ms
        self._now_ms, self._draw_hex = now_ms, draw_hex
        self._mark = redlock.mark(name)
        self._settings = LinkSettings(timeout_ms, suspect_ms, username, password, tls)
        super().__init__([_plain_client(address, self._settings) for address in addresses], retry_count, retry_delay)
        # The base class turns 0 into its default.
        self.retry_count, self.retry_delay = retry_count, retry_delay
        self.generation = generation
        self._ttl_ms = _checked_ttl(ttl_ms)
        self._extensions_max = extensions_max
        self._healths = [ServerHealth(address) for address in addresses]
        self._idle: deque[LinkSet] = deque()
        self._closed = threading.Event()
        self._reviver = Reviver(self._healths, self._settings, now_ms)

    # -- batches -------------------------------------------------------------------------------------------------

    def acquire_many(
        self, requests: Sequence[LockRequest], releases: Sequence[Grant] = (), ttl_ms: int | None = None
    ) -> list[LockOutcome]:
        """Try to lock every request, and release earlier grants, in one round to all servers.

        A second round happens only where servers returned different counters (write-back), and a third only to clean
        up after requests that failed. Within a batch the first of two requests for one key wins.

        Returns:
            One outcome for each request, in their order. Nothing of a failed request stays locked, except on servers
            that did not answer; there it ends with its ttl at the latest.

        Raises:
            LockRequestInvalid: A request has no keys or too many, or the ttl is beyond what recovery waits for.
        """
        ttl = self._ttl_ms if ttl_ms is None else _checked_ttl(ttl_ms)
        if not requests:
            self.release_many(releases)
            return []
        nonces = self._fresh_nonces(len(requests))
        command = self._acquire_command(requests, nonces, releases, ttl)
        with self._links() as links:
            started_ms = self._now_ms()
            answers = links.ask_all(command)
            replies = [
                redlock.parse_acquire(answer, len(requests)) if isinstance(answer, bytes) else _unusable(answer) for answer in answers
            ]
            self._owe(releases, answers, started_ms + ttl)
            valid_until = redlock.valid_until_ms(ttl, started_ms)
            token = redlock.unanimous_counter(replies, self.quorum)
            if token is not None and redlock.has_time(valid_until, self._now_ms()):
                fence = (self.generation, token)
                return [
                    Grant(request.keys, nonces[at : at + 32], fence, valid_until, True)
                    for request, at in zip(requests, range(0, len(nonces), 32), strict=True)
                ]
            return self._settle(links, requests, nonces, replies, valid_until)

    def release_many(self, grants: Sequence[Grant]) -> None:
        """Release locks on every server that can be reached; on the others they end with their ttl.

        Releasing is never a failure for the caller: only the holder's own nonce is deleted, and expiry does the rest.
        """
        if grants:
            with self._links() as links:
                self._release(links, [(grant.keys, grant.nonce) for grant in grants])

    def extend_many(self, grants: Sequence[Grant], ttl_ms: int | None = None) -> list[Grant | None]:
        """Give locks a new ttl where a majority still holds them.

        Returns:
            For each grant the extended one (same nonce and fence), or None: it was no longer valid, no majority held
            it, or it was extended too often. Such a lock is lost: stop the work under it. It is not released here.
        """
        ttl = self._ttl_ms if ttl_ms is None else _checked_ttl(ttl_ms)
        extended: list[Grant | None] = [None] * len(grants)
        with self._links() as links:
            started_ms = self._now_ms()
            wanted = [i for i, grant in enumerate(grants) if redlock.may_extend(grant, started_ms, self._extensions_max)]
            if not wanted:
                return extended
            keys, counts = _flat([grants[i].keys for i in wanted])
            command = Command(_EXTEND, keys, [ttl, "".join([grants[i].nonce for i in wanted]), counts])
            flags = [answer if isinstance(answer, bytes) else None for answer in links.ask_all(command)]
            valid_until, done_ms = redlock.valid_until_ms(ttl, started_ms), self._now_ms()
            for position, i in enumerate(wanted):
                old = grants[i]
                in_time = redlock.has_time(min(valid_until, old.valid_until_ms), done_ms)
                if in_time and redlock.held_by_quorum(flags, position, self.quorum):
                    extended[i] = Grant(old.keys, old.nonce, old.fence, valid_until, old.fast, old.extensions + 1)
        return extended

    def acquire(self, keys: Sequence[str], *, deadline_ms: int, hint: int = 0) -> Grant:
        """Lock all keys, waiting for other holders for at most `deadline_ms` from now.

        Raises:
            LockTimeout: Others held a key to the end.
            LocksUnavailable: No quorum of lock servers could be used to the end.
        """
        request = LockRequest(tuple(keys), hint)
        return self._retried(request, self._ttl_ms, self._now_ms() + deadline_ms)

    def probe(self) -> list[ServerState]:
        """Return what each lock server says of itself, asked afresh and patiently."""
        return probe_all([health.address for health in self._healths], self._settings, self.generation, self._closed)

    def standing(self, names: Collection[str], limit: int) -> Standing:
        """Return which locks stand on the servers, asked afresh and one by one; `names`: of the clients that may hold some."""
        return standing([health.address for health in self._healths], patient(self._settings), names, limit)

    def close(self) -> None:
        """Close all connections and end the background thread; locks that are held stay until their ttl."""
        self._closed.set()
        self._reviver.close()
        while self._idle:
            self._idle.pop().close()
        for client in self.servers:
            client.close()

    def asked(self) -> dict[str, int]:
        """Return how many calls were sent to each server so far, by name."""
        return {health.address.name: health.asked for health in self._healths}

    def suspects(self) -> dict[str, str]:
        """Return the servers that are left out at present, and why."""
        return {health.address.name: health.suspect for health in self._healths if health.suspect is not None}

    # -- redlock-py's interface ------------------------------------------------------------------------------------

    def get_unique_id(self) -> bytes:
        """Return a fresh, unguessable value; bytes, as redlock-py returns."""
        return self._draw_hex(16).encode()

    def lock(self, resource: str | tuple[str, ...], ttl: int) -> Lock | bool:
        """Lock one resource (or several, all or none) as redlock-py does.

        Returns:
            A `Lock(validity, resource, key)`, or False if others kept it through all attempts.

        Raises:
            QuorumUnreachable: Also a redlock.CannotObtainLock; no majority of servers could be used.
        """
        if not isinstance(ttl, int):
            raise ValueError(f"ttl {ttl} is not an integer")
        keys = (resource,) if isinstance(resource, str) else tuple(resource)
        outcome: LockOutcome = Contended(keys)
        for attempt in range(max(1, self.retry_count)):
            if attempt and self._closed.wait(random.uniform(0, self.retry_delay)):
                break
            (outcome,) = self.acquire_many([LockRequest(keys)], ttl_ms=ttl)
            if isinstance(outcome, Grant):
                return Lock(outcome.valid_until_ms - self._now_ms(), resource, outcome.nonce.encode())
        if isinstance(outcome, Unavailable):
            raise QuorumUnreachable("no quorum of lock servers", keys=keys, reasons=outcome.reasons)
        return False

    def unlock(self, lock: Lock) -> None:
        """Release a lock of either client.

        Raises:
            QuorumUnreachable: No majority confirmed; the lock may stand until its ttl.
        """
        keys = (lock.resource,) if isinstance(lock.resource, str) else tuple(lock.resource)
        with self._links() as links:
            answers = self._release(links, [(keys, lock.key.decode() if isinstance(lock.key, bytes) else lock.key)])
        reasons = self._named({number: answer.reason for number, answer in enumerate(answers) if isinstance(answer, Missing)})
        if len(answers) - len(reasons) < self.quorum:
            raise QuorumUnreachable("no quorum of lock servers confirmed the release", keys=keys, reasons=reasons)

    # -- one attempt -------------------------------------------------------------------------------------------------

    def _fresh_nonces(self, count: int) -> str:
        """Return that many nonces as one text: the mark of this client's name, if it has one, then what nobody can guess."""
        if not self._mark:
            return self._draw_hex(16 * count)
        drawn = self._draw_hex(DRAWN_BYTES * count)
        return "".join([self._mark + drawn[at : at + 2 * DRAWN_BYTES] for at in range(0, len(drawn), 2 * DRAWN_BYTES)])

    def _acquire_command(self, requests: Sequence[LockRequest], nonces: str, releases: Sequence[Grant], ttl: int) -> Command:
        keys, counts = _flat([request.keys for request in requests])
        old_keys, old_counts = _flat([grant.keys for grant in releases]) if releases else ([], b"")
        old_nonces = "".join([grant.nonce for grant in releases])
        arguments: list[str | bytes | int] = [self.generation, ttl, nonces, counts, old_nonces, old_counts]
        for number, request in enumerate(requests, 1):
            if request.hint:
                arguments += (number, request.hint)
        return Command(_ACQUIRE, [scripts.FENCE_KEY, scripts.MARKER_KEY, *old_keys, *keys], arguments)

    def _settle(
        self, links: LinkSet, requests: Sequence[LockRequest], nonces: str, replies: Sequence[AcquireReply], valid_until: int
    ) -> list[LockOutcome]:
        """Judge the requests of a batch one by one, write back where needed, and clean up after those that failed."""
        verdicts = [redlock.judge(replies, number, self.quorum) for number in range(len(requests))]
        uncertain = {number: verdict for number, verdict in enumerate(verdicts) if isinstance(verdict, redlock.Uncertain)}
        certified = self._write_back(links, requests, nonces, uncertain) if uncertain else {}
        in_time = redlock.has_time(valid_until, self._now_ms())
        outcomes: list[LockOutcome] = []
        failed: list[tuple[tuple[str, ...], str]] = []
        for number, (request, verdict) in enumerate(zip(requests, verdicts, strict=True)):
            nonce = nonces[32 * number : 32 * number + 32]
            fast = isinstance(verdict, redlock.Certified)
            if isinstance(verdict, redlock.Refused):
                outcomes.append(self._refusal(request, verdict))
                if verdict.maybe_held:
                    failed.append((request.keys, nonce))
            elif in_time and (fast or number in certified):
                outcomes.append(Grant(request.keys, nonce, (self.generation, verdict.token), valid_until, fast))
            else:
                reason = "its validity was used up" if not in_time else "the token could not be written back"
                # Not contended: nobody was seen to hold the keys, the servers were too slow or lost them.
                outcomes.append(Unavailable(self._named(dict.fromkeys(range(len(replies)), reason))))
                failed.append((request.keys, nonce))
        if failed:
            self._release(links, failed)
            # Cleaning up is a round of its own, and a silent server makes it long: what lapsed meanwhile was not acquired (step 3).
            outcomes = self._without_lapsed(outcomes, valid_until)
        return outcomes

    def _without_lapsed(self, outcomes: list[LockOutcome], valid_until: int) -> list[LockOutcome]:
        """Return the outcomes; grants whose validity is used up by now are none. Their keys end with their ttl."""
        if redlock.has_time(valid_until, self._now_ms()):
            return outcomes
        late = Unavailable(self._named(dict.fromkeys(range(len(self._healths)), "its validity was used up")))
        return [late if isinstance(outcome, Grant) else outcome for outcome in outcomes]

    def _write_back(
        self, links: LinkSet, requests: Sequence[LockRequest], nonces: str, uncertain: dict[int, redlock.Uncertain]
    ) -> set[int]:
        """Carry tokens to the servers that granted; return the requests whose token a majority accepted."""
        keys, counts = _flat([requests[number].keys for number in uncertain])
        own_nonces = "".join([nonces[32 * number : 32 * number + 32] for number in uncertain])
        tokens = [verdict.token for verdict in uncertain.values()]
        answers = links.ask_all(
            Command(_WRITE_BACK, [scripts.FENCE_KEY, scripts.MARKER_KEY, *keys], [self.generation, own_nonces, counts, *tokens])
        )
        certified = set()
        for position, (number, verdict) in enumerate(uncertain.items()):
            accepted = {
                server
                for server, answer in enumerate(answers)
                if isinstance(answer, bytes) and len(answer) == len(uncertain) and answer[position : position + 1] == b"1"
            }
            if redlock.certify(verdict, accepted, self.quorum):
                certified.add(number)
        return certified

    def _refusal(self, request: LockRequest, verdict: redlock.Refused) -> Contended | Unavailable:
        if verdict.contended:
            return Contended(tuple(request.keys[position] for position in verdict.taken))
        return Unavailable(self._named(verdict.reasons))

    def _retried(self, request: LockRequest, ttl: int, deadline_ms: int) -> Grant:
        """Try until granted or the deadline; the pause grows and is drawn at random, so that rivals fall out of step."""
        pause_ms = RETRY_FIRST_MS
        while True:
            (outcome,) = self.acquire_many([request], ttl_ms=ttl)
            if isinstance(outcome, Grant):
                return outcome
            remaining_ms = deadline_ms - self._now_ms()
            if remaining_ms <= 0 or self._closed.wait(min(remaining_ms, random.uniform(1, pause_ms)) / 1000):
                break
            pause_ms = min(2 * pause_ms, RETRY_LAST_MS)
        if isinstance(outcome, Contended):
            reasons = dict.fromkeys(outcome.keys, "taken")
            raise LockTimeout("others held the keys to the end", keys=request.keys, reasons=reasons)
        raise LocksUnavailable("no quorum of lock servers", keys=request.keys, reasons=outcome.reasons)

    # -- rounds ------------------------------------------------------------------------------------------------------

    @contextmanager
    def _links(self) -> Iterator[LinkSet]:
        """Lend a link set for one call; one that was interrupted in the middle is closed, as replies may be under way."""
        try:
            links = self._idle.pop()
        except IndexError:
            links = LinkSet(self._healths, self._settings)
        try:
            links.prepare()
            yield links
        except BaseException:
            links.close()
            raise
        if self._closed.is_set():
            links.close()
            return
        self._idle.append(links)
        if any(health.suspect is not None for health in self._healths):
            self._reviver.wake()

    def _release(self, links: LinkSet, held: Sequence[tuple[tuple[str, ...], str]]) -> list[Answer]:
        keys = [key for names, _ in held for key in names]
        nonces = [nonce for names, nonce in held for _ in names]
        answers = links.ask_all(Command(_RELEASE, keys, nonces))
        until_ms = self._now_ms() + TTL_MAX_MS
        for number, answer in enumerate(answers):
            if isinstance(answer, Missing):
                for names, nonce in held:
                    self._healths[number].owe(names, nonce, until_ms)
        return answers

    def _owe(self, releases: Sequence[Grant], answers: Sequence[Answer], until_ms: int) -> None:
        """Remember the releases of a batch for the servers that did not get them."""
        if not releases:
            return
        for number, answer in enumerate(answers):
            if isinstance(answer, Missing):
                for grant in releases:
                    self._healths[number].owe(grant.keys, grant.nonce, until_ms)

    def _named(self, reasons: Any) -> dict[str, str]:
        return {self._healths[number].address.name: reason for number, reason in reasons.items()}


def _now_ms() -> int:
    return time.monotonic_ns() // 1_000_000


def _checked_ttl(ttl_ms: int) -> int:
    if not 1 <= ttl_ms <= TTL_MAX_MS:
        # A server that lost its data stays out for the longest ttl that anybody may use.
        raise LockRequestInvalid(f"ttl of {ttl_ms} ms is not within 1..{TTL_MAX_MS}", ttl_ms=ttl_ms, ttl_max_ms=TTL_MAX_MS)
    return ttl_ms


def _flat(groups: Sequence[tuple[str, ...]]) -> tuple[list[str], bytes]:
    """Return all keys in one list, and how many each group has as two bytes each."""
    counts = list(map(len, groups))
    if not all(counts) or max(counts) > scripts.KEYS_PER_REQUEST_MAX:
        raise LockRequestInvalid(f"a lock takes 1 to {scripts.KEYS_PER_REQUEST_MAX} keys", counts=counts)
    return [key for keys in groups for key in keys], struct.pack(f">{len(counts)}H", *counts)


def _unusable(answer: Answer) -> Missing:
    return answer if isinstance(answer, Missing) else Missing(f"unexpected answer {answer!r}", sent=True)


def _validated(servers: Sequence[ServerAddress]) -> tuple[ServerAddress, ...]:
    """Refuse what redlock-py would silently take for something else (a dict, say, becomes servers on default ports)."""
    if isinstance(servers, (str, dict)) or not all(isinstance(server, ServerAddress) for server in servers):
        raise LockConfigInvalid(file="-", key="servers", reason="must be a list of ServerAddress")
    if not servers or len({(server.host, server.port) for server in servers}) < len(servers):
        raise LockConfigInvalid(file="-", key="servers", reason="must name at least one server, and none twice")
    return tuple(servers)


def _plain_client(address: ServerAddress, settings: LinkSettings) -> redis.Redis:
    """Return a client of the kind redlock-py keeps in `servers`; it connects only if somebody uses it."""
    make = cast(Callable[..., redis.Redis], redis.Redis)
    return make(
        host=address.host,
        port=address.port,
        username=settings.username or None,
        password=settings.password or None,
        socket_timeout=settings.timeout_ms / 1000,
        socket_connect_timeout=settings.timeout_ms / 1000,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        driver_info=None,
        **({"ssl": True, **settings.tls.options()} if settings.tls is not None else {}),
    )
