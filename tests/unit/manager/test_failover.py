"""The failover machine as dialogues: what was seen or answered goes in, what to do next comes out."""

from __future__ import annotations

import pytest

from datastore.errors import InvariantBroken
from datastore.model import Epoch
from datastore.wire import BecomeReply, BootstrapReply, PartitionStatus, PromiseReply
from manager.failover import (
    AskPromises,
    BecomeAnswered,
    Configure,
    Configured,
    Instruction,
    Lease,
    LeaseSettled,
    NameOne,
    NameStores,
    Observed,
    OperatorWatch,
    PromisesGiven,
    Report,
    Serving,
    Sighting,
    StoresNamed,
    TakeLease,
)

PLACED = ("node-1", "node-2", "node-3")
VOTERS = {"u1": "node-1", "u2": "node-2", "u3": "node-3"}
OLD = (3, "other")


def watch() -> OperatorWatch:
    return OperatorWatch("AA", "me", heartbeat_ms=100, suspicion_ms=1_000)


def status(number: int, role: str = "replica", *, promised: tuple[int, str] = OLD, heard: int = -1, lsn: int = 5) -> PartitionStatus:
    serving = role == "serving"
    voters = {} if role == "empty" else VOTERS
    role = "primary" if serving else role
    return PartitionStatus("AA", role, f"u{number}", promised, OLD if lsn else (0, ""), lsn, lsn, lsn, heard, serving, voters)


def sight(*statuses: PartitionStatus, silent: tuple[str, ...] = (), empty: tuple[str, ...] = ()) -> Observed:
    reports: dict[str, PartitionStatus | None] = {f"node-{one.store_uuid[1:]}": one for one in statuses}
    reports.update(dict.fromkeys(empty))
    return Observed(Sighting(PLACED, reports, frozenset(silent)), 0.5)


def promises(epoch: Epoch, *numbers: int, refused: tuple[int, ...] = (), held: tuple[int, str] = (9, "rival")) -> PromisesGiven:
    replies = {f"node-{n}": PromiseReply("AA", True, epoch, OLD, 5, f"u{n}", VOTERS, 1_000 + n, -1) for n in numbers}
    replies.update({f"node-{n}": PromiseReply("AA", False, held, OLD, 5, f"u{n}", VOTERS, 1_000, -1) for n in refused})
    return PromisesGiven(epoch, replies)


def ask_promises(instructions: list[Instruction]) -> AskPromises:
    (ask,) = instructions
    assert isinstance(ask, AskPromises)
    return ask


ALL_LOST = sight(status(1), status(2), status(3))


def test_a_serving_primary_is_left_alone() -> None:
    """A manager that starts, and one that looks again, changes nothing."""
    machine = watch()
    for now_ms in (0, 100, 5_000):
        assert machine.receive(sight(status(1, "serving"), status(2, heard=50), status(3, heard=50)), now_ms) == []
        assert machine.serving == Serving("node-1", Epoch(*OLD))
        assert machine.waiting == ""


def test_a_cluster_start_promotes_at_once() -> None:
    """All copies answer and none ever heard a primary: lease, promises above all that was seen, one name, with the median."""
    machine = watch()
    assert machine.receive(ALL_LOST, 0) == [TakeLease()]
    ask = ask_promises(machine.receive(LeaseSettled(Lease.GRANTED), 1))
    assert ask == AskPromises(PLACED, Epoch(4, "me"))
    (name,) = machine.receive(promises(ask.epoch, 1, 2, 3), 2)
    assert isinstance(name, NameOne)
    assert (name.node, name.item.epoch, name.item.store_uuid, name.item.log_time_base_ms) == ("node-1", (4, "me"), "u1", 1_002)
    (report,) = machine.receive(BecomeAnswered(ask.epoch, BecomeReply("AA", True)), 3)
    assert report == Report("node-1", Epoch(4, "me"), "no copy hears a primary")
    # It gets a suspicion's time to commit its first entry.
    assert machine.receive(ALL_LOST, 500) == []
    assert machine.receive(ALL_LOST, 1_003) == [TakeLease()]


def test_the_first_start_founds_the_partition() -> None:
    """No store anywhere: name the stores, give all of them the configuration, promote; each once."""
    machine = watch()
    assert machine.receive(sight(empty=PLACED), 0) == [TakeLease()]
    assert machine.receive(LeaseSettled(Lease.GRANTED), 0) == [NameStores(PLACED)]
    named = {node: BootstrapReply("AA", uuid, {}, 0) for uuid, node in VOTERS.items()}
    assert machine.receive(StoresNamed(named), 0) == [Configure(PLACED, VOTERS)]
    taken = {node: BootstrapReply("AA", uuid, VOTERS, 0) for uuid, node in VOTERS.items()}
    assert ask_promises(machine.receive(Configured(taken), 0)).epoch == Epoch(1, "me")


@pytest.mark.parametrize(
    "seen",
    [
        pytest.param(sight(empty=("node-1", "node-2"), silent=("node-3",)), id="one of its nodes is silent"),
        pytest.param(sight(empty=PLACED, silent=("node-4", "node-5")), id="two others may have an older partition"),
        pytest.param(sight(status(1, "empty", lsn=4), empty=("node-2", "node-3")), id="a log without a configuration"),
        pytest.param(sight(status(1), empty=("node-2", "node-3")), id="one store has data, its fellows lost their disks"),
    ],
)
def test_nothing_is_founded_where_data_may_be(seen: Observed) -> None:
    """A partition founded beside an older one would forget every booking."""
    machine = watch()
    for now_ms in range(0, 20_000, 500):
        assert not [one for one in machine.receive(seen, now_ms) if isinstance(one, TakeLease | NameStores)]
    assert machine.waiting


def test_founding_stops_when_a_store_turns_out_to_have_data() -> None:
    """The status was older than the store's own word."""
    machine = watch()
    machine.receive(sight(empty=PLACED), 0)
    machine.receive(LeaseSettled(Lease.GRANTED), 0)
    named = {node: BootstrapReply("AA", uuid, VOTERS if uuid == "u2" else {}, 7) for uuid, node in VOTERS.items()}
    assert machine.receive(StoresNamed(named), 0) == []


def test_an_interrupted_founding_is_completed() -> None:
    """Two stores have the configuration, the third is in it and has none: it gets it, and the promotion goes on."""
    machine = watch()
    seen = sight(status(1, lsn=0), status(2, lsn=0), status(3, "empty", lsn=0))
    assert machine.receive(seen, 0) == [Configure(("node-3",), VOTERS), TakeLease()]


def test_r9_copies_that_hear_a_primary_are_believed() -> None:
    """The manager does not reach the primary, a majority does: nothing is done, however long it lasts."""
    machine = watch()
    for now_ms in range(0, 30_000, 500):
        assert machine.receive(sight(status(2, heard=80), status(3, heard=80), silent=("node-1",)), now_ms) == []
    assert "cannot be reached from here" in machine.waiting


def test_a_dead_primary_is_replaced_when_its_copies_stopped_hearing() -> None:
    """Not before the suspicion is over, and the reason names who it was."""
    machine = watch()
    machine.receive(sight(status(1, "serving"), status(2, heard=50), status(3, heard=50)), 0)
    assert machine.receive(sight(status(2, heard=500), status(3, heard=500), silent=("node-1",)), 500) == []
    assert machine.receive(sight(status(2, heard=1_200), status(3, heard=1_200), silent=("node-1",)), 1_600) == [TakeLease()]
    ask = ask_promises(machine.receive(LeaseSettled(Lease.GRANTED), 1_600))
    assert ask.nodes == ("node-2", "node-3")
    (name,) = machine.receive(promises(ask.epoch, 2, 3), 1_600)
    assert isinstance(name, NameOne) and name.node == "node-2"
    (report,) = machine.receive(BecomeAnswered(ask.epoch, BecomeReply("AA", True)), 1_600)
    assert isinstance(report, Report) and "node-1 was primary" in report.why


def test_a_cold_start_waits_a_moment_for_the_last_node() -> None:
    """Otherwise the first two nodes to come up would get all primaries."""
    machine = watch()
    two = sight(status(2), status(3), silent=("node-1",))
    assert machine.receive(two, 0) == []
    assert "node-1" in machine.waiting
    assert machine.receive(two, 999) == []
    assert machine.receive(two, 1_000) == [TakeLease()]


def test_no_majority_means_no_attempt() -> None:
    """PROMISE to a minority would only take the role from a primary that others still reach."""
    machine = watch()
    for now_ms in range(0, 20_000, 500):
        assert machine.receive(sight(status(1), silent=("node-2", "node-3")), now_ms) == []
    assert machine.waiting == "1 of 3 copies answer, 2 are needed"


def test_a_contended_lease_waits_and_a_missing_one_does_not_stop() -> None:
    """A rival's lease is respected for a while; without lock servers it goes on after a random moment (R9)."""
    machine = watch()
    machine.receive(ALL_LOST, 0)
    assert machine.receive(LeaseSettled(Lease.CONTENDED), 0) == []
    assert machine.receive(ALL_LOST, 50) == []
    assert machine.receive(ALL_LOST, 100) == [TakeLease()]
    assert machine.receive(LeaseSettled(Lease.UNAVAILABLE), 100) == []
    assert machine.receive(ALL_LOST, 150) == []
    assert isinstance(machine.receive(ALL_LOST, 200)[0], AskPromises)


def test_r3_doubt_starts_over_with_a_higher_epoch() -> None:
    """No answer to BECOME: the epoch is never used again, and a late answer to it changes nothing."""
    machine = watch()
    machine.receive(ALL_LOST, 0)
    first = ask_promises(machine.receive(LeaseSettled(Lease.GRANTED), 0))
    machine.receive(promises(first.epoch, 1, 2, 3), 0)
    assert machine.receive(BecomeAnswered(first.epoch, None), 0) == []
    assert machine.receive(BecomeAnswered(first.epoch, BecomeReply("AA", True)), 1) == []
    assert machine.receive(promises(first.epoch, 1, 2, 3), 1) == []
    assert machine.receive(ALL_LOST, 1_000) == [TakeLease()]
    second = ask_promises(machine.receive(LeaseSettled(Lease.GRANTED), 1_000))
    assert second.epoch > first.epoch


def test_r3_a_second_name_in_one_epoch_is_a_fault() -> None:
    """Whatever led there: going on could let two stores commit."""
    machine = watch()
    machine.receive(ALL_LOST, 0)
    ask = ask_promises(machine.receive(LeaseSettled(Lease.GRANTED), 0))
    machine._named = ask.epoch
    with pytest.raises(InvariantBroken):
        machine.receive(promises(ask.epoch, 1, 2, 3), 0)


def test_the_next_epoch_is_above_what_refused() -> None:
    """A refusal tells of a higher promise; the next attempt goes beyond it, after a growing, random pause."""
    machine = watch()
    machine.receive(ALL_LOST, 0)
    ask = ask_promises(machine.receive(LeaseSettled(Lease.GRANTED), 0))
    assert machine.receive(promises(ask.epoch, 1, refused=(2, 3)), 0) == []
    assert machine.receive(ALL_LOST, 99) == []
    assert machine.receive(ALL_LOST, 100) == [TakeLease()]
    assert ask_promises(machine.receive(LeaseSettled(Lease.GRANTED), 100)).epoch == Epoch(10, "me")
    assert machine.receive(PromisesGiven(Epoch(10, "me"), {}), 100) == []
    assert machine.receive(ALL_LOST, 299) == []
    assert machine.receive(ALL_LOST, 300) == [TakeLease()]


def test_a_rival_at_work_is_left_to_it() -> None:
    """Promises rise and are not ours: wait, then look again."""
    machine = watch()
    machine.receive(sight(status(1), status(2), silent=("node-3",)), 0)
    rising = sight(status(1, promised=(4, "rival")), status(2, promised=(4, "rival")), status(3, promised=(4, "rival")))
    assert machine.receive(rising, 100) == []
    assert machine.waiting == "another manager is promoting"
    assert machine.receive(rising, 1_099) == []
    assert machine.receive(rising, 1_100) == [TakeLease()]


def test_an_old_primary_that_a_majority_left_does_not_count() -> None:
    """Two copies promised a higher epoch: whatever the old primary says of itself, it can commit nothing (R1)."""
    machine = watch()
    seen = sight(status(1, "serving"), status(2, promised=(4, "x")), status(3, promised=(4, "x")))
    assert machine.receive(seen, 0) == [TakeLease()]
    assert machine.serving is None


def test_the_higher_epoch_of_two_that_claim_to_serve() -> None:
    """The report of the older one is only older."""
    machine = watch()
    machine.receive(sight(status(1, "serving"), status(2, "serving", promised=(4, "x")), status(3, promised=(4, "x"))), 0)
    assert machine.serving == Serving("node-2", Epoch(4, "x"))


def test_a_copy_that_can_not_follow_gets_a_new_epoch() -> None:
    """An attempt died after one promise: that copy refuses its primary for ever. After a while a new epoch mends it."""
    machine = watch()
    seen = sight(status(1, "serving"), status(2, heard=50), status(3, promised=(4, "gone")))
    for now_ms in range(0, 2_000, 100):
        assert machine.receive(seen, now_ms) == []
    assert machine.receive(seen, 2_000) == [TakeLease()]
    assert ask_promises(machine.receive(LeaseSettled(Lease.GRANTED), 2_000)).epoch == Epoch(5, "me")


def test_a_primary_that_never_serves_is_replaced_in_the_end() -> None:
    """Its copies hear it, so R9 protects it for long, but not for ever."""
    machine = watch()
    seen = sight(status(1, "primary"), status(2, heard=50), status(3, heard=50))
    for now_ms in range(0, 5_000, 250):
        assert machine.receive(seen, now_ms) == []
    assert machine.receive(seen, 5_000) == [TakeLease()]


def test_where_the_copies_are() -> None:
    """As the log's configuration says, preferred ones first; before the founding, where they will be (Z16)."""
    machine = watch()
    machine.receive(sight(empty=PLACED), 0)
    assert machine.nodes() == list(PLACED)
    moved = PartitionStatus("AA", "replica", "u4", OLD, OLD, 5, 5, 5, -1, False, {"u4": "node-4", "u2": "node-2", "u1": "node-1"})
    machine.receive(Observed(Sighting(PLACED, {"node-4": moved}, frozenset()), 0.5), 0)
    assert machine.nodes() == ["node-1", "node-2", "node-4"]


def test_who_does_not_come_to_serve_is_passed_over() -> None:
    """It may reach the managers and not its fellows, and is the furthest again after each vain reign: others are asked without it."""
    machine = watch()
    machine.receive(ALL_LOST, 0)
    ask = ask_promises(machine.receive(LeaseSettled(Lease.GRANTED), 0))
    machine.receive(promises(ask.epoch, 1, 2, 3), 0)
    machine.receive(BecomeAnswered(ask.epoch, BecomeReply("AA", True)), 0)
    assert machine.serving == Serving("node-1", ask.epoch)
    assert machine.receive(sight(status(1, "primary"), status(2), status(3)), 500) == []
    assert machine.receive(ALL_LOST, 1_100) == [TakeLease()]
    again = ask_promises(machine.receive(LeaseSettled(Lease.GRANTED), 1_100))
    assert again.nodes == ("node-2", "node-3")
    # Where the rest is no majority it is asked all the same.
    alone = watch()
    alone.receive(ALL_LOST, 0)
    ask = ask_promises(alone.receive(LeaseSettled(Lease.GRANTED), 0))
    alone.receive(promises(ask.epoch, 1, 2, 3), 0)
    alone.receive(BecomeAnswered(ask.epoch, BecomeReply("AA", True)), 0)
    two = sight(status(1), status(2), silent=("node-3",))
    for now_ms in (1_100, 2_200, 3_300):
        alone.receive(two, now_ms)
    assert ask_promises(alone.receive(LeaseSettled(Lease.GRANTED), 3_300)).nodes == ("node-1", "node-2")
