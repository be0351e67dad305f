"""Dialogues with the replication machine: an event in, the steps out, in their order."""

from __future__ import annotations

import pytest

from datastore.errors import InvariantBroken, SnapshotNeeded
from datastore.ledger import BATCH, CONFIG, NOOP, Entry, SealedEntry, seal
from datastore.memory import MemoryStore
from datastore.model import EPOCH_NONE, Epoch
from datastore.replication import Replica
from datastore.replication_steps import (
    Append,
    AppendAnswer,
    Became,
    Commit,
    Confirmed,
    NeedSnapshot,
    Persist,
    Plan,
    Promised,
    ReplicationSettings,
    Send,
    StepDown,
    Write,
)
from datastore.rows import ROWS_FORM, ConfigRow

ONE, TWO, THREE = Epoch(1, "m"), Epoch(2, "m"), Epoch(3, "m")
CONFIG_ROW = ConfigRow({"a": "node-a", "b": "node-b", "c": "node-c"})


class Site:
    """A machine whose plans are carried out on a store in memory; `steps` is what the last event gave."""

    def __init__(self, name: str = "a", config: ConfigRow = CONFIG_ROW) -> None:
        self.store = MemoryStore("AR", name)
        self.store.save_config(config)
        self.machine = Replica(self.store.summary(), self.store, ReplicationSettings(100, 1000))
        self.now_ms = 0

    def carry_out(self, plan: Plan) -> list[object]:
        steps: list[object] = list(plan.steps)
        for step in plan.steps:
            match step:
                case Persist(promised, led):
                    self.store.save_epochs(promised, led)
                case Write(truncate_from, entries):
                    self.store.append(entries, truncate_from)
                    if self.machine.is_primary:
                        steps += self.carry_out(self.machine.wrote(entries[-1].entry.lsn, self.now_ms))
        return steps

    def lead(self, epoch: Epoch = ONE) -> list[object]:
        self.carry_out(self.machine.promise(epoch, self.now_ms))
        return self.carry_out(self.machine.become(epoch, self.machine.store_uuid, 5000, self.now_ms))

    def ack(self, name: str, seq: int, lsn: int, rows_form: int = ROWS_FORM) -> list[object]:
        answer = AppendAnswer("ack", self.machine.epoch, lsn, name, self.machine.epoch, rows_form=rows_form)
        return self.carry_out(self.machine.answered(name, seq, answer, self.now_ms))

    def propose(self) -> list[object]:
        machine = self.machine
        entry = Entry(machine.epoch, machine.tail.lsn + 1, machine.stamp(self.now_ms), BATCH)
        return self.carry_out(machine.propose(seal(entry, machine.tail.hash), self.now_ms))


def sends(steps: list[object]) -> dict[str, Send]:
    return {step.store_uuid: step for step in steps if isinstance(step, Send)}


def entry_after(site: Site, epoch: Epoch, count: int = 1) -> list[SealedEntry]:
    """Return entries of another primary that follow this site's log."""
    made: list[SealedEntry] = []
    tail = site.machine.tail
    for index in range(count):
        entry = Entry(epoch, tail.lsn + 1 + index, tail.stamp_ms + 1, NOOP)
        made.append(seal(entry, made[-1].hash if made else tail.hash))
    return made


def serving() -> Site:
    """A primary of epoch 1 whose first entry is committed by b."""
    site = Site()
    site.ack("b", sends(site.lead())["b"].seq, 1)
    assert site.machine.may_propose
    return site


def test_r1_a_promise_is_flushed_before_it_is_answered_and_holds() -> None:
    """The reply leaves after every step; equal and lower epochs are refused from then on."""
    site = Site()
    plan = site.machine.promise(TWO, 0)
    assert [Persist(TWO, EPOCH_NONE)] == plan.steps
    assert isinstance(plan.reply, Promised) and plan.reply.granted
    for epoch in (TWO, ONE):
        again = site.machine.promise(epoch, 0)
        assert ([], (False, TWO)) == (again.steps, again.reply[:2] if again.reply else None)
    refused = site.machine.append(Append(ONE, 0, EPOCH_NONE, [], 0), 0).reply
    assert isinstance(refused, AppendAnswer) and ("epoch", TWO) == (refused.status, refused.promised)


def test_r4_a_reign_begins_with_led_on_disk_and_serves_after_its_first_commit() -> None:
    """Led first, then ship, then write; the first entry of all carries the configuration."""
    site = Site()
    steps = site.lead()
    kinds = [type(step) for step in steps]
    assert [Persist, Send, Send, Write] == kinds
    assert Persist(ONE, ONE) == steps[0]
    first = steps[3]
    assert isinstance(first, Write) and CONFIG == first.entries[0].entry.kind
    assert not site.machine.serving
    assert Commit(1) in site.ack("b", sends(steps)["b"].seq, 1)
    assert site.machine.serving


@pytest.mark.parametrize(
    ("epoch", "name", "reason"),
    [(TWO, "a", "is promised"), (ONE, "b", "this store is a"), (ONE, "a", "was led here")],
)
def test_r3_r4_only_the_promised_epoch_the_named_store_and_once(epoch: Epoch, name: str, reason: str) -> None:
    """A late, misdirected or repeated BECOME makes nobody primary."""
    site = Site()
    site.lead()
    reply = site.machine.become(epoch, name, 0, 0).reply
    assert isinstance(reply, Became) and not reply.accepted and reason in reply.reason


def test_z16_a_restart_forgets_the_role_and_the_epoch_cannot_be_led_again() -> None:
    """What is on disk makes a follower, and `led` refuses the duplicate of the BECOME."""
    site = serving()
    left = site.store.crashed()
    machine = Replica(left.summary(), left, ReplicationSettings())
    assert (False, "replica") == (machine.is_primary, machine.role)
    assert Became(False, "this epoch was led here before") == machine.become(ONE, "a", 0, 0).reply


def test_no_voter_no_reign() -> None:
    """A store outside the configuration is refused however much it has."""
    site = Site("d")
    site.machine.promise(ONE, 0)
    assert Became(False, "this store is no voter") == site.machine.become(ONE, "d", 0, 0).reply


def test_r6_the_primary_counts_itself_only_after_its_own_flush() -> None:
    """A follower that is faster than the local disk commits nothing alone."""
    site = serving()
    entry = Entry(ONE, 2, 6000, BATCH)
    plan = site.machine.propose(seal(entry, site.machine.tail.hash), 0)
    answer = AppendAnswer("ack", ONE, 2, "b", ONE)
    sent = sends(list(plan.steps)).get("b")
    assert sent is not None
    assert not [step for step in site.machine.answered("b", sent.seq, answer, 0).steps if isinstance(step, Commit)]
    assert [Commit(2)] == [step for step in site.machine.wrote(2, 0).steps if isinstance(step, Commit)]


def test_r6_an_entry_of_an_older_epoch_commits_only_with_one_of_the_own() -> None:
    """Raft's figure 8: a majority that has an old entry does not make it last."""
    site = Site()
    site.lead()  # Entry 1 of epoch 1, on this disk alone.
    steps = site.lead(TWO)
    gap = AppendAnswer("gap", TWO, 0, "b", TWO, first_lsn=1)
    steps = site.carry_out(site.machine.answered("b", sends(steps)["b"].seq, gap, 0))
    resend = sends(steps)["b"]
    assert (0, 2) == (resend.previous_lsn, resend.last_lsn)
    steps = site.ack("b", resend.seq, 1)
    assert 0 == site.machine.commit_lsn
    site.ack("b", sends(steps)["b"].seq, 2)
    assert 2 == site.machine.commit_lsn


def test_z1_one_entry_is_in_flight() -> None:
    """The next may be proposed when this one is committed, not before."""
    site = serving()
    steps = site.propose()
    assert not site.machine.may_propose
    with pytest.raises(InvariantBroken):
        site.propose()
    site.ack("b", sends(steps)["b"].seq, 2)
    assert site.machine.may_propose


def test_r5_a_shorter_message_truncates_nothing() -> None:
    """An old, late APPEND is acknowledged for what it says and changes nothing."""
    site = Site("b")
    entries = entry_after(site, ONE, 3)
    site.carry_out(site.machine.append(Append(ONE, 0, EPOCH_NONE, entries, 0), 0))
    plan = site.machine.append(Append(ONE, 0, EPOCH_NONE, entries[:1], 0), 0)
    assert not [step for step in plan.steps if isinstance(step, Write)]
    assert isinstance(plan.reply, AppendAnswer) and 1 == plan.reply.match_lsn
    assert 3 == site.machine.tail.lsn


def test_r5_a_different_epoch_truncates_from_there() -> None:
    """The first entry that differs goes, and everything after it."""
    site = Site("b")
    site.carry_out(site.machine.append(Append(ONE, 0, EPOCH_NONE, entry_after(site, ONE, 3), 1), 0))
    kept = site.store.hash_at(1)
    fresh = seal(Entry(TWO, 2, 99_000, NOOP), kept)
    steps = site.carry_out(site.machine.append(Append(TWO, 1, ONE, [fresh], 2), 0))
    assert [Persist(TWO, EPOCH_NONE), Write(2, (fresh,)), Commit(2)] == steps
    assert 2 == site.machine.tail.lsn


def test_r5_what_is_committed_is_never_truncated() -> None:
    """A primary that lacks what is committed here is a fault in the protocol: stop."""
    site = Site("b")
    site.carry_out(site.machine.append(Append(ONE, 0, EPOCH_NONE, entry_after(site, ONE, 2), 2), 0))
    other = Site("c")
    with pytest.raises(InvariantBroken):
        site.machine.append(Append(TWO, 0, EPOCH_NONE, entry_after(other, TWO, 1), 0), 0)
    with pytest.raises(InvariantBroken):
        site.machine.append(Append(THREE, 2, TWO, [], 0), 0)


def test_r12_who_is_asked_from_before_what_is_committed_here_says_how_far_that_is() -> None:
    """After a snapshot the primary still asks from the log's beginning, which it may not have itself: it must learn where to go on."""
    site = Site("b")
    entries = entry_after(site, ONE, 3)
    site.carry_out(site.machine.append(Append(ONE, 0, EPOCH_NONE, entries, 3), 0))
    for needs_snapshot in (True, False):
        plan = site.machine.append(Append(ONE, 0, EPOCH_NONE, [], 4, needs_snapshot=needs_snapshot), 0)
        assert isinstance(plan.reply, AppendAnswer) and ("ack", 3) == (plan.reply.status, plan.reply.match_lsn)
        assert not [step for step in plan.steps if isinstance(step, NeedSnapshot)]


def test_r12_entries_whose_segment_is_not_here_yet_are_not_compared() -> None:
    """They came with a snapshot and are committed; what follows them is taken all the same."""

    class Unread(MemoryStore):
        def hash_at(self, lsn: int) -> bytes:
            if lsn < 3:
                raise SnapshotNeeded("the segment is not here", lsn=lsn)
            return super().hash_at(lsn)

    site = Site("b")
    entries = entry_after(site, ONE, 4)
    site.store = Unread("AR", "b")
    site.store.append(entries[:3])
    for sealed in entries[:3]:
        site.store.stage(sealed)
    site.machine = Replica(site.store.summary(), site.store, ReplicationSettings(100, 1000))
    steps = site.carry_out(site.machine.append(Append(ONE, 0, EPOCH_NONE, entries, 3), 0))
    assert [Write(0, (entries[3],))] == [step for step in steps if isinstance(step, Write)]


def test_r5_a_gap_names_where_to_send_from() -> None:
    """After the end where entries are missing; at the start of the run that disagrees where they differ."""
    site = Site("b")
    site.carry_out(site.machine.append(Append(ONE, 0, EPOCH_NONE, entry_after(site, ONE, 1), 1), 0))
    site.carry_out(site.machine.append(Append(TWO, 1, ONE, entry_after(site, TWO, 3), 0), 0))
    missing = site.machine.append(Append(THREE, 9, THREE, [], 0), 0).reply
    differs = site.machine.append(Append(THREE, 4, THREE, [], 0), 0).reply
    assert isinstance(missing, AppendAnswer) and ("gap", 5) == (missing.status, missing.first_lsn)
    assert isinstance(differs, AppendAnswer) and ("gap", 2) == (differs.status, differs.first_lsn)


def test_r5_two_entries_of_one_epoch_at_one_lsn_stop_the_node() -> None:
    """Only a broken rule elsewhere can make them; whichever went on could sell a seat twice."""
    site = Site("b")
    site.carry_out(site.machine.append(Append(ONE, 0, EPOCH_NONE, entry_after(site, ONE, 1), 0), 0))
    other = seal(Entry(ONE, 1, 77, NOOP), site.store.hash_at(0))
    with pytest.raises(InvariantBroken):
        site.machine.append(Append(ONE, 0, EPOCH_NONE, [other], 0), 0)


def test_r10_without_a_majority_for_twice_the_window_it_steps_down() -> None:
    """One follower of two is enough to go on; none is not."""
    site = serving()
    site.now_ms = 1500
    steps = site.carry_out(site.machine.tick(1500))
    site.ack("b", sends(steps)["b"].seq, 1)
    assert not [step for step in site.machine.tick(3400).steps if isinstance(step, StepDown)]
    assert [StepDown] == [type(step) for step in site.machine.tick(3501).steps]
    assert not site.machine.is_primary


def test_a_higher_promise_elsewhere_ends_the_reign() -> None:
    """A follower that promised another epoch says so, and the primary believes it."""
    site = serving()
    sent = sends(site.propose())["b"]
    steps = site.machine.answered("b", sent.seq, AppendAnswer("epoch", ONE, 0, "b", TWO), 0).steps
    assert [StepDown] == [type(step) for step in steps]


def test_r14_an_answer_under_another_identity_counts_for_nothing() -> None:
    """A node that lost its disk has a new store; it did not acknowledge what the old one did."""
    site = Site()
    sent = sends(site.lead())["b"]
    answer = AppendAnswer("ack", ONE, 1, "somebody-else", ONE)
    assert [] == site.machine.answered("b", sent.seq, answer, 0).steps
    assert 0 == site.machine.commit_lsn


def test_reads_are_confirmed_by_what_was_sent_after_they_arrived() -> None:
    """An acknowledgement that was under way before proves nothing about now (5.4); one round serves all that wait."""
    site = serving()
    under_way = sends(site.propose())
    ticket, plan = site.machine.read(0)
    assert "b" not in sends(list(plan.steps)), "one message to a follower at a time"
    steps = site.ack("b", under_way["b"].seq, 2)
    assert Confirmed(ticket) not in steps
    steps = site.ack("b", sends(steps)["b"].seq, 2)
    assert Confirmed(ticket) in steps


def test_a_single_copy_commits_and_confirms_alone() -> None:
    """Development only: its own flush is the majority."""
    site = Site("a", ConfigRow({"a": "node-a"}))
    assert Commit(1) in site.lead()
    assert Commit(2) in site.propose()
    for _ in range(2):
        ticket, plan = site.machine.read(0)
        assert [Confirmed(ticket)] == plan.steps


def test_r17_stamps_go_on_from_the_base_and_never_back() -> None:
    """The base is the greater of the log's last stamp and what the promise responders' clocks said."""
    site = serving()
    assert 5000 == site.machine.tail.stamp_ms
    assert 5250 == site.machine.stamp(250)
    site.now_ms = 1000
    site.propose()
    late = site.machine.stamp(0)
    assert 6000 == late, "an earlier reading of the clock does not turn the stamp back"


def test_r14_a_store_that_hears_a_primary_is_not_put_aside() -> None:
    """A manager that looked before it began to learn takes it for one that never takes part again."""
    site = Site()
    site.carry_out(site.machine.append(Append(ONE, 0, EPOCH_NONE, [], 0), 100))
    assert "it hears a primary" == site.machine.why_not_put_aside(1_099)
    assert "" == site.machine.why_not_put_aside(1_100)
    assert "" == Site().machine.why_not_put_aside(0)
    assert "it leads" == serving().machine.why_not_put_aside(10_000)


def test_a_copy_that_hears_no_primary_knows_that_it_is_cut_off() -> None:
    """Nor does a primary that hears no majority keep up; a single copy always does."""
    site = Site()
    assert site.machine.is_cut_off(0), "it never heard one"
    site.carry_out(site.machine.append(Append(ONE, 0, EPOCH_NONE, [], 0), 100))
    assert (False, True) == (site.machine.is_cut_off(2_100), site.machine.is_cut_off(2_101))
    primary = serving().machine
    assert (False, True) == (primary.is_cut_off(1_000), primary.is_cut_off(10_000))
    single = Site("a", ConfigRow({"a": "node-a"}))
    single.lead()
    assert not single.machine.is_cut_off(10_000)


def test_r17_the_clock_does_not_lag_by_what_the_manager_waited() -> None:
    """The base is of the promise; a manager that waits for a silent store names its choice later, and the time counts."""
    site = Site()
    site.carry_out(site.machine.promise(ONE, 0))
    site.now_ms = 900
    site.carry_out(site.machine.become(ONE, site.machine.store_uuid, 5000, site.now_ms))
    assert 5900 == site.machine.tail.stamp_ms


def test_a_lost_message_is_sent_again_with_the_next_heartbeat() -> None:
    """Nothing is sent twice at once, and what is missing comes with the next round."""
    site = serving()
    sent = sends(site.propose())["b"]
    site.machine.lost("b", sent.seq)
    assert "b" not in sends(list(site.machine.tick(50).steps))
    again = sends(list(site.machine.tick(100).steps))["b"]
    assert (1, 2) == (again.previous_lsn, again.last_lsn)
