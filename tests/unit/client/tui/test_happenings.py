"""What is told of two looks at the cluster, the curves, the hot seats, and what can be broken."""

from __future__ import annotations

from client.tui.break_screen import breakages
from client.tui.happenings import Happening, Series, between, hot_seats
from datastore.messages import PartitionLine, ProcessStatus, StatusAnswer


def balancer(name: str, commands: int, *hot: tuple[str, int]) -> ProcessStatus:
    return ProcessStatus(name, "balancer", "h:1", "running", "ok", figures={"commands": commands, "refused": 0}, hot=list(hot))


def node(name: str, verdict: str = "ok", uptime_ms: int = 5_000) -> ProcessStatus:
    return ProcessStatus(name, "node", "h:1", "running" if verdict == "ok" else "no answer", verdict, uptime_ms=uptime_ms)


def partition(primary: str, epoch: int, verdict: str = "ok", lsn: int = 5) -> PartitionLine:
    return PartitionLine("AR", primary, epoch, lsn, {"node-2": 3}, verdict)


def status(*processes: ProcessStatus, partitions: tuple[PartitionLine, ...] = ()) -> StatusAnswer:
    return StatusAnswer(processes=list(processes), partitions=list(partitions), verdict="ok", as_of_ms=0)


def test_a_failover_is_a_story() -> None:
    """The node is lost, nobody may write, another leads, it sells again, the node is back: each is told once, with what it means."""
    well = status(node("node-1"), partitions=(partition("node-1", 1),))
    broken = status(node("node-1", "down", 0), partitions=(partition("", 1, "down"),))
    led = status(node("node-1", "down", 0), partitions=(partition("node-2", 2),))
    back = status(node("node-1", uptime_ms=900), partitions=(partition("node-2", 2),))
    assert ["node-1 (node) no answer", "nobody may write for AR: look, but neither hold nor book there"] == [
        one.text for one in between(well, broken)
    ]
    assert ["node-2 leads AR (epoch 2) now", "AR sells again"] == [one.text for one in between(broken, led)]
    assert [Happening("node-1 (node) is back", True)] == between(led, back)
    assert [] == between(back, back)


def test_a_restart_between_two_looks_is_seen_by_the_uptime() -> None:
    """A process that was killed and started again within a second did not go unnoticed."""
    before, after = status(node("node-1", uptime_ms=60_000)), status(node("node-1", uptime_ms=300))
    assert ["node-1 (node) has started again"] == [one.text for one in between(before, after)]


def test_curves_are_rates_and_a_balancer_that_began_anew_counts_from_zero() -> None:
    """10 commands in two seconds are 5 a second; after a restart what it says is what it did since."""
    series = Series()
    series.take(status(balancer("b", 100), partitions=(partition("node-1", 1, lsn=5),)), 0, 7)
    series.take(status(balancer("b", 110), partitions=(partition("node-1", 1, lsn=9),)), 2_000, 8)
    series.take(status(balancer("b", 4), partitions=(partition("node-1", 1, lsn=9),)), 4_000, 9)
    assert [5.0, 2.0] == list(series.commands)
    assert [2.0, 0.0] == list(series.entries)
    assert [7.0, 8.0, 9.0] == list(series.latency_ms)
    assert [3.0, 3.0, 3.0] == list(series.lag)


def test_hot_seats_are_those_of_all_balancers_together() -> None:
    """Two balancers that each saw a seat wanted add up."""
    told = status(balancer("a", 0, ("AR/S/1A", 2), ("AR/S/1B", 3)), balancer("b", 0, ("AR/S/1A", 2)))
    assert [("AR/S/1A", 4)] == hot_seats(told, 1)


def test_the_busiest_primary_is_first_and_what_is_frozen_is_continued() -> None:
    """The menu offers only what runs here; a frozen process can only be continued."""
    told = status(node("node-1"), node("node-2"), node("node-9"), partitions=(partition("node-2", 1),))
    found = breakages(told, ["node-1", "node-2"], {"node-1"})
    assert [("continue", "node-1"), ("kill", "node-2"), ("freeze", "node-2")] == [(one.word, one.name) for one in found]
    assert "no majority" in found[1].meaning and "1 operator:" in breakages(told, ["node-2"], set())[0].meaning


def test_the_menu_says_what_follows_with_what_is_broken_already() -> None:
    """The second of three nodes ends sales, the last balancer all answers: nobody is told then that others go on."""
    told = status(node("node-1", "down"), node("node-2"), node("node-3"), balancer("balancer-1", 0), balancer("balancer-2", 0))
    said = {one.name: one.meaning for one in breakages(told, ["node-2", "balancer-1", "balancer-2"], {"balancer-2"})}
    assert "no majority" in said["node-2"] and "last one" in said["balancer-1"]
    whole = breakages(status(node("node-1"), node("node-2"), node("node-3")), ["node-2"], set())
    assert all("takes over" in one.meaning for one in whole)
