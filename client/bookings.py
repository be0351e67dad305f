"""Confirming so that a lost answer costs nothing: the request id is written down before the question is sent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from client.api import new_request_id
from client.wallet import KeptOrder, Wallet
from datastore.errors import HoldfastError
from datastore.messages import OrderAnswer
from datastore.model import Passenger


class Confirms(Protocol):
    """What of the client is needed here."""

    def confirm(
        self, hold_id: str, passengers: Sequence[Passenger], *, request_id: str = "", payment_method: str = ""
    ) -> OrderAnswer:
        """Turn a hold into an order."""
        ...


def _noted(person: Passenger) -> str:
    kind = "" if person.type == "ADT" else f"/{person.type}"
    return f"{person.surname}/{person.given}{kind}"


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
    try:
        # A card is named only where there is one: who tells of no payments need not know of them.
        answer = client.confirm(hold_id, people, request_id=noted, **({"payment_method": card} if card else {}))
    except HoldfastError as error:
        # What waits for consent, or for the provider, goes on under the same request id.
        if not error.maybe_committed and error.code not in ("payment_action_required", "payments_unavailable"):
            wallet.settle(what)
        raise
    if answer.manage_token:
        wallet.keep(KeptOrder(answer.reference, answer.manage_token, answer.operator, answer.service_id, answer.receipt), what)
    return answer
