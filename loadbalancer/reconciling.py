"""What follows from the anchor's word on a basket: the proof before a decision, and what the other operators are told. Pure.

`basket` is what the query "baskets" gives at the anchor, or what the anchor answered to a command, with `evidence` added.
Nothing here depends on who asks or how often: every balancer that looks at the same record sends the same commands, and each
of them finds its own effect when it comes again (B9).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datastore import commands
from datastore.errors import HoldExpired
from datastore.model import BasketState, HoldState
from loadbalancer.itinerary import Reply, Send
from loadbalancer.travellers import leg_record, record_digest

OPEN = (BasketState.PENDING, BasketState.PAYING)


def other_operators(basket: Mapping[str, Any]) -> list[str]:
    """Return the operators of a basket's legs but its anchor, each once, in the order of travel."""
    found = dict.fromkeys(leg[0] for leg in basket["legs"])
    return [operator for operator in found if operator != anchor_of(basket["hold_id"])]


def anchor_of(basket_id: str) -> str:
    """Return who decides on the basket."""
    return basket_id.partition(".")[0]


def proven_holds(basket: Mapping[str, Any], legs: Mapping[str, Mapping[str, Any] | None]) -> tuple[tuple[str, int], ...]:
    """Return (operator, lsn) of every other operator's holds, as its own linearizable answer shows them (Z4).

    Args:
        legs: Operator -> its answer to the query "leg".
    Raises:
        HoldExpired: One does not hold its legs for this basket: nothing may be decided, and no money may move.
    """
    found = []
    for operator in other_operators(basket):
        leg = legs.get(operator)
        if leg is None or leg["state"] != HoldState.ACTIVE or not leg["numbers"]:
            raise HoldExpired(
                f"{operator} does not hold its seats for {basket['hold_id']}", hold_id=basket["hold_id"], operator=operator, why="not held"
            )
        found.append((operator, int(leg["lsn"])))
    return tuple(found)


def leg_digests(basket: Mapping[str, Any], operator: str, record: bytes) -> tuple[tuple[bytes, ...], dict[bytes, bytes]]:
    """Return an operator's side records for its legs: their digests in order, and digest -> record."""
    seated = basket["seated"] or [range(len(leg[2])) for leg in basket["legs"]]
    records = [leg_record(record, number, leg[2], seated[number]) for number, leg in enumerate(basket["legs"]) if leg[0] == operator]
    digests = tuple(record_digest(one) for one in records)
    return digests, {digest: one for digest, one in zip(digests, records, strict=True) if digest}


def follow(basket: Mapping[str, Any], operators: Sequence[str] | None = None) -> list[Send]:
    """Return what the other operators are to be told of a basket (B5, B6, B8, Z11).

    Args:
        operators: Whom to tell; None means all that the record has as undone.
    """
    told = basket["undone"] if operators is None else operators
    return [_word_to(basket, operator) for operator in told]


def _word_to(basket: Mapping[str, Any], operator: str) -> Send:
    basket_id, evidence = basket["hold_id"], _evidence(basket)
    state = BasketState(basket["basket_state"])
    if state in OPEN:
        left_ms = max(1, basket["expires_ms"] - basket["now_ms"])
        return Send(operator, commands.LegDue("", b"", basket_id, left_ms, evidence))
    if state == BasketState.COMMITTED:
        digests, sides = leg_digests(basket, operator, basket["record"])
        lsn = dict(tuple(pair) for pair in basket["holds"]).get(operator, 0)
        kept = tuple(tuple(leg[2]) for leg in basket["legs"] if leg[0] == operator)
        heard = dict(tuple(pair) for pair in basket["heard"]).get(operator, "")
        return Send(operator, commands.Finalise("", b"", basket_id, lsn, basket["reference"], digests, evidence, kept, heard), sides)
    return Send(operator, commands.ReleaseLegs("", b"", basket_id, basket["owner"], anchor_of(basket_id), evidence))


def _evidence(basket: Mapping[str, Any]) -> commands.Evidence:
    epoch, lsn, digest = basket["evidence"]
    return int(epoch), int(lsn), bytes(digest)


def done(basket: Mapping[str, Any], replies: Mapping[str, Reply]) -> commands.LegsDone | None:
    """Return what the anchor is to be told of who followed; None where nobody did, or nothing was decided."""
    followed = tuple(operator for operator, reply in replies.items() if not reply.error and reply.value.get("done"))
    if not followed or basket["basket_state"] in OPEN:
        return None
    return commands.LegsDone("", b"", basket["hold_id"], followed, int(basket["basket_state"]), _evidence(basket)[1])


def alarms(basket: Mapping[str, Any], replies: Mapping[str, Reply]) -> list[str]:
    """Return what should never be: an operator that has not what the anchor sold, though it said that it held it (B5)."""
    if basket["basket_state"] != BasketState.COMMITTED:
        return []
    found = []
    for operator, reply in replies.items():
        missing = reply.error.get("code") == "unknown_hold" if reply.error else not reply.value.get("done")
        if missing:
            found.append(f"{operator} has not what {basket['hold_id']} sold: {dict(reply.error or reply.value)}")
    return found
