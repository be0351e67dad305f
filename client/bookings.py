"""Booking and changing so that a lost answer costs nothing: the request id is written down before the question is sent."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from typing import Protocol

from client.api import new_request_id
from client.wallet import KeptOrder, Wallet
from datastore.errors import HoldfastError
from datastore.messages import HoldAnswer, OrderAnswer
from datastore.model import Passenger

# Not refused for good: it goes on under the same request id, once the bank has its holder's consent or the provider answers.
PENDING_CODES = ("payment_action_required", "payments_unavailable")


class Confirms(Protocol):
    """What of the client is needed here."""

    def confirm(self, hold_id: str, passengers: Sequence[Passenger], *, request_id: str = "", payment_method: str = "") -> OrderAnswer:
        """Turn a hold into an order."""
        ...


class Alters(Protocol):
    """What of the client is needed to change a booking."""

    def change(self, reference: str, token: str, quote: str, *, payment_method: str = "", request_id: str = "") -> OrderAnswer:
        """Change an order as it was quoted."""
        ...

    def release(self, hold_id: str) -> HoldAnswer:
        """Give the seats of a hold back."""
        ...


def _noted(person: Passenger) -> str:
    kind = "" if person.type == "ADT" else f"/{person.type}"
    return f"{person.surname}/{person.given}{kind}"


def goes_on(error: HoldfastError) -> bool:
    """Return whether the same call again, under the same request id, gives what became of this one."""
    return error.maybe_committed or error.code in PENDING_CODES


@contextlib.contextmanager
def _settled_if_refused(wallet: Wallet, what: str) -> Iterator[None]:
    """Forget the request id of what was refused for good; what may have happened, or waits, goes on under it."""
    try:
        yield
    except HoldfastError as error:
        if not goes_on(error):
            wallet.settle(what)
        raise


def confirm(
    client: Confirms, wallet: Wallet, hold_id: str, people: Sequence[Passenger], request_id: str = "", card: str = ""
) -> OrderAnswer:
    """Turn a hold into an order and keep its manage token.

    The same call after a lost answer finds the booking, and its token: it goes under the request id that was noted first.

    Args:
        request_id: One that the caller insists on; "" takes the one under which the same confirm was begun before, or a new one.
        card: What pays, where the cluster takes payments.
    Raises:
        HoldfastError: The cluster's; where it may have happened the noted request id is kept.
    """
    what = f"confirm {hold_id} {'|'.join(map(_noted, people))}{f' {card}' if card else ''}"
    noted = request_id or wallet.pending(what, new_request_id())
    with _settled_if_refused(wallet, what):
        # A card is named only where there is one: who tells of no payments need not know of them.
        answer = client.confirm(hold_id, people, request_id=noted, **({"payment_method": card} if card else {}))
    if answer.manage_token:
        wallet.keep(KeptOrder(answer.reference, answer.manage_token, answer.operator, answer.service_id, answer.receipt), what)
    return answer


def change(client: Alters, wallet: Wallet, reference: str, token: str, quote: str, *, card: str = "", request_id: str = "") -> OrderAnswer:
    """Change a booking as it was quoted; the same call after a lost answer, or the bank's consent, goes on.

    Args:
        card: What pays the difference, where there is one to pay.
        request_id: One that the caller insists on; "" takes the one under which the same change was begun before, or a new one.
    Raises:
        HoldfastError: The cluster's; where it may have happened or goes on the noted request id is kept.
    """
    what = f"change {reference} {blake2b(quote.encode(), digest_size=8).hexdigest()}{f' {card}' if card else ''}"
    noted = request_id or wallet.pending(what, new_request_id())
    with _settled_if_refused(wallet, what):
        answer = client.change(reference, token, quote, payment_method=card, request_id=noted)
    wallet.settle(what)
    return answer


def take_alternative(client: Alters, wallet: Wallet, reference: str, token: str, quote: str, *, request_id: str = "") -> OrderAnswer:
    """Change a booking to one of the ways that are held for it, and give the seats of the others back."""
    held = wallet.alternatives(reference)
    answer = change(client, wallet, reference, token, quote, request_id=request_id)
    for other, hold_id in held:
        if other != quote:
            with contextlib.suppress(HoldfastError):  # It ends by itself.
                client.release(hold_id)
    wallet.keep_alternatives(reference, [])  # None of them can be taken any more.
    return answer
