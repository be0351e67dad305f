"""Answers as tables and lines for a terminal: what the commands print without --json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from rich.text import Text

from client import inputs, seatmap, travellers
from client.tables import STAYS, Rows, folded
from datastore import messages
from datastore.model import Passenger
from datastore.passengers import LAP_INFANT

if TYPE_CHECKING:
    from rich.console import Console

VERDICT_STYLES = {"ok": "#009E73", "degraded": "#E69F00", "down": "#D55E00"}


def pairs() -> Rows:
    """Return an empty table of names and values; a value may take several lines."""
    return Rows("name", "value", fold=("value",), headed=False)


def heading(console: Console, text: str) -> None:
    """Print a line about what follows, broken where it must be between words: a date stays whole."""
    for line in folded(text, console.width):
        console.print(Text(line), soft_wrap=True)


def clock(milliseconds: int) -> str:
    """Return UTC milliseconds as the local time of this machine."""
    return datetime.fromtimestamp(milliseconds / 1000).strftime("%Y-%m-%d %H:%M:%S")


def local_time(text: str, day: str) -> str:
    """Return the clock time of an ISO instant at its place, with the days after `day`: "06:15+1"."""
    moment = datetime.fromisoformat(text)
    later = (moment.date() - datetime.fromisoformat(day).date()).days
    return moment.strftime("%H:%M") + (f"{later:+d}" if later else "")


def route(service: messages.ServiceInfo) -> str:
    """Return "JFK → MIA" for a journey, the hall for a showing."""
    return f"{service.origin} → {service.destination}" if service.destination else service.origin


def services(console: Console, answer: messages.ServicesAnswer) -> None:
    """Print a page of services."""
    headings = ("SERVICE", "ROUTE", "DEPARTS", "ARRIVES", "WHAT", "FREE", "FROM", "STATE")
    rows = Rows(*headings, right=("FREE", "FROM"), drop=("WHAT", "ROUTE", "ARRIVES"))
    for service in answer.services:
        departs, arrives = local_time(service.departs, service.date), local_time(service.arrives, service.date)
        what = service.title or service.operator_name
        price = str(service.from_price) if service.from_price is not None else "-"
        rows.add_row(service.service_id, route(service), departs, arrives, what, f"{service.free}/{service.capacity}", price, service.state)
    rows.print(console)


def service_line(service: messages.ServiceInfo) -> str:
    """Return one line about a service."""
    ends = f"{service.origin_name} to {service.destination_name}" if service.destination else service.origin_name
    title = f"{service.title}, " if service.title else ""
    times = f"{service.date} {local_time(service.departs, service.date)} to {local_time(service.arrives, service.date)}"
    state = "" if service.state == "open" else f", {service.state}"
    layout = f", {service.layout_name}" if service.layout_name != ends else ""  # A hall is its own layout: named once.
    return f"{service.service_id}  {title}{service.operator_name}, {ends}, {times}{layout}{state}"


def brief_line(service: messages.ServiceInfo) -> str:
    """Return one short line about a service, for a narrow terminal."""
    times = f"{service.date} {local_time(service.departs, service.date)} to {local_time(service.arrives, service.date)}"
    return f"{service.service_id}  {service.title or route(service)}, {service.operator_name}, {times}"


def seat_map(console: Console, answer: messages.SeatMapAnswer) -> None:
    """Print a seat map as wide as the console."""
    heading(console, service_line(answer.service))
    console.print()
    for line in seatmap.draw(answer, console.width):
        console.print(Text.assemble(*((span.text, seatmap.COLOURS[span.role]) for span in line)), soft_wrap=True)
    console.print(f"prices: {answer.service.price_label}; seen {clock(answer.as_of_ms)}")


def seats(console: Console, found: Sequence[messages.SeatInfo]) -> None:
    """Print seats one a line."""
    rows = Rows("SEAT", "STATE", "CABIN", "ZONE", "PRICE", "WHERE", right=("PRICE",), drop=("WHERE", "ZONE"))
    for seat in found:
        state = "yours" if seat.mine else seat.state
        where = [word for word, true in (("window", seat.window), ("aisle", seat.aisle), ("exit", seat.exit)) if true]
        where += ["accessible"] if seat.accessible else []
        reason = f" ({seat.reason})" if seat.reason else ""
        rows.add_row(seat.designator, state + reason, seatmap.cabin_name(seat.cabin), seat.zone, str(seat.price), ", ".join(where))
    rows.print(console)


def leg_line(leg: messages.LegInfo) -> str:
    """Return one leg of a trip: the service, the seats with their prices."""
    priced = (f"{seat} {price}".replace(" ", STAYS) for seat, price in zip(leg.seats, leg.prices, strict=False))
    return f"{leg.service_id}: {', '.join(priced)}"


def hold(console: Console, answer: messages.HoldAnswer) -> None:
    """Print one hold."""
    rows = pairs()
    priced = ", ".join(f"{seat} {price}".replace(" ", STAYS) for seat, price in zip(answer.seats, answer.prices, strict=False))
    rows.add_row("hold", answer.hold_id)
    if answer.legs:
        for leg in answer.legs:
            rows.add_row("leg", leg_line(leg))
    else:
        rows.add_row("service", answer.service_id)
        rows.add_row("seats", priced or ", ".join(answer.seats))
    rows.add_row("total", f"{answer.total}, {answer.refundable_percent} % refundable")
    rows.add_row("state", answer.state + (f", booking {answer.reference}" if answer.reference else ""))
    if answer.state == "active":
        rows.add_row("until", f"{clock(answer.expires_ms)} ({inputs.duration_text(answer.remaining_ms)} left)")
    rows.print(console)


def holds(console: Console, found: Sequence[messages.HoldAnswer]) -> None:
    """Print holds one a line."""
    rows = Rows("HOLD", "SERVICE", "SEATS", "TOTAL", "STATE", "LEFT", right=("TOTAL",), drop=("SEATS",), below="SEATS")
    for one in found:
        left = inputs.duration_text(one.remaining_ms) if one.state == "active" else "-"
        services = " + ".join(leg.service_id for leg in one.legs) or one.service_id
        taken = [seat for leg in one.legs for seat in leg.seats] or one.seats
        rows.add_row(one.hold_id, services, " ".join(taken), str(one.total), one.state, left)
    rows.print(console)


def order(console: Console, answer: messages.OrderAnswer) -> None:
    """Print one order; names of a reduced record are initials."""
    rows = pairs()
    rows.add_row("booking", f"{answer.reference} ({answer.state})")
    whole = messages.LegInfo(
        operator=answer.operator,
        service_id=answer.service_id,
        seats=answer.seats,
        prices=answer.prices,
        total=answer.total,
        refundable_percent=answer.refundable_percent,
        service=answer.service,
    )
    for number, leg in enumerate(answer.legs or [whole], 1):
        rows.add_row("service", service_line(leg.service) if leg.service is not None else leg.service_id)
        fare_rows(rows, answer.price_parts, number, answer.passengers)
    for ticket in answer.tickets:
        rows.add_row("ticket", ticket_line(ticket))
    rows.add_row("total", f"{answer.total}, {answer.refundable_percent} % refundable")
    if answer.refund is not None:
        rows.add_row("refund", str(answer.refund))
    if answer.retained is not None:
        rows.add_row("kept", f"{answer.retained} of what was given up")
    if answer.available_actions:
        rows.add_row("actions", ", ".join(word.replace("_", " ") for word in answer.available_actions))
    if answer.action_required:
        rows.add_row("decide", answer.action_required)
    for stamp, what in answer.history:
        rows.add_row("history", f"{clock(stamp)}  {what}")
    rows.add_row("receipt", answer.receipt)
    rows.print(console)


def fare_rows(rows: Rows, parts: Sequence[messages.FarePart], leg: int, passengers: Sequence[Passenger]) -> None:
    """Add a row for each passenger of a leg: the seat, what it costs and who has it; infants on laps have their adults'."""
    for part in (part for part in parts if part.leg == leg):
        who = travellers.described(passengers[part.passenger - 1]) if part.passenger else ""
        rows.add_row("lap" if part.type == LAP_INFANT else "seat", f"{part.seat_id:<5} {part.amount!s:>14}  {who}")


def ticket_line(ticket: messages.TicketInfo) -> str:
    """Return a ticket on one line: its number, whose it is, and what has become of its coupons."""
    kind = "" if ticket.type in ("", "ADT") else f"{ticket.type} "
    coupons = ", ".join(
        f"{number} {coupon.service_id.partition('-')[0]} {coupon.seat_id} {coupon.status}".replace(" ", STAYS)
        for number, coupon in enumerate(ticket.coupons, 1)
    )
    return f"{ticket.number}-{ticket.check_digit}  {kind}{ticket.name}  coupons: {coupons}"


def party(console: Console, answer: messages.PartyPriced) -> None:
    """Print what a party pays for a hold."""
    rows = pairs()
    rows.add_row("hold", answer.hold_id)
    for number, leg in enumerate(answer.legs, 1):
        rows.add_row("service", leg.service_id)
        fare_rows(rows, answer.price_parts, number, answer.passengers)
    rows.add_row("total", str(answer.total))
    rows.print(console)


def orders(console: Console, found: Sequence[messages.OrderAnswer]) -> None:
    """Print orders one a line."""
    rows = Rows("BOOKING", "STATE", "SERVICE", "SEATS", "TOTAL", "MADE", right=("TOTAL",), drop=("SEATS", "MADE"), below="SEATS")
    for one in found:
        services = " + ".join(leg.service_id for leg in one.legs) or one.service_id
        taken = [seat for leg in one.legs for seat in leg.seats] or one.seats
        rows.add_row(one.reference, one.state, services, " ".join(taken), str(one.total), clock(one.created_ms))
    rows.print(console)


def manifest(console: Console, answer: messages.ManifestAnswer) -> None:
    """Print who sits where."""
    heading(console, service_line(answer.service))
    headings = ("SEAT", "TYPE", "SURNAME", "GIVEN", "BOOKING", "TICKET", "REQUESTS", "DOCUMENT")
    rows = Rows(*headings, shorten=("GIVEN", "SURNAME"), drop=("DOCUMENT", "TICKET", "REQUESTS", "TYPE"))
    for line in answer.lines:
        document = f"{line.document.country} {line.document.number}" if line.document is not None else ""
        rows.add_row(line.seat_id, line.type, line.surname, line.given, line.reference, line.ticket, " ".join(line.requests), document)
    rows.print(console)
    for seat, reason in answer.blocked:
        console.print(f"blocked {seat}: {reason}")
    booked = sum(line.type != LAP_INFANT for line in answer.lines)
    laps = f", {len(answer.lines) - booked} on laps" if booked < len(answer.lines) else ""
    console.print(f"{booked} booked{laps}, {answer.held} held, {len(answer.blocked)} blocked, {answer.free} free")


def status(console: Console, answer: messages.StatusAnswer, addresses: Mapping[str, str]) -> None:
    """Print the cluster: its processes, then one line for all operators that are well and one for each that is not.

    Args:
        addresses: Where the configuration has each process, for those of which the balancer does not know it.
    """
    rows = Rows("PROCESS", "KIND", "ADDRESS", "STATE", "UP", "DETAIL", fold=("DETAIL",), drop=("KIND",))
    for line in answer.processes:
        up = inputs.duration_text(line.uptime_ms) if line.uptime_ms else "-"
        state = Text(line.state or line.verdict, VERDICT_STYLES.get(line.verdict, ""))
        rows.add_row(line.name, line.kind, line.address or addresses.get(line.name, ""), state, up, line.detail)
    rows.print(console)
    if answer.paused:
        console.print(f"\nautomatic failover is {answer.paused}", soft_wrap=True)
    well = [line for line in answer.partitions if line.verdict == "ok"]
    primaries: dict[str, int] = {}
    for partition in answer.partitions:
        if partition.primary:
            primaries[partition.primary] = primaries.get(partition.primary, 0) + 1
    spread = ", ".join(f"{node} {count}" for node, count in sorted(primaries.items())) or "none"
    console.print(f"\n{len(well)} of {len(answer.partitions)} operators in order; primaries: {spread}")
    for partition in answer.partitions:
        if partition.changing:
            console.print(f"  {partition.operator}: {partition.changing}", soft_wrap=True)
        if partition.verdict != "ok":
            lags = ", ".join(f"{node} {lag} behind" for node, lag in partition.replicas.items())
            console.print(f"  {partition.operator}: {partition.verdict}, primary {partition.primary or 'none'}; {lags}")


def copies(console: Console, found: Sequence[messages.PartitionLine]) -> None:
    """Print every copy of every operator: who has it, as what, and how far it is."""
    headings = ("OPERATOR", "NODE", "ROLE", "EPOCH", "LSN", "BEHIND", "LAG", "VERIFIED TO", "DETAIL")
    rows = Rows(*headings, right=("EPOCH", "LSN", "BEHIND", "LAG", "VERIFIED TO"), fold=("DETAIL",), drop=("EPOCH", "LSN", "VERIFIED TO"))
    for line in found:
        for copy in line.copies:
            words = (
                line.changing if copy.node == line.primary else "",
                f"recovery: {copy.recovery}" if copy.recovery else "",
                f"put aside: {copy.aside}" if copy.aside else "",
            )
            numbers = (str(copy.epoch), str(copy.lsn), str(copy.behind), f"{copy.behind_ms / 1000:.1f} s", str(copy.verified_lsn))
            rows.add_row(line.operator, copy.node, copy.role, *numbers, "; ".join(filter(None, words)))
    rows.print(console)


def locks(console: Console, answer: messages.LocksAnswer) -> None:
    """Print the locks that stand: what is locked, by whom, for how long yet, and where."""
    rows = Rows("LOCKED", "BY", "LEFT", "ON SERVERS", right=("LEFT",))
    for lock in answer.locks:
        rows.add_row(lock.key, lock.holder, *lock_words(lock, answer))
    if answer.locks:
        rows.print(console)


def lock_words(lock: messages.LockLine, answer: messages.LocksAnswer) -> tuple[str, str]:
    """Return how long a lock stands yet, and on how many servers: fewer than a quorum is nobody's yet, or nobody's any more."""
    few = "" if len(lock.servers) >= answer.quorum else ", no quorum"
    return f"{lock.left_ms / 1000:.1f} s", f"{len(lock.servers)} of {answer.asked}{few}"
