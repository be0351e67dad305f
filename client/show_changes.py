"""How quotes of cancellations and changes are printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from client.show import clock, leg_line, pairs
from client.tables import Rows

if TYPE_CHECKING:
    from rich.console import Console

    from datastore import messages


def quote(console: Console, answer: messages.QuoteAnswer) -> None:
    """Print what is given up by leg and passenger, what is taken, and what that comes to."""
    rows = Rows("LEG", "PASSENGER", "SERVICE", "SEAT", "PAID", "BACK", right=("PAID", "BACK"), shorten=("PASSENGER",))
    for line in answer.lines:
        who = f"{line.passenger} {line.name}".rstrip()
        rows.add_row(str(line.leg), who, line.service_id, line.seat, str(line.paid), f"{line.refund} ({line.refundable_percent} %)")
    rows.print(console)
    sums = pairs()
    for leg in answer.taken:
        sums.add_row("instead", leg_line(leg))
    if answer.difference is not None:
        sums.add_row("difference", str(answer.difference))
    if answer.to_pay is not None and answer.to_pay.minor:
        sums.add_row("to pay", str(answer.to_pay))
    else:
        sums.add_row("refund", str(answer.refund))
        sums.add_row("retained", str(answer.retained))
    sums.print(console)


def alternatives(console: Console, answer: messages.AlternativesAnswer) -> None:
    """Print the ways that are held instead of a service."""
    console.print(f"leg {answer.leg}, {answer.lost} {answer.why}", soft_wrap=True)
    rows = Rows("NO", "SERVICES", "DEPARTS", "ARRIVES", "SEATS", "HELD UNTIL")
    for one in answer.alternatives:
        services = " + ".join(leg.service_id for leg in one.legs)
        seats = " + ".join(" ".join(leg.seats) for leg in one.legs)
        rows.add_row(str(one.number), services, one.departs, one.arrives, seats, clock(one.expires_ms))
    if answer.alternatives:
        rows.print(console)
    else:
        console.print("nothing else goes there that can be had")
