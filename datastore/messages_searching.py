"""Searching between a client and a load balancer: trips, calendars, the network and its paths. Pure."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from datastore.messages_base import Answer, Limit, OperatorCode, Request, Text, Word
from datastore.messages_looking import PlaceInfo, ServiceInfo
from datastore.model import Money

OfferId = Annotated[str, Meta(max_length=1000)]
PartySize = Annotated[int, Meta(ge=1, le=400)]
Airlines = Annotated[tuple[OperatorCode, ...], Meta(max_length=100)]
StopsMax = Annotated[int, Meta(ge=0, le=2)]


class SearchTrips(Request, frozen=True, kw_only=True):
    """Trips from a place to a place on a local date; `return_date` "" is one way.

    Attributes:
        origin, destination: A code ("EZE"), or the name of a city, which means all its places.
        sort: "price", "duration", "arrival", "departure" or "stops".
    """

    origin: Text
    destination: Text
    date: Word
    return_date: Word = ""
    passengers: PartySize = 1
    stops_max: StopsMax = 2
    cabin: Word = ""
    airlines: Airlines = ()
    sort: Word = "price"
    limit: Limit = 50


class PricePart(msgspec.Struct):
    """`count` seats of one cabin and zone, `each` so much for an adult; `types`: what a "CHD", "INS" or "INF" pays there."""

    cabin: str
    zone: str
    count: int
    each: Money
    types: dict[str, Money] = msgspec.field(default_factory=dict)


class TripLeg(msgspec.Struct):
    """One service of a trip. `seats_left`: free seats of the offered cabin; `total`: for the whole party."""

    service: ServiceInfo
    parts: list[PricePart]
    total: Money
    seats_left: int
    refundable_percent: int


class Layover(msgspec.Struct):
    """The wait between two legs. `least_min`: the minimum connecting time there; `overnight`: past local midnight."""

    place: str
    place_name: str
    minutes: int
    least_min: int
    changes_airline: bool
    overnight: bool


class Trip(msgspec.Struct):
    """One way to travel.

    Attributes:
        offer: What a hold carries to get this trip at this price; it holds nothing.
        expires_ms: When the offer expires, UTC.
        days_later: Local dates between departure and arrival.
        seats_left: How many parties' seats are left on the fullest leg, counted in seats.
        why: Why it is worth showing: what no other trip does better.
    """

    offer: str
    expires_ms: int
    origin: str
    destination: str
    departs: str
    arrives: str
    departs_ms: int
    arrives_ms: int
    days_later: int
    duration_min: int
    stops: int
    legs: list[TripLeg]
    layovers: list[Layover]
    airlines: list[str]
    changes_airline: bool
    seats_left: int
    total: Money
    refundable_percent: int
    why: str


class TripsAnswer(Answer, kw_only=True):
    """`outbound`, `inbound`: the ways there and back; `more`: trips beyond the limit, of both."""

    origins: list[PlaceInfo]
    destinations: list[PlaceInfo]
    passengers: int
    outbound: list[Trip]
    inbound: list[Trip]
    more: int
    as_of_ms: int


class Calendar(Request, frozen=True, kw_only=True):
    """The lowest price of each day of a month ("2026-12")."""

    origin: Text
    destination: Text
    month: Word
    passengers: PartySize = 1
    stops_max: StopsMax = 2
    cabin: Word = ""
    airlines: Airlines = ()


class CalendarDay(msgspec.Struct):
    """`lowest`: None where nothing is on sale. `services`: of the cheapest trip, the earliest to arrive among equals."""

    date: str
    lowest: Money | None
    stops: int = 0
    duration_min: int = 0
    services: list[str] = []


class CalendarAnswer(Answer, kw_only=True):
    origins: list[PlaceInfo]
    destinations: list[PlaceInfo]
    passengers: int
    days: list[CalendarDay]
    as_of_ms: int


class Routes(Request, frozen=True, kw_only=True):
    """The network: what runs in the week from `date` on; `airlines` empty means all."""

    date: Word
    airlines: Airlines = ()


class RoutePlace(msgspec.Struct):
    code: str
    name: str
    city: str
    country: str
    latitude: float
    longitude: float


class RouteInfo(msgspec.Struct):
    """`weekly`: services in the week."""

    origin: str
    destination: str
    airlines: list[str]
    weekly: int
    miles: int


class RoutesAnswer(Answer, kw_only=True):
    places: list[RoutePlace]
    routes: list[RouteInfo]


class Paths(Request, frozen=True, kw_only=True):
    """All simple paths between two places of up to `legs` legs, whatever the times: what runs in the week from `date` on."""

    origin: Text
    destination: Text
    date: Word
    legs: Annotated[int, Meta(ge=1, le=5)] = 3
    airlines: Airlines = ()
    limit: Limit = 50


class PathInfo(msgspec.Struct):
    """`airlines`, `weekly`: of each leg. `combinations`: of one service of the week on each leg."""

    places: list[str]
    airlines: list[list[str]]
    weekly: list[int]
    combinations: int
    miles: int


class PathsAnswer(Answer, kw_only=True):
    """`count`, `combinations`, `by_legs`: of all paths, `complete` or as far as was counted; `paths`: the first, by legs and miles."""

    count: int
    combinations: int
    by_legs: dict[int, int]
    complete: bool
    paths: list[PathInfo]
