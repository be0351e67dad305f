"""The caller's half of a load balancer: one question, asked of whichever balancer answers before the deadline.

Any balancer can answer any question, and every write carries a request_id, so the same question may be sent again to
another balancer after no answer came: the partition gives the first answer to a repeat.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Collection, Sequence
from typing import TypeVar

import msgspec

from datastore import messages
from datastore.edge import Address, EdgeClient, EdgeLimits, Tls
from datastore.errors import (
    HoldfastError,
    NodeUnreachable,
    OperatorUnavailable,
    OutcomeUnknown,
    RateLimited,
    WorldFailure,
    type_of_code,
)
from loadbalancer.gathering import Gathering

# A balancer that hangs must not use up the whole deadline while its twin is well: one try gets this part of what is left.
TRY_SHARE = 0.6
TRY_MIN_MS = 400
# What the answer needs on its way back: a balancer is told to be done that much earlier than we stop waiting.
RETURN_MS = 60
# A restarted balancer is back within a moment; a cluster that is not running should be said to be so soon.
ROUNDS_UNREACHABLE_MAX = 4
PAUSE_FIRST_MS = 40
PAUSE_LAST_MS = 640

Failure = TypeVar("Failure", bound=HoldfastError)


class BalancerStub:
    """Asks the balancers at `addresses`; any number of threads may share one."""

    def __init__(
        self, addresses: Sequence[Address], *, tls: Tls | None = None, limits: EdgeLimits | None = None, connect_ms: int = 500
    ) -> None:
        if not addresses:
            raise ValueError("no load balancer's address is given")
        limits = limits or EdgeLimits()
        self._clients = [EdgeClient(address, tls=tls, role="lb", limits=limits, connect_ms=connect_ms) for address in addresses]
        # Callers spread over the balancers; each stays with the one that answered last.
        self._preferred = random.randrange(len(self._clients))
        self._closed = threading.Event()
        self._gathering = Gathering(self._ask_until)

    @property
    def addresses(self) -> list[Address]:
        """Where the balancers listen, in the order given."""
        return [client.address for client in self._clients]

    def call(self, method: str, request: messages.Request) -> messages.Answer:
        """Return the answer to `request`, asked again elsewhere while nobody answers and `request.deadline_ms` lasts.

        Holds that several threads ask for at the same time travel together (`gathering.py`).

        Args:
            method: A key of `messages.METHODS`.
        Raises:
            NodeUnreachable: No balancer took the question; nothing was done.
            OutcomeUnknown: It was sent and no answer came in time: ask again with the same request_id.
            HoldfastError: The balancer's own answer is an error; a refusal had no effect.
        """
        if type(request) is messages.HoldSeats and method == "hold":
            return self._gathering.hold(request)
        return self._ask_until(method, request, None)

    def _ask_until(self, method: str, request: messages.Request, unknown: OutcomeUnknown | None) -> messages.Answer:
        """Ask until there is an answer or the time is over.

        Args:
            unknown: An earlier try without an answer.
        """
        deadline = time.monotonic() + request.deadline_ms / 1000
        unreachable = unavailable = 0
        silent: dict[str, None] = {}  # In the order of asking: who gave no answer at all.
        pause_ms = PAUSE_FIRST_MS
        number = self._preferred
        while True:
            client = self._clients[number % len(self._clients)]
            left_ms = int((deadline - time.monotonic()) * 1000)
            try_ms = left_ms if len(self._clients) == 1 else max(min(left_ms, TRY_MIN_MS), int(left_ms * TRY_SHARE))
            try:
                answer = self._ask(client, method, request, try_ms)
            except NodeUnreachable as error:
                failure: NodeUnreachable | OutcomeUnknown | OperatorUnavailable = error
                unreachable += 1
                silent[str(client.address)] = None
            except OutcomeUnknown as error:
                failure = unknown = error
                silent[str(client.address)] = None
            except OperatorUnavailable as error:
                # Another balancer may see the managers that this one has lost; nothing was done, so asking costs nothing.
                failure = error
                unavailable += 1
            except (WorldFailure, RateLimited) as error:
                # "Locked by others" is said of this try alone; it may be the earlier one's locks that stood in its way.
                if unknown is None or not isinstance(request, messages.Write | messages.HoldMany):
                    raise
                raise _naming(unknown, silent) from error
            else:
                self._preferred = number % len(self._clients)
                if unknown is not None and isinstance(answer, messages.HoldManyAnswer):
                    _doubt(answer, unknown)
                return answer
            number += 1
            tried_all = (number - self._preferred) % len(self._clients) == 0
            # Where one balancer is dead and its twin sees no managers yet, the twin is just starting: it is asked to the end.
            starting = unavailable and unreachable
            if unknown is None and not starting and unavailable + unreachable >= ROUNDS_UNREACHABLE_MAX * len(self._clients):
                raise _naming(failure, silent)
            if tried_all:
                wait_ms = random.uniform(pause_ms / 2, pause_ms)
                pause_ms = min(2 * pause_ms, PAUSE_LAST_MS)
                self._closed.wait(min(wait_ms / 1000, max(0.0, deadline - time.monotonic())))
            if time.monotonic() + 0.01 >= deadline or self._closed.is_set():
                # One try without an answer makes the whole outcome unknown, whatever later tries met.
                raise _naming(unknown or failure, silent)

    def close(self) -> None:
        """Close the connections; calls in flight end as they may."""
        self._closed.set()
        for client in self._clients:
            client.close()

    def _ask(self, client: EdgeClient, method: str, request: messages.Request, try_ms: int) -> messages.Answer:
        budget_ms = max(10, try_ms - min(RETURN_MS, try_ms // 4))
        payload = messages.encode(msgspec.structs.replace(request, deadline_ms=budget_ms))
        reply = client.call(method, payload, max(1, try_ms))
        answer: messages.Answer = messages.decode_answer(method, reply)
        return answer


def _doubt(answer: messages.HoldManyAnswer, unknown: OutcomeUnknown) -> None:
    """Let no hold of many be told as not done by a later try than one without an answer, unless its ledger says so."""
    for result in answer.results:
        kind = type_of_code.get(str(result.error.get("code", "")))
        if kind is not None and issubclass(kind, WorldFailure | RateLimited):
            said = OutcomeUnknown(unknown.detail, request_id=str(result.error.get("request_id", "")), **unknown.fields)
            result.error = said.to_data()


def _naming(failure: Failure, silent: Collection[str]) -> Failure:
    """Return the failure with everybody who gave no answer in it: the last one asked is not the only one at fault."""
    others = [address for address in silent if address not in failure.detail]
    if others:
        failure.detail = f"{failure.detail}; no answer from {', '.join(others)} either"
    failure.fields["silent"] = list(silent)
    return failure
