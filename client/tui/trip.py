"""A trip being put together: its segments, and the seats chosen on each. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from client.seatmap import cabin_name
from datastore.messages import SeatInfo, ServiceInfo
from datastore.model import Money

STATE_WORDS = {"occupied": "taken", "blocked": "not sold"}


@dataclass
class Segment:
    """One service of the trip and the seats chosen there, in the order of choosing. `cabin`: what was offered; "" for any."""

    service: ServiceInfo
    seats: list[SeatInfo] = field(default_factory=list)
    cabin: str = ""


class Conflict(NamedTuple):
    """What stood in the way on one segment. `states`: seat -> what it is now; `lost`: which of them had been chosen here."""

    number: int
    service_id: str
    states: dict[str, str]
    lost: list[SeatInfo]

    @property
    def words(self) -> str:
        """Return "AR1140-EZE-2026-12-01: 12A held, 12B taken"."""
        names = {seat.seat_id: seat.designator for seat in self.lost}
        words = (f"{names.get(seat, seat)} {STATE_WORDS.get(state, state)}" for seat, state in self.states.items())
        return f"{self.service_id}: {', '.join(words)}"


@dataclass
class Trip:
    """What the traveller is about to hold: every segment needs a seat for each of the party.

    Attributes:
        offer: Of a search, for the best seats on all segments at the price shown there; "" without.
    """

    segments: list[Segment]
    party: int
    offer: str = ""

    @classmethod
    def of(cls, services: Sequence[ServiceInfo], party: int, offer: str = "", cabins: Sequence[str] = ()) -> Trip:
        """Return a trip with nothing chosen. `cabins`: of the seats offered on each service; none where there was no offer."""
        offered = cabins or [""] * len(services)
        return cls([Segment(service, cabin=cabin) for service, cabin in zip(services, offered, strict=True)], party, offer)

    @property
    def cabin(self) -> str:
        """Return the cabin that was offered on every segment; "" where they differ."""
        cabins = {segment.cabin for segment in self.segments}
        return cabins.pop() if len(cabins) == 1 else ""

    def number_of(self, service_id: str) -> int | None:
        """Return which segment a service is; None where it is not of the trip."""
        return next((number for number, one in enumerate(self.segments) if one.service.service_id == service_id), None)

    def refused(self, legs: Sequence[Mapping[str, object]]) -> list[Conflict]:
        """Give up the chosen seats that stood in the way of a hold; return all that did, in the order of travel.

        Args:
            legs: What `SeatUnavailable` says of each leg: {"service_id", "seats": [{"seat", "state"}]}.
        """
        conflicts = []
        for leg in legs:
            number = self.number_of(str(leg.get("service_id", "")))
            listed = leg.get("seats")
            rows = [one for one in listed if isinstance(one, Mapping)] if isinstance(listed, list) else []
            states = {str(one.get("seat")): str(one.get("state")) for one in rows}
            if number is None or not states:
                continue
            lost = self.lose(number, list(states))
            conflicts.append(Conflict(number, self.segments[number].service.service_id, states, lost))
        return sorted(conflicts, key=lambda one: one.number)

    @property
    def complete(self) -> bool:
        """Whether every segment has its seats."""
        return all(len(segment.seats) == self.party for segment in self.segments)

    def next_open(self, after: int) -> int | None:
        """Return the next segment, from the one behind `after` around, that lacks seats; None where none does."""
        count = len(self.segments)
        order = [(after + 1 + step) % count for step in range(count)]
        return next((number for number in order if len(self.segments[number].seats) < self.party), None)

    def totals(self) -> list[Money]:
        """Return what the chosen seats cost, one sum a currency."""
        sums: dict[str, int] = {}
        for segment in self.segments:
            for seat in segment.seats:
                sums[seat.price.currency] = sums.get(seat.price.currency, 0) + seat.price.minor
        return [Money(minor, currency) for currency, minor in sums.items()]

    def toggle(self, number: int, seat: SeatInfo) -> str:
        """Choose a seat on a segment or give it up; return why it cannot be chosen, "" where it was done."""
        seats = self.segments[number].seats
        known = next((one for one in seats if one.seat_id == seat.seat_id), None)
        if known is not None:
            seats.remove(known)
            return ""
        if seat.mine:
            return f"{seat.designator} is yours already"
        if seat.state != "available":
            word = {"held": "held by somebody", "occupied": "taken", "blocked": f"not sold{f': {seat.reason}' if seat.reason else ''}"}
            return f"{seat.designator} is {word.get(seat.state, seat.state)}"
        if len(seats) >= self.party:
            # One more than the party: the seat chosen first makes room, as a picker for one does.
            seats.pop(0)
        seats.append(seat)
        return ""

    def lose(self, number: int, seat_ids: Sequence[str]) -> list[SeatInfo]:
        """Give up seats that others were faster to take; return those that had been chosen."""
        segment = self.segments[number]
        lost = [seat for seat in segment.seats if seat.seat_id in seat_ids]
        segment.seats = [seat for seat in segment.seats if seat.seat_id not in seat_ids]
        return lost


def seat_words(seat: SeatInfo) -> list[str]:
    """Return what there is to say of a seat, a fact a line."""
    place = [word for word, given in (("window", seat.window), ("aisle", seat.aisle)) if given] or ["middle"]
    if seat.exit:
        place.append("exit row")
    lines = [f"{seat.designator}  {cabin_name(seat.cabin)}{f', zone {seat.zone}' if seat.zone else ''}", ", ".join(place), str(seat.price)]
    if seat.exit:
        lines.append("exit row: adults who can help only")
    if seat.accessible:
        lines.append("for people who use a wheelchair")
    state = {"available": "free", "held": "held by somebody", "occupied": "taken", "blocked": "not sold"}.get(seat.state, seat.state)
    lines.append("yours" if seat.mine else state + (f": {seat.reason}" if seat.reason else ""))
    return lines
