"""Membership step by step: each safe alone, each found again from the reports by any manager, and an end to all of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from datastore.configuration import DROP_LEARNER, ConfigChange, changed, voters_apart
from datastore.rows import ConfigRow
from datastore.wire import PartitionStatus
from manager.membership import Copies, MakeStore, MoveAway, Reconfigure, Renew, Step, Wait, heirs, next_step, told

EPOCH = (3, "m")
LAST = 50


@dataclass
class Group:
    """One operator's stores: a plain picture of what nodes would report, on which steps are carried out at once."""

    config: ConfigRow
    leader: str
    stores: dict[str, str] = field(default_factory=dict)  # node -> store uuid, "" none
    behind: set[str] = field(default_factory=set)  # uuids that are not caught up
    silent: set[str] = field(default_factory=set)
    learned: set[str] = field(default_factory=set)  # uuids with a log
    leaving: set[str] = field(default_factory=set)  # nodes that are about to put another identity in their store's place
    fresh: set[str] = field(default_factory=set)  # uuids whose log came by snapshot
    lsn: int = 1
    made: int = 100

    def report(self, node: str) -> PartitionStatus | None:
        uuid = self.stores.get(node, "")
        if not uuid:
            return None
        leads = node == self.leader
        lsn = LAST if uuid in self.learned else 0
        voters = dict(self.config.voters) if uuid in self.learned else {}
        followers = {}
        if leads:
            others = {**self.config.voters, **self.config.learners}
            followers = {
                one: (LAST, 50 if kept not in self.silent else 9_000, one not in self.behind and kept not in self.silent)
                for one, kept in others.items()
                if one != uuid and self.stores.get(kept) == one
            }
        role = "primary" if leads else "replica" if voters else "empty"
        return PartitionStatus(
            "AA",
            role,
            uuid,
            *(EPOCH, EPOCH, lsn, lsn, lsn, 0, leads, voters),
            learners=dict(self.config.learners),
            config_lsn=self.lsn,
            retired=list(self.config.retired),
            followers=followers,
            leaving=node in self.leaving,
            fresh=uuid in self.fresh,
        )

    def copies(self, wanted: Sequence[str], unfit: frozenset[str] = frozenset(), preferred: str = "", returns: bool = False) -> Copies:
        primary = self.report(self.leader)
        assert primary is not None
        reports = {node: self.report(node) for node in self.stores if node not in self.silent}
        return Copies(self.leader, primary, reports, tuple(wanted), unfit, True, preferred, returns)

    def take(self, step: Step) -> None:
        """Carry a step out, checking what must hold for each."""
        if isinstance(step, MakeStore):
            assert not self.stores[step.node]
            self._make(step.node)
        elif isinstance(step, Renew):
            assert self.stores[step.node] == step.store_uuid
            assert step.store_uuid not in self.config.voters, "a voter's store was put aside"
            self._make(step.node)
        elif isinstance(step, Reconfigure):
            assert step.config_lsn == self.lsn
            after = changed(self.config, ConfigChange(step.kind, step.store_uuid, step.node))
            assert isinstance(after, ConfigRow), after
            assert voters_apart(self.config, after) <= 1
            assert self.stores[self.leader] in after.voters, "the primary took itself out"
            self.config, self.lsn = after, self.lsn + 1
            self.learned |= {uuid for uuid, node in after.learners.items() if self.stores.get(node) == uuid}
            heard = [uuid for uuid, node in after.voters.items() if self.stores.get(node) == uuid and node not in self.silent]
            assert 2 * len(heard) > len(after.voters), f"the operator would stand still: {after.voters}"
        elif isinstance(step, MoveAway):
            uuid = self.stores[step.node]
            assert uuid in self.config.voters and uuid not in self.behind and step.node not in self.silent
            self.leader = step.node

    def _make(self, node: str) -> None:
        self.made += 1
        self.stores[node] = f"u{self.made}"


def group(*nodes: int, spare: Sequence[int] = ()) -> Group:
    stores = {f"node-{n}": f"u{n}" for n in nodes} | {f"node-{n}": "" for n in spare}
    config = ConfigRow({f"u{n}": f"node-{n}" for n in nodes})
    return Group(config, f"node-{nodes[0]}", stores, learned={f"u{n}" for n in nodes})


def run(found: Group, wanted: Sequence[str], steps_max: int = 60, **wish: object) -> list[str]:
    """Take steps until nothing is left to do; return them in words."""
    words = []
    for _ in range(steps_max):
        step = next_step(found.copies(wanted, **wish))  # type: ignore[arg-type]
        if isinstance(step, Wait):
            assert step.settled, step.why
            return words
        words.append(told(step))
        found.take(step)
    raise AssertionError(f"no end: {words[-6:]}")


def names(*numbers: int) -> list[str]:
    return [f"node-{number}" for number in numbers]


def test_nothing_to_do() -> None:
    """Copies that are where they are wanted are left alone."""
    assert [] == run(group(1, 2, 3, spare=(4,)), names(1, 2, 3))


def test_three_become_five_and_three_again() -> None:
    """Each new store learns before it votes; each that goes is taken out alone, and is retired."""
    found = group(1, 2, 3, spare=(4, 5))
    words = run(found, names(1, 2, 3, 4, 5))
    steps = ("a store is made on {}", "the copy on {} begins to learn", "the copy on {} becomes a voter")
    assert words == [step.format(node) for node in names(4, 5) for step in steps]
    assert sorted(found.config.voters.values()) == names(1, 2, 3, 4, 5)
    run(found, names(3, 4, 5))
    assert sorted(found.config.voters.values()) == names(3, 4, 5)
    assert sorted(found.config.retired) == ["u1", "u2"] and found.leader in names(3, 4, 5)


def test_a_learner_that_is_behind_is_waited_for() -> None:
    """R14: no vote before it is caught up; people hear how far it is."""
    found = group(1, 2, 3, spare=(4,))
    for _ in range(2):
        found.take(next_step(found.copies(names(1, 2, 4))))
    found.behind.add(found.stores["node-4"])
    step = next_step(found.copies(names(1, 2, 4)))
    assert isinstance(step, Wait) and not step.settled and "node-4 has 50 of 50 entries" in step.why


def test_a_lost_disk_is_replaced_and_its_identity_taken_out() -> None:
    """The node answers with another store: a new learner, a new voter, and only then the old identity out (R14)."""
    found = group(1, 2, 3)
    found.stores["node-3"] = "u9"
    words = run(found, names(1, 2, 3))
    assert [word.split()[-2:] for word in words] == [["to", "learn"], ["a", "voter"], ["taken", "out"]]
    assert found.config.voters == {"u1": "node-1", "u2": "node-2", "u9": "node-3"} and found.config.retired == ["u3"]


def test_a_learner_that_was_just_taken_in_is_not_lost() -> None:
    """A look at its node may be older, and show the store that was put aside for it: two managers would go round for ever."""
    found, uuid = group(1, 2, spare=(3,)), "fresh"
    found.stores["node-3"] = "put-aside"
    found.config = ConfigRow(dict(found.config.voters), {uuid: "node-3"})
    copies = found.copies(names(1, 2, 3))
    copies.primary.followers[uuid] = (0, 20, False)
    assert isinstance(next_step(copies), Wait)
    copies.primary.followers[uuid] = (0, 9_000, False)
    assert next_step(copies) == Reconfigure(DROP_LEARNER, uuid, "node-3", found.lsn)


def test_a_silent_node_is_not_taken_for_lost() -> None:
    """It may come back with all that it has: nothing is changed behind its back."""
    found = group(1, 2, 3)
    found.silent.add("node-3")
    assert next_step(found.copies(names(1, 2, 3))) == Wait("", settled=True)


def test_a_dead_node_is_replaced_where_another_is_wanted() -> None:
    """It is taken out after the new one votes, dead as it is."""
    found = group(1, 2, 3, spare=(4,))
    found.silent.add("node-3")
    run(found, names(1, 2, 4))
    assert sorted(found.config.voters.values()) == names(1, 2, 4)


def test_a_retired_store_makes_room() -> None:
    """A node that gets a copy again starts with a new identity."""
    found = group(1, 2, 3, spare=(4,))
    run(found, names(1, 2, 4))
    words = run(found, names(1, 2, 3))
    assert words[0] == "the retired store on node-3 makes room"
    assert "u3" in found.config.retired and sorted(found.config.voters.values()) == names(1, 2, 3)


def test_what_came_by_snapshot_under_a_new_identity_learns_as_it_is() -> None:
    """`recover` brought all of it: put aside, it would have to come again. Any other log is that of somebody who took part (R14)."""
    found = group(1, 2, 3)
    found.stores["node-3"] = "u9"
    found.learned.add("u9")
    assert Renew("node-3", "u9") == next_step(found.copies(names(1, 2, 3)))
    found.fresh.add("u9")
    words = run(found, names(1, 2, 3))
    assert words[0] == "the copy on node-3 begins to learn" and not any("makes room" in word for word in words)
    assert "u9" in found.config.voters and "u3" in found.config.retired
    found.config.retired.append("u8")
    found.stores["node-2"] = "u8"
    found.learned.add("u8")
    found.fresh.add("u8")
    assert Renew("node-2", "u8") == next_step(found.copies(names(1, 2, 3)))


def test_the_primary_hands_over_before_it_goes() -> None:
    """R15: it never removes itself; a drained node leads nothing, and the preferred one leads where that is wished for."""
    found = group(1, 2, 3, spare=(4,))
    words = run(found, names(2, 3, 4))
    assert words.index("node-2 takes over: the copy on node-1 is taken out") == len(words) - 2
    assert run(found, names(2, 3, 4), unfit=frozenset({"node-2"})) == ["node-3 takes over: node-2 is drained"]
    assert run(found, names(2, 3, 4), preferred="node-4") == []
    assert run(found, names(2, 3, 4), preferred="node-4", returns=True) == ["node-4 takes over: node-4 is preferred"]


def test_nothing_is_taken_out_that_would_leave_too_few() -> None:
    """Two of the three that would be left are silent: the copy stays, whatever is wanted."""
    found = group(1, 2, 3, 4, 5)
    found.silent |= {"node-2", "node-3"}
    step = next_step(found.copies(names(1, 2, 3)))
    assert isinstance(step, Wait) and not step.settled


def test_who_is_about_to_leave_counts_for_nothing() -> None:
    """Of two that would be left one is being recovered: the third stays until that one votes again, and it is not made primary."""
    found = group(1, 2, 3, 4)
    assert not isinstance(next_step(found.copies(names(1, 2, 3))), Wait)
    found.leaving = {"node-2", "node-3"}
    step = next_step(found.copies(names(1, 2, 3)))
    assert isinstance(step, Wait) and not step.settled
    assert ["node-4"] == heirs(found.copies(names(1, 2, 3)))


nodes = st.integers(1, 6)
groups = st.lists(nodes, min_size=3, max_size=3, unique=True)
more = st.sampled_from([3, 5]).flatmap(lambda size: st.lists(nodes, min_size=size, max_size=size, unique=True))


@settings(max_examples=200, deadline=None)
@given(groups, st.lists(more, min_size=1, max_size=4), st.data())
def test_any_wish_is_reached_from_any_interrupted_middle(start: list[int], wishes: list[list[int]], data: st.DataObject) -> None:
    """Wishes may change after any step, disks may be lost on the way: each step is safe, and the last wish is reached."""
    found = group(*start, spare=[n for n in range(1, 7) if n not in start])
    for wish in wishes[:-1]:
        for _ in range(data.draw(st.integers(0, 9))):
            step = next_step(found.copies(names(*wish)))
            if isinstance(step, Wait):
                break
            found.take(step)
        lost = data.draw(st.sampled_from(["", *names(1, 2, 3, 4, 5, 6)]))
        uuids = set(found.config.voters)
        well = [uuid for uuid in uuids if found.stores[found.config.voters[uuid]] == uuid]
        # One disk at a time, as long as a majority is left without it.
        if lost and lost != found.leader and 2 * (len(well) - (found.stores[lost] in uuids)) > len(uuids):
            found.stores[lost] = ""
    run(found, names(*wishes[-1]))
    assert sorted(found.config.voters.values()) == sorted(names(*wishes[-1]))
    assert not found.config.learners and not set(found.config.retired) & set(found.config.voters)
