"""A node added and recovered, a payment's case closed, a booking moved to another service: by keys, against a real cluster that is paid."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta
from pathlib import Path
from typing import cast

from textual.pilot import Pilot
from textual.widgets import Button, Input, Select

from client import keys, supervisor
from client.plan import plan_of
from client.terminal import Session
from client.tui.add_node_screen import AddNodeScreen
from client.tui.app import HoldfastApp
from client.tui.close_case_screen import CloseCaseScreen
from client.tui.live_table import LiveTable
from client.tui.payments_screen import PaymentsScreen
from client.tui.question import Question
from client.tui.quote_screen import QuoteScreen
from client.tui.rebook_screen import RebookScreen
from client.tui.recover_screen import RecoverScreen
from client.tui.ticket_screen import TicketScreen
from client.wallet import KeptOrder
from datastore.errors import HoldfastError
from datastore.messages import OrderAnswer
from datastore.model import Passenger
from loadbalancer.payments import StripeAdapter
from tests import nursery
from tests.client.screens import CARD, SIZE, here, paying_app, shown, until, wait_free
from tests.integration.harness import ClusterUnderTest
from tests.integration.provider_trouble import plan_trouble
from tests.waiting import wait_until

DAY, LATER = ((date.today() + timedelta(days=days)).isoformat() for days in (8, 9))
SERVICE = f"AR1140-EZE-{DAY}"


async def go_to_cluster(app: HoldfastApp, pilot: Pilot[None], row: str) -> LiveTable:
    """Show the cluster with the cursor on a process."""
    await pilot.press("f5")
    await until(pilot, lambda: app.current_mode == "cluster" and app.cluster is not None, "the cluster")
    table = app.screen.query_one("#processes", LiveTable)
    await until(pilot, lambda: row in table.rows, row)
    table.move_cursor(row=table.get_row_index(row))
    return table


def booked(cluster: ClusterUnderTest) -> OrderAnswer:
    """Return a booking that is paid for by one passenger."""
    client = cluster.client()
    hold = client.hold_any(SERVICE, 1)
    return client.process_payment(hold.hold_id, [Passenger("Byron", "Ada")], CARD)


def test_a_node_is_recovered_and_another_added(paid: ClusterUnderTest, tmp_path: Path) -> None:
    """What would be lost is said before; then each copy is taken from a peer and votes. One more node is written down, waited for and
    taken in; an address that is taken is refused in the form, which stays open."""

    async def work() -> None:
        app = paying_app(paid, tmp_path)
        async with app.run_test(size=SIZE) as pilot:
            await go_to_cluster(app, pilot, "node-3")
            await pilot.press("r")
            await until(pilot, lambda: here(app, RecoverScreen), "the plan")
            screen = cast(RecoverScreen, app.screen)
            await until(pilot, lambda: [one.state != "refused" for one in screen.planned] == [True, True], "copies that can be taken")
            await pilot.press("y")
            await until(pilot, lambda: here(app, Question), "the question")
            assert "before:" in shown(app) and "nothing is lost" in shown(app) and "after: each is a verified snapshot" in shown(app)
            await pilot.press("y")
            await until(pilot, lambda: any("after 2 are there again" in one.text for one in app.happened), "it is recovered")
            await pilot.press("escape")
            await until(pilot, lambda: app.screen is not screen, "the cluster again")

            await pilot.press("a")
            await until(pilot, lambda: here(app, AddNodeScreen), "the form")
            assert "node-4" == app.screen.query_one("#name", Input).value
            taken = str(paid.plan.process("manager-1").port)
            for port, said in (("port", "is no port"), (taken, "something listens")):
                app.screen.query_one("#port", Input).value = port
                await pilot.press("enter")
                await until(pilot, lambda said=said: said in shown(app), said)  # type: ignore[misc]
                assert app.screen.query_one("#yes", Button).disabled
            app.screen.query_one("#port", Input).value = ""
            await pilot.press("enter")
            await until(pilot, lambda: not app.screen.query_one("#yes", Button).disabled, "it can be agreed to")
            assert "before: 3 nodes" in shown(app) and "after: 4 nodes do: node-4 at 127.0.0.1:" in shown(app)
            assert "node-4" not in paid.folders.config.read_text(encoding="utf-8")
            await pilot.press("y")
            await until(pilot, lambda: "node-4" in paid.folders.config.read_text(encoding="utf-8"), "it is written down")
            paid.mapping = dict(Session(config=paid.folders.config, data=paid.folders.data).mapping)
            paid.plan = plan_of(paid.mapping)  # No supervisor here: the test starts what one would.
            command = supervisor.command_of(paid.plan.process("node-4"), paid.folders)
            paid.running["node-4"] = nursery.spawn(command, paid.folders.log("node-4"))
            await until(pilot, lambda: any("node-4 is member" in one.text for one in app.happened), "it is a member")

    asyncio.run(work())
    wait_until(lambda: "node-4" in {one.name for one in paid.client().status().processes}, "everybody to know it", 60)


def test_a_case_is_closed_by_a_person(paid: ClusterUnderTest, tmp_path: Path) -> None:
    """A payment that the provider will not capture is listed; closing it without a word is refused in the form; then it is closed, by
    name, and the books say so."""
    sandbox, secret = paid.plan.process("payments-1"), keys.read_secret(paid.folders.sandbox_key)
    admin_key = keys.read_secret(paid.folders.secrets / "admin.key")

    plan_trouble(paid.plan, paid.folders, on="capture", kind="down", count="1000")
    order, client = booked(paid), paid.client()
    intent = client.query_transaction(reference=order.reference, token=order.manage_token).intent
    StripeAdapter(secret, timeout_ms=30_000, base=f"http://{sandbox.host}:{sandbox.port}").cancel(intent, "")
    plan_trouble(paid.plan, paid.folders, kind="none")

    def listed() -> bool:
        try:
            return any(case.intent == intent and case.due for case in client.payment_cases(admin_key).cases)
        except HoldfastError:
            return False

    wait_until(listed, "the case", 60)

    async def work() -> None:
        app = paying_app(paid, tmp_path)
        async with app.run_test(size=SIZE) as pilot:
            await pilot.press("escape", "9")
            await until(pilot, lambda: here(app, PaymentsScreen) and app.screen.cases, "the case on the screen")
            screen = cast(PaymentsScreen, app.screen)
            await pilot.press("c")
            await until(pilot, lambda: here(app, CloseCaseScreen), "the form")
            assert "before: capture of" in shown(app) and order.reference in shown(app)
            await pilot.press("enter")
            await until(pilot, lambda: "say what was done about it: it stays" in shown(app), "it wants a reason")
            app.screen.query_one("#why", Input).value = "paid at the desk"
            app.screen.query_one("#by", Input).value = "The bursar"
            await pilot.press("enter")
            await until(pilot, lambda: not app.screen.query_one("#yes", Button).disabled, "it can be agreed to")
            assert "counts as taken by hand (The bursar: paid at the desk)" in " ".join(shown(app).split())
            await pilot.press("y")
            await until(pilot, lambda: app.screen is screen and not screen.cases, "no case is left")
            await until(pilot, lambda: "The bursar" in shown(app), "who closed it")

    asyncio.run(work())
    (case,) = [one for one in client.payment_cases(admin_key, closed=True).cases if one.intent == intent]
    assert ("", "The bursar") == (case.due, case.closings[0].who)


def test_a_booking_is_moved_to_another_service(paid: ClusterUnderTest, tmp_path: Path) -> None:
    """v lists the services with the same ends, the quote says what the change costs, Esc leaves all as it is; agreed to, the booking is
    of the other day, paid, and the old seat is free."""
    order = booked(paid)

    async def work() -> None:
        app = paying_app(paid, tmp_path)
        app.wallet.keep(KeptOrder(order.reference, order.manage_token, order.operator, order.service_id))
        async with app.run_test(size=SIZE) as pilot:
            await pilot.press("f3")
            await until(pilot, lambda: order.reference in shown(app), "the booking")
            await pilot.press("enter")
            await until(pilot, lambda: here(app, TicketScreen), "the ticket")
            ticket = cast(TicketScreen, app.screen)
            for agreed in (False, True):
                await pilot.press("v")
                await until(pilot, lambda: here(app, RebookScreen), "the services")
                services = app.screen.query_one("#services", LiveTable)
                day = app.screen.query_one("#day", Input)
                day.value = LATER
                day.focus()
                await pilot.press("enter")
                wanted = f"AR1140-EZE-{LATER}"
                await until(pilot, lambda wanted=wanted, services=services: wanted in services.rows and services.has_focus, wanted)  # type: ignore[misc]
                services.move_cursor(row=services.get_row_index(wanted))
                await pilot.press("enter")
                await until(pilot, lambda: here(app, QuoteScreen), "what it costs")
                if not agreed:
                    await pilot.press("escape")
                    await until(pilot, lambda: app.screen is ticket, "all as it was")
                    assert SERVICE == paid.client().order(order.reference, token=order.manage_token).service_id
                    continue
                if app.screen.query("#card"):
                    app.screen.query_one("#card", Select).value = CARD
                await pilot.press("y")
                await until(pilot, lambda: app.screen is ticket and LATER in ticket.order.service_id, "the other day")

    asyncio.run(work())
    changed = paid.client().order(order.reference, token=order.manage_token)
    assert (f"AR1140-EZE-{LATER}", "confirmed") == (changed.service_id, changed.state)
    wait_free(paid.client(), SERVICE, order.seats[0])
