"""The exit code of the commands for every error code of the wire: one table, so that scripts can rely on it."""

from __future__ import annotations

from typing import Final

DONE: Final = 0
INVALID: Final = 2
NOT_FOUND: Final = 3
SEAT_GONE: Final = 4
EXPIRED: Final = 5
DECLINED: Final = 6
NO_ANSWER: Final = 7
PARTIAL: Final = 8
DAMAGED: Final = 9

EXIT_CODES: Final[dict[str, int]] = {
    # The question itself is wrong.
    "invalid_request": INVALID,
    "invalid_configuration": INVALID,
    "idempotency_key_reused": INVALID,
    # What it names does not exist.
    "unknown_operator": NOT_FOUND,
    "unknown_place": NOT_FOUND,
    "unknown_service": NOT_FOUND,
    "unknown_seat": NOT_FOUND,
    "unknown_hold": NOT_FOUND,
    "unknown_order": NOT_FOUND,
    # Somebody else has the seats.
    "seat_unavailable": SEAT_GONE,
    "seat_blocked": SEAT_GONE,
    "no_adjacent_block": SEAT_GONE,
    # Time ran out.
    "hold_expired": EXPIRED,
    "offer_expired": EXPIRED,
    "quote_expired": EXPIRED,
    # The answer is no.
    "refused": DECLINED,
    "hold_not_yours": DECLINED,
    "hold_limit_reached": DECLINED,
    "price_changed": DECLINED,
    "service_closed": DECLINED,
    "connection_too_short": DECLINED,
    "order_not_payable": DECLINED,
    "payment_declined": DECLINED,
    "payment_action_required": DECLINED,
    "already_paid": DECLINED,
    "already_confirmed": DECLINED,
    "already_cancelled": DECLINED,
    "not_authorised": DECLINED,
    "rate_limited": DECLINED,
    # The cluster did not answer, or could not.
    "internal": NO_ANSWER,
    "failure": NO_ANSWER,
    "start_failed": NO_ANSWER,
    "node_unreachable": NO_ANSWER,
    "operator_unavailable": NO_ANSWER,
    "not_primary": NO_ANSWER,
    "quorum_lost": NO_ANSWER,
    "request_in_progress": NO_ANSWER,
    "resolve_needed": NO_ANSWER,
    "stale_fence": NO_ANSWER,
    "lock_timeout": NO_ANSWER,
    "locks_unavailable": NO_ANSWER,
    "outcome_unknown": NO_ANSWER,
    "payments_unavailable": NO_ANSWER,
    "disk_failed": NO_ANSWER,
    "snapshot_needed": NO_ANSWER,
    "too_new": NO_ANSWER,
    "caller_behind": NO_ANSWER,
    "ledger_damaged": NO_ANSWER,
    "invariant_broken": NO_ANSWER,
}


def exit_code(code: str) -> int:
    """Return the exit code for an error's `code`; one that is not known here is the cluster's trouble, not the user's."""
    return EXIT_CODES.get(code, NO_ANSWER)
