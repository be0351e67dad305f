"""A stretch of an operator's ledger in a file, with what is needed to show the seats over that time. Pure.

    magic (8) | version (2) | MessagePack: Head, then pages of sealed entries, each list with its length in front (4)

The file proves itself as far as it goes: each entry's own hash, and that each follows the one before. What the seats were before the
first entry (`Head.before`) and the maps are what the recorder saw. No names are in it: entries hold digests of personal data only (Z12).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from datastore.errors import HoldfastError, InvalidRequest, InvariantBroken, TooNew, nearest
from datastore.events import seats_in
from datastore.ledger import Position, SealedEntry, check_follows, genesis, position_of, unseal
from datastore.messages import SeatMapAnswer
from datastore.model import Epoch, HoldState, OrderState, SeatState
from datastore.rows import BulkRow, HoldRow, Kind, OrderRow, decode_row

MAGIC = b"HFRECRD\n"
VERSION = 101  # major * 100 + minor; 101: the row of holds in bulk speaks for their seats
OPENING, LENGTH = 10, 4
PAGE_ENTRIES = 500
PART_BYTES_MAX = 256 * 1024 * 1024
SEAT_WORDS = {SeatState.FREE: "available", SeatState.HELD: "held", SeatState.BOOKED: "occupied", SeatState.BLOCKED: "blocked"}
FREE = ("available", "")
SEATS_NAMED = 9  # of holds in bulk

Read = Callable[[int], bytes]
Seen = tuple[str, str]  # a seat's state as in `messages.SeatInfo`, and why it is blocked


class Head(msgspec.Struct, array_like=True):
    """What stands in front of the entries.

    Attributes:
        recorded_ms: UTC, for people.
        position: Of the entry before the first: lsn, epoch, hash, stamp.
        before: "service/seat" -> (state, reason) of every seat that was not free then, of the services below.
        maps: Of each service that the stretch touches and the cluster still knows.
    """

    operator: str
    recorded_ms: int
    position: tuple[int, tuple[int, str], bytes, int]
    before: dict[str, Seen]
    maps: dict[str, SeatMapAnswer]


class Recorder:
    """Follows a ledger from its first entry and keeps the stretch that is wanted.

    Args:
        first: The first lsn to keep; the seats before it are only followed.
        last: The last one; 0 for all that there are.
        since_ms: Keep only what was decided then or later, by the log's clock.
    """

    def __init__(self, operator: str, first: int = 1, last: int = 0, since_ms: int = 0) -> None:
        self._operator, self._first, self._last, self._since_ms = operator, first, last, since_ms
        self._end = self._start = genesis(operator)
        self._seats: dict[str, Seen] = {}
        self.kept: list[bytes] = []
        self.touched: set[str] = set()
        """Services of which a seat changes in the stretch."""

    def take(self, page: Iterable[bytes]) -> bool:
        """Take in the next sealed entries; return whether more are wanted.

        Raises:
            LedgerDamaged, InvariantBroken: They are not whole, or do not follow.
        """
        for data in page:
            sealed = unseal(data)
            self._end = check_follows(self._end, sealed)
            if self._last and sealed.entry.lsn > self._last:
                return False
            changes = seat_changes(sealed)
            if self.kept or (sealed.entry.lsn >= self._first and sealed.entry.stamp_ms >= self._since_ms):
                self.kept.append(data)
                self.touched |= {key.partition("/")[0] for key in changes}
            else:
                self._start = self._end
                self._seats.update(changes)
        return True

    def head(self, maps: Mapping[str, SeatMapAnswer], recorded_ms: int) -> Head:
        """Return what stands in front of the entries kept."""
        before = {key: seen for key, seen in self._seats.items() if seen != FREE and key.partition("/")[0] in self.touched}
        start = self._start
        epoch = (start.epoch[0], start.epoch[1])
        return Head(self._operator, recorded_ms, (start.lsn, epoch, start.hash, start.stamp_ms), before, dict(maps))


def pieces(head: Head, entries: Sequence[bytes]) -> Iterable[bytes]:
    """Yield a recording's bytes."""
    yield MAGIC + VERSION.to_bytes(2, "big")
    pages = [entries[start : start + PAGE_ENTRIES] for start in range(0, len(entries), PAGE_ENTRIES)]
    for part in (head, *pages):
        data = msgspec.msgpack.encode(part)
        yield len(data).to_bytes(LENGTH, "big") + data


class Step(NamedTuple):
    """One entry. `seats`: "service/seat" -> (what it was, what it is) of those that changed; `words`: what was decided."""

    lsn: int
    stamp_ms: int
    words: str
    seats: dict[str, tuple[Seen, Seen]]


class Replay:
    """A recording that can be stepped through, in both directions.

    Attributes:
        steps: Every entry, in order.
        place: How many of them have happened, at what is shown now.
    """

    def __init__(self, head: Head, entries: Iterable[SealedEntry]) -> None:
        self.head = head
        self._seats = dict(head.before)
        self.steps: list[Step] = []
        self.place = 0
        seats = dict(head.before)
        for sealed in entries:
            changed = {key: (seats.get(key, FREE), now) for key, now in seat_changes(sealed).items() if seats.get(key, FREE) != now}
            seats.update({key: now for key, (_, now) in changed.items()})
            self.steps.append(Step(sealed.entry.lsn, sealed.entry.stamp_ms, words_of(sealed), changed))

    def go(self, place: int) -> None:
        """Show what was after the first `place` entries, within what there is."""
        place = min(max(0, place), len(self.steps))
        while self.place < place:
            self._seats.update({key: now for key, (_, now) in self.steps[self.place].seats.items()})
            self.place += 1
        while self.place > place:
            self.place -= 1
            self._seats.update({key: was for key, (was, _) in self.steps[self.place].seats.items()})

    def go_to_lsn(self, lsn: int) -> None:
        """Show what was after the entry of that lsn.

        Raises:
            InvalidRequest: The recording does not reach there.
        """
        first = self.head.position[0]
        if not first <= lsn <= first + len(self.steps):
            raise InvalidRequest(f"entry {lsn} is not in the recording: it has {first + 1} to {first + len(self.steps)}", field="at")
        self.go(lsn - first)

    def taken(self, service_id: str) -> list[tuple[str, str, bool, str]]:
        """Return a service's seats that were not free then, as `messages.SeatStatesAnswer.taken` has them."""
        start = f"{service_id}/"
        found = ((key[len(start) :], seen) for key, seen in self._seats.items() if key.startswith(start) and seen != FREE)
        return [(seat, state, False, reason) for seat, (state, reason) in found]

    def services(self) -> list[str]:
        """Return the services that changed, those with most changes first."""
        counts: dict[str, int] = {}
        for step in self.steps:
            for key in step.seats:
                service = key.partition("/")[0]
                counts[service] = counts.get(service, 0) + 1
        return sorted(counts, key=lambda one: (-counts[one], one))

    def map_of(self, service_id: str) -> SeatMapAnswer:
        """Return a service's map as it was at what is shown now.

        Raises:
            InvalidRequest: The recording has no map of it.
        """
        answer = self.head.maps.get(service_id)
        if answer is None:
            near = nearest(service_id, self.head.maps)
            raise InvalidRequest(
                f"the recording has no map of {service_id}" + (f"; did you mean {near[0]}?" if near else ""), field="service", nearest=near
            )
        now = {seat: (state, reason) for seat, state, _, reason in self.taken(service_id)}
        seats = []
        for seat in answer.seats:
            state, reason = now.get(seat.seat_id, FREE)
            seats.append(msgspec.structs.replace(seat, state=state, mine=False, reason=reason))
        return msgspec.structs.replace(answer, seats=seats, as_of_ms=self.stamp_ms)

    @property
    def stamp_ms(self) -> int:
        """Return when the last entry that has happened was decided."""
        return self.steps[self.place - 1].stamp_ms if self.place else self.head.position[3]


def read(source: Read) -> Replay:
    """Return the recording that a file holds, every entry checked.

    Args:
        source: Returns the next so many bytes, fewer at the end.
    Raises:
        InvalidRequest: It is none, or not whole; says where.
        TooNew: A newer program wrote it.
    """
    opening = source(OPENING)
    if opening[: len(MAGIC)] != MAGIC or len(opening) < OPENING:
        raise InvalidRequest("this is no recording of a ledger; `holdfast record` writes one", field="FILE")
    version = int.from_bytes(opening[len(MAGIC) :], "big")
    if version // 100 != VERSION // 100 or version > VERSION:
        raise TooNew.of("the recording", version, VERSION)
    try:
        head = msgspec.msgpack.decode(_part(source), type=Head)
        lsn, epoch, digest, stamp_ms = head.position
        end = Position(lsn, Epoch(*epoch), digest, stamp_ms)
        entries: list[SealedEntry] = []
        while data := _part(source):
            for one in msgspec.msgpack.decode(data, type=list[bytes]):
                sealed = unseal(one)
                end = check_follows(end, sealed)
                entries.append(sealed)
    except (msgspec.MsgspecError, UnicodeDecodeError, InvariantBroken, HoldfastError) as error:
        raise InvalidRequest(f"the recording is damaged: {error}", field="FILE") from error
    assert not entries or position_of(entries[-1]) == end
    return Replay(head, entries)


def _part(source: Read) -> bytes:
    """Return the next part; b"" at the end.

    Raises:
        InvalidRequest: It ends in the middle of one.
    """
    size = source(LENGTH)
    if not size:
        return b""
    length = int.from_bytes(size, "big")
    data = source(length) if len(size) == LENGTH and length <= PART_BYTES_MAX else b""
    if len(data) != length or not length:
        raise InvalidRequest("it ends in the middle", field="FILE")
    return data


def seat_changes(sealed: SealedEntry) -> dict[str, Seen]:
    """Return "service/seat" -> what an entry makes of it."""
    found: dict[str, Seen] = {}
    for kind, key, value in sealed.entry.events:
        for seat_key, row in seats_in(kind, key, value, sealed.entry.lsn).items():
            found[seat_key] = (SEAT_WORDS[SeatState(row.state)], row.reason)
    return found


def words_of(sealed: SealedEntry) -> str:
    """Return what an entry decided, in words: holds and orders by name, else what it is."""
    words: list[str] = []
    for kind, key, value in sealed.entry.events:
        if kind in (Kind.OPEN_HOLD, Kind.CLOSED_HOLD) and value:
            hold: HoldRow = decode_row(kind, value)
            state = HoldState(hold.state).name.lower()
            words.append(f"hold {hold.hold_id} {state}: {' '.join(hold.seats)} on {hold.service_id}")
        elif kind == Kind.BULK and value:
            bulk: BulkRow = decode_row(kind, value)
            if bulk.lsn == sealed.entry.lsn:  # Later ones tell only who is left in it.
                seats = [seat_id for seats in bulk.seats for seat_id in seats]
                more = f" and {len(seats) - SEATS_NAMED} more" if len(seats) > SEATS_NAMED else ""
                words.append(f"{len(bulk.numbers)} holds {bulk.bulk_id}: {' '.join(seats[:SEATS_NAMED])}{more} on {bulk.service_id}")
        elif kind == Kind.ORDER and value:
            order: OrderRow = decode_row(kind, value)
            words.append(f"order {order.reference} {OrderState(order.state).name.lower()}")
        elif kind == Kind.SERVICE:
            words.append(f"service {key} changed")
    return "; ".join(dict.fromkeys(words)) or sealed.entry.kind
