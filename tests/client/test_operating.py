"""The operator's and the administrator's work in the terminal application, by its keys, against a real cluster."""

from __future__ import annotations

import asyncio
from datetime import date, timedelta
from pathlib import Path
from typing import cast

from textual.pilot import Pilot
from textual.widgets import Input, OptionList

from client import processes
from client.tui.app import HoldfastApp
from client.tui.ask_text import AskText
from client.tui.block_screen import BlockScreen
from client.tui.break_screen import BreakScreen
from client.tui.live_table import LiveTable
from client.tui.locks_screen import LocksScreen
from client.tui.manifest_screen import ManifestScreen
from client.tui.question import Question
from client.tui.seat_grid import SeatGrid
from datastore.model import Passenger
from lockstore import config as locks_config
from lockstore.seatlocks import Grant, LockRequest
from lockstore.servers import lock_client
from tests.client.screens import SIZE, here, operators_app, shown, to_row, until
from tests.integration.commands import run
from tests.integration.harness import ClusterUnderTest

DAY = (date.today() + timedelta(days=9)).isoformat()


async def list_services(app: HoldfastApp, pilot: Pilot[None], operator: str, service: str) -> LiveTable:
    """Show an operator's services of the day, with the cursor on one."""
    await pilot.press("f8")
    await until(pilot, lambda: app.current_mode == "services", "the services")
    app.screen.query_one("#code", Input).value = operator
    app.screen.query_one("#day", Input).value = DAY
    await pilot.press("slash", "enter")
    table = app.screen.query_one("#operated", LiveTable)
    await until(pilot, lambda: service in table.rows and table.has_focus, f"{service} among the services")
    table.move_cursor(row=table.get_row_index(service))
    return table


def test_a_service_is_closed_and_opened_with_before_and_after(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """What is and what will be is said first; afterwards the cluster knows, and so does the table."""
    service = f"AR1140-EZE-{DAY}"

    async def work() -> None:
        app = operators_app(cluster, tmp_path)
        async with app.run_test(size=SIZE) as pilot:
            table = await list_services(app, pilot, "AR", service)
            for key, state in (("c", "closed"), ("o", "open")):
                await pilot.press(key)
                await until(pilot, lambda: here(app, AskText), "what will be")
                assert "before:" in shown(app) and f"after: {state}" in shown(app)
                await pilot.press(*"fog", "enter")
                await until(pilot, lambda state=state: str(table.get_cell(service, "State")) == state, state)  # type: ignore[misc]
                assert state == cluster.client().seat_map(service).service.state

    asyncio.run(work())


def test_seats_are_blocked_and_put_back_on_the_map(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """A marked row goes out of sale with its reason, which a traveller reads, and comes back; a booked seat in it stays booked."""
    service = f"AR1140-EZE-{DAY}"
    traveller = cluster.client("a-traveller-of-the-tests")
    hold = traveller.hold(service, ["30A"])
    order = traveller.confirm(hold.hold_id, [Passenger("Byron", "Ada")])

    async def work() -> None:
        app = operators_app(cluster, tmp_path)
        async with app.run_test(size=SIZE) as pilot:
            await list_services(app, pilot, "AR", service)
            await pilot.press("b")
            await until(pilot, lambda: here(app, BlockScreen) and app.screen.cabin is not None, "the map")
            screen = cast(BlockScreen, app.screen)
            grid = screen.query_one(SeatGrid)
            await until(pilot, lambda: grid.cursor and grid.has_focus, "a cursor")
            await to_row(pilot, grid, "30")
            await pilot.press("r")
            marked = list(screen.marks)
            assert "30A" in marked and len(marked) > 3
            await pilot.press("ctrl+b")
            await until(pilot, lambda: here(app, AskText), "the reason")
            await pilot.press(*"crew", "enter")
            free = [seat for seat in marked if seat != "30A"]
            await until(pilot, lambda: all(grid.cabin and grid.cabin.seats[one].state == "blocked" for one in free), "blocked on the map")
            assert ("blocked", "crew") == (lambda seat: (seat.state, seat.reason))(traveller.query_seat(service, free[0]).seat)
            assert "occupied" == traveller.query_seat(service, "30A").seat.state
            await pilot.press("r", "ctrl+u")
            await until(pilot, lambda: all(grid.cabin and grid.cabin.seats[one].state == "available" for one in free), "free again")
            await pilot.press("escape", "m")
            await until(pilot, lambda: here(app, ManifestScreen), "the manifest")
            manifest = app.screen.query_one("#manifest", LiveTable)
            await until(pilot, lambda: "30A" in manifest.rows, "the passenger")
            assert ("Byron", order.reference) == (manifest.get_cell("30A", "Surname"), manifest.get_cell("30A", "Booking"))

    asyncio.run(work())


def test_a_primary_is_handed_over_and_a_node_drained(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """Each asks first with before and after; then another node leads, and the drained one leads nothing until it may again."""

    async def work() -> None:
        app = operators_app(cluster, tmp_path)
        async with app.run_test(size=SIZE) as pilot:
            await pilot.press("f5")
            await until(pilot, lambda: app.current_mode == "cluster" and app.cluster is not None, "the cluster")
            partitions, nodes = app.screen.query_one("#partitions", LiveTable), app.screen.query_one("#processes", LiveTable)
            await until(pilot, lambda: "QR" in partitions.rows and "node-1" in nodes.rows, "tables")
            partitions.move_cursor(row=partitions.get_row_index("QR"))
            before = str(partitions.get_cell("QR", "Primary"))
            await pilot.press("s")
            await until(pilot, lambda: here(app, AskText), "where to")
            target = app.screen.query_one(Input).value
            assert target and target != before
            await pilot.press("enter")
            await until(pilot, lambda: here(app, Question), "the question")
            assert f"before: {before} leads" in shown(app) and f"after: {target} leads" in shown(app)
            await pilot.press("y")
            await until(pilot, lambda: str(partitions.get_cell("QR", "Primary")) == target, "the other node leads")
            for asked, leads in (("Drain", False), ("lead again", True)):
                nodes.move_cursor(row=nodes.get_row_index("node-1"))
                await pilot.press("d")
                await until(pilot, lambda: here(app, Question), "the question")
                assert asked in shown(app) and "before: node-1" in shown(app)
                await pilot.press("y")
                done = "member" if leads else "draining"
                await until(pilot, lambda done=done: any(f"after it is {done}" in one.text for one in app.happened), done)  # type: ignore[misc]
            assert [] == [line.operator for line in cluster.client().status().partitions if line.primary == "node-1"]

    asyncio.run(work())


def test_a_frozen_lock_server_is_told_and_continued(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """The menu freezes a process of this machine, the screens say who does not vote, and the same menu continues it."""
    cluster.folders.run.mkdir(exist_ok=True)
    processes.write_pid(cluster.folders.pid("lock-3"), processes.identity(cluster.pid("lock-3")))

    async def choose(app: HoldfastApp, pilot: Pilot[None], word: str) -> None:
        await pilot.press("x")
        await until(pilot, lambda: here(app, BreakScreen), "the menu")
        options = app.screen.query_one(OptionList)
        await until(pilot, lambda: options.option_count, "what can be broken")
        prompts = [str(options.get_option_at_index(number).prompt) for number in range(options.option_count)]
        options.highlighted = next(number for number, prompt in enumerate(prompts) if word in prompt and "lock-3" in prompt)
        await pilot.press("enter")
        await until(pilot, lambda: not isinstance(app.screen, BreakScreen), "done")

    async def work() -> None:
        app = operators_app(cluster, tmp_path)
        async with app.run_test(size=SIZE) as pilot:
            await pilot.press("f5")
            await until(pilot, lambda: app.current_mode == "cluster" and app.cluster is not None, "the cluster")
            try:
                await choose(app, pilot, "freeze")
                await until(pilot, lambda: any("lock-3 (lock server)" in one.text and not one.good for one in app.happened), "it is told")
                await pilot.press("f9")
                await until(pilot, lambda: "2 of 3 lock servers vote" in shown(app), "two votes")
                await pilot.press("f5")
                await until(pilot, lambda: app.current_mode == "cluster", "the cluster")
                await choose(app, pilot, "continue")
                await until(pilot, lambda: any("lock-3 (lock server) is back" in one.text for one in app.happened), "it is back")
            finally:
                cluster.thaw("lock-3")

    asyncio.run(work())


def test_the_log_is_filtered_and_the_curves_move(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """Lines of several processes are on one screen, a word narrows them; the figures know of the status questions at least."""

    async def work() -> None:
        app = operators_app(cluster, tmp_path)
        async with app.run_test(size=SIZE) as pilot:
            await pilot.press("f10")
            await until(pilot, lambda: "manager-1" in shown(app) or "node-1" in shown(app), "lines")
            await pilot.press("slash", *"operator=QR", "enter")
            await until(pilot, lambda: "operator=QR" in shown(app) and "operator=GRAND" not in shown(app), "only lines of QR")
            await pilot.press("f11")
            await until(pilot, lambda: len(app.series.latency_ms) > 1 and "status question" in shown(app), "curves")

    asyncio.run(work())


def test_the_locks_that_stand_are_shown_with_their_holder(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """By the command and on part 6: which seat, whose, for how long yet, on how many servers; and its end is seen."""
    key = f"seat:AR/AR1140-EZE-{DAY}/12A"
    locks = lock_client(locks_config.from_toml(cluster.mapping), cluster.folders.data, "balancer-2")

    def take() -> Grant:
        (outcome,) = locks.acquire_many([LockRequest((key,))], ttl_ms=10_000)
        assert isinstance(outcome, Grant), outcome
        return outcome

    async def work() -> None:
        app = operators_app(cluster, tmp_path)
        async with app.run_test(size=SIZE) as pilot:
            app.action_go("locks")
            await until(pilot, lambda: here(app, LocksScreen), "the locks")
            table = app.screen.query_one("#locks", LiveTable)
            grant = await asyncio.to_thread(take)
            row = f"{key} balancer-2"
            await until(pilot, lambda: row in table.rows, "the lock")
            assert (key, "balancer-2", "3 of 3") == tuple(table.get_cell(row, name) for name in ("Locked now", "By", "On servers"))
            await asyncio.to_thread(locks.release_many, [grant])
            await until(pilot, lambda: row not in table.rows, "its end")

    try:
        asyncio.run(work())
        take()
        code, answer, said = run(tmp_path / "wallet", "locks", data=cluster.folders.data)
        assert 0 == code, said
        seen = {lock["key"]: lock for lock in answer["locks"]}[key]
        assert ("balancer-2", ["lock-1", "lock-2", "lock-3"]) == (seen["holder"], sorted(seen["servers"]))
        assert 0 < seen["left_ms"] <= 10_000 and (3, 2, {}) == (answer["asked"], answer["quorum"], answer["unread"])
    finally:
        locks.close()
