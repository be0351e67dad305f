"""Histories made by hand: the good ones pass, each bad one is caught by the judge that is there for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from client import cli, exit_codes
from client.history import Answer, Header, History, Leg, Operation, Record, line_of, read
from client.judging import judge
from datastore.errors import InvalidRequest

SERVICE = "AR1-EZE-2030-01-01"
OTHER = "FO2-MIA-2030-01-01"


def record(
    kind: str,
    call: int,
    end: int | None,
    *,
    seats: str = "1A",
    lsn: int = 0,
    client: str = "ada",
    request: str = "",
    hold: str = "",
    outcome: str = "done",
    trip: bool = False,
    **fields: object,
) -> Record:
    """Return a record of one service of AR, or of a trip that goes on with FO."""
    request = request or f"{kind}-{client}-{call}"
    legs = [Leg(SERVICE, seats.split())] + ([Leg(OTHER, seats.split())] if trip else [])
    lasts_ms = int(str(fields.pop("lasts_ms", 0)))
    min_lsn = int(str(fields.pop("min_lsn", 0)))
    operation = Operation(kind=kind, request_id=request, operator="AR", legs=legs, hold=hold or request, lasts_ms=lasts_ms, min_lsn=min_lsn)
    return Record(client=client, call_us=call, return_us=end, operation=operation, answer=Answer(outcome=outcome, lsn=lsn, **fields))


def sold(client: str, start: int, lsn: int, seats: str = "1A", reference: str = "REF1") -> list[Record]:
    """Return a hold and its confirmation, both done."""
    hold = record("hold", start, start + 10, client=client, lsn=lsn, seats=seats, request=f"h-{client}-{start}")
    booking = record(
        "confirm", start + 20, start + 30, client=client, lsn=lsn + 1, seats=seats, hold=f"h-{client}-{start}", reference=reference
    )
    return [hold, booking]


def faults(*records: Record, **header: Any) -> list[str]:
    return judge(History(Header(**header), list(records))).faults


def refused(start: int, end: int, seats: str = "1A", client: str = "bob") -> Record:
    taken = {f"{SERVICE}/{seat}": "held" for seat in seats.split()}
    return record("hold", start, end, client=client, seats=seats, outcome="refused", code="seat_unavailable", taken=taken)


def good_history() -> list[Record]:
    """A sale, who came too late, a cancellation, a second sale, reads of all of it, and one that nobody heard of again."""
    first = sold("ada", 0, 1)
    cancelled = record("cancel", 100, 110, client="ada", lsn=3, hold="h-ada-0")
    second = sold("bob", 120, 4, reference="REF2")
    return [
        *first,
        refused(5, 40),
        record("manifest", 50, 60, client="clerk", lsn=2, booked={"1A": "REF1"}),
        cancelled,
        *second,
        record("hold", 160, None, client="eve", seats="2A", outcome="unknown"),
        refused(300, 310, "2A", client="carl"),
        record("map", 400, 401, client="clerk", lsn=5, min_lsn=5, taken={"1A": "occupied", "2A": "held"}),
        record("manifest", 400, 410, client="clerk", lsn=5, booked={"1A": "REF2"}),
    ]


def test_a_good_history_passes() -> None:
    """Refusals that met an owner, unknown outcomes that may have happened, and reads in between are all explained."""
    judgement = judge(History(Header(), good_history()))
    assert ([], []) == (judgement.faults, judgement.undecided)
    assert 2 == judgement.seats
    assert judgement.counts["hold", "done"] == 2 and judgement.counts["hold", "unknown"] == 1
    assert (260, 150) == (judgement.gap_us, judgement.gap_at_us)


def no_order(text: str) -> bool:
    return "no order of its" in text


BAD: dict[str, tuple[Callable[[], list[Record]], str]] = {
    "a seat sold twice, entries told": (
        lambda: [*sold("ada", 0, 1), *sold("bob", 50, 3, reference="REF2")],
        "was booked for h-ada-0 at entry 3",
    ),
    "a seat sold twice, entries hidden": (
        lambda: [record("hold", 0, 10, client="ada"), record("hold", 20, 30, client="bob")],
        "no order of its",
    ),
    "an acknowledged booking is lost": (
        lambda: [*sold("ada", 0, 1), record("manifest", 100, 110, client="clerk", lsn=2, booked={})],
        "shows AR1-EZE-2030-01-01/1A as not booked",
    ),
    "lost, and the reader's entry is hidden": (
        lambda: [*sold("ada", 0, 0), record("manifest", 100, 110, client="clerk", booked={})],
        "no order of its",
    ),
    "a free seat is refused": (
        lambda: [record("hold", 0, 10, client="ada"), record("release", 20, 30, client="ada", hold="hold-ada-0"), refused(40, 50)],
        "no order of its",
    ),
    "a refused request had an effect": (
        lambda: [
            record("hold", 0, 10, client="ada", outcome="refused", code="lock_timeout"),
            record("manifest", 100, 110, client="clerk", lsn=9, booked={"1A": "REF9"}),
        ],
        "shows AR1-EZE-2030-01-01/1A as REF9",
    ),
    "an entry against time": (
        lambda: [
            record("hold", 0, 10, client="ada", lsn=7, seats="1A"),
            record("hold", 20, 30, client="bob", lsn=3, seats="2A"),
        ],
        "was over before bob's hold",
    ),
    "a read behind what was acknowledged": (
        lambda: [*sold("ada", 0, 1), record("manifest", 100, 110, client="clerk", lsn=1, booked={})],
        "was over before",
    ),
    "two answers to one request": (
        lambda: [record("hold", 0, 10, lsn=1, request="same-one"), record("hold", 20, 30, lsn=4, request="same-one")],
        "was answered twice",
    ),
    "a hold is over before its time": (
        lambda: [
            record("hold", 0, 10, client="ada", lasts_ms=60_000),
            record("confirm", 20, 30, client="ada", hold="hold-ada-0", outcome="refused", code="hold_expired"),
        ],
        "no order of its",
    ),
    "a cancelled seat stays booked": (
        lambda: [
            *sold("ada", 0, 1),
            record("cancel", 40, 50, client="ada", lsn=3, hold="h-ada-0"),
            record("manifest", 100, 110, client="clerk", lsn=3, booked={"1A": "REF1"}),
        ],
        "as REF1",
    ),
    "one seat of two is missing": (
        lambda: [*sold("ada", 0, 1, "1A 1B"), record("manifest", 90, 99, client="clerk", lsn=2, booked={"1A": "REF1"})],
        "1B as not booked",
    ),
    "a map without what it had to include": (
        lambda: [*sold("ada", 0, 1), record("map", 50, 60, client="ada", lsn=1, min_lsn=2, taken={"1A": "held"})],
        "had to include entry 2",
    ),
    "a leg of a trip is somebody else's": (
        lambda: [
            record("hold", 0, 10, client="ada", trip=True, lsn=1),
            Record(
                client="bob",
                call_us=20,
                return_us=30,
                operation=Operation(kind="hold", request_id="bob-1", hold="bob-1", operator="FO", legs=[Leg(OTHER, ["1A"])]),
                answer=Answer(outcome="done", lsn=8),
            ),
        ],
        "FO2-MIA-2030-01-01/1A: no order",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_history_is_caught(name: str) -> None:
    """Each is found, by the sentence that says what is wrong."""
    made, sentence = BAD[name]
    found = faults(*made())
    assert any(sentence in fault for fault in found), found


def test_holds_that_run_out_are_no_fault() -> None:
    """After its time a hold may be gone; earlier only where clocks were shifted, and the header says so."""
    short = [record("hold", 0, 10, client="ada", lsn=1, lasts_ms=50), record("hold", 60_000, 60_010, client="bob", lsn=2)]
    assert [] == faults(*short)
    early = [record("hold", 0, 10, client="ada", lsn=1, lasts_ms=50_000), record("hold", 60, 70, client="bob", lsn=2)]
    assert [] != faults(*early)
    assert [] == faults(*early, clock_shift_ms=60_000)


def test_a_late_payment_may_take_its_seats_anew() -> None:
    """After its hold's time a paid confirmation may still be done, if nobody has the seat, and only where the header says so."""
    held = record("hold", 0, 10, client="ada", lsn=1, lasts_ms=1, request="h-ada")
    other = [record("hold", 2_000, 2_010, client="bob", lsn=2, request="h-bob")]
    given_back = record("release", 2_020, 2_030, client="bob", lsn=3, hold="h-bob")
    late = record("confirm", 5, 3_000, client="ada", lsn=5, hold="h-ada", reference="REF1")
    assert [] == faults(held, *other, given_back, late, late_payments=True)
    assert [] != faults(held, *other, given_back, late)
    assert [] != faults(held, *other, late, late_payments=True)
    early = record("confirm", 5, 900, client="ada", lsn=5, hold="h-ada", reference="REF1")
    assert [] != faults(held, record("release", 20, 30, client="ada", lsn=2, hold="h-ada"), early, late_payments=True)
    # While it tries, others may be refused, and see the seat as held.
    in_vain = record("confirm", 5, 3_000, client="ada", outcome="refused", code="hold_expired", hold="h-ada")
    assert [] == faults(held, *other, given_back, refused(2_500, 2_600, client="eve"), in_vain, late_payments=True)
    assert any(map(no_order, faults(held, *other, given_back, refused(2_500, 2_600, client="eve"), in_vain)))


def test_what_is_booked_does_not_run_out() -> None:
    """A booking outlives the time of the hold that it was made from, for both judges."""
    held = record("hold", 0, 10, client="ada", lsn=1, lasts_ms=1, request="h-ada")
    booked = record("confirm", 20, 30, client="ada", lsn=2, hold="h-ada", reference="REF1")
    for header in ({}, {"late_payments": True}):
        again = faults(held, booked, record("hold", 5_000, 5_010, client="bob", lsn=3), **header)
        assert any("was booked for h-ada at entry 3" in one for one in again) and any(map(no_order, again))
        missing = faults(held, booked, record("manifest", 5_000, 5_010, client="clerk", lsn=2, booked={}), **header)
        assert any("as not booked at entry 2" in one for one in missing) and any(map(no_order, missing))


def test_later_legs_follow_the_anchor() -> None:
    """A trip's later leg may still be held, or booked, when the anchor has decided; its anchor's seat may not."""
    trip = [
        record("hold", 0, 10, client="ada", trip=True, lsn=1, request="trip-ada"),
        record("confirm", 20, 30, client="ada", trip=True, lsn=2, hold="trip-ada", reference="REF1"),
        record("cancel", 40, 50, client="ada", trip=True, lsn=3, hold="trip-ada"),
    ]
    seen = record("manifest", 25, 35, client="clerk", lsn=2, booked={"1A": "REF1"})
    assert [] == faults(*trip, seen)
    late = refused(60, 70)
    leg = Record(
        client="bob",
        call_us=60,
        return_us=70,
        operation=late.operation,
        answer=Answer(outcome="refused", code="seat_unavailable", taken={f"{OTHER}/1A": "held"}),
    )
    assert [] == faults(*trip, leg)
    assert any(map(no_order, faults(*trip, late)))


def test_a_history_survives_its_file() -> None:
    """What is written is what is read."""
    records = good_history()
    lines = [line_of(Header(scenario="by hand", seed=7)), *map(line_of, records)]
    told = read(lines)
    assert ("by hand", 7) == (told.header.scenario, told.header.seed)
    assert records == told.records


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"nonsense", "line 2"),
        (b'{"client":"a"}', "missing required field"),
        (b'{"client":"a","call_us":1,"operation":{"kind":"steal"},"answer":{}}', "the kind steal is none of"),
        (b'{"client":"a","call_us":1,"operation":{"kind":"hold","request_id":"r"},"answer":{"outcome":"maybe"}}', "the outcome maybe"),
        (b'{"client":"a","call_us":5,"return_us":1,"operation":{"kind":"hold","request_id":"r"},"answer":{}}', "asked later"),
        (b'{"client":"a","call_us":5,"operation":{"kind":"hold","request_id":"r"},"answer":{"outcome":"done"}}', "no answer ever came"),
        (b"[" * 100_000, "line 2"),
        (b"\xff\xfe", "line 2"),
    ],
)  # fmt: skip
def test_a_line_that_is_none_is_named(line: bytes, reason: str) -> None:
    """A wrong line is refused with its number and the reason."""
    with pytest.raises(InvalidRequest) as raised:
        read([line_of(Header()), line])
    assert reason in raised.value.detail and 2 == raised.value.fields["line"]


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "history.jsonl"


def test_the_command_judges(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`holdfast verify --history`: 0 for a good one, 9 for a bad one with its sentence, 2 for what is none."""
    file.write_bytes(b"".join([line_of(Header()), *map(line_of, good_history())]))
    assert exit_codes.DONE == cli.run(["verify", "--history", str(file)])
    assert "every answer can be explained" in capsys.readouterr().out
    bad, _ = BAD["a seat sold twice, entries told"]
    file.write_bytes(b"".join([line_of(Header()), *map(line_of, bad())]))
    assert exit_codes.DAMAGED == cli.run(["verify", "--history", str(file)])
    assert "was booked for h-ada-0" in capsys.readouterr().err
    file.write_bytes(b"{}\n{}\n")
    assert exit_codes.INVALID == cli.run(["verify", "--history", str(file)])
    assert exit_codes.INVALID == cli.run(["verify"])
