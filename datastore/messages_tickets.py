"""Signed tickets and the keys that prove them. Pure."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from datastore.messages_base import Answer, OperatorCode, Request, Secret, Word

CODE_CHARACTERS_MAX = 8_000


class GetTickets(Request, frozen=True, kw_only=True):
    """The signed codes of a booking's tickets that have an open coupon; by its manage token."""

    reference: Word
    token: Secret


class SignedTicket(msgspec.Struct):
    """`code`: see `datastore.ticket_codes`."""

    number: str
    code: str


class TicketsAnswer(Answer, kw_only=True):
    """`public_key`: of the operator that issued them, PEM."""

    reference: str
    operator: str
    tickets: list[SignedTicket]
    public_key: str


class GetTicketKey(Request, frozen=True, kw_only=True):
    """The public key with which an operator's tickets are proved. Anybody may ask."""

    operator: OperatorCode


class TicketKey(Answer, kw_only=True):
    operator: str
    public_key: str


class CheckTicket(Request, frozen=True, kw_only=True):
    """Whether a ticket still stands. Who has the code of a genuine one may ask: it says all of the ticket already."""

    code: Annotated[str, Meta(max_length=CODE_CHARACTERS_MAX)]


class TicketStanding(Answer, kw_only=True):
    """`wrong`: in what the booking differs from what the ticket says, a sentence each; [] is nothing. `state`: of the booking."""

    reference: str
    operator: str
    number: str
    state: str
    wrong: list[str]
