"""What of a line can be bought on a day: departures not gone, not closed, with room for the party, at the price of now. Pure.

Most services are as the timetable says, and cost nothing here. Those with seats taken or a state of their own are looked up one
by one; what they cost a party is remembered until a seat of theirs changes.
"""

from __future__ import annotations

from datastore.model import DAY_MS, ServiceState
from loadbalancer.clocks import DAY_MIN, iso, to_ms
from loadbalancer.fares import days_of_step, fare_step, price_table
from loadbalancer.party import PartyFare, free_by_zone, party_fare
from loadbalancer.search_index import Flight, Line, Row, SearchIndex, Trips

REMEMBERED_MAX = 50_000

SoldKey = tuple[str, int, str, int]  # service id, passengers, cabin, step


class Availability:
    """Reads prices and free seats out of the views. One thread at a time."""

    def __init__(self, index: SearchIndex) -> None:
        self.index = index
        self._sold: dict[SoldKey, tuple[object, int, PartyFare | None]] = {}

    def flights(self, line: Line, ordinal: int, day: int, passengers: int, cabin: str, now_ms: int) -> list[Flight]:
        """Return a line's flights of the local date `ordinal` that the party can buy, sorted by departure.

        Args:
            day: How many days after the first day looked at the date is: minutes are counted from there.
            now_ms: UTC; what has departed is left out.
        """
        trips = self.index.trips(line, ordinal)
        if not trips.listed:
            return []
        midnight = ordinal * DAY_MIN
        first, last = to_ms(midnight + trips.listed[0][0]), to_ms(midnight + trips.listed[-1][0])
        step = fare_step((first - now_ms) // DAY_MS)
        date = iso(ordinal)
        for view in line.views:
            if view.touched.get(date):
                break
        else:
            if first > now_ms and step == fare_step((last - now_ms) // DAY_MS):
                return trips.flights((passengers, cabin, step), day)
        return self._one_by_one(trips, ordinal, day, passengers, cabin, now_ms)

    def _one_by_one(self, trips: Trips, ordinal: int, day: int, passengers: int, cabin: str, now_ms: int) -> list[Flight]:
        date, midnight, shift = iso(ordinal), ordinal * DAY_MIN, day * DAY_MIN
        found: list[Flight] = []
        for departs, arrives, row in trips.listed:
            departs_ms = to_ms(midnight + departs)
            if departs_ms > now_ms:
                fare = self.fare(row, date, passengers, cabin, fare_step((departs_ms - now_ms) // DAY_MS))
                if fare is not None:
                    found.append((departs + shift, arrives + shift, fare.total_minor, row, day))
        return found

    def fare(self, row: Row, date: str, passengers: int, cabin: str, step: int) -> PartyFare | None:
        """Return what the party pays on a service now, or None where it is not on sale or has no room."""
        view = row.view
        ids = view.touched.get(date)
        service_id = row.prefix + date
        if not ids or service_id not in ids:
            return row.fare(passengers, cabin, step)
        state = view.services.get(service_id)
        if state is not None and state.state != ServiceState.OPEN:
            return None
        taken = view.taken.get(service_id)
        if not taken:
            return row.fare(passengers, cabin, step)
        changes = view.seat_changes.get(service_id, 0)
        key = (service_id, passengers, cabin, step)
        known = self._sold.get(key)
        if known is not None and known[0] is row and known[1] == changes:
            return known[2]
        table = price_table(row.schedule, row.layout, days_of_step(step))
        fare = party_fare(table.minor, free_by_zone(row.layout, list(taken)), passengers, cabin)
        if len(self._sold) >= REMEMBERED_MAX:
            self._sold.clear()
        self._sold[key] = (row, changes, fare)
        return fare
