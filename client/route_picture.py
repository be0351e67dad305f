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
    boxes = [_mark(canvas, spot, size) for spot in spots]
    font = ImageFont.load_default(NAME_SIZE * SCALE)
    for spot in spots:
        _name(canvas, spot, size, font, boxes)
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
    boxes: list[Box],
) -> None:
    """Write a place's code beside its mark, on the first side where nothing stands yet."""
    x, y = _point(spot, size)
    left, top, right, bottom = canvas.textbbox((0, 0), spot.place.code, font=font)
    wide, high, gap = right - left, bottom - top, 8 * SCALE
    for at_x, at_y in ((x + gap, y - high / 2), (x - gap - wide, y - high / 2), (x - wide / 2, y - gap - high), (x - wide / 2, y + gap)):
        box = (at_x, at_y, at_x + wide, at_y + high)
        inside = box[0] >= 0 and box[1] >= 0 and box[2] <= size[0] and box[3] <= size[1]
        if inside and not any(box[0] < other[2] and other[0] < box[2] and box[1] < other[3] and other[1] < box[3] for other in boxes):
            canvas.text((at_x - left, at_y - top), spot.place.code, fill=NAME, font=font)
            boxes.append(box)
            return
