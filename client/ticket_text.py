"""What a ticket's page says, line by line, from its code's facts. Pure: the page is drawn from this, and proved against it.

Letters that the ticket's font has not are written in Latin ones (`anyascii`, ISC licence): a name in another script is still read by
whoever checks it, and stands in its own letters in the code.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import NamedTuple

from anyascii import anyascii

from datastore.passengers import TYPES
from datastore.ticket_codes import Segment, TicketFacts

Printable = Callable[[str], bool]


class Line(NamedTuple):
    """A label and what stands beside it; `large` for what is read from afar."""

    label: str
    text: str
    large: bool = False


def printable_text(text: str, has_glyph: Printable) -> str:
    """Return the text with each word that the font cannot print in Latin letters."""
    return " ".join(word if all(map(has_glyph, word)) else anyascii(word) or "?" for word in text.split())


def ticket_lines(facts: TicketFacts, has_glyph: Printable) -> list[Line]:
    """Return the page's head."""

    def shown(text: str) -> str:
        return printable_text(text, has_glyph)

    issued = datetime.fromtimestamp(facts.issued_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    kind = TYPES.get(facts.type, facts.type).partition(",")[0]
    lines = [
        Line("Passenger", shown(f"{facts.surname}/{facts.given}"), True),
        Line("Type", f"{facts.type} ({kind})"),
        Line("Booking", facts.reference, True),
        Line("Ticket", f"{facts.number}-{facts.check_digit}"),
        Line("Issued by", shown(f"{facts.operator_name} ({facts.operator})")),
        Line("Issued", issued),
    ]
    # In parts: a line of the page is not as long as a receipt.
    head, _, digest = facts.receipt.rpartition(":")
    return lines + ([Line("Receipt", head), Line("", digest)] if head else [])


def segment_lines(segment: Segment, has_glyph: Printable) -> list[Line]:
    """Return one segment's lines."""

    def end(code: str, name: str, moment: str) -> str:
        day, _, clock = moment.partition("T")
        return printable_text(f"{day} {clock[:5]}  {code}  {name}", has_glyph)

    lines = [
        Line(f"Coupon {segment.coupon}", segment.service_id, True),
        Line("Operated by", printable_text(f"{segment.operator_name} ({segment.operator})", has_glyph)),
    ]
    if segment.departs:
        lines.append(Line("Departs" if segment.destination else "Begins", end(segment.origin, segment.origin_name, segment.departs)))
    if segment.destination:
        lines.append(Line("Arrives", end(segment.destination, segment.destination_name, segment.arrives)))
    return [*lines, Line("Seat", segment.seat, True)]


def all_lines(facts: TicketFacts, has_glyph: Printable) -> list[Line]:
    """Return everything that a ticket says, in the order of its page."""
    found = ticket_lines(facts, has_glyph)
    for segment in facts.segments:
        found += segment_lines(segment, has_glyph)
    return found
