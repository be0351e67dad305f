"""Tickets as PDF, a page or more each, with their code as QR; and PDF tickets read back: codes and text.

Drawn with ReportLab (BSD licence), read with pypdf (BSD licence). The font is a part of DejaVu Sans (client/fonts, its licence beside it):
Latin, Greek, Cyrillic, Armenian, Georgian and Hebrew letters; `ticket_text` says what becomes of others.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

import segno
from pypdf import PageObject, PdfReader
from pypdf.generic import ContentStream
from reportlab.lib.pagesizes import A4
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas

from client.ticket_text import Line, segment_lines, ticket_lines
from datastore.errors import HoldfastError, InvalidRequest
from datastore.ticket_codes import PREFIX, facts_of

FONT = "HoldfastSans"
FONT_FILE = Path(__file__).parent / "fonts" / "DejaVuSans-subset.ttf"
MARGIN, LABEL_WIDTH = 48.0, 92.0  # points
QR_SIDE = 190.0
SMALL, LARGE = 9.5, 13.0
LEADING = 1.5
TOP_LINE = "HOLDFAST  electronic ticket"
PDF_BYTES_MAX = 20_000_000
PAGES_MAX = 60  # Nine passengers with more segments than a basket has.
# Operators of a page (ISO 32000-1, annex A) that put something on it that is no text: paths and how they are painted, pictures, shadings.
DRAWING = frozenset(b"re m l c v y h S s f F f* B B* b b* Do sh".split()) | {b"INLINE IMAGE"}


@lru_cache(maxsize=1)
def _font() -> Any:
    font = TTFont(FONT, str(FONT_FILE))
    pdfmetrics.registerFont(font)
    return font


def has_glyph(letter: str) -> bool:
    """Return whether the ticket's font has a letter."""
    return ord(letter) in _font().face.charToGlyph


def pages(codes: Sequence[str]) -> bytes:
    """Return a PDF with these tickets.

    Raises:
        InvalidRequest: A code is none.
    """
    _font()
    out = io.BytesIO()
    canvas = Canvas(out, pagesize=A4, invariant=1)
    canvas.setTitle("Electronic tickets")
    canvas.setCreator("Holdfast")
    # What a reader takes from the file; the QR has the same.
    canvas.setKeywords(" ".join(codes))
    for code in codes:
        _Page(canvas, code).draw()
    canvas.save()
    return out.getvalue()


class _Page:
    """One ticket, from the top of a page; what does not fit goes on with the next."""

    def __init__(self, canvas: Canvas, code: str) -> None:
        self._canvas = canvas
        self._code = code
        self._facts = facts_of(code)
        self._width, self._height = A4
        self._y = self._height - MARGIN

    def draw(self) -> None:
        canvas = self._canvas
        self._head(TOP_LINE)
        top = self._y - 4
        self._qr(self._width - MARGIN - QR_SIDE, top - QR_SIDE)
        for line in ticket_lines(self._facts, has_glyph):
            self._line(line, below_qr=top - QR_SIDE)
        self._y = min(self._y - 10, top - QR_SIDE - 4)
        for segment in self._facts.segments:
            lines = segment_lines(segment, has_glyph)
            if self._y - LARGE * LEADING * (len(lines) + 1) < MARGIN:
                canvas.showPage()
                self._y = self._height - MARGIN
                self._head(f"{TOP_LINE} {self._facts.number}-{self._facts.check_digit}, continued")
            else:
                canvas.line(MARGIN, self._y, self._width - MARGIN, self._y)
            for line in lines:
                self._line(line)
            self._y -= 10
        canvas.showPage()

    def _head(self, text: str) -> None:
        self._canvas.setFont(FONT, LARGE)
        self._canvas.drawString(MARGIN, self._y, text)
        self._y -= 10
        self._canvas.line(MARGIN, self._y, self._width - MARGIN, self._y)

    def _line(self, line: Line, below_qr: float | None = None) -> None:
        canvas = self._canvas
        size = LARGE if line.large else SMALL
        self._y -= size * LEADING
        room = self._width - 2 * MARGIN - LABEL_WIDTH
        if below_qr is not None and self._y > below_qr:
            room -= QR_SIDE + 8
        canvas.setFont(FONT, SMALL)
        canvas.drawString(MARGIN, self._y, line.label)
        # A long name is written smaller, and never cut: what stands there is what was signed.
        wide = canvas.stringWidth(line.text, FONT, size)
        size = size if wide <= room else max(3.0, size * room / wide)
        canvas.setFont(FONT, size)
        canvas.drawString(MARGIN + LABEL_WIDTH, self._y, line.text)

    def _qr(self, left: float, bottom: float) -> None:
        code = segno.make(self._code, error="l", micro=False)
        rows = [list(row) for row in code.matrix_iter(border=2)]
        side = QR_SIDE / len(rows)
        squares = self._canvas.beginPath()
        for y, row in enumerate(rows):
            x = 0
            while x < len(row):
                run = x
                while run < len(row) and row[run]:
                    run += 1
                if run > x:
                    squares.rect(left + x * side, bottom + QR_SIDE - (y + 1) * side, (run - x) * side, side)
                x = run + 1
        self._canvas.drawPath(squares, stroke=0, fill=1)


@dataclass(frozen=True)
class Reading:
    """What a PDF ticket holds, whoever saved it last.

    Attributes:
        codes: Of the tickets.
        lines: Of text, on all pages.
        drawings: Of each page everything that is drawn and is no text, in order: lines, the squares of the QR code, pictures.
        noted: The pages (from 1) with something laid over them: notes, stamps, form fields.
    """

    codes: list[str]
    lines: list[str]
    drawings: list[list[str]]
    noted: list[int]


def read_pages(data: bytes) -> Reading:
    """Return what a PDF ticket holds.

    Raises:
        InvalidRequest: It is no PDF, or has no ticket's code.
    """
    if len(data) > PDF_BYTES_MAX:
        raise InvalidRequest(f"the file has {len(data)} bytes: no ticket is that large", field="file")
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # Its remarks on damaged files are no messages of ours.
    try:
        reader = PdfReader(io.BytesIO(data))
        if len(reader.pages) > PAGES_MAX:
            raise InvalidRequest(f"the file has {len(reader.pages)} pages: no booking's tickets have as many", field="file")
        words = str(reader.metadata.keywords or "").split() if reader.metadata is not None else []
        text = "\n".join(page.extract_text() for page in reader.pages)
        drawings = [_drawn(page, reader) for page in reader.pages]
        noted = [number for number, page in enumerate(reader.pages, 1) if page.get("/Annots")]
    except HoldfastError:
        raise
    except Exception as error:  # A damaged file ends the reader in any of a dozen ways, and it names few of them.
        raise InvalidRequest(f"the file cannot be read as a PDF: {error}", field="file") from error
    codes = [word for word in words if word.startswith(f"{PREFIX}.")]
    if not codes:
        raise InvalidRequest("the file has no ticket's code in it; scan its QR code and give that text", field="file")
    return Reading(codes, [" ".join(line.split()) for line in text.splitlines() if line.strip()], drawings, noted)


def _drawn(page: PageObject, reader: PdfReader) -> list[str]:
    contents = page.get_contents()
    if contents is None:
        return []
    operations = ContentStream(contents, reader).operations
    return [f"{name.decode('latin-1')} {' '.join(map(_amount, values))}" for values, name in operations if name in DRAWING]


def _amount(value: object) -> str:
    """Return an operand; programs that save a file again may write a number with fewer digits."""
    return f"{float(value):.1f}" if isinstance(value, int | float | Decimal) else str(value)


def differences(found: Reading) -> list[str]:
    """Return what the pages of a file show otherwise than its codes say: compared with pages made of the codes anew."""
    expected = read_pages(pages(found.codes))
    wrong = [f'the page says "{line}", which the code does not' for line in _less(found.lines, expected.lines)]
    wrong += [f'the page does not say "{line}", which the code does' for line in _less(expected.lines, found.lines)]
    if len(found.drawings) != len(expected.drawings):
        wrong.append(f"the file has {len(found.drawings)} pages, and its codes make {len(expected.drawings)}")
    for number, (some, others) in enumerate(zip(found.drawings, expected.drawings, strict=False), 1):
        if some != others:
            wrong.append(f"page {number}: the QR code or another drawing is not the one that its code makes")
    return wrong + [f"page {number}: something was laid over it, a note or a form field" for number in found.noted]


def _less(some: Sequence[str], others: Sequence[str]) -> list[str]:
    left = list(others)
    found = []
    for line in some:
        if line in left:
            left.remove(line)
        else:
            found.append(line)
    return found
