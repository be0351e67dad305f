"""What callers asked and what they were told, as JSON lines: the evidence that `holdfast verify --history` judges. Pure.

The first line is a `Header`, every other one a `Record`: who asked, when the question left, when its answer came, what it was and
what was answered. Three answers are told apart: it was done; it was refused, and so had no effect; or nobody knows, and then it
may have happened at any time since, or never. Times are microseconds of one monotonic clock, the recorder's: a history that two
machines wrote has to be brought to one clock first, within the time that a message takes.

A question that is asked again under its request id is one record: from the first question to the last answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from datastore.errors import InvalidRequest, shown

FORMAT = 1
LINE_BYTES_MAX = 1_000_000
DONE, REFUSED, UNKNOWN = "done", "refused", "unknown"
OUTCOMES = (DONE, REFUSED, UNKNOWN)

HOLD, CONFIRM, RELEASE, CANCEL = "hold", "confirm", "release", "cancel"
MANIFEST, MAP = "manifest", "map"
WRITES = (HOLD, CONFIRM, RELEASE, CANCEL)
KINDS = (*WRITES, MANIFEST, MAP)


class Header(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Attributes:
    history: The format's number.
    clock_shift_ms: How far clocks were shifted meanwhile: holds may end so much earlier than by their own time.
    late_payments: Whether a payment that was good when its hold had ended takes the same seats anew, if they are free (Q7).
    """

    history: int = FORMAT
    scenario: str = ""
    seed: int = 0
    began: str = ""  # for people to read
    clock_shift_ms: int = 0
    late_payments: bool = False


class Leg(msgspec.Struct, forbid_unknown_fields=True):
    """Seats of one service; the first leg's operator decides (the anchor)."""

    service_id: str
    seats: list[str]


class Operation(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What was asked.

    Attributes:
        legs: The seats concerned; of a hold that names none (the best available), filled in from the answer.
        operator: Of the first leg: in whose ledger it is decided.
        hold: The request id of the hold that is confirmed, given back or cancelled; of a hold its own.
        lasts_ms: How long the hold lasts when nothing else ends it; 0: longer than the history.
        min_lsn: Of a map: what it must include.
    """

    kind: str
    request_id: str = ""
    operator: str = ""
    legs: list[Leg] = []
    hold: str = ""
    lasts_ms: int = 0
    min_lsn: int = 0


class Answer(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What came back.

    Attributes:
        code: The error's, "" where it was done.
        lsn: The entry of the anchor's ledger that did it, or that a read shows; 0: not told.
        reference: Of an order.
        taken: Seats that are not free: of a refusal those in the way (as "service/seat"), of a map all with their state.
        booked: Of a manifest: seat -> reference.
        partial: Of a map: it could not wait for `min_lsn`, and says so.
    """

    outcome: str = UNKNOWN
    code: str = ""
    lsn: int = 0
    reference: str = ""
    taken: dict[str, str] = {}
    booked: dict[str, str] = {}
    partial: bool = False


class Record(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One question and its answer; `return_us` is None where none ever came."""

    client: str
    call_us: int
    return_us: int | None = None
    operation: Operation
    answer: Answer

    @property
    def end_us(self) -> float:
        """Return when it was over: never, where it may still happen."""
        return float("inf") if self.return_us is None or self.answer.outcome == UNKNOWN else self.return_us

    @property
    def is_trip(self) -> bool:
        return len(self.operation.legs) > 1

    def seats(self) -> list[str]:
        """Return its seats as "service/seat", the anchor's first."""
        return [f"{leg.service_id}/{seat}" for leg in self.operation.legs for seat in leg.seats]

    def named(self) -> str:
        """Return a phrase for messages."""
        what = ", ".join(self.seats()[:4]) or "no seats"
        return f"{self.client}'s {self.operation.kind} of {what} ({self.operation.request_id or 'read'})"


class History(NamedTuple):
    header: Header
    records: list[Record]


_HEADER = msgspec.json.Decoder(Header)
_RECORD = msgspec.json.Decoder(Record)
_encoder = msgspec.json.Encoder()


def line_of(entry: Header | Record) -> bytes:
    """Return an entry as its line, with the line's end."""
    return _encoder.encode(entry) + b"\n"


def read(lines: Iterable[bytes]) -> History:
    """Return the history that the lines hold; empty lines are passed over.

    Raises:
        InvalidRequest: A line is none; `line` is its number, from 1.
    """
    numbered = _numbered(lines)
    first = next(numbered, None)
    if first is None:
        raise InvalidRequest("the history is empty: its first line says its format", field="history", line=1)
    header = _decoded(_HEADER, *first)
    if header.history != FORMAT:
        raise _wrong(first[0], f"history format {header.history} is not known here; this version reads {FORMAT}")
    return History(header, [_checked(number, _decoded(_RECORD, number, line)) for number, line in numbered])


def _numbered(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(lines, 1):
        if len(line) > LINE_BYTES_MAX:
            raise _wrong(number, f"is longer than {LINE_BYTES_MAX:,} bytes")
        if line.strip():
            yield number, line


def _decoded(decoder: msgspec.json.Decoder[Any], number: int, line: bytes) -> Any:
    try:
        return decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _wrong(number, shown(error, 200)) from error


def _checked(number: int, record: Record) -> Record:
    """Return the record if its parts agree with each other."""
    operation, answer = record.operation, record.answer
    if operation.kind not in KINDS:
        raise _wrong(number, f"the kind {shown(operation.kind)} is none of {', '.join(KINDS)}")
    if answer.outcome not in OUTCOMES:
        raise _wrong(number, f"the outcome {shown(answer.outcome)} is none of {', '.join(OUTCOMES)}")
    if answer.outcome != UNKNOWN and record.return_us is None:
        raise _wrong(number, f"it is {answer.outcome}, but no answer ever came (return_us)")
    if record.return_us is not None and record.return_us < record.call_us:
        raise _wrong(number, f"it was answered at {record.return_us} and asked later, at {record.call_us}")
    if operation.kind in WRITES and not operation.request_id:
        raise _wrong(number, "a write has a request_id")
    if operation.kind in (MANIFEST, MAP) and len(operation.legs) != 1:
        raise _wrong(number, "a read is of one service")
    if answer.outcome == DONE and operation.kind in WRITES and not record.seats():
        raise _wrong(number, "what was done was done to seats, and none is named")
    return record


def _wrong(number: int, reason: str) -> InvalidRequest:
    return InvalidRequest(f"line {number} of the history: {reason}", field="history", line=number)
