"""Broken rules of the best available (Z3, Z5, Z8)."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

from datastore import engine, legs, wire
from datastore.commands import Chosen
from loadbalancer import itineraries, proposing, selling, tries
from tests.simulation.cluster import Parts
from tests.simulation.faults import mutation, replaced


@mutation("the best seats are not proved under their lock", "Z8", "parties", quick=True)
def _unproved(_: Parts, stack: ExitStack) -> None:
    for module in (engine, legs):
        stack.enter_context(replaced(module, "check_chosen", lambda *_: None))


@mutation("the best seats are proved by their single seats alone", "Z8", "parties", quick=True)
def _orphans_only(_: Parts, stack: ExitStack) -> None:
    whole = engine.check_chosen

    def check(batch: Any, layout: Any, service_id: str, seats: Any, chosen: Any) -> None:
        whole(batch, layout, service_id, seats, Chosen(chosen.orphans_max, others=chosen.others))

    for module in (engine, legs):
        stack.enter_context(replaced(module, "check_chosen", check))


@mutation("sold out is said of what a view shows", "Z8", "parties", quick=True)
def _told_by_view(_: Parts, stack: ExitStack) -> None:
    for owner in (selling.Selling, itineraries.Itineraries):
        stack.enter_context(replaced(owner, "_look_closer", _of_view))


def _of_view(self: Any, one: Any, other: Any, *rest: Any) -> Any:
    """Judge by the balancer's own view, from which nothing could be proposed."""
    is_trip = isinstance(self, itineraries.Itineraries)
    sale, wanted = (one.sale, one) if is_trip else (one, other)
    view = self._balancer.catalogue.operators[sale.operator]
    known = proposing.Known(set(view.taken.get(wanted.service_id) or ()), view.lsn)
    lacking = proposing._lacking(sale, wanted, known)
    if lacking is not None:
        raise lacking
    if is_trip:
        return self._proposals.propose(sale, wanted, view, known, wanted.parts, alone=True)
    return known


@mutation("a leg whose time is over counts as taken until its anchor has told", "Z5", "parties", quick=True)
def _in_doubt_is_taken(_: Parts, stack: ExitStack) -> None:
    stack.enter_context(replaced(proposing.Doubt, "of", classmethod(lambda *_: [])))


def _unwritten(balancer: Any, operator: str, request_id: str, digest: bytes, refusal: Any, *_: Any) -> wire.Outcome:
    return wire.failure(refusal)


@mutation("that there is no room for a party is not written down", "Z3, Z8", "parties")
def _unwritten_holds(_: Parts, stack: ExitStack) -> None:
    stack.enter_context(replaced(selling, "refuse", _unwritten))


@mutation("that there is no room for a trip is not written down", "Z3, Z8", "parties")
def _unwritten_trips(_: Parts, stack: ExitStack) -> None:
    stack.enter_context(replaced(tries, "refuse", _unwritten))


@mutation("a repeat does not look for the trip that an earlier try chose", "Z3", "parties", quick=True)
def _forgets_trip(_: Parts, stack: ExitStack) -> None:
    stack.enter_context(replaced(tries, "ATTEMPTS_LOOKED_AHEAD", 0))
