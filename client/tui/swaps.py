"""Other seats for the passengers of one leg: whose turn it is, what was chosen for whom. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from datastore.messages import SeatInfo


@dataclass
class Swaps:
    """Seats of a leg as they are booked, and those wished for instead.

    Attributes:
        seats: As booked, in the order of the passengers.
        wished: seat as booked -> the one wished for instead.
        turn: Place in `seats` of the passenger for whom is chosen now.
    """

    seats: list[str]
    wished: dict[str, str] = field(default_factory=dict)
    turn: int = 0

    def choose(self, seat: SeatInfo) -> str:
        """Take a free seat for whose turn it is, take a wish back, or turn to the passenger of a seat; return why not, else ""."""
        whose = next((old for old, new in self.wished.items() if new == seat.seat_id), None)
        if whose is not None:
            del self.wished[whose]
            self.turn = self.seats.index(whose)
            return ""
        if seat.seat_id in self.seats:
            self.turn = self.seats.index(seat.seat_id)
            return ""
        if seat.state != "available":
            return f"{seat.designator} is not free"
        self.wished[self.seats[self.turn]] = seat.seat_id
        self.turn = next((place for place, one in enumerate(self.seats) if one not in self.wished), self.turn)
        return ""

    def next_turn(self) -> None:
        self.turn = (self.turn + 1) % len(self.seats)

    def lose(self, seat_ids: set[str]) -> list[str]:
        """Take back the wishes for seats that others were faster to take; return those seats."""
        lost = [old for old, new in self.wished.items() if new in seat_ids]
        return [self.wished.pop(old) for old in lost]

    def pairs(self) -> list[tuple[str, str]]:
        """Return (seat given up, seat taken) in the order of the passengers."""
        return [(old, self.wished[old]) for old in self.seats if old in self.wished]
