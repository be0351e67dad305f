"""Every step of a paid booking over two operators, of its change, its cancellation and its end without a sale: where to stop it.

A point is a message between a load balancer and whoever decides or pays, kept on its way there or on its way back (`tests.faults.gates`):
what stands just before it is done, what stands behind it is not. The numbers are those of the protocol (B1-B11, Q1-Q7).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from tests.faults.gates import AFTER, BEFORE

ANCHOR, OTHER, ANY = "LUM", "GRAND", "*"
SANDBOX = "payments-1"
VICTIMS = ("balancer", "manager", "anchor's primary", "other primary", "sandbox")


class Point(NamedTuple):
    """Where something is stopped.

    Attributes:
        flow: What is being done: "sale", "single" (a sale of one operator), "late" (a card that takes too long), "unsold",
            "expired", "cancel", "swap".
        step: Between which steps, for people.
        to: The operator whose partition the message is for, or `ANY`; "" for the sandbox.
        what: The command's tag, or the end of the address at the sandbox.
        side: Kept before it is received, or after.
        passing: How many such messages pass before: those of an earlier step.
    """

    flow: str
    step: str
    to: str
    what: str
    side: str
    passing: int = 0

    @property
    def name(self) -> str:
        return f"{self.flow}: {self.step}"

    def matches(self) -> Callable[[bytes], bool]:
        """Return what tells the message from others."""
        if not self.to:
            return lambda data: data.startswith(b"POST /v1/") and data.split(b" HTTP/", 1)[0].endswith(self.what.encode())
        # A submission is an array of four: operator, commands, side records, log time (`wire.SubmitItem` in MessagePack).
        operator = b"" if self.to == ANY else bytes([0x94, 0xA0 | len(self.to)]) + self.to.encode()
        tag = bytes([0xA0 | len(self.what)]) + self.what.encode()
        return lambda data: operator in data and tag in data


def _both(flow: str, before: str, after: str, to: str, what: str, passing: int = 0) -> list[Point]:
    return [Point(flow, before, to, what, BEFORE, passing), Point(flow, after, to, what, AFTER, passing)]


CREATE, CONFIRM, CAPTURE, CANCEL, REFUND = "/v1/payment_intents", "/confirm", "/capture", "/cancel", "/v1/refunds"

POINTS: tuple[Point, ...] = (
    Point("sale", "B1-B2, locked, nobody holds", ANY, "hold_legs", BEFORE),
    Point("sale", "B2, the other holds, the anchor not", ANCHOR, "hold_legs", BEFORE),
    *_both("sale", "B2, the anchor holds, the other not", "B2-B3, all hold, nobody knows", OTHER, "hold_legs"),
    *_both("sale", "Q1-Q2, held, no intent", "Q2, an intent that no ledger knows", "", CREATE),
    *_both("sale", "Q2, PAYING on its way", "Q2-Q3, PAYING, the card not asked", ANCHOR, "paying"),
    *_both("sale", "Q3, the card on its way", "Q3-Q4, set aside, nobody knows", "", CONFIRM),
    *_both("sale", "Q4, the decision on its way", "B4-B5, sold, nobody knows", ANCHOR, "decide"),
    *_both("sale", "B5, sold, the other not told", "B5, booked everywhere, the anchor not told", OTHER, "finalise"),
    *_both("sale", "B5, LEGS_DONE on its way", "B5, done, nobody knows", ANCHOR, "legs_done"),
    *_both("sale", "Q5, sold, not captured", "Q5, captured, not written down", "", CAPTURE),
    *_both("sale", "Q5, SETTLE on its way", "Q5, settled, nobody knows", ANCHOR, "settle"),
    *_both("single", "B7, HOLD on its way", "B7, held, nobody knows", ANCHOR, "hold"),
    *_both("single", "Q2, PAYING on its way", "Q2-Q3, PAYING, the card not asked", ANCHOR, "paying"),
    *_both("single", "B7, CONFIRM on its way", "B7, sold, nobody knows", ANCHOR, "confirm"),
    *_both("unsold", "B6, RELEASE of a hold that is being paid", "B6-Q6, ended, nobody knows", ANCHOR, "release"),
    *_both("unsold", "B6, the other not told", "B6, given back, the anchor not told", OTHER, "release_legs"),
    *_both("unsold", "Q6, VOID, not begun", "Q6, VOIDING, not ended", ANCHOR, "begin_void"),
    *_both("unsold", "Q6, the end on its way to the provider", "Q6, ended, not written down", "", CANCEL),
    *_both("expired", "B6, due, the anchor not asked", "B6, the anchor has ended it", ANCHOR, "resolve"),
    *_both("expired", "B6, ended, the other not told", "B6, given back, the anchor not told", OTHER, "release_legs"),
    *_both("late", "Q7, the seats not asked for again", "Q7, held again, nobody knows", OTHER, "hold_legs"),
    *_both("late", "Q7, PAYING for them on its way", "Q7, it pays for them now", ANCHOR, "paying", 1),
    *_both("cancel", "B8, CANCEL on its way", "B8, cancelled, nobody knows", ANCHOR, "cancel"),
    *_both("cancel", "B8, cancelled, the other not told", "B8, given back, the anchor not told", OTHER, "release_legs"),
    *_both("cancel", "Q5, REFUND, not asked for", "Q5, refunded, not written down", "", REFUND),
    *_both("cancel", "Q5, SETTLE on its way", "Q5, settled, nobody knows", ANCHOR, "settle"),
    *_both("swap", "B11, the new seats not held", "B11, held, nobody knows", OTHER, "hold_legs"),
    *_both("swap", "B11, PAYING of the difference on its way", "B11, PAYING, the card not asked", ANCHOR, "paying"),
    *_both("swap", "B11, the card on its way", "B11, set aside, nobody knows", "", CONFIRM),
    *_both("swap", "B11, AMEND on its way", "B11, changed, nobody knows", ANCHOR, "amend"),
    *_both("swap", "B11, changed, the other not told", "B11, followed, the anchor not told", OTHER, "finalise"),
    *_both("swap", "B11, the difference not captured", "B11, captured, not written down", "", CAPTURE),
)

WORDS = {
    "sale": "a trip is bought",
    "single": "one operator's seat is bought",
    "unsold": "a hold whose card was declined is released",
    "expired": "a hold runs out",
    "late": "the card takes longer than the hold",
    "cancel": "a trip is cancelled",
    "swap": "a seat is changed for a dearer one",
}


def table() -> list[str]:
    """Return all points as the lines of a table for the documentation."""
    lines = ["| what is done | message kept | killed before it is received | killed after it, the answer on its way |", "|---|---|---|---|"]
    rows: dict[tuple[str, str, str], dict[str, str]] = {}
    for point in POINTS:
        rows.setdefault((point.flow, point.to, point.what), {})[point.side] = point.step
    told = ""
    for (flow, to, what), steps in rows.items():
        receiver = {"": "provider", ANCHOR: "anchor", OTHER: "other", ANY: "both"}[to]
        word = "" if flow == told else WORDS[flow]
        told = flow
        lines.append(f"| {word} | `{what}` to {receiver} | {steps.get(BEFORE, '-')} | {steps.get(AFTER, '-')} |")
    return lines
