"""The errors of the lock store, each with its code, its fields and what a caller may do about it.

Every error is data first: `code` names the case for programs, `fields` carries what was involved, `retryable` says
whether the same request may succeed later, and `maybe_committed` whether an effect may have remained. A lock never
commits anything (a key left behind by a lost reply dies with its ttl), so `maybe_committed` is False for acquisitions
and True only where a change to a lock server's own state was under way.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class LockError(Exception):
    """The root of all errors of this package."""

    code = "lock_error"
    retryable = False
    maybe_committed = False

    def __init__(self, detail: str, **fields: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fields: dict[str, Any] = fields

    def to_data(self) -> dict[str, Any]:
        """Return the error as plain values, ready for any wire format."""
        return {
            "code": self.code,
            "detail": self.detail,
            "fields": dict(self.fields),
            "retryable": self.retryable,
            "maybe_committed": self.maybe_committed,
        }


class LockNotAcquired(LockError):
    """A lock was not obtained; `fields["reasons"]` tells why for each server that had something to say."""

    code = "lock_not_acquired"
    retryable = True

    def __init__(self, detail: str, *, keys: tuple[str, ...], reasons: Mapping[str, str], **fields: Any) -> None:
        super().__init__(detail, keys=keys, reasons=dict(reasons), **fields)


class LockTimeout(LockNotAcquired):
    """The keys stayed taken by others until the deadline: ask again, the holder needs only moments."""

    code = "lock_timeout"


class LocksUnavailable(LockNotAcquired):
    """No quorum of lock servers could be used; `fields["reasons"]` names each server and what was wrong with it."""

    code = "locks_unavailable"


class LockRequestInvalid(LockError):
    """The request itself cannot be served: no keys, too many keys, or a ttl beyond what recovery waits for."""

    code = "invalid_request"


class LockServerRefused(LockError):
    """A lock server cannot be started, stopped or admitted as asked; `fields` names the server and the obstacle."""

    code = "lock_server_refused"

    def __init__(self, detail: str, *, server: str, maybe_committed: bool = False, **fields: Any) -> None:
        super().__init__(detail, server=server, **fields)
        self.maybe_committed = maybe_committed


class PortInUse(LockServerRefused):
    """Another process listens on the port that the configuration gives to this lock server."""

    code = "lock_server_port_in_use"


class BinaryNotFound(LockServerRefused):
    """No usable Redis or Valkey server binary was found; the detail lists the places and what was wrong there."""

    code = "lock_server_binary_not_found"


class LockSetNotRecoverable(LockServerRefused):
    """Too few lock servers still know their counter: only a new generation makes the set safe to use again."""

    code = "lock_set_not_recoverable"


class LockConfigInvalid(LockError):
    """A value of the configuration cannot be used; names the file, the key, the reason and the nearest known key."""

    code = "lock_config_invalid"

    def __init__(self, *, file: str, key: str, reason: str, nearest: str = "") -> None:
        hint = f'; did you mean "{nearest}"?' if nearest else ""
        super().__init__(f"{file}: {key}: {reason}{hint}", file=file, key=key, reason=reason, nearest=nearest)
