"""Signs tickets: each operator has a key of its own, which follows from the cluster's one ticket secret.

The secret is a file of 0600 beside the administrator's key. A balancer that finds none makes one; balancers on several hosts must have
the same, or each signs with keys that the others' do not prove (docs/deployment.md).
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from datastore import messages, ticket_codes
from datastore.errors import ConfigInvalid, InvalidRequest, OrderNotPayable
from datastore.ticket_codes import Segment, TicketFacts
from loadbalancer.balancer import Balancer
from loadbalancer.booking import Booking
from loadbalancer.waiting import now_ms

SECRET_LENGTH_MIN = 16
PERSON = b"holdfast-signer"


class Signer:
    """The keys of all operators. With no folder they live as long as the process: for tests and trials."""

    def __init__(self, file: Path | None = None) -> None:
        """Read the secret, or make it.

        Raises:
            ConfigInvalid: It is there and cannot be used.
        """
        self._secret = secrets.token_bytes(32) if file is None else ensure_secret(file)

    def key(self, operator: str) -> Ed25519PrivateKey:
        """Return an operator's signing key; no operator's key leads to another's."""
        return Ed25519PrivateKey.from_private_bytes(
            blake2b(operator.encode(), key=blake2b(self._secret).digest(), digest_size=32, person=PERSON).digest()
        )

    def public_key(self, operator: str) -> str:
        """Return the public half as PEM."""
        return self.key(operator).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def ensure_secret(file: Path) -> bytes:
    """Return the secret of a file that only its owner may read, made at the first use.

    Raises:
        ConfigInvalid: Others may read it, or it is too short.
    """
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = file.with_name(f".{file.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        if not file.exists():
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="ascii") as made:
                made.write(secrets.token_urlsafe(32) + "\n")
                made.flush()
                os.fsync(made.fileno())
            try:
                os.link(draft, file)  # A link appears whole and never replaces: balancers that start at once read one secret.
            except FileExistsError:
                pass
            finally:
                draft.unlink(missing_ok=True)
        mode = file.stat().st_mode
        text = file.read_bytes().strip()
    except OSError as error:
        raise ConfigInvalid(f"{file}: {error}", file=str(file), key="-", reason=str(error)) from error
    if mode & 0o077 or len(text) < SECRET_LENGTH_MIN:
        reason = "others may read it; chmod 600 it" if mode & 0o077 else f"it is shorter than {SECRET_LENGTH_MIN} characters"
        raise ConfigInvalid(f"{file}: {reason}", file=str(file), key="-", reason=reason)
    return text


class Ticketing:
    """The handlers of signed tickets."""

    def __init__(self, balancer: Balancer, booking: Booking, signer: Signer) -> None:
        self._balancer = balancer
        self._booking = booking
        self._signer = signer

    def key(self, request: messages.GetTicketKey) -> messages.TicketKey:
        """Return the public key of an operator's tickets."""
        operator = request.operator.upper()
        self._balancer.catalogue.operator(operator)
        return messages.TicketKey(operator=operator, public_key=self._signer.public_key(operator))

    def tickets(self, request: messages.GetTickets) -> messages.TicketsAnswer:
        """Return a booking's tickets, signed as they are now.

        Raises:
            OrderNotPayable: None has an open coupon: the booking is cancelled, older than tickets, or its names were erased.
        """
        order = self._booking.owned(request.reference, request.token, now_ms() + request.deadline_ms)
        names = {leg.service_id: leg.service for leg in order.legs} | {order.service_id: order.service}
        signed = []
        place = 0
        key = self._signer.key(order.operator)
        view = self._balancer.catalogue.operators.get(order.operator)
        issuer = view.row.name if view is not None and view.row is not None else order.operator
        for ticket in order.tickets:
            is_open = [number for number, coupon in enumerate(ticket.coupons) if coupon.status == "open"]
            if not is_open or place >= len(order.passengers):
                continue
            person = order.passengers[place]
            place += 1
            if not person.surname:
                continue
            segments = tuple(_segment(number + 1, ticket.coupons[number], names) for number in is_open)
            facts = TicketFacts(
                order.operator,
                issuer,
                order.reference,
                ticket.number,
                ticket.check_digit,
                person.surname,
                person.given,
                person.type,
                order.created_ms,
                order.receipt,
                segments,
            )
            signed.append(messages.SignedTicket(ticket.number, ticket_codes.signed(facts, key)))
        if not signed:
            why = "its names were erased" if order.state == "confirmed" and order.tickets else f"it is {order.state}"
            raise OrderNotPayable(f"booking {order.reference} has no ticket to show: {why}", reference=order.reference, state=order.state)
        return messages.TicketsAnswer(
            reference=order.reference,
            operator=order.operator,
            tickets=signed,
            public_key=self._signer.public_key(order.operator),
        )

    def check(self, request: messages.CheckTicket) -> messages.TicketStanding:
        """Return whether a ticket still stands.

        Raises:
            InvalidRequest: It is no ticket's code, or was not signed here. UnknownOperator: Nobody here has issued it.
        """
        facts = ticket_codes.facts_of(request.code)
        self._balancer.catalogue.operator(facts.operator)
        if not ticket_codes.is_genuine(request.code, self._signer.key(facts.operator).public_key()):
            raise InvalidRequest("the code was not signed here: altered after it was issued, or forged", field="code")
        order = self._booking.of_operator(facts.operator, facts.reference, now_ms() + request.deadline_ms)

        def standing(state: str, wrong: list[str]) -> messages.TicketStanding:
            return messages.TicketStanding(
                reference=facts.reference, operator=facts.operator, number=facts.number, state=state, wrong=wrong
            )

        if order is None:
            return standing("unknown", [f"{facts.operator} has no booking {facts.reference} any more"])
        names = {leg.service_id: leg.service for leg in order.legs} | {order.service_id: order.service}
        ticket = next((one for one in order.tickets if one.number == facts.number), None)
        if ticket is None:
            return standing(order.state, [f"the booking has no ticket {facts.number}"])
        wrong = [reason for one in facts.segments for reason in _differing(one, ticket.coupons, names)]
        return standing(order.state, wrong)


def _differing(segment: Segment, coupons: Sequence[messages.CouponInfo], names: dict[str, messages.ServiceInfo | None]) -> list[str]:
    """Return how a segment of a ticket differs from the booking as it is now."""
    what = f"coupon {segment.coupon} ({segment.service_id}, seat {segment.seat})"
    # By its seat: a coupon's number moves when one before it is exchanged.
    found = [one.status for one in coupons if (one.service_id, one.seat_id) == (segment.service_id, segment.seat)]
    if "open" not in found:
        return [f"{what} is {found[-1]}" if found else f"{what} is not in the booking"]
    service = names.get(segment.service_id)
    if service is None or not segment.departs:
        return []
    wrong = [f"{what}: the service is {service.state}"] if service.state == "cancelled" else []
    if (service.departs, service.arrives) != (segment.departs, segment.arrives):
        wrong.append(f"{what} departs {service.departs} and arrives {service.arrives} now")
    return wrong


def _segment(number: int, coupon: messages.CouponInfo, names: dict[str, messages.ServiceInfo | None]) -> Segment:
    service = names.get(coupon.service_id)
    if service is None:
        return Segment(number, coupon.operator, coupon.operator, coupon.service_id, "", "", "", "", "", "", coupon.seat_id)
    ends = (service.origin, service.origin_name, service.destination, service.destination_name)
    return Segment(
        number, coupon.operator, service.operator_name, coupon.service_id, *ends, service.departs, service.arrives, coupon.seat_id
    )
