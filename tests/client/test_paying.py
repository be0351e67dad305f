"""Paying and changing in the terminal application, with cards that do not pay and decisions that must be made."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from textual.pilot import Pilot
from textual.widgets import Select

from client.tui.app import HoldfastApp
from client.tui.choice import Choice
from client.tui.quote_screen import QuoteScreen
from client.tui.seat_grid import SeatGrid
from client.tui.swap_screen import SwapScreen
from client.tui.ticket_screen import TicketScreen
from tests.client.fake import FakeClient
from tests.client.screens import here, shown, until
from tests.client.stories import hold_best, play

CARDS = [("pays", "pm_card_visa"), ("declined", "pm_card_chargeDeclined"), ("wants consent", "pm_card_authenticationRequired")]


async def book(app: HoldfastApp, pilot: Pilot[None]) -> TicketScreen:
    await hold_best(app, pilot)
    await pilot.press(*"Ada", "space", *"Byron", "enter")
    await until(pilot, lambda: here(app, TicketScreen), "a ticket")
    return cast(TicketScreen, app.screen)


def test_a_declined_card_keeps_the_hold_and_another_pays(tmp_path: Path) -> None:
    """Declined is said with how long the seats stay held; one that wants consent says where; the same again then books, charged once."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        screen = await hold_best(app, pilot)
        assert "Pay 246.00 USD with" in shown(app) and "charged if it is booked, and only then" in shown(app)
        card = screen.query_one("#card", Select)
        await pilot.press(*"Ada", "space", *"Byron")
        card.value = "pm_card_chargeDeclined"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "Nothing was charged, the seats stay held for you" in shown(app), "declined")
        assert app.holds.open() and card.has_focus and [] == fake.charged
        card.value = "pm_card_authenticationRequired"
        await pilot.press("ctrl+s")
        await until(pilot, lambda: "http://bank.test/consent" in shown(app), "consent")
        assert app.holds.open() and [] == fake.charged
        await pilot.press("ctrl+s")
        await until(pilot, lambda: here(app, TicketScreen), "a ticket")
        assert ["pm_card_authenticationRequired"] == fake.charged

    play(tmp_path, story, cards=CARDS)


def test_a_child_pays_its_price_before_it_is_charged(tmp_path: Path) -> None:
    """The amount beside the card follows from who travels, before anything is paid."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        await hold_best(app, pilot)
        await pilot.press(*"CHD", "space", *"Tom", "space", *"Byron", "tab")
        await until(pilot, lambda: "Pay 123.00 USD with" in shown(app), "a child's price")

    play(tmp_path, story, cards=CARDS)


def test_other_seats_are_quoted_paid_and_only_then_changed(tmp_path: Path) -> None:
    """The difference is said first; a declined card leaves the booking as it was, and another card changes it."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        ticket = await book(app, pilot)
        await pilot.press("s")
        await until(pilot, lambda: here(app, Choice), "which leg")
        await pilot.press("down", "enter")
        await until(pilot, lambda: here(app, SwapScreen) and app.screen.cabin is not None, "the map")
        screen = cast(SwapScreen, app.screen)
        await until(pilot, lambda: screen.query_one(SeatGrid).cursor == ticket.order.legs[1].seats[0], "the cursor on the own seat")
        await pilot.press("7", "enter", "space")
        await until(pilot, lambda: "→ 7A" in shown(app), "the wish")
        await pilot.press("enter")
        await until(pilot, lambda: here(app, QuoteScreen), "the quote")
        assert "you pay 10.00 USD" in shown(app)
        app.screen.query_one("#card", Select).value = "pm_card_chargeDeclined"
        await pilot.press("y")
        await until(pilot, lambda: "the booking stays as it was" in shown(app), "declined")
        assert [] == ticket.order.history
        app.screen.query_one("#card", Select).value = "pm_card_visa"
        await pilot.press("y")
        await until(pilot, lambda: app.screen is ticket and ticket.order.history, "changed")
        assert "change [('1A', '7A')]" == ticket.order.history[0][1]
        assert 2 == fake.charged.count("pm_card_visa")

    play(tmp_path, story, cards=CARDS)


def test_a_part_is_cancelled_after_its_quote(tmp_path: Path) -> None:
    """Whole or a leg is asked first, then what comes back; Esc at either leaves the booking as it is."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        ticket = await book(app, pilot)
        for keys in (("escape",), ("enter", "escape")):
            await pilot.press("c")
            await until(pilot, lambda: here(app, Choice), "what")
            assert "leg 2:" in shown(app)
            for key in keys:
                before = app.screen
                await pilot.press(key)
                await until(pilot, lambda before=before: app.screen is not before, key)  # type: ignore[misc]
            assert app.screen is ticket and "confirmed" == ticket.order.state
        await pilot.press("c")
        await until(pilot, lambda: here(app, Choice), "what")
        await pilot.press("enter")
        await until(pilot, lambda: here(app, QuoteScreen), "the quote")
        assert "you get back 123.00 USD of 246.00 USD" in shown(app)
        await pilot.press("y")
        await until(pilot, lambda: ticket.order.state == "cancelled", "cancelled")

    play(tmp_path, story)


def test_a_traveller_decides_what_now(tmp_path: Path) -> None:
    """After a service was cancelled the ticket says so first; the ways held, keeping and the whole price back are one list."""

    async def story(app: HoldfastApp, pilot: Pilot[None], fake: FakeClient) -> None:
        ticket = await book(app, pilot)
        assert "a Decide" not in shown(app)
        order = ticket.order
        order.affected = [order.legs[0].service_id]
        order.action_required = f"{order.affected[0]}: strike"
        order.available_actions.append("accept_alternative")
        ticket._draw()
        await until(pilot, lambda: "decide (a)" in shown(app) and "a Decide" in shown(app), "what is to be decided")
        await pilot.press("a")
        await until(pilot, lambda: here(app, Choice) and "at no charge" in shown(app), "the ways")
        assert "keep the booking" in shown(app) and "the whole price back" in shown(app)
        await pilot.press("enter")
        await until(pilot, lambda: app.screen is ticket and any("way 1" == what for _, what in ticket.order.history), "taken")
        await pilot.press("a")
        await until(pilot, lambda: here(app, Choice), "the ways")
        await pilot.press("end", "enter")
        await until(pilot, lambda: here(app, QuoteScreen), "the whole price")
        assert "you get back 246.00 USD of 246.00 USD" in shown(app)
        await pilot.press("y")
        await until(pilot, lambda: ticket.order.state == "cancelled", "refunded")

    play(tmp_path, story)
