"""The questions of the Python client about the network: trips, calendars, routes, paths. `client.api.Holdfast` has them all."""

from __future__ import annotations

from collections.abc import Sequence

from client.asking import Asking
from datastore import messages


class Searches(Asking):
    """What a client asks with; `Holdfast` is one."""

    def search(
        self,
        origin: str,
        destination: str,
        date: str,
        *,
        return_date: str = "",
        passengers: int = 1,
        stops_max: int = 2,
        cabin: str = "",
        airlines: Sequence[str] = (),
        sort: str = "price",
        limit: int = 50,
    ) -> messages.TripsAnswer:
        """Return the trips that no other beats in arrival, duration, stops and price at once, over all operators.

        Args:
            origin, destination: A place's code, or a city's name, which means all its places.
            sort: "price", "duration", "arrival", "departure" or "stops".
        """
        request = messages.SearchTrips(
            origin=origin,
            destination=destination,
            date=date,
            return_date=return_date,
            passengers=passengers,
            stops_max=stops_max,
            cabin=cabin,
            airlines=tuple(airlines),
            sort=sort,
            limit=limit,
        )
        return self._ask("search", request, messages.TripsAnswer)

    def calendar(
        self, origin: str, destination: str, month: str, *, passengers: int = 1, stops_max: int = 2, cabin: str = ""
    ) -> messages.CalendarAnswer:
        """Return the lowest price of each day of a month (YYYY-MM)."""
        request = messages.Calendar(
            origin=origin,
            destination=destination,
            month=month,
            passengers=passengers,
            stops_max=stops_max,
            cabin=cabin,
        )
        return self._ask("calendar", request, messages.CalendarAnswer)

    def routes(self, date: str, *, airlines: Sequence[str] = ()) -> messages.RoutesAnswer:
        """Return the network: which places are joined by what runs in the week from `date` on."""
        request = messages.Routes(date=date, airlines=tuple(airlines))
        return self._ask("routes", request, messages.RoutesAnswer)

    def paths(
        self, origin: str, destination: str, date: str, *, legs: int = 3, airlines: Sequence[str] = (), limit: int = 50
    ) -> messages.PathsAnswer:
        """Return all simple paths between two places of up to `legs` legs, counted, the first `limit` listed; times play no part."""
        request = messages.Paths(
            origin=origin,
            destination=destination,
            date=date,
            legs=legs,
            airlines=tuple(airlines),
            limit=limit,
        )
        return self._ask("paths", request, messages.PathsAnswer)
