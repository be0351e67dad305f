"""The cards that the payment sandbox knows. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Source: docs/payments.md, Cards.
TEST_CARDS = {
    "pm_card_visa": "pays",
    "pm_card_mastercard": "pays",
    "pm_card_chargeDeclined": "declined",
    "pm_card_chargeDeclinedInsufficientFunds": "declined, no funds",
    "pm_card_chargeDeclinedExpiredCard": "declined, expired",
    "pm_card_authenticationRequired": "wants consent first",
    "pm_card_sandbox_slow": "pays after three seconds",
}


def cards_of(mapping: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the test cards to offer where the sandbox takes the payments: (what it does, its name)."""
    if mapping.get("payments", {}).get("provider") != "sandbox":
        return []
    return [(f"{name}: {what}", name) for name, what in TEST_CARDS.items()]
