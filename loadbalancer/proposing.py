"""Best available (Z8): what is proposed to whom, and when it is true that there is nothing to propose."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Set
from typing import Any, NamedTuple, Protocol

from datastore import wire
from datastore.commands import Chosen
from datastore.errors import NO_ROOM, HoldfastError, NoAdjacentBlock, OperatorUnavailable, SeatUnavailable
from datastore.wording import counted
from loadbalancer.offers import choose_offered
from loadbalancer.party import Part
from loadbalancer.reconciling import anchor_of
from loadbalancer.seatchoice import best_while, choose, count_free, has_block
from loadbalancer.view import OperatorView, Sale

# So often a choice is refused where a better one has come up meanwhile. After that it is taken as it is: with others buying
# and giving back all the time, "the best" is a matter of a millisecond, and somebody waits for an answer.
CHOICES_PROVED = 4

# What a refusal says where somebody else has seats, or where they are not the best any more: others are proposed.
TAKEN_CODES = ("seat_unavailable", "seat_blocked")
NO_ROOM_CODES = tuple(kind.code for kind in NO_ROOM)
# So often is asked how a leg in doubt stands: a word may be lost on its way to who has the seats.
ASKED_MAX = 2

# Has a leg's basket decided by its anchor, given the basket and its owner; returns why that cannot be done.
Clear = Callable[[str, str], HoldfastError | None]


class Wanted(Protocol):
    """A party's wish for the best seats of one service."""

    @property
    def service_id(self) -> str: ...

    @property
    def count(self) -> int: ...

    @property
    def cabin(self) -> str: ...

    @property
    def together(self) -> bool: ...


class Known(NamedTuple):
    """Which seats of a service are taken, as a view or the primary had it at `lsn`."""

    taken: Set[str]
    lsn: int

    @classmethod
    def of(cls, result: wire.ReadResult) -> Known:
        """Return what an answer to the query "seats" says; a seat whose hold's time is over can be taken."""
        # Primaries before this one do not say so.
        return cls({seat_id for seat_id, row in result.value.items() if not any(row[4:5])}, result.lsn)


class NoRoom(Exception):
    """The primary's state has no room for a party; `refusal` says so to the caller."""

    def __init__(self, refusal: HoldfastError) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


def may_choose_again(error: Mapping[str, Any]) -> bool:
    """Return whether others are to be proposed after a refusal: some of the seats were taken. Not where there was no room for the party."""
    return error.get("code") in TAKEN_CODES and not is_no_room(error)


def is_no_room(error: Mapping[str, Any]) -> bool:
    """Return whether a refusal says that there was no room for a party."""
    return error.get("code") in NO_ROOM_CODES and "free" in (error.get("fields") or {})


class Doubt(NamedTuple):
    """A leg that may be over: its seats, and the basket whose anchor is to be asked."""

    basket_id: str
    owner: str
    seats: frozenset[str]

    @classmethod
    def of(cls, result: wire.ReadResult) -> list[Doubt]:
        """Return what an answer to the query "seats" leaves open."""
        found: dict[tuple[str, str], set[str]] = {}
        for seat_id, row in result.value.items():
            for basket_id in row[5:6]:  # Primaries before this one do not say so.
                if basket_id:
                    found.setdefault((basket_id, row[2]), set()).add(seat_id)
        return [cls(basket_id, owner, frozenset(seats)) for (basket_id, owner), seats in found.items()]


class Proposal(NamedTuple):
    """The best seats; `seats` empty: there are none. `chosen`: while what they are that. `known`: what they were chosen from."""

    seats: tuple[str, ...]
    chosen: Chosen | None
    known: Known

    def learnt(self, refusal: Mapping[str, Any]) -> Known:
        """Return what is known after a refusal by the primary, of its `fields`: all that is taken, or what was not as known."""
        taken: Set[str] = {*(refusal.get("taken") or ()), *(conflict["seat"] for conflict in refusal.get("seats") or ())}
        if "freed" in refusal:
            taken = (self.known.taken | taken) - {*refusal["freed"]}
        # Primaries before this one do not say the lsn of a trip's legs: whatever they tell is news.
        return Known(taken, int(refusal.get("lsn") or self.known.lsn + 1))


def prove_room(sale: Sale, wanted: Wanted, first: wire.ReadResult, again: Callable[[], wire.ReadResult], clear: Clear) -> Known:
    """Return what is taken by a state of the primary that has room for the party.

    Seats of a leg whose time is over by our hint, and that another operator decides, may be free. Where there is no room without
    them, that operator is asked first: who names such a seat has it asked too (Z5).

    Args:
        first: What the primary says to the query "seats". again: Asks it once more.
    Raises:
        NoRoom: It has none (Z8).
        HoldfastError: Whether it has cannot be told: somebody could not be asked.
    """
    result = first
    asked: dict[str, int] = {}
    silent: dict[str, HoldfastError] = {}  # anchor -> why it could not be asked
    while (lacking := _lacking(sale, wanted, told := Known.of(result))) is not None:
        doubts = Doubt.of(result)  # Each time: some may have come due meanwhile.
        doubtful = frozenset[str]().union(*[one.seats for one in doubts])
        if _lacking(sale, wanted, told._replace(taken=told.taken - doubtful)) is not None:
            raise NoRoom(lacking)
        left = [one for one in doubts if anchor_of(one.basket_id) not in silent and asked.get(one.basket_id, 0) < ASKED_MAX]
        if not left:
            reason = f"{wanted.service_id}: whether there is room depends on trips of which another operator's word did not arrive"
            raise next(iter(silent.values()), OperatorUnavailable(reason, operator=anchor_of(doubts[0].basket_id)))
        one = min(left, key=lambda doubt: asked.get(doubt.basket_id, 0))
        asked[one.basket_id] = asked.get(one.basket_id, 0) + 1
        failure = clear(one.basket_id, one.owner)
        if failure is not None:
            silent[anchor_of(one.basket_id)] = failure
        try:
            result = again()
        except OperatorUnavailable as error:
            raise next(iter(silent.values()), error) from None  # Whoever said nothing took the time that there was.
    return told


def _lacking(sale: Sale, wanted: Wanted, told: Known) -> HoldfastError | None:
    """Return why a party finds no room, None where it does."""
    left = count_free(sale.layout, told.taken, wanted.cabin)
    where = f"{wanted.service_id}{' in cabin ' + wanted.cabin if wanted.cabin else ''}"
    facts: dict[str, Any] = {"service_id": wanted.service_id, "free": left, "lsn": told.lsn}
    if left < wanted.count:
        word = "is sold out" if not left else f"has {counted(left, 'seat')} left, {wanted.count} were asked for"
        return SeatUnavailable(f"{where} {word}", seats=[], **facts)
    if wanted.together and not has_block(sale.layout, told.taken, wanted.count, wanted.cabin):
        return NoAdjacentBlock(f"{where} has {counted(left, 'seat')} left, but no {wanted.count} side by side", **facts)
    return None


class Proposals:
    """Seats that this balancer has proposed and that its views do not show yet: two buyers are not sent to the same ones."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._seats: dict[str, dict[str, int]] = {}  # service -> seat -> lsn that made the hold, 0 while under way

    def propose(
        self, sale: Sale, wanted: Wanted, view: OperatorView, told: Known | None, parts: tuple[Part, ...] = (), *, alone: bool = False
    ) -> Proposal:
        """Return the best seats that are neither taken nor proposed to others, marked as proposed.

        Args:
            told: By the primary: where the view is not newer, it counts.
            parts: Of an offer: only seats that they pay for.
            alone: From what was told, whatever the view shows by now: it proves that there is something. Also what is proposed to
                others, who may not get it.
        """
        service_id = wanted.service_id
        with view.guard:
            shown = view.lsn
            if told is not None and (alone or told.lsn >= shown):
                now = told
            else:
                now = Known(set(view.taken.get(service_id) or ()), shown)
        with self._mutex:
            proposed = {seat: lsn for seat, lsn in self._seats.get(service_id, {}).items() if not 0 < lsn <= shown}
            of_others = {} if alone else proposed
            # What was sold here since is known to be taken; what is under way is not, and may be free yet when this is decided.
            known = Known(now.taken | {seat for seat, lsn in of_others.items() if lsn > now.lsn}, now.lsn)
            others = {seat for seat, lsn in of_others.items() if not lsn} - known.taken
            taken = known.taken | others
            if parts:
                seats = choose_offered(sale.layout, taken, parts, together=wanted.together)
            else:
                seats = choose(sale.layout, taken, wanted.count, cabin=wanted.cabin, together=wanted.together).seats
            proposed |= dict.fromkeys(seats, 0)
            self._put(service_id, proposed)
        if not seats:
            return Proposal((), None, known)
        cabin = wanted.cabin or (parts[0].cabin if parts else "")
        return Proposal(seats, best_while(sale.layout, seats, known.taken, others, cabin), known)

    def settle(self, service_id: str, seats: Collection[str], lsn: int) -> None:
        """Keep seats that were held at `lsn` until the view shows them; forget those that were not (0)."""
        with self._mutex:
            proposed = self._seats.get(service_id, {})
            for seat in seats:
                if lsn:
                    proposed[seat] = lsn
                else:
                    proposed.pop(seat, None)
            self._put(service_id, proposed)

    def _put(self, service_id: str, proposed: dict[str, int]) -> None:
        if proposed:
            self._seats[service_id] = proposed
        else:
            self._seats.pop(service_id, None)
