"""Recovery as it is decided: from whom, what would be lost, and a pull that may be interrupted anywhere."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from datastore.model import EPOCH_NONE, Epoch
from datastore.recovery import (
    HASHES_MAX,
    LAG_MAX,
    LOG_ENTRIES_MAX,
    Ask,
    Came,
    Cause,
    Check,
    Checked,
    Compare,
    Compared,
    Discard,
    Fetch,
    Finished,
    GiveUp,
    Gone,
    Install,
    Installed,
    Instruction,
    Leftover,
    NoSource,
    Note,
    Offered,
    Pull,
    PullSettings,
    Settle,
    Silent,
    Source,
    agreed_lsn,
    blocks_within,
    cause_at_node,
    choose_source,
    keeps_suffix,
    refusal,
)
from datastore.remembered import Remembered, went_back
from datastore.wire import PartitionStatus
from datastore.wire_recovery import SnapshotOffer

VOTERS = {"u1": "node-1", "u2": "node-2", "u3": "node-3"}


def copy(store_uuid: str, role: str = "replica", lsn: int = 5000, **fields: Any) -> PartitionStatus:
    last_lsn = fields.pop("last_lsn", lsn)
    known: dict[str, Any] = {"voters": VOTERS, "epoch": (1, "m"), "serving": role == "primary", **fields}
    return PartitionStatus(
        operator="AR",
        role=role,
        store_uuid=store_uuid,
        promised=(1, "m"),
        last_lsn=last_lsn,
        commit_lsn=lsn,
        applied_lsn=lsn,
        heard_age_ms=0,
        **known,
    )


PEERS = {"node-1": copy("u1", "primary"), "node-2": copy("u2", lsn=4990)}


# --- whether ------------------------------------------------------------------------------------------------------


def test_a_node_recovers_what_the_configuration_expects_of_it_and_nothing_else() -> None:
    """A lost disk, a new empty store in its place, an empty learner of a long log; not a node that is no member."""
    empty = copy("new", "empty", lsn=0, voters={})
    assert Cause.EMPTY == cause_at_node("node-3", None, PEERS)
    assert Cause.EMPTY == cause_at_node("node-3", empty, PEERS)
    assert None is cause_at_node("node-4", None, PEERS)
    assert None is cause_at_node("node-3", copy("u3", lsn=17), PEERS)
    assert None is cause_at_node("node-3", None, {})
    young = {"node-1": copy("u1", "primary", lsn=0, last_lsn=1)}
    assert None is cause_at_node("node-3", None, young)
    short = {"node-1": copy("u1", "primary", lsn=LOG_ENTRIES_MAX, learners={"new": "node-4"})}
    long = {"node-1": copy("u1", "primary", lsn=LOG_ENTRIES_MAX + 1, learners={"new": "node-4"})}
    assert [None, Cause.EMPTY] == [cause_at_node("node-4", empty, peers) for peers in (short, long)]


def test_a_node_that_was_taken_out_recovers_nothing() -> None:
    """The newest configuration counts, whoever has it."""
    taken_out = {"u1": "node-1", "u2": "node-2"}
    peers = {"node-1": copy("u1", "primary", lsn=5001, voters=taken_out), "node-2": copy("u2", lsn=4990)}
    assert None is cause_at_node("node-3", None, peers)


def test_a_store_may_be_ahead_of_its_record_and_never_behind() -> None:
    """R11: an identity, a promise, a reign or a committed entry that is missing tells an old disk."""
    one, two = Epoch(1, "m"), Epoch(2, "m")
    record = Remembered("u3", "next", two, one, 10)
    assert "" == went_back(None, "u3", one, one, 1)
    assert "" == went_back(record, "u3", two, one, 10)
    assert "" == went_back(record, "u3", Epoch(3, "m"), two, 12)
    assert "" == went_back(record, "next", one, EPOCH_NONE, 3)
    assert "another store" in went_back(record, "other", two, one, 10)
    assert "promised epoch 2" in went_back(record, "u3", one, one, 10)
    assert "promised epoch" in went_back(record, "u3", two, EPOCH_NONE, 10)
    assert "entry 10" in went_back(record, "u3", two, one, 9)


# --- from whom ----------------------------------------------------------------------------------------------------


def test_a_replica_with_everything_is_taken_before_the_primary() -> None:
    """The primary has its sales to do; the reason says what decided."""
    chosen = choose_source("node-3", PEERS)
    assert isinstance(chosen, Source)
    assert ("node-2", 4990) == chosen[:2]
    assert "replica" in chosen.why
    behind = {**PEERS, "node-2": copy("u2", lsn=5000 - LAG_MAX - 1)}
    chosen = choose_source("node-3", behind)
    assert isinstance(chosen, Source)
    assert "node-1" == chosen.node
    assert "primary" in chosen.why


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [("node-3", "to be recovered"), ("node-22", "did you mean node-2"), ("node-4", "is no voter"), ("node-2", "behind")],
)
def test_a_peer_that_a_person_names_must_do(wanted: str, reason: str) -> None:
    """A learner, a copy that is behind, or the node itself is refused with the reason."""
    peers = {**PEERS, "node-2": copy("u2", lsn=100), "node-4": copy("u4", "learner")}
    found = choose_source("node-3", peers, wanted)
    assert isinstance(found, NoSource)
    assert reason in found.why


def test_nobody_is_taken_who_would_take_the_copy_back() -> None:
    """What is committed here stays committed: a source behind it is none (R13)."""
    assert isinstance(choose_source("node-3", PEERS, at_least_lsn=5001), NoSource)
    assert isinstance(choose_source("node-3", {}), NoSource)


@given(st.dictionaries(st.sampled_from(["node-1", "node-2", "node-4", "node-5"]), st.tuples(st.booleans(), st.integers(0, 300))))
def test_whoever_is_chosen_is_a_voter_and_not_behind(peers: dict[str, tuple[bool, int]]) -> None:
    """Whatever the others say, and nobody fit is left out."""
    voters = {name: name for name, (votes, _) in peers.items() if votes}
    copies = {name: copy(name, lsn=lsn, voters=voters) for name, (_, lsn) in peers.items()}
    chosen = choose_source("node-3", copies)
    fit = {name for name, (votes, lsn) in peers.items() if votes and lsn > 0}
    if isinstance(chosen, Source):
        assert chosen.node in fit
        assert chosen.lsn >= max(lsn for votes, lsn in peers.values() if votes) - LAG_MAX
    else:
        # An outsider that is ahead of every voter is the newest log that there is: then nobody may be far enough.
        assert not fit or max(lsn for votes, lsn in peers.values() if not votes) > max(peers[name][1] for name in fit)


def test_a_copy_is_not_given_up_while_the_others_cannot_do_without_it() -> None:
    """A primary, a minority of others, others without a primary: each is refused with what to do."""
    mine = copy("u3")
    assert "" == refusal("node-3", mine, PEERS)
    assert "" == refusal("node-3", None, {})
    assert "" == refusal("node-3", copy("u9", "outside"), {})
    assert "switchover AR" in refusal("node-1", PEERS["node-1"], {"node-2": PEERS["node-2"], "node-3": mine})
    assert "1 of its other copies" in refusal("node-3", mine, {"node-1": PEERS["node-1"]})
    both = refusal("node-3", mine, {**PEERS, "node-2": copy("u2", leaving=True)})
    assert "1 of its other copies" in both and "node-2 is being replaced itself" in both
    five = {**VOTERS, "u4": "node-4", "u5": "node-5"}
    others = {f"node-{number}": copy(f"u{number}", "primary" if number == 1 else "replica", voters=five) for number in (1, 3, 4, 5)}
    assert "" == refusal("node-2", copy("u2", voters=five), {**others, "node-3": copy("u3", voters=five, leaving=True)})
    assert "no other copy serves" in refusal("node-3", mine, {"node-1": copy("u1"), "node-2": copy("u2")})


# --- what would be lost -------------------------------------------------------------------------------------------


@given(st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 3000))
def test_the_place_where_two_chains_part_is_found_in_few_questions(ours_lsn: int, theirs_lsn: int, parted_at: int) -> None:
    """The same as comparing every entry; at most HASHES_MAX hashes in a question."""
    ours = [b"", *(b"same%d" % lsn if lsn < parted_at else b"ours%d" % lsn for lsn in range(1, ours_lsn + 1))]
    theirs = [b"", *(b"same%d" % lsn if lsn < parted_at else b"theirs%d" % lsn for lsn in range(1, theirs_lsn + 1))]
    questions = 0

    def ask(lsns: list[int]) -> list[bytes]:
        nonlocal questions
        questions += 1
        assert len(lsns) <= HASHES_MAX
        return [theirs[lsn] if lsn <= theirs_lsn else b"" for lsn in lsns]

    expected = max(lsn for lsn in range(min(ours_lsn, theirs_lsn) + 1) if ours[lsn] == theirs[lsn])
    assert expected == agreed_lsn(1, ours_lsn, lambda lsn: ours[lsn], ask)
    assert questions <= 4


def test_entries_beyond_a_snapshot_stay_only_where_the_epochs_agree() -> None:
    """R13."""
    one, two = Epoch(1, "m"), Epoch(2, "m")
    assert [True, False, False, False] == [
        keeps_suffix(one, 12, 10, one),
        keeps_suffix(one, 12, 10, two),
        keeps_suffix(one, 10, 10, one),
        keeps_suffix(EPOCH_NONE, 12, 10, EPOCH_NONE),
    ]


# --- the pull -----------------------------------------------------------------------------------------------------

OFFER = SnapshotOffer("ready", "one", 1000, "sha", 10, (1, "m"), b"hash")
SETTINGS = PullSettings(part_bytes=600, ask_ms=100, retry_ms=500, tries_max=3)


def test_a_snapshot_is_noted_fetched_checked_and_only_then_installed() -> None:
    """The whole dialogue."""
    pull = Pull("node-2", None, SETTINGS)
    assert [Ask("", 0)] == pull.begin()
    assert [Ask("one", 100)] == pull.receive(Offered(SnapshotOffer("preparing", "one")))
    assert [Note(OFFER), Fetch("one", 0, 600, 0)] == pull.receive(Offered(OFFER))
    assert [Fetch("one", 600, 400, 0)] == pull.receive(Came(600))
    assert [Check(OFFER)] == pull.receive(Came(1000))
    assert [Install(OFFER)] == pull.receive(Checked(""))
    assert [Finished(OFFER)] == pull.receive(Installed(""))


def test_what_came_before_is_not_asked_for_again() -> None:
    """The same snapshot of the same source goes on at its offset; a whole one needs its source no more."""
    pull = Pull("node-2", Leftover("node-2", OFFER, 600), SETTINGS)
    assert [Ask("one", 0)] == pull.begin()
    assert [Fetch("one", 600, 400, 0)] == pull.receive(Offered(OFFER))
    assert [Check(OFFER)] == Pull("node-2", Leftover("node-2", OFFER, 1000), SETTINGS).begin()


def test_another_snapshot_never_goes_on_in_the_same_file() -> None:
    """Of another source, of a source that was started anew, or of one that answers with another file."""
    assert [Discard(), Ask("", 0)] == Pull("node-1", Leftover("node-2", OFFER, 600), SETTINGS).begin()
    pull = Pull("node-2", Leftover("node-2", OFFER, 600), SETTINGS)
    pull.begin()
    assert [Discard(), Ask("", 500)] == pull.receive(Offered(SnapshotOffer("gone")))
    pull = Pull("node-2", Leftover("node-2", OFFER, 600), SETTINGS)
    pull.begin()
    other = SnapshotOffer("ready", "one", 1000, "other", 11, (1, "m"), b"hash")
    assert [Discard(), Note(other), Fetch("one", 0, 600, 0)] == pull.receive(Offered(other))
    pull = Pull("node-2", None, SETTINGS)
    pull.begin()
    pull.receive(Offered(OFFER))
    assert [Discard(), Ask("", 500)] == pull.receive(Gone())


def test_a_silent_source_is_asked_again_and_then_given_up_with_what_came_kept() -> None:
    """The count begins anew with every part that comes."""
    pull = Pull("node-2", None, SETTINGS)
    pull.begin()
    pull.receive(Offered(OFFER))
    assert [Fetch("one", 0, 600, 500)] == pull.receive(Silent("cut"))
    pull.receive(Came(600))
    assert [[Fetch("one", 600, 400, 500)]] * 2 + [[GiveUp("cut")]] == [pull.receive(Silent("cut")) for _ in range(3)]


def test_a_file_that_is_not_what_was_offered_is_thrown_away_whole() -> None:
    """Once it may be the network; twice the source is given up."""
    pull = Pull("node-2", None, SETTINGS)
    pull.begin()
    for expected in ([Discard(), Ask("", 500)], [Discard(), GiveUp("wrong")]):
        pull.receive(Offered(OFFER))
        pull.receive(Came(1000))
        assert expected == pull.receive(Checked("wrong"))


GROWING = SnapshotOffer("preparing", "one", 1000, "", 10, (1, "m"), b"hash")
GROWN = SnapshotOffer("ready", "one", 1000, "sha", 10, (1, "m"), b"hash", block_bytes=300, block_sums=(1, 2, 3, 4))


def test_what_there_is_of_a_snapshot_is_read_while_the_rest_is_taken() -> None:
    """When it is ready the blocks that differ are read once more, then the rest, and only then is it noted as what it is and checked."""
    pull = Pull("node-2", None, SETTINGS)
    pull.begin()
    assert [Note(GROWING), Fetch("one", 0, 600, 0)] == pull.receive(Offered(GROWING))
    assert [Fetch("one", 500, 500, 0)] == pull.receive(Came(500))
    assert [Ask("one", 100)] == pull.receive(Came(500)), "no more of it is there yet"
    assert [Fetch("one", 500, 500, 0)] == pull.receive(Offered(GROWING))
    assert [Fetch("one", 700, 300, 0)] == pull.receive(Came(700))
    assert [Ask("one", 100)] == pull.receive(Came(700))
    assert [Compare(GROWN, 700)] == pull.receive(Offered(GROWN))
    assert [Fetch("one", 0, 300, 0)] == pull.receive(Compared((0,)))
    assert [Fetch("one", 200, 100, 0)] == pull.receive(Came(200))
    assert [Fetch("one", 600, 400, 0)] == pull.receive(Came(300)), "the block that had only begun to come comes from its beginning"
    assert [Settle(GROWN), Check(GROWN)] == pull.receive(Came(1000))


def test_what_was_read_too_early_never_counts_as_whole() -> None:
    """All bytes are there and no digest yet: asked for, compared, and so again after a start in the middle of it."""
    pull = Pull("node-2", None, SETTINGS)
    pull.begin()
    pull.receive(Offered(GROWING))
    pull.receive(Came(600))
    assert [Ask("one", 100)] == pull.receive(Came(1000))
    assert [Ask("one", 100)] == pull.receive(Offered(GROWING))
    assert [Compare(GROWN, 1000)] == pull.receive(Offered(GROWN))
    again = Pull("node-2", Leftover("node-2", GROWING, 1000), SETTINGS)
    assert [Ask("one", 0)] == again.begin()
    assert [Compare(GROWN, 1000)] == again.receive(Offered(GROWN))
    assert [Fetch("one", 900, 100, 0)] == again.receive(Compared((3,)))
    assert [Fetch("one", 900, 100, 500)] == again.receive(Silent("cut"))
    assert [Settle(GROWN), Check(GROWN)] == again.receive(Came(1000))


def test_a_snapshot_that_becomes_another_while_it_is_taken_begins_anew() -> None:
    """Another size or end of its log is another file; one that its source gave up is gone."""
    other = SnapshotOffer("ready", "one", 1100, "sha", 10, (1, "m"), b"hash", block_bytes=300, block_sums=(1, 2, 3, 4))
    for event, expected in (
        (Offered(other), [Discard(), Note(other), Fetch("one", 0, 600, 0)]),
        (Offered(OFFER), [Discard(), Ask("", 0)]),  # No sums: what came cannot be told from what is.
        (Offered(SnapshotOffer("gone")), [Discard(), Ask("", 500)]),
        (Gone(), [Discard(), Ask("", 500)]),
    ):
        pull = Pull("node-2", None, SETTINGS)
        pull.begin()
        pull.receive(Offered(GROWING))
        pull.receive(Came(600))
        assert expected == pull.receive(event)


class Receiver:
    """A receiver's disk and a source that may be started anew: every instruction may be the last before a crash.

    Its snapshots grow while they are asked for, and some of what is read meanwhile changes before they are ready.
    """

    def __init__(self) -> None:
        self.files = {"first": b"a" * 1000, "second": b"b" * 700, "third": b"c" * 1300}
        self.offered = "first"
        self.note: SnapshotOffer | None = None
        self.file = b""
        self.installed = b""
        self.grown = {"first": 0, "second": 0, "third": 100_000}

    def offer(self) -> SnapshotOffer:
        content = self.files[self.offered]
        self.grown[self.offered] += 150
        known = SnapshotOffer("preparing", self.offered, len(content), "", 10, (1, "m"), b"hash")
        if self.grown[self.offered] <= len(content):
            return known if self.grown[self.offered] > 150 else SnapshotOffer("preparing", self.offered)
        sums = tuple(content[start : start + 200].count(content[:1]) for start in range(0, len(content), 200))
        return replace(known, state="ready", sha256=content[:1].decode(), block_bytes=200, block_sums=sums)

    def there(self, snapshot_id: str) -> bytes:
        """Return what can be read now: of one that is not ready less, and parts of it are not as they will be."""
        content, grown = self.files[snapshot_id], self.grown[snapshot_id]
        if grown > len(content):
            return content
        return bytes(byte if place % 350 else 0 for place, byte in enumerate(content[:grown]))

    def leftover(self) -> Leftover | None:
        return Leftover("node-2", self.note, len(self.file)) if self.note is not None else None

    def carry_out(self, step: Instruction) -> Any:
        """Return the event that the instruction brings about, or None."""
        match step:
            case Ask(snapshot_id, _):
                return Offered(self.offer() if snapshot_id in ("", self.offered) else SnapshotOffer("gone"))
            case Note(offer):
                self.note, self.file = offer, b""
            case Discard():
                self.note, self.file = None, b""
            case Fetch(snapshot_id, offset, length, _):
                if snapshot_id != self.offered:
                    return Gone()
                data = self.there(snapshot_id)[offset : offset + length]
                self.file = self.file[:offset] + data + self.file[offset + len(data) :]
                return Came(offset + len(data))
            case Compare(offer, size_bytes):
                starts = range(0, blocks_within(offer, size_bytes) * offer.block_bytes, offer.block_bytes)
                sums = [self.file[start : start + 200].count(offer.sha256.encode()) for start in starts]
                return Compared(tuple(number for number, found in enumerate(sums) if found != offer.block_sums[number]))
            case Settle(offer):
                self.note = offer
            case Check(offer):
                assert self.file == self.files[offer.snapshot_id], "what was read too early was taken for what is"
                return Checked("")
            case Install(offer):
                assert self.file == self.files[offer.snapshot_id]
                self.installed, self.note, self.file = self.file, None, b""
                return Installed("")
        return None


@given(st.lists(st.tuples(st.integers(1, 12), st.booleans()), max_size=8))
def test_every_interrupted_middle_ends_with_one_whole_snapshot(interruptions: list[tuple[int, bool]]) -> None:
    """The receiver is killed after any number of steps, the source is started anew or not: the file is of one snapshot, whole."""
    world = Receiver()
    for steps_max, source_too in [*interruptions, (10_000, False)]:
        pull = Pull("node-2", world.leftover(), PullSettings(part_bytes=300))
        waiting = pull.begin()
        for _ in range(steps_max):
            if not waiting:
                break
            step = waiting.pop(0)
            assert not isinstance(step, GiveUp)
            event = world.carry_out(step)
            if event is not None:
                waiting += pull.receive(event)
        if source_too:
            world.offered = {"first": "second", "second": "third", "third": "first"}[world.offered]
        if world.installed:
            break
    assert world.installed in world.files.values()
