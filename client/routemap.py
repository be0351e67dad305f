"""Where places and routes go on a drawing, and the drawing in a terminal's characters. Pure.

The projection is equirectangular, true to scale at the middle latitude: straight lines, and no surprise near the date line, because
the map is cut where the widest stretch without a place is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from math import cos, radians
from typing import NamedTuple

from datastore.messages import RoutePlace, RoutesAnswer

BRAILLE = 0x2800
# Bit of each dot of a Braille character, by column and row (Unicode 15, Braille Patterns).
DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
DOT_COLUMNS, DOT_ROWS = 2, 4
MARGIN = 0.04
MARK = "●"


class Spot(NamedTuple):
    """A place on the drawing: `x` and `y` from 0 to 1, from the left and from the top; `weight`: services a week."""

    place: RoutePlace
    x: float
    y: float
    weight: int


class Map(NamedTuple):
    """Spots by code, and how much wider than high the drawn part of the world is."""

    spots: dict[str, Spot]
    shape: float


def layout(answer: RoutesAnswer) -> Map:
    """Return where each place with coordinates goes."""
    known = [place for place in answer.places if place.latitude or place.longitude]
    if not known:
        return Map({}, 1.0)
    weights: dict[str, int] = {}
    for route in answer.routes:
        for code in (route.origin, route.destination):
            weights[code] = weights.get(code, 0) + route.weekly
    west = _western_edge([place.longitude for place in known])
    across = [(place.longitude - west) % 360 for place in known]
    south, north = min(place.latitude for place in known), max(place.latitude for place in known)
    scale = cos(radians((south + north) / 2))
    # A single place, or places on one line, still need some room.
    width, height = max(max(across) * scale, 1.0), max(north - south, 1.0)
    spots = {
        place.code: Spot(
            place,
            MARGIN + (1 - 2 * MARGIN) * (east * scale / width),
            MARGIN + (1 - 2 * MARGIN) * ((north - place.latitude) / height),
            weights.get(place.code, 0),
        )
        for place, east in zip(known, across, strict=True)
    }
    return Map(spots, width / height)


def sketch(answer: RoutesAnswer, columns: int, lines_max: int) -> list[str]:
    """Return the network in lines of text: routes as dots, places as marks, names where there is room, the busiest first."""
    drawn = layout(answer)
    if not drawn.spots:
        return ["no place has coordinates"]
    # A character is about twice as high as it is wide.
    lines = max(4, min(lines_max, round(columns / drawn.shape / 2)))
    dots = [[0] * columns for _ in range(lines)]
    for route in answer.routes:
        one, two = drawn.spots.get(route.origin), drawn.spots.get(route.destination)
        if one is not None and two is not None:
            for x, y in _line(*_dot(one, columns, lines), *_dot(two, columns, lines)):
                dots[y // DOT_ROWS][x // DOT_COLUMNS] |= DOTS[x % DOT_COLUMNS][y % DOT_ROWS]
    cells = [[chr(BRAILLE + bits) if bits else " " for bits in row] for row in dots]
    taken = [[False] * columns for _ in range(lines)]
    busiest = sorted(drawn.spots.values(), key=lambda spot: (-spot.weight, spot.place.code))
    for spot in busiest:
        x, y = _cell(spot, columns, lines)
        cells[y][x], taken[y][x] = MARK, True
    for spot in busiest:
        _write(spot.place.code, *_cell(spot, columns, lines), cells, taken)
    return ["".join(row).rstrip() for row in cells]


def _write(code: str, x: int, y: int, cells: list[list[str]], taken: list[list[bool]]) -> None:
    """Write a name beside its mark where nothing else was written."""
    for start in (x + 1, x - len(code)):
        span = range(start, start + len(code))
        if span[0] >= 0 and span[-1] < len(cells[y]) and not any(taken[y][column] for column in span):
            for column, letter in zip(span, code, strict=True):
                cells[y][column], taken[y][column] = letter, True
            return


def _western_edge(longitudes: Sequence[float]) -> float:
    """Return the longitude at which the widest gap between places ends."""
    around = sorted({longitude % 360 for longitude in longitudes})
    gaps = [(east - west, east) for west, east in pairwise([*around, around[0] + 360])]
    return max(gaps, key=lambda gap: gap[0])[1] % 360


def _cell(spot: Spot, columns: int, lines: int) -> tuple[int, int]:
    return min(columns - 1, int(spot.x * columns)), min(lines - 1, int(spot.y * lines))


def _dot(spot: Spot, columns: int, lines: int) -> tuple[int, int]:
    wide, high = columns * DOT_COLUMNS, lines * DOT_ROWS
    return min(wide - 1, int(spot.x * wide)), min(high - 1, int(spot.y * high))


def _line(x: int, y: int, x_end: int, y_end: int) -> Iterator[tuple[int, int]]:
    """Yield the dots of a straight line, both ends included (J. E. Bresenham, IBM Systems Journal 4(1), 1965)."""
    wide, high = abs(x_end - x), -abs(y_end - y)
    right, down = 1 if x < x_end else -1, 1 if y < y_end else -1
    error = wide + high
    while True:
        yield x, y
        if (x, y) == (x_end, y_end):
            return
        doubled = 2 * error
        if doubled >= high:
            error += high
            x += right
        if doubled <= wide:
            error += wide
            y += down
