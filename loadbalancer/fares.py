"""What a seat costs: stated by the operator, or by the documented formula where a timetable states nothing. Pure.

The formula (integer arithmetic throughout, whole currency units at the end):

    base     = 39.00 + 0.105 a mile up to 1,000 miles + 0.070 a mile beyond;  12.00 where nobody travels
    cabin    × 4.5 (F), 3.0 (J), 1.5 (W), 1.0 (Y and any other), 0.75 (BALCONY)
    zone     × 1.20 (A), 1.00 (B and any other), 0.85 (C), 0.70 (D)
    days     × 0.80 from 60 days before departure, 0.90 from 30, 1.00 from 14, 1.25 from 7, 1.50 from 3, 1.80 nearer;
               always 1.00 where nobody travels

Passengers that are no adults pay a percentage of the adult's price, rounded half up to the minor unit:

    child (CHD) 75, infant with a seat (INS) 75, infant on a lap (INF) 10, unless the timetable states others;
    what an infant on a lap costs is added to its adult's seat

Refunds where the operator states nothing: the whole price in F and J, 80 % in all other cabins; for seats of several
cabins in one hold, the least of theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from datastore.model import DAY_MS, Layout, Passenger, Schedule
from datastore.passengers import CHILD, LAP_INFANT, SEATED_INFANT, on_laps
from loadbalancer.party import seats_by_zone

LABEL_STATED = "stated by the operator"
LABEL_FORMULA = "formula"
CURRENCY = "USD"

BASE_MINOR = 3_900
BASE_SHOW_MINOR = 1_200
MILE_MILLI = 10_500  # thousandths of a minor unit
MILE_FAR_MILLI = 7_000
FAR_MILES = 1_000
CABIN_PERMILLE = {"F": 4_500, "J": 3_000, "W": 1_500, "BALCONY": 750}
ZONE_PERMILLE = {"A": 1_200, "C": 850, "D": 700}
DAYS_PERMILLE = ((60, 800), (30, 900), (14, 1_000), (7, 1_250), (3, 1_500))
LAST_DAYS_PERMILLE = 1_800
ROUND_MINOR = 100
REFUND_PERCENT = {"F": 100, "J": 100}
REFUND_PERCENT_OTHERS = 80


CHILD_PERCENT = 75
INFANT_SEAT_PERCENT = 75
INFANT_PERCENT = 10


class PriceTable(NamedTuple):
    """A service's prices at some time before its departure.

    Attributes:
        minor: (cabin, zone) -> price of a seat in minor units.
        refundable_percent: cabin -> what comes back on cancelling before departure.
        label: Where the prices come from.
        days: Whole days before departure for which they hold.
    """

    minor: dict[tuple[str, str], int]
    refundable_percent: dict[str, int]
    currency: str
    label: str
    days: int


def type_percent(schedule: Schedule, kind: str) -> int:
    """Return what a passenger of a type (`datastore.passengers.TYPES`) pays, in percent of the adult's price."""
    stated, default = {
        CHILD: (schedule.child_percent, CHILD_PERCENT),
        SEATED_INFANT: (schedule.infant_seat_percent, INFANT_SEAT_PERCENT),
        LAP_INFANT: (schedule.infant_percent, INFANT_PERCENT),
    }.get(kind, (100, 100))
    return default if stated < 0 else stated


def typed_fares(schedule: Schedule, prices: Sequence[int], passengers: Sequence[Passenger]) -> tuple[int, ...]:
    """Return what a party's seats cost, beside `prices` (the adults'); passengers as `passengers.check_party` orders them."""
    fares = [typed_fare(schedule, price, one.type) for price, one in zip(prices, passengers, strict=False)]
    laps = lap_fares(schedule, prices, passengers)
    return tuple(fare + lap for fare, lap in zip(fares, laps, strict=True))


def lap_fares(schedule: Schedule, prices: Sequence[int], passengers: Sequence[Passenger]) -> tuple[int, ...]:
    """Return what of a party's fares infants on laps pay, beside `prices`."""
    laps = [0] * len(prices)
    for one in on_laps(passengers):
        laps[one.with_adult - 1] += typed_fare(schedule, prices[one.with_adult - 1], LAP_INFANT)
    return tuple(laps)


def typed_fare(schedule: Schedule, price_minor: int, kind: str) -> int:
    """Return what a passenger of a type pays where an adult pays `price_minor`, in minor units."""
    return _share(price_minor, type_percent(schedule, kind))


def _share(price_minor: int, percent: int) -> int:
    return (price_minor * percent + 50) // 100


def days_ahead(departs_ms: int, now_ms: int) -> int:
    """Return the whole days left before departure; negative once it has gone."""
    return (departs_ms - now_ms) // DAY_MS


def fare_step(days: int) -> int:
    """Return which of the formula's steps by days serves: 0 is the farthest from departure, and prices never fall from one to the next."""
    return next((step for step, (least, _) in enumerate(DAYS_PERMILLE) if days >= least), len(DAYS_PERMILLE))


def days_of_step(step: int) -> int:
    """Return a number of days before departure that is in the step."""
    return DAYS_PERMILLE[step][0] if step < len(DAYS_PERMILLE) else 0


def price_table(schedule: Schedule, layout: Layout, days: int) -> PriceTable:
    """Return the price of every (cabin, zone) of the layout, `days` before departure."""
    stated = {(cabin, zone): minor for cabin, zone, minor in schedule.fares}
    minor = {}
    for cabin, zone in seats_by_zone(layout):
        price = stated.get((cabin, zone), stated.get((cabin, "")))
        minor[cabin, zone] = formula_minor(schedule, cabin, zone, days) if price is None else price
    percent = {cabin: _refund_percent(schedule, cabin) for cabin in layout.cabins}
    label = LABEL_STATED if stated else LABEL_FORMULA
    return PriceTable(minor, percent, schedule.currency or CURRENCY, label, days)


def formula_minor(schedule: Schedule, cabin: str, zone: str, days: int) -> int:
    """Return the formula's price of a seat in minor units."""
    permille = CABIN_PERMILLE.get(cabin, 1_000) * ZONE_PERMILLE.get(zone, 1_000)
    if schedule.destination:
        miles = max(0, schedule.distance_miles)
        base = BASE_MINOR * 1_000 + min(miles, FAR_MILES) * MILE_MILLI + max(0, miles - FAR_MILES) * MILE_FAR_MILLI
        permille *= next((factor for least, factor in DAYS_PERMILLE if days >= least), LAST_DAYS_PERMILLE)
    else:
        base = BASE_SHOW_MINOR * 1_000
        permille *= 1_000
    # `base` is in thousandths, `permille` a product of three factors; rounded half up to whole units.
    unit = ROUND_MINOR * 10**12
    return max(1, (base * permille + unit // 2) // unit) * ROUND_MINOR


def _refund_percent(schedule: Schedule, cabin: str) -> int:
    if schedule.refundable_percent >= 0:
        return min(100, schedule.refundable_percent)
    return REFUND_PERCENT.get(cabin, REFUND_PERCENT_OTHERS)
