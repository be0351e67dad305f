"""The commands of a basket over several operators, and of its payment; and holds in bulk. Pure.

`datastore.wire` has those of one operator alone. Two things are alike in all of those of baskets:

- A basket's life has few states and none comes twice, so what is said again finds its own effect and changes nothing.
  Only refusals that a caller was told are recorded under a request id (Z2): HOLD_LEGS and DECIDE carry one, the others "".
- What follows a decision of the anchor carries the position of the anchor's log at which it stood, as evidence (Z5).
"""

from __future__ import annotations

from typing import Any

import msgspec

from datastore.model import Leg

Evidence = tuple[int, int, bytes]  # (epoch's counter, lsn, hash) of a committed entry at the anchor


class Command(msgspec.Struct, frozen=True, array_like=True):
    """Base: `request_id` makes the command idempotent, `digest` is of what the caller asked (not of what we chose)."""

    request_id: str
    digest: bytes


class Chosen(msgspec.Struct, frozen=True, array_like=True):
    """What makes seats the best available: they are refused, not taken, where it is not so any more (Z8).

    Attributes:
        orphans_max: How many single seats they may leave behind; beyond none, all of `free` must be free still: a seat that others
            took may leave just the place that a party needs.
        cabins: Where there may be a better choice if another seat is free than `free`.
        free: The seats of `cabins` that were.
        others: What others are about to take, or have taken by now: not free, and no surprise.
    """

    orphans_max: int
    cabins: tuple[str, ...] = ()
    free: tuple[str, ...] = ()
    others: tuple[str, ...] = ()


class HoldLegs(Command, frozen=True, tag="hold_legs"):
    """B2: take the seats of all legs that this operator has in the basket, or none.

    At the anchor `legs` has all legs of the basket and the record is made (PENDING); elsewhere only the operator's own,
    `numbers` being their places in the basket. `ttl_ms` is the basket's: at the anchor its deadline, elsewhere a hint.
    """

    basket_id: str
    owner: str
    anchor: str
    legs: tuple[Leg, ...]
    numbers: tuple[int, ...]
    currency: str
    ttl_ms: int
    generation: int
    counter: int
    nonce: str
    owner_holds_max: int
    service_holds_max: int
    replaces: str = ""  # of a change (B11): the order at the anchor, which then need not have a leg in the basket
    credit_minor: int = 0  # what the seats that it replaces cost
    chosen: tuple[Chosen | None, ...] = ()  # beside `legs`; None, as all of (), where a leg's seats were named


class HoldEach(Command, frozen=True, tag="hold_each"):
    """Several holds of one service in one command, under one lock: each stands or falls alone.

    Attributes:
        bulk_id: Their ids follow from it and their place, from 1 (`bulk_hold_id`).
        seats, prices, refundable_percents: Beside each other, one for each hold.
    """

    bulk_id: str
    owner: str
    service_id: str
    seats: tuple[tuple[str, ...], ...]
    ttl_ms: int
    generation: int
    counter: int
    nonce: str
    currency: str
    prices: tuple[tuple[int, ...], ...]
    refundable_percents: tuple[int, ...]
    owner_holds_max: int
    service_holds_max: int


class Refuse(Command, frozen=True, tag="refuse"):
    """Let the refusal of a party for which there is no room be the answer to an attempt: no try still under way holds seats (Z3, Z8).

    Attributes:
        code, detail, fields: Of the error, "seat_unavailable" or "no_adjacent_block".
        basket_id: Of the attempt's basket, "" for a hold of one service; where the basket was made, nothing is refused.
    """

    code: str
    detail: str
    fields: dict[str, Any]
    basket_id: str = ""


class Decide(Command, frozen=True, tag="decide"):
    """B4: DECIDE_COMMIT at the anchor, its entry is the sale.

    Attributes:
        holds: (operator, lsn) of every other operator's holds, gathered by linearizable reads before (Z4).
        references, token_digest, passengers: As in CONFIRM; `passengers` is the whole order's side record.
        leg_passengers: Side records of the anchor's own legs, in their order (Z12).
        intent: The payment intent of a basket in PAYING (Q4).
        fares: For each leg, beside its seats, where the passengers' types make them other than the hold's prices.
        laps: Of each infant on a lap, which seat's passenger (from 0) has it.
        lap_fares: For each leg, beside its seats, what of the fares such infants pay; () where there are none.
    """

    basket_id: str
    owner: str
    holds: tuple[tuple[str, int], ...]
    references: tuple[str, ...]
    token_digest: bytes
    passengers: bytes
    leg_passengers: tuple[bytes, ...]
    intent: str = ""
    fares: tuple[tuple[int, ...], ...] = ()
    laps: tuple[int, ...] = ()
    lap_fares: tuple[tuple[int, ...], ...] = ()


class Amend(Command, frozen=True, tag="amend"):
    """B11: one entry at the anchor gives up some of an order's seats, and books what its change basket holds in their place.

    Attributes:
        expects: The order's version (the lsn of its last change) that this was quoted for.
        cuts: (leg, positions) given up: everything of some legs, or the same positions of all; with a basket, of one leg. () of
            an order whose traveller is asked keeps it as it is.
        refund_minor: What was quoted to go back.
        full: The whole price of what is given up goes back: only for an order of which a service was taken away.
        what: For the order's history; no personal data.
        basket_id: The change basket, whose legs come in the place of what is given up; "" for none.
        owner, holds, leg_passengers, intent: Of that basket, as in DECIDE.
        departs_ms: When the order's first leg departs afterwards.
    """

    reference: str
    token_digest: bytes
    expects: int
    cuts: tuple[tuple[int, tuple[int, ...]], ...]
    refund_minor: int
    full: bool
    what: str
    basket_id: str = ""
    owner: str = ""
    holds: tuple[tuple[str, int], ...] = ()
    leg_passengers: tuple[bytes, ...] = ()
    intent: str = ""
    departs_ms: int = 0


class Move(Command, frozen=True, tag="move"):
    """Z10: HOLD_LEGS and AMEND in one: other seats of the anchor's own services for an order, where nothing is paid in between.

    One entry books the new seats and gives up the old, or refuses and changes nothing: there is no moment with both or with
    neither. `hold` names its lock's fence, as whatever takes free seats does (Z7); `amend` is of the basket that it makes.
    """

    hold: HoldLegs
    amend: Amend


class Abort(Command, frozen=True, tag="abort"):
    """Z6, Z3: end a basket at the anchor that was refused or failed; without a record, write the tombstone.

    Attributes:
        operators: Others that may have heard of it.
        driver: Nonce of the lock under which it was held at the anchor by whoever gives it up.
        why: "refused", or "failed", which is not obeyed where the basket had another driver too.
    """

    basket_id: str
    owner: str
    operators: tuple[str, ...]
    driver: str
    why: str


class Resolve(Command, frozen=True, tag="resolve"):
    """B6: at the anchor, say how the basket stands; abort it if it is due, write a tombstone if nobody has heard of it."""

    basket_id: str
    owner: str
    operator: str  # who asks: has a leg that is due


class Finalise(Command, frozen=True, tag="finalise"):
    """B5: at another operator, book what is held by the basket since `lsn`; anything else is left alone.

    Attributes:
        passengers: Side records of this operator's legs, in their order (Z12).
        kept: Beside them, the seats that the order still has (B11): what else was booked is given back. A leg only ever
            loses seats, so an older word, which names more, changes nothing. None keeps all.
        heard: The loss of a service that the order knows of.
    """

    basket_id: str
    lsn: int
    reference: str
    passengers: tuple[bytes, ...]
    evidence: Evidence
    kept: tuple[tuple[str, ...], ...] | None = None
    heard: str = ""


class ReleaseLegs(Command, frozen=True, tag="release_legs"):
    """B6, B8: at another operator, give back what the basket has, held or booked: it is ABORTED or CANCELLED.

    Where nothing is known of it a tombstone is written, so that a HOLD_LEGS on its way finds that it comes too late.
    """

    basket_id: str
    owner: str
    anchor: str
    evidence: Evidence


class LegDue(Command, frozen=True, tag="leg_due"):
    """Z11: at another operator, "not due yet": ask again in `remaining_ms`."""

    basket_id: str
    remaining_ms: int
    evidence: Evidence


class LegsDone(Command, frozen=True, tag="legs_done"):
    """B5: at the anchor, these operators follow the decision `state` (a `BasketState`) as the entry `lsn` left it."""

    basket_id: str
    operators: tuple[str, ...]
    state: int
    lsn: int


class ServiceLost(Command, frozen=True, tag="service_lost"):
    """At the anchor: an operator took the service of one leg away, so there is no trip: all legs are given back.

    `asks`: services, separated by blanks, of which the traveller is asked what now instead.
    """

    basket_id: str
    operator: str
    reason: str
    asks: str = ""


class Paying(Command, frozen=True, tag="paying"):
    """Q2: at the anchor of a hold or a basket: from here on money may move. The deadline is extended once, bounded.

    `holds`: as in DECIDE, for a basket; () for a hold of one operator. `fares`: what will be paid for, as in DECIDE; of a hold
    of one service, its one leg's.
    """

    hold_id: str
    owner: str
    intent: str
    amount_minor: int
    currency: str
    holds: tuple[tuple[str, int], ...]
    ttl_ms: int
    hold_ms_max: int
    fares: tuple[tuple[int, ...], ...] = ()


class Settle(Command, frozen=True, tag="settle"):
    """Q5-Q7: what the ledger asked for about an intent has been done at the provider. `note`: what, for people."""

    intent: str
    state: int  # the `PaymentState` that was carried out: a later one is not settled by it
    note: str
    moved_minor: int = 0  # captured, or refunded


class BeginVoid(Command, frozen=True, tag="begin_void"):
    """Q6, Q7: an intent without a sale is about to be ended at the provider: from here on it pays for no other seats."""

    intent: str


class PaymentCase(Command, frozen=True, tag="payment_case"):
    """Z15: the provider will not do what `state` asks for; it stays to be done, and a person hears of it."""

    intent: str
    state: int
    why: str


class CloseCase(Command, frozen=True, tag="close_case"):
    """Z15: a person has seen to an open case without the provider: it counts as done, and who says so and why is written down.

    `state`: the `PaymentState` of the case that was looked at; `who` is staff, never a traveller.
    """

    intent: str
    state: int
    who: str
    why: str


class Retire(Command, frozen=True, tag="retire"):
    """Take an operator out of sale for good: its timetables go, its ledger stays. Refused while anything of it is open."""


# All of the above, as `wire.AnyCommand` takes them in.
OfBaskets = (
    HoldLegs
    | Refuse
    | HoldEach
    | Decide
    | Amend
    | Move
    | Abort
    | Resolve
    | Finalise
    | ReleaseLegs
    | LegDue
    | LegsDone
    | ServiceLost
    | Paying
    | Settle
    | Retire
    | BeginVoid
    | PaymentCase
    | CloseCase
)
