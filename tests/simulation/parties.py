"""Parties that leave the choice of seats to the system: what balancers chose for them, noted as they sent it."""

from __future__ import annotations

from typing import Any, NamedTuple

from datastore.commands import Chosen
from datastore.model import LayoutSpec, Section
from loadbalancer.basket import Basket, HoldDraft
from loadbalancer.itineraries import Itineraries
from loadbalancer.itinerary import Itinerary
from loadbalancer.selling import Selling

# Small enough to try every choice, large enough for parties to be split, and with places that leave single seats behind.
HALL = LayoutSpec(
    "T20",
    "Eighteen seats",
    (
        Section("J", "A", ("1",), ("A", "", "C")),
        Section("Y", "B", ("2", "3", "4"), ("A", "B", "C", "", "D", "E")),
        Section("S", "C", ("5",), ("D",)),  # the seat that nobody fights for
    ),
)
SEATS = ("1A", "1C", *(f"{row}{letter}" for row in (2, 3, 4) for letter in "ABCDE"))


class Noted(NamedTuple):
    """A choice that was sent to be proved under its lock."""

    seats: tuple[str, ...]
    chosen: Chosen


# Hold -> what was chosen for it, by one try of its request or by several; None: by one that takes it as it is, because an earlier
# one had chosen it, or because it is the last of many.
Notes = dict[str, list[Noted | None]]


class NotingSelling(Selling):
    """Notes what is chosen for holds of one service."""

    def __init__(self, notes: Notes, *rest: Any) -> None:
        super().__init__(*rest)
        self._notes = notes

    def _basket_of(self, *rest: Any) -> Basket:
        basket = super()._basket_of(*rest)
        draft = basket.draft
        if isinstance(draft, HoldDraft):
            self._notes.setdefault(draft.hold_id, []).append(None if draft.chosen is None else Noted(draft.seats, draft.chosen))
        return basket


class NotingItineraries(Itineraries):
    """Notes what is chosen for the legs of trips."""

    def __init__(self, notes: Notes, *rest: Any) -> None:
        super().__init__(*rest)
        self._notes = notes

    def _drive(self, machine: Itinerary, *rest: Any) -> Any:
        plan = machine.plan
        for number, leg in enumerate(plan.legs):
            chosen = plan.chosen[number] if plan.chosen else None
            self._notes.setdefault(f"{plan.basket_id}.{number}", []).append(None if chosen is None else Noted(leg.seats, chosen))
        return super()._drive(machine, *rest)
