"""Checks of all copies and exports, as a client asks for them: questions repeated until there is an answer, within a deadline."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import cast

from client.comparing import common_lsn, lsn_to_come
from datastore import messages
from datastore.errors import HoldfastError, OperatorUnavailable

POLL_S = 0.1
# How far ahead of the furthest copy replicas are asked to note their digests; doubled while one was faster.
MARGIN_ENTRIES = 20
COMPARE_S = 10.0
PAGE_ENTRIES = 500

Call = Callable[[str, messages.Request], messages.Answer]


def compare(call: Call, admin_key: str, operators: Sequence[str], *, deep: bool = False, deep_s: float = 600.0) -> messages.CheckAnswer:
    """Return what all copies say, digests at an lsn that all of them share wherever that can be had.

    Args:
        call: Asks a balancer (`Holdfast.call`).
        deep: Wait for a full check of every copy too, up to `deep_s`.
    Raises:
        HoldfastError: The cluster cannot answer.
    """
    answer = _check(call, admin_key, operators)
    pause = threading.Event()
    margin, end = MARGIN_ENTRIES, time.monotonic() + COMPARE_S
    while (apart := _apart(answer)) and time.monotonic() < end:
        at = {operator: lsn_to_come(copies, margin) for operator, copies in apart.items()}
        margin = min(2 * margin, 10_000)
        _take_in(answer, _check(call, admin_key, list(at), at))
        waited = time.monotonic() + 1.0
        while apart.keys() & _apart(answer).keys() and time.monotonic() < waited:
            pause.wait(POLL_S)
            _take_in(answer, _check(call, admin_key, list(at)))
    if deep:
        _wait_deep(call, admin_key, operators, answer, deep_s)
    return answer


def _check(
    call: Call, admin_key: str, operators: Sequence[str], at: dict[str, int] | None = None, *, deep: bool = False
) -> messages.CheckAnswer:
    request = messages.CheckCluster(admin_key=admin_key, operators=list(operators), at=at or {}, deep=deep, deadline_ms=30_000)
    return cast(messages.CheckAnswer, call("check", request))


def _apart(answer: messages.CheckAnswer) -> dict[str, list[messages.CopyState]]:
    """Return operator -> copies, of those that have no lsn in common."""
    found: dict[str, list[messages.CopyState]] = {}
    for copy in answer.copies:
        found.setdefault(copy.operator, []).append(copy)
    return {operator: copies for operator, copies in found.items() if not common_lsn(copies)}


def _take_in(answer: messages.CheckAnswer, news: messages.CheckAnswer) -> None:
    """Lay newer answers of copies over older ones; digests that were noted before stay known."""
    newer = {(copy.operator, copy.node): copy for copy in news.copies}
    for copy in answer.copies:
        fresh = newer.pop((copy.operator, copy.node), None)
        if fresh is not None:
            fresh.digests = list({**dict(copy.digests), **dict(fresh.digests)}.items())
    kept = [copy for copy in answer.copies if (copy.operator, copy.node) not in {(one.operator, one.node) for one in news.copies}]
    answer.copies = [*kept, *news.copies]
    answer.silent = news.silent


def _wait_deep(call: Call, admin_key: str, operators: Sequence[str], answer: messages.CheckAnswer, deep_s: float) -> None:
    """Begin a full check of every copy and wait until each has ended.

    Raises:
        OperatorUnavailable: Not all ended in time; they go on.
    """
    begun = _check(call, admin_key, operators, deep=True)
    wanted = {(copy.operator, copy.node): copy.check for copy in begun.copies}
    end = time.monotonic() + deep_s
    pause = threading.Event()
    while True:
        now = _check(call, admin_key, operators)
        _take_in(answer, now)
        done = {(copy.operator, copy.node): copy.checks_done for copy in now.copies}
        left = [place for place, number in wanted.items() if done.get(place, number) < number]
        if not left:
            return
        if time.monotonic() > end:
            operator, node = left[0]
            raise OperatorUnavailable(f"{len(left)} full checks have not ended, e.g. {operator} at {node}; they go on by themselves")
        pause.wait(5 * POLL_S)


def ledger_pages(call: Call, key: str, operator: str) -> Iterator[list[bytes]]:
    """Yield all committed entries of an operator, sealed, in order.

    Raises:
        HoldfastError: The cluster cannot answer; what was yielded stays true.
    """
    lsn = 1
    while True:
        request = messages.LedgerPage(key=key, operator=operator, from_lsn=lsn, limit=PAGE_ENTRIES)
        page = cast(messages.LedgerPageAnswer, patiently(call, "ledger_page", request)).entries
        if not page:
            return
        yield page
        lsn += len(page)


def patiently(call: Call, method: str, request: messages.Request, patience_s: float = 20.0) -> messages.Answer:
    """Return the answer, asking again while the cluster says that asking again is right."""
    end = time.monotonic() + patience_s
    pause = threading.Event()
    while True:
        try:
            return call(method, request)
        except HoldfastError as error:
            if not error.retryable or time.monotonic() > end:
                raise
        pause.wait(POLL_S)


def persons(call: Call, operator_key: str, operator: str, *, reference: str = "", name: str = "") -> list[messages.PersonFound]:
    """Return the bookings of an operator that name a person."""
    found: list[messages.PersonFound] = []
    after: str | None = ""
    while after is not None:
        request = messages.FindPerson(operator_key=operator_key, operator=operator, reference=reference, name=name, after=after)
        page = cast(messages.PersonsAnswer, patiently(call, "find_person", request))
        found += page.found
        after = page.next
    return found


def erase(call: Call, operator_key: str, operator: str, found: messages.PersonFound, name: str) -> messages.ErasedAnswer:
    """Erase the passengers of one record that match `name`, all where it is ""."""
    request = messages.ErasePerson(
        request_id=f"erase-{secrets.token_hex(12)}",
        operator_key=operator_key,
        operator=operator,
        reference=found.reference,
        record=found.record,
        name=name,
    )
    return cast(messages.ErasedAnswer, patiently(call, "erase_person", request))
