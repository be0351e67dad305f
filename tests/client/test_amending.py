"""A party's paid trip from the first letter to its tickets, and what becomes of bookings afterwards: by keys, against a real cluster."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta
from pathlib import Path
from typing import cast

from textual.pilot import Pilot
from textual.widgets import DataTable, Input, OptionList, Select, Static

from client.api import Holdfast
from client.tui.app import HoldfastApp
from client.tui.ask_text import AskText
from client.tui.calendar_screen import CalendarScreen
from client.tui.choice import Choice
from client.tui.legs import legs_of
from client.tui.live_table import LiveTable
from client.tui.passengers_screen import PassengersScreen
from client.tui.quote_screen import QuoteScreen
from client.tui.seat_grid import SeatGrid
from client.tui.seats_screen import SeatsScreen
from client.tui.swap_screen import SwapScreen
from client.tui.ticket_screen import TicketScreen, qr_lines
from client.wallet import KeptOrder
from datastore.messages import OrderAnswer, TransactionAnswer
from datastore.model import Money, Passenger
from tests.client.screens import CARD, DECLINED, SIZE, here, paying_app, shown, to_row, until, wait_free
from tests.days import flown
from tests.integration.harness import ClusterUnderTest
from tests.waiting import wait_until

TRIP_DAY, DAY = date.today() + timedelta(days=15), flown("AR1130-EZE", 16)
STRIKE_DAY = DAY + timedelta(days=1)
PEOPLE = [Passenger("Byron", "Ada"), Passenger("Byron", "Tom")]


# --- what a traveller has before ------------------------------------------------------------------------------------------


def booked(client: Holdfast, app: HoldfastApp, legs: list[tuple[str, list[str]]]) -> OrderAnswer:
    """Return a booking for two that is paid for, and is kept by the application's wallet."""
    hold = client.hold_trip(legs) if len(legs) > 1 else client.hold(*legs[0])
    order = client.process_payment(hold.hold_id, PEOPLE, CARD)
    assert "confirmed" == order.state
    app.wallet.keep(KeptOrder(order.reference, order.manage_token, order.operator, order.service_id))
    return order


def trip_services(client: Holdfast, day: date) -> list[str]:
    """Return the services of a trip to Doha that changes from AR to QR."""
    answer = client.search("Buenos Aires", "DOH", day.isoformat(), passengers=2)
    found = [[leg.service.service_id for leg in trip.legs] for trip in answer.outbound if ["AR", "QR"] == sorted(set(trip.airlines))]
    assert found, answer.outbound
    return found[0]


def two_free(client: Holdfast, service: str, cabin: str = "Y") -> list[str]:
    """Return two free seats of a service."""
    return [seat.seat_id for seat in client.seat_map(service).seats if seat.cabin == cabin and seat.state == "available"][:2]


def paid_so_far(client: Holdfast, order: OrderAnswer) -> TransactionAnswer:
    return client.query_transaction(reference=order.reference, token=order.manage_token)


async def open_booking(app: HoldfastApp, pilot: Pilot[None], order: OrderAnswer) -> TicketScreen:
    """Go to the bookings and open one."""
    await pilot.press("f3")
    await until(pilot, lambda: app.current_mode == "bookings" and order.reference in shown(app), "the booking in the list")
    table = cast("DataTable[str]", app.screen.query_one("#orders", DataTable))
    await until(pilot, lambda: order.reference in table.rows and table.has_focus, "the cursor in the list")
    table.move_cursor(row=table.get_row_index(order.reference))
    await pilot.press("enter")
    await until(pilot, lambda: here(app, TicketScreen), "the ticket")
    return cast(TicketScreen, app.screen)


# --- search to tickets ----------------------------------------------------------------------------------------------------


async def fill_in(app: HoldfastApp, pilot: Pilot[None]) -> None:
    """Fill the search in as a person does: suggestions taken, the day from the calendar, a party of two, filters."""
    await until(pilot, lambda: app.screen.query_one("#origin", Input).has_focus, "the cursor in the first field")
    for field, letters, code in (("origin", "Buen", "AEP"), ("destination", "Hamad", "DOH")):
        await pilot.press(*letters)
        places = app.screen.query_one(f"#{field}-places", OptionList)
        await until(pilot, lambda places=places: places.display and places.option_count, f"suggestions for {letters}")  # type: ignore[misc]
        await pilot.press("down")
        await until(pilot, lambda places=places: places.has_focus and places.highlighted is not None, "the cursor in them")  # type: ignore[misc]
        ids = [str(places.get_option_at_index(number).id) for number in range(places.option_count)]
        await pilot.press(*["down"] * ids.index(code), "enter")
        await until(pilot, lambda field=field, code=code: app.screen.query_one(f"#{field}", Input).value == code, code)  # type: ignore[misc]
    await until(pilot, lambda: app.screen.query_one("#date", Input).has_focus, "the cursor in the next field")
    for name, value in (("party", 2), ("stops", 1), ("sort", "duration")):
        app.screen.query_one(f"#{name}", Select).value = value
    app.screen.query_one("#operator", Input).value = "AR QR"
    await choose_day(app, pilot)


async def choose_day(app: HoldfastApp, pilot: Pilot[None]) -> None:
    """Take the day from the calendar once its price is there; the search follows by itself."""
    await pilot.press("f6")
    await until(pilot, lambda: here(app, CalendarScreen), "the calendar")
    calendar = cast(CalendarScreen, app.screen)
    for _ in range((TRIP_DAY - calendar.day).days):
        await pilot.press("right")
    await until(pilot, lambda: TRIP_DAY == calendar.day, "the day")
    await until(pilot, lambda: f"{TRIP_DAY.isoformat()}   " in shown(app) and "USD" in shown(app), "its price")
    await pilot.press("enter")
    await until(pilot, lambda: app.screen is not calendar, "the fields again")
    await until(pilot, lambda: app.screen.query_one("#date", Input).value == TRIP_DAY.isoformat(), "the day in its field")


async def seats_for_two(app: HoldfastApp, pilot: Pilot[None]) -> list[list[str]]:
    """Choose two seats beside each other on each leg; return them."""
    screen = cast(SeatsScreen, app.screen)
    grid, chosen = screen.query_one(SeatGrid), []
    for leg, row in enumerate(("20", "21")):
        await until(pilot, lambda leg=leg: screen.number == leg and screen.cabin is not None and grid.cabin is screen.cabin, "a map")  # type: ignore[misc]
        await to_row(pilot, grid, row)
        await pilot.press("space", "right", "space")
        await until(pilot, lambda leg=leg: len(screen.trip.segments[leg].seats) == 2, "two seats")  # type: ignore[misc]
        chosen.append([seat.seat_id for seat in screen.trip.segments[leg].seats])
        assert f"{leg + 1} of 2 legs chosen" in shown(app)
        if leg == 0:
            await pilot.press("n")
    return chosen


def test_a_party_goes_from_the_first_letter_to_paid_tickets(paid: ClusterUnderTest, tmp_path: Path) -> None:
    """Suggestions, calendar, party and filters; a timeline with layover, airlines and price; a declined card keeps the seats, another
    pays for both operators' legs at once; the ticket names everybody on every leg, has its code, and stands under the bookings."""
    client = paid.client()

    async def journey() -> None:
        app = paying_app(paid, tmp_path)
        async with app.run_test(size=SIZE) as pilot:
            await fill_in(app, pilot)
            trips = app.screen.query_one("#trips", OptionList)
            await until(pilot, lambda: trips.option_count and trips.has_focus, "trips")
            services = trip_services(client, TRIP_DAY)
            prompts = [str(trips.get_option_at_index(number).prompt) for number in range(trips.option_count)]
            assert [] == [prompt for prompt in prompts if "2 stops" in prompt]
            (found,) = [number for number, prompt in enumerate(prompts) if all(service in prompt for service in services)]
            assert all(word in prompts[found] for word in ("1 stop", "GRU", "AR", "QR", "+1", "left", "USD", "┄", "━")), prompts[found]
            trips.highlighted = found
            await pilot.press("enter")
            await until(pilot, lambda: here(app, SeatsScreen), "the maps")
            chosen = await seats_for_two(app, pilot)
            await pilot.press("enter")
            await until(pilot, lambda: here(app, PassengersScreen), "passengers")
            await pay(app, pilot)
            ticket = cast(TicketScreen, app.screen)
            text = shown(app)
            words = [ticket.order.reference, "confirmed", "Ada Byron", "Tom Byron", *services, *chosen[0], *chosen[1]]
            assert [] == [word for word in words if word not in text], text
            code = qr_lines(f"HOLDFAST/{ticket.order.reference}/{':'.join(ticket.order.receipt.split(':')[:3])}").plain
            assert str(ticket.query_one("#code", Static).content) == code and code.splitlines()[2].strip() in text
            order = ticket.order
            await pilot.press("f3")
            await until(pilot, lambda: app.current_mode == "bookings" and order.reference in shown(app), "it is under my bookings")
        assert list(zip(services, chosen, strict=True)) == [(leg.service_id, leg.seats) for leg in legs_of(order)]
        for service, seats in zip(services, chosen, strict=True):
            assert not set(seats) & set(client.free_seats(service))
        wait_until(lambda: paid_so_far(client, order).captured == order.total, "the whole price to be captured", 30)

    asyncio.run(journey())


async def pay(app: HoldfastApp, pilot: Pilot[None]) -> None:
    """Name both, be declined with one card, pay with another."""
    card = app.screen.query_one("#card", Select)
    card.value = DECLINED
    await pilot.press(*"Ada", "space", *"Byron", "enter", *"Tom", "space", *"Byron", "ctrl+s")
    await until(pilot, lambda: "Nothing was charged, the seats stay held for you" in shown(app), "declined")
    assert app.holds.open()
    card.value = CARD
    await pilot.press("ctrl+s")
    await until(pilot, lambda: here(app, TicketScreen), "the tickets")


# --- afterwards -----------------------------------------------------------------------------------------------------------


def test_a_better_seat_is_taken_for_its_difference_in_price(paid: ClusterUnderTest, tmp_path: Path) -> None:
    """The quote names the difference between economy and business; Esc and a declined card leave the seat; then it is changed and
    paid, to the cent, and the old seat is for sale again."""
    client = paid.client()
    service = f"AR1140-EZE-{DAY.isoformat()}"

    async def journey() -> None:
        app = paying_app(paid, tmp_path)
        async with app.run_test(size=SIZE) as pilot:
            order = booked(client, app, [(service, two_free(client, service))])
            ticket = await open_booking(app, pilot, order)
            (better, *_), old = two_free(client, service, "J"), order.seats[0]
            seats = {seat.seat_id: seat.price for seat in client.seat_map(service).seats}
            more = seats[better].minor - seats[old].minor
            assert more > 0
            await pilot.press("s")
            await until(pilot, lambda: here(app, SwapScreen) and app.screen.cabin is not None, "the map")
            grid = app.screen.query_one(SeatGrid)
            await until(pilot, lambda: grid.cursor == old, "the cursor on the own seat")
            grid.move_to(better)
            await pilot.press("space")
            await until(pilot, lambda: [better] == grid.chosen, "the wish")
            await pilot.press("enter")
            await until(pilot, lambda: here(app, QuoteScreen), "the quote")
            said = f"you pay {more // 100}.{more % 100:02d} USD"
            assert said in shown(app), (said, shown(app))
            app.screen.query_one("#card", Select).value = DECLINED
            await pilot.press("y")
            await until(pilot, lambda: here(app, QuoteScreen) and "the booking stays as it was" in shown(app), "declined")
            assert order.seats == client.order(order.reference, token=order.manage_token).seats
            app.screen.query_one("#card", Select).value = CARD
            await pilot.press("y")
            await until(pilot, lambda: app.screen is ticket and better in ticket.order.seats, "the better seat")
            assert old not in ticket.order.seats
            wait_free(client, service, old)
            assert order.total.minor + more == ticket.order.total.minor
        difference = [Money(more, "USD")]
        wait_until(lambda: difference == [one.captured for one in paid_so_far(client, order).changes], "the difference to be captured", 30)

    asyncio.run(journey())


def test_a_leg_and_a_passenger_are_given_up_and_paid_back(paid: ClusterUnderTest, tmp_path: Path) -> None:
    """Of a trip over two operators one leg is cancelled after its quote: the other stays booked, and what the fare gives back is
    refunded. Of a booking for two one passenger: the other keeps the seat."""
    client = paid.client()
    services = trip_services(client, DAY)
    local = f"AR1130-EZE-{DAY.isoformat()}"

    async def journey() -> None:
        app = paying_app(paid, tmp_path)
        async with app.run_test(size=SIZE) as pilot:
            trip = booked(client, app, [(service, two_free(client, service)) for service in services])
            pair = booked(client, app, [(local, two_free(client, local))])
            first, second = legs_of(trip)
            await give_up(app, pilot, trip, f"leg 2: {', '.join(second.seats)}")
            assert set(second.seats) <= set(client.free_seats(second.service_id))
            assert not set(first.seats) & set(client.free_seats(first.service_id))
            await pilot.press("escape")
            await give_up(app, pilot, pair, "passenger 2: Tom Byron")
            free = client.free_seats(local)
            assert [False, True] == [seat in free for seat in pair.seats]
        for order in (trip, pair):
            wait_until(lambda order=order: 0 < paid_so_far(client, order).refunded.minor < order.total.minor, "a part to be paid back", 30)  # type: ignore[misc]

    asyncio.run(journey())


async def give_up(app: HoldfastApp, pilot: Pilot[None], order: OrderAnswer, part: str) -> None:
    """Cancel a part of a booking; the rest of it stays confirmed."""
    ticket = await open_booking(app, pilot, order)
    await pilot.press("c")
    await until(pilot, lambda: here(app, Choice), "what to cancel")
    choices = app.screen.query_one(OptionList)
    prompts = [str(choices.get_option_at_index(number).prompt) for number in range(choices.option_count)]
    choices.highlighted = next(number for number, prompt in enumerate(prompts) if prompt.startswith(part))
    await pilot.press("enter")
    await until(pilot, lambda: here(app, QuoteScreen), "what comes back")
    assert "you get back" in shown(app)
    asked = ticket.order.total
    await pilot.press("y")
    await until(pilot, lambda: app.screen is ticket and ticket.order.total != asked, "it is given up")
    assert "confirmed" == ticket.order.state and ticket.order.total.minor < asked.minor


def test_travellers_decide_what_now_after_a_leg_was_cancelled(paid: ClusterUnderTest, tmp_path: Path) -> None:
    """The operator takes away a leg of two trips: one traveller takes another way that is held, at no charge; another has the whole
    price back, whatever the fare says."""
    client = paid.client()
    services = trip_services(client, STRIKE_DAY)
    lost = services[0]

    async def journey() -> None:
        app = paying_app(paid, tmp_path)
        async with app.run_test(size=SIZE) as pilot:
            goes, stays = (booked(client, app, [(service, two_free(client, service)) for service in services]) for _ in range(2))
            await take_away(app, pilot, lost)
            for order in (goes, stays):
                what = "the booking to ask for a decision"
                await asyncio.to_thread(wait_until, lambda order=order: asked(client, order).action_required, what, 60)  # type: ignore[misc]
            ticket = await decide(app, pilot, goes, "instead:")
            await until(pilot, lambda: lost not in {leg.service_id for leg in legs_of(ticket.order)}, "another way")
            assert "confirmed" == ticket.order.state and goes.total == ticket.order.total and "" == ticket.order.action_required
            for leg in legs_of(ticket.order):
                assert 2 == len(leg.seats) and not set(leg.seats) & set(client.free_seats(leg.service_id))
            await pilot.press("escape")
            ticket = await decide(app, pilot, stays, "the whole price back")
            await until(pilot, lambda: here(app, QuoteScreen), "the quote")
            assert f"you get back {stays.total} of {stays.total}" in shown(app)
            await pilot.press("y")
            await until(pilot, lambda: app.screen is ticket and ticket.order.state == "cancelled", "it is cancelled")
        wait_until(lambda: paid_so_far(client, stays).refunded == stays.total, "all of it to be paid back", 30)
        assert Money(0, "USD") == paid_so_far(client, goes).refunded

    asyncio.run(journey())


async def take_away(app: HoldfastApp, pilot: Pilot[None], service: str) -> None:
    """As the operator: X on the service, its travellers are asked, with the reason that they read."""
    await pilot.press("f8")
    await until(pilot, lambda: app.current_mode == "services", "the services")
    app.screen.query_one("#code", Input).value = "AR"
    app.screen.query_one("#day", Input).value = STRIKE_DAY.isoformat()
    await pilot.press("slash", "enter")
    table = app.screen.query_one("#operated", LiveTable)
    await until(pilot, lambda: service in table.rows and table.has_focus, f"{service} among the services")
    table.move_cursor(row=table.get_row_index(service))
    await pilot.press("X")
    await until(pilot, lambda: here(app, Choice) and "before: open" in shown(app) and "its travellers are asked" in shown(app), "the ways")
    await pilot.press("down", "enter")
    await until(pilot, lambda: here(app, AskText), "the reason")
    await pilot.press(*"strike", "enter")
    await until(pilot, lambda: str(table.get_cell(service, "State")) == "cancelled", "it is cancelled")


def asked(client: Holdfast, order: OrderAnswer) -> OrderAnswer:
    return client.order(order.reference, token=order.manage_token)


async def decide(app: HoldfastApp, pilot: Pilot[None], order: OrderAnswer, wanted: str) -> TicketScreen:
    """Open a booking that asks what now, and choose the first line that begins so."""
    ticket = await open_booking(app, pilot, order)
    text = " ".join(shown(app).split())
    assert f"decide (a): {order.service_id}: cancelled: strike" in text, text
    await pilot.press("a")
    await until(pilot, lambda: here(app, Choice), "the ways")
    choices = app.screen.query_one(OptionList)
    prompts = [str(choices.get_option_at_index(number).prompt) for number in range(choices.option_count)]
    assert any("at no charge" in prompt for prompt in prompts), prompts
    choices.highlighted = next(number for number, prompt in enumerate(prompts) if prompt.startswith(wanted))
    await pilot.press("enter")
    return ticket
