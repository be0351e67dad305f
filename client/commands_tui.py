"""The command that opens the terminal application."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from client import exit_codes
from client.terminal import Session
from datastore.errors import ConfigInvalid

if TYPE_CHECKING:
    from client.tui.desk import Desk

TEST_CARDS = {
    "pm_card_visa": "pays",
    "pm_card_mastercard": "pays",
    "pm_card_chargeDeclined": "declined",
    "pm_card_chargeDeclinedInsufficientFunds": "declined, no funds",
    "pm_card_chargeDeclinedExpiredCard": "declined, expired",
    "pm_card_authenticationRequired": "wants consent first",
    "pm_card_sandbox_slow": "pays after three seconds",
}


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(rich_help_panel="Travel")(tui)


def tui(context: typer.Context) -> int:
    """Open the terminal application: search, seat maps that live, bookings, the cluster."""
    session: Session = context.obj
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        reason = "it needs a terminal; the same is done by the other commands, each with --json for scripts"
        raise ConfigInvalid(f"tui: {reason}", file="-", key="-", reason=reason)
    from client.tui.app import HoldfastApp

    HoldfastApp(session.connect(), session.wallet, cards=cards_of(session.mapping), desk=desk_of(session)).run()
    return exit_codes.DONE


def desk_of(session: Session) -> Desk | None:
    """Return the cluster's data folder if it is on this machine."""
    from client.tui.desk import Desk

    return Desk(session) if session.folders.config.exists() else None


def cards_of(mapping: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the test cards to offer where the sandbox takes the payments: (what it does, its name).

    Source: docs/payments.md, Cards.
    """
    if mapping.get("payments", {}).get("provider") != "sandbox":
        return []
    return [(f"{name}: {what}", name) for name, what in TEST_CARDS.items()]
