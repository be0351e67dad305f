"""The root error of Holdfast and its three kinds.

1. `Refusal`: part of the answer. It had no effect, whoever asks again gets the same until the world changes.
2. `WorldFailure`: a part of the cluster did not do its work. `maybe_committed` says whether the write may have happened.
3. `InvariantBroken`: our own fault, where going on could sell a seat twice. Nobody catches it but the outermost loop.

Every error is data on the wire: `code, title, detail, fields, retryable, maybe_committed, request_id`. One class a code;
`error_from_data` raises the same class again on the other side.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

type_of_code: dict[str, type[HoldfastError]] = {}


class HoldfastError(Exception):
    """The root. Subclasses set `code` (the wire's word), `title` and the two flags.

    Attributes:
        detail: One sentence for a person; names the thing and, where there is one, the nearest right one.
        fields: What a program needs of it: plain str, int, bool, None, lists and dicts of these.
        request_id: The write that it answers, or "".
    """

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"
    retryable: bool = False
    maybe_committed: bool = False

    def __init__(self, detail: str = "", *, request_id: str = "", **fields: Any) -> None:
        self.detail = detail or self.title
        self.fields: dict[str, Any] = fields
        self.request_id = request_id
        super().__init__(self.detail)

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        type_of_code.setdefault(cls.code, cls)

    def to_data(self) -> dict[str, Any]:
        """Return the seven wire fields as plain data."""
        return {
            "code": self.code,
            "title": self.title,
            "detail": self.detail,
            "fields": self.fields,
            "retryable": self.retryable,
            "maybe_committed": self.maybe_committed,
            "request_id": self.request_id,
        }


def error_from_data(data: Mapping[str, Any]) -> HoldfastError:
    """Return the error that `to_data` made `data` of; an unknown code gives the root class with the flags as sent."""
    kind = type_of_code.get(str(data.get("code", "")), HoldfastError)
    fields = {str(name): value for name, value in dict(data.get("fields") or {}).items() if name not in ("self", "detail", "request_id")}
    error = kind(str(data.get("detail", "")), request_id=str(data.get("request_id", "")), **fields)
    error.retryable = bool(data.get("retryable", kind.retryable))
    error.maybe_committed = bool(data.get("maybe_committed", kind.maybe_committed))
    return error


def nearest(word: str, known: Iterable[str], count: int = 3) -> list[str]:
    """Return up to `count` known words most like `word`, best first: by difflib's ratio, then letters in place, then the first letter.

    Case is ignored. The places matter for short codes, of which many share a letter with what was typed: AB means AA rather than UA.
    """
    by_folded = {name.casefold(): name for name in known}
    typed = word.casefold()[:64]

    def unlikeness(name: str) -> tuple[float, int, bool, str]:
        in_place = sum(one == other for one, other in zip(name, typed, strict=False))
        return -difflib.SequenceMatcher(None, name, typed).ratio(), -in_place, name[:1] != typed[:1], name

    close = difflib.get_close_matches(typed, by_folded, n=max(1, len(by_folded)), cutoff=0.5)
    return [by_folded[name] for name in sorted(close, key=unlikeness)[:count]]


def shown(word: object, length_max: int = 60) -> str:
    """Return `word` as it may stand in a message: control characters escaped, long text cut, an empty one in quotes."""
    text = str(word)
    cut = text if len(text) <= length_max else text[:length_max] + f"… ({len(text)} characters)"
    return cut if cut and cut.isprintable() else ascii(cut)


# 1. Refusals: part of the answer.


class Refusal(HoldfastError):
    """The answer is no, and nothing changed."""

    code = "refused"
    title = "Refused"


class SeatUnavailable(Refusal):
    """Seats are held, booked or blocked. `seats`: list of {"seat", "state"}; `taken`: the service's taken set at `lsn` where known."""

    code = "seat_unavailable"
    title = "Seat not available"


class SeatBlocked(Refusal):
    code = "seat_blocked"
    title = "Seat blocked by the operator"


class NoAdjacentBlock(Refusal):
    code = "no_adjacent_block"
    title = "No seats together left"


NO_ROOM = (SeatUnavailable, NoAdjacentBlock)  # What is said, with the number of seats that are free, where a party finds no room.


class HoldExpired(Refusal):
    """The hold is over: its time, or because it was released. `state`: "expired" or "released"."""

    code = "hold_expired"
    title = "The hold is over"


class HoldNotYours(Refusal):
    code = "hold_not_yours"
    title = "The hold belongs to somebody else"


class UnknownHold(Refusal):
    code = "unknown_hold"
    title = "No such hold"


class UnknownOrder(Refusal):
    """No such booking, or the surname or token is wrong: the same answer for all of them, on purpose."""

    code = "unknown_order"
    title = "No such booking"


class HoldLimitReached(Refusal):
    code = "hold_limit_reached"
    title = "Too many open holds"


class OfferExpired(Refusal):
    code = "offer_expired"
    title = "The offer has expired"


class PriceChanged(Refusal):
    code = "price_changed"
    title = "The price has changed"


class ServiceClosed(Refusal):
    code = "service_closed"
    title = "The service is not for sale"


class ConnectionTooShort(Refusal):
    code = "connection_too_short"
    title = "The connection is too short"


class UnknownOperator(Refusal):
    code = "unknown_operator"
    title = "No such operator"


class UnknownService(Refusal):
    code = "unknown_service"
    title = "No such service"


class UnknownSeat(Refusal):
    code = "unknown_seat"
    title = "No such seat"


class InvalidRequest(Refusal):
    code = "invalid_request"
    title = "The request is not valid"


class UnknownPlace(InvalidRequest):
    code = "unknown_place"
    title = "No such place"


class StaleFence(Refusal):
    """The lock's fence is older than one the seat has seen. `fence`: [generation, counter] to go beyond."""

    code = "stale_fence"
    title = "The lock is out of date"
    retryable = True


class OrderNotPayable(Refusal):
    code = "order_not_payable"
    title = "The order cannot be paid"


class PaymentDeclined(Refusal):
    code = "payment_declined"
    title = "Payment declined"


class PaymentActionRequired(Refusal):
    """The card's bank wants its holder's consent, given at `action`; then the same call goes on. The hold stays."""

    code = "payment_action_required"
    title = "The payment needs the holder's consent"


class AlreadyPaid(Refusal):
    code = "already_paid"
    title = "Already paid"


class AlreadyConfirmed(Refusal):
    code = "already_confirmed"
    title = "The hold is already confirmed"


class AlreadyCancelled(Refusal):
    code = "already_cancelled"
    title = "Already cancelled"


class QuoteExpired(Refusal):
    code = "quote_expired"
    title = "The quote has expired"


class IdempotencyKeyReused(Refusal):
    code = "idempotency_key_reused"
    title = "The request id was used for another request"


class NotAuthorised(Refusal):
    code = "not_authorised"
    title = "Not authorised"


class RateLimited(Refusal):
    code = "rate_limited"
    title = "Too many requests"
    retryable = True


class ConfigInvalid(Refusal):
    """A configuration is wrong: names file, key, reason and the nearest known key."""

    code = "invalid_configuration"
    title = "The configuration is not valid"


# 2. Failures of the world.


class WorldFailure(HoldfastError):
    code = "failure"
    title = "The cluster cannot answer"
    retryable = True


class NodeUnreachable(WorldFailure):
    """Nothing was sent, or the peer said that it did nothing: safe to ask another at once."""

    code = "node_unreachable"
    title = "A process cannot be reached"


class OperatorUnavailable(WorldFailure):
    code = "operator_unavailable"
    title = "The operator's data cannot be reached"


class NotPrimary(WorldFailure):
    """This node may not write for the operator. `primary`: the node that may, where known, or ""."""

    code = "not_primary"
    title = "Not the primary"


class QuorumLost(WorldFailure):
    code = "quorum_lost"
    title = "No majority of copies can be reached"


class RequestInProgress(WorldFailure):
    code = "request_in_progress"
    title = "The request is under way"


class ResolveNeeded(WorldFailure):
    """A due hold anchored at another operator stands in the way; resolve it at `anchor` first."""

    code = "resolve_needed"
    title = "Another operator decides on that hold"


class LockTimeout(WorldFailure):
    code = "lock_timeout"
    title = "The seats stayed locked by others"


class LocksUnavailable(WorldFailure):
    code = "locks_unavailable"
    title = "No quorum of lock servers"


class PaymentsUnavailable(WorldFailure):
    """The payment provider cannot be used now: nothing is booked, and what was set aside is given up if it stays so."""

    code = "payments_unavailable"
    title = "Payments cannot be taken"


class OutcomeUnknown(WorldFailure):
    """Sent, no reply: it may have happened. Ask again with the same request_id, never report it as a refusal."""

    code = "outcome_unknown"
    title = "The outcome is not known"
    maybe_committed = True


class CallerBehind(WorldFailure):
    """What was sent is older than the answers that are kept (Z2), or its sender has long heard nothing: nothing was done.

    Whoever just made the request sends it again with the log time in `stamp_ms`; a late duplicate ends here.
    """

    code = "caller_behind"
    title = "Sent too long ago"
    retryable = True


class DiskFailed(WorldFailure):
    """A disk refused a write; nothing was acknowledged. The node stops."""

    code = "disk_failed"
    title = "A disk failed"
    retryable = False


class TooNew(WorldFailure):
    """A file or a peer is of a newer version than this program: nothing was read and nothing changed. Start the newer program."""

    code = "too_new"
    title = "Made by a newer version"

    @classmethod
    def of(cls, what: str, found: int, known: int) -> TooNew:
        """Return the error for a version (major * 100 + minor) that this program does not know."""
        words = [f"{version // 100}.{version % 100}" for version in (found, known)]
        detail = f"{what} is of version {words[0]}; this program knows {words[1]} and older of {known // 100}.x: start a newer program"
        return cls(detail, what=what, found=words[0], known=words[1])


class SnapshotNeeded(WorldFailure):
    code = "snapshot_needed"
    title = "The change stream cannot go on from there"


# 3. Our own faults.


class InvariantBroken(HoldfastError):
    """Going on could sell a seat twice. The outermost loop logs it and stops the process; it survives python -O."""

    code = "invariant_broken"
    title = "An invariant is broken"
