"""Whether a ticket still stands: each coupon by its seat, whatever else was exchanged; and the secret that signs."""

from __future__ import annotations

from pathlib import Path

import pytest

from datastore.errors import ConfigInvalid
from datastore.messages import CouponInfo
from datastore.ticket_codes import Segment
from loadbalancer.ticketing import Signer, _differing

SERVICE = "AR1140-EZE-2026-12-01"


def segment(seat: str, coupon: int = 1) -> Segment:
    return Segment(coupon, "AR", "Aerolíneas Argentinas", SERVICE, "EZE", "Ezeiza", "MIA", "Miami", "", "", seat)


def coupon(seat: str, status: str, service: str = SERVICE) -> CouponInfo:
    return CouponInfo("AR", service, seat, status)


def test_a_coupon_is_found_by_its_seat() -> None:
    """Exchanged ones stand in front of it since, so that its number has moved: it is open all the same."""
    assert [] == _differing(segment("12A"), [coupon("20D", "exchanged", "QR774-GRU-2026-12-01"), coupon("12A", "open")], {})


@pytest.mark.parametrize("status", ["refunded", "void", "exchanged"])
def test_a_coupon_that_was_given_up_says_how(status: str) -> None:
    """The seat's own status, not that of the seat which took its place."""
    (reason,) = _differing(segment("12A"), [coupon("12A", status), coupon("14C", "open")], {})
    assert "coupon 1" in reason and reason.endswith(f"is {status}")


def test_a_seat_taken_back_is_open_again() -> None:
    """Exchanged away and back: what the ticket says is so."""
    assert [] == _differing(segment("12A"), [coupon("12A", "exchanged"), coupon("14C", "exchanged"), coupon("12A", "open")], {})


def test_a_seat_that_never_was_is_named() -> None:
    """As of an order whose ledger knows another seat."""
    (reason,) = _differing(segment("1A"), [coupon("12A", "open")], {})
    assert "not in the booking" in reason


def test_one_secret_gives_each_operator_a_key_of_its_own(tmp_path: Path) -> None:
    """Processes that read the same file sign alike; operators do not; a secret open to others is refused."""
    first, second = Signer(tmp_path / "secrets" / "tickets.key"), Signer(tmp_path / "secrets" / "tickets.key")
    assert first.public_key("AR") == second.public_key("AR") != first.public_key("LA")
    assert Signer().public_key("AR") != first.public_key("AR")
    (tmp_path / "secrets" / "tickets.key").chmod(0o644)
    with pytest.raises(ConfigInvalid, match="chmod 600"):
        Signer(tmp_path / "secrets" / "tickets.key")
