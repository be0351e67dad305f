"""The network as a PNG picture (Pillow): the thicker a route the more often it is served, the larger a place the busier."""

from __future__ import annotations

from math import log2
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from client.routemap import Spot, layout
from datastore.messages import RoutesAnswer

WIDTH, HEIGHT_MIN, HEIGHT_MAX = 1600, 700, 1600
SCALE = 2  # Drawn larger and reduced: smooth lines.
PAPER, ROUTE, PLACE, NAME = "#ffffff", (0, 114, 178, 70), "#d55e00", "#222222"
NAME_SIZE = 15
NAMED_OVER = 5  # The busiest places have their names, though these stand over other marks.


def write(answer: RoutesAnswer, path: Path) -> None:
    """Draw the network into a file.

    Raises:
        OSError: It cannot be written. ValueError: Its ending names no kind of picture.
    """
    drawn = layout(answer)
    high = max(HEIGHT_MIN, min(HEIGHT_MAX, round(WIDTH / drawn.shape)))
    size = (WIDTH * SCALE, high * SCALE)
    picture = Image.new("RGB", size, PAPER)
    canvas = ImageDraw.Draw(picture, "RGBA")
    for route in sorted(answer.routes, key=lambda route: route.weekly):
        one, two = drawn.spots.get(route.origin), drawn.spots.get(route.destination)
        if one is not None and two is not None:
            thickness = max(1, round(SCALE * (0.5 + log2(1 + route.weekly) / 3)))
            canvas.line([_point(one, size), _point(two, size)], fill=ROUTE, width=thickness)
    spots = sorted(drawn.spots.values(), key=lambda spot: (-spot.weight, spot.place.code))
    marks = [_mark(canvas, spot, size) for spot in spots]
    names: list[Box] = []
    font = ImageFont.load_default(NAME_SIZE * SCALE)
    for number, spot in enumerate(spots):
        _name(canvas, spot, size, font, marks, names, over_marks=number < NAMED_OVER)
    picture.resize((WIDTH, high), Image.Resampling.LANCZOS).save(path)


Box = tuple[float, float, float, float]


def _point(spot: Spot, size: tuple[int, int]) -> tuple[float, float]:
    return spot.x * size[0], spot.y * size[1]


def _mark(canvas: ImageDraw.ImageDraw, spot: Spot, size: tuple[int, int]) -> Box:
    x, y = _point(spot, size)
    radius = SCALE * (2 + log2(1 + spot.weight) / 2.5)
    box = (x - radius, y - radius, x + radius, y + radius)
    canvas.ellipse(box, fill=PLACE)
    return box


def _name(
    canvas: ImageDraw.ImageDraw,
    spot: Spot,
    size: tuple[int, int],
    font: ImageFont.FreeTypeFont | ImageFont.ImageFont,
    marks: list[Box],
    names: list[Box],
    *,
    over_marks: bool,
) -> None:
    """Write a place's code beside its mark, on the first side where nothing stands yet; `over_marks`: else over the fewest marks."""
    x, y = _point(spot, size)
    left, top, right, bottom = canvas.textbbox((0, 0), spot.place.code, font=font)
    wide, high, gap = right - left, bottom - top, 8 * SCALE
    free: list[tuple[int, Box]] = []
    for at_x, at_y in ((x + gap, y - high / 2), (x - gap - wide, y - high / 2), (x - wide / 2, y - gap - high), (x - wide / 2, y + gap)):
        box = (at_x, at_y, at_x + wide, at_y + high)
        if box[0] >= 0 and box[1] >= 0 and box[2] <= size[0] and box[3] <= size[1]:
            met = sum(_meet(box, mark) for mark in marks)
            if not any(_meet(box, name) for name in names) and (not met or over_marks):
                free.append((met, box))
    if free:
        _, box = min(free, key=lambda one: one[0])
        canvas.text((box[0] - left, box[1] - top), spot.place.code, fill=NAME, font=font, stroke_width=SCALE, stroke_fill=PAPER)
        names.append(box)


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
