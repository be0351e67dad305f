"""R2 against a slow and plain twin, and the cases that taught it; R17's median."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import permutations

from hypothesis import given, settings
from hypothesis import strategies as st

from datastore.wire import PartitionStatus, PromiseReply
from manager.choice import Chosen, NoChoice, choose, latest_voters, log_time_base_ms, voters_among

VOTERS = {"u1": "node-1", "u2": "node-2", "u3": "node-3"}
NODES = ("node-1", "node-2", "node-3")


def reply(node: int, epoch: int, lsn: int, *, granted: bool = True, wall_ms: int = 0, voters: dict[str, str] | None = None) -> PromiseReply:
    last = (epoch, "m" if epoch else "")
    return PromiseReply("AA", granted, (9, "m"), last, lsn, f"u{node}", VOTERS if voters is None else voters, wall_ms, -1)


def named(*replies: PromiseReply) -> dict[str, PromiseReply]:
    return {f"node-{one.store_uuid[1:]}": one for one in replies}


def test_a_newer_epoch_beats_a_longer_log() -> None:
    """The long tail of an old primary was never acknowledged; the shorter log of the newer epoch was."""
    chosen = choose(named(reply(1, 3, 90), reply(2, 4, 10)), NODES)
    assert isinstance(chosen, Chosen) and chosen.node == "node-2"


def test_the_preferred_one_among_equals() -> None:
    """Equal logs: the order of preference decides, and only then."""
    replies = named(reply(1, 4, 10), reply(2, 4, 10), reply(3, 4, 10))
    for order in permutations(NODES):
        chosen = choose(replies, order)
        assert isinstance(chosen, Chosen) and chosen.node == order[0]


def test_a_minority_names_nobody() -> None:
    """One of three may lack what the other two acknowledged."""
    assert isinstance(choose(named(reply(1, 4, 10)), NODES), NoChoice)


def test_a_refused_promise_is_none() -> None:
    """A store that refused may still take entries of a rival's epoch."""
    assert isinstance(choose(named(reply(1, 4, 10), reply(2, 4, 10, granted=False)), NODES), NoChoice)


def test_a_store_with_a_new_identity_does_not_count() -> None:
    """A node that lost its disk promises with another uuid: its old vote is gone (R14)."""
    lost = PromiseReply("AA", True, (9, "m"), (0, ""), 0, "u9", {}, 0, -1)
    assert isinstance(choose({"node-1": reply(1, 4, 10), "node-2": lost}, NODES), NoChoice)
    chosen = choose({"node-1": reply(1, 4, 10), "node-2": lost, "node-3": reply(3, 4, 9)}, NODES)
    assert isinstance(chosen, Chosen) and chosen.node == "node-1"


def test_a_copied_store_does_not_vote_twice() -> None:
    """The same identity on two nodes is one vote, and only on the node where it belongs."""
    assert isinstance(choose({"node-1": reply(1, 4, 10), "node-2": reply(1, 4, 10)}, NODES), NoChoice)
    assert voters_among(VOTERS, [("node-1", "u1"), ("node-2", "u1"), ("node-2", "u2")]) == 2


def test_a_learner_has_no_say_however_far_it_is() -> None:
    """What it has and a majority of the voters has not was never committed: without this rule one learner could stop an operator."""
    outsider = PromiseReply("AA", True, (9, "m"), (5, "m"), 12, "u4", VOTERS, 0, -1)
    chosen = choose({**named(reply(1, 4, 10), reply(2, 4, 11)), "node-4": outsider}, NODES)
    assert isinstance(chosen, Chosen) and chosen.node == "node-2"
    assert isinstance(choose({**named(reply(1, 4, 10)), "node-4": outsider}, NODES), NoChoice)


def test_each_is_judged_by_the_configuration_of_its_own_log() -> None:
    """A store that does not know yet that it was taken out is not named over those that do (R15)."""
    four = {**VOTERS, "u4": "node-4"}
    removed = PromiseReply("AA", True, (9, "m"), (4, "m"), 10, "u4", four, 0, -1)
    replies = {**named(reply(1, 4, 11), reply(2, 4, 11)), "node-4": removed}
    chosen = choose(replies, ("node-4",))
    assert isinstance(chosen, Chosen) and chosen.node == "node-1"
    # Two that are left of an older, larger group are no majority of it.
    assert isinstance(choose({**named(reply(3, 4, 9, voters=four)), "node-4": removed}, ()), NoChoice)


def test_the_one_store_that_an_entry_reached_which_removes_it_stops_nobody() -> None:
    """Its primary fell before it had the entry itself: the others are a majority without it, and would wait for ever otherwise (R15)."""
    four = {**VOTERS, "u4": "node-4"}
    removed = PromiseReply("AA", True, (9, "m"), (1, "m"), 8, "u4", VOTERS, 0, -1)
    others = [reply(number, 1, 7, voters=four) for number in (1, 2, 3)]
    chosen = choose({**named(*others), "node-4": removed}, NODES)
    assert isinstance(chosen, Chosen) and chosen.node == "node-1"
    # Two of four may lack what the third had acknowledged with it.
    assert isinstance(choose({**named(*others[:2]), "node-4": removed}, NODES), NoChoice)


positions = st.tuples(st.integers(0, 3), st.integers(0, 3))


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.integers(1, 5), st.tuples(positions, st.booleans()), max_size=5), st.sampled_from([3, 5]))
def test_equals_the_plain_twin(stores: dict[int, tuple[tuple[int, int], bool]], size: int) -> None:
    """Whom the clever function names, the rule read word for word names too."""
    voters = {f"u{number}": f"node-{number}" for number in range(1, size + 1)}
    replies = named(*(reply(number, *position, granted=granted, voters=voters) for number, (position, granted) in stores.items()))
    chosen = choose(replies, ())
    assert (chosen.node if isinstance(chosen, Chosen) else "") == plain(replies, voters)


def plain(replies: Mapping[str, PromiseReply], voters: Mapping[str, str]) -> str:
    promised = [node for node in sorted(replies) if replies[node].granted and node in voters.values()]
    best = ""
    for node in promised:
        rivals = [replies[other] for other in promised]
        position = (replies[node].last_epoch, replies[node].last_lsn)
        if all((rival.last_epoch, rival.last_lsn) <= position for rival in rivals):
            best = best or node
    return best if 2 * len(promised) > len(voters) else ""


CONFIGS = st.sets(st.integers(1, 5), min_size=1).map(lambda numbers: {f"u{number}": f"node-{number}" for number in numbers})


@settings(max_examples=300)
@given(st.dictionaries(st.integers(1, 5), st.tuples(st.integers(1, 2), st.integers(1, 3), CONFIGS, st.booleans()), max_size=5))
def test_who_is_passed_over_might_as_well_not_have_answered(stores: dict[int, tuple[int, int, dict[str, str], bool]]) -> None:
    """Decision 0004: the answers that are no further than the chosen one's would alone have named it by R2's plain words.

    So the rule departs from the plain one only as far as that one stands any loss of answers. And it gives up only where the plain
    one does, whichever answers are left out.
    """
    replies = named(
        *(reply(number, epoch, lsn, voters=voters, granted=granted) for number, (epoch, lsn, voters, granted) in stores.items())
    )
    bounds = {(one.last_epoch, one.last_lsn) for one in replies.values()}
    heard = {bound: {node: one for node, one in replies.items() if (one.last_epoch, one.last_lsn) <= bound} for bound in bounds}
    chosen = choose(replies, ())
    if isinstance(chosen, NoChoice):
        assert not any(plainly_valid(some) for some in heard.values())
    else:
        own = replies[chosen.node]
        assert chosen.node in plainly_valid(heard[(own.last_epoch, own.last_lsn)])


def plainly_valid(replies: Mapping[str, PromiseReply]) -> set[str]:
    """Return the nodes that R2's plain words allow: of the greatest position among all answers, each judged by its own configuration."""
    granted = {node: one for node, one in replies.items() if one.granted}
    greatest = max(((one.last_epoch, one.last_lsn) for one in granted.values()), default=None)
    found = set()
    for node, one in granted.items():
        among = sum(one.voters.get(other.store_uuid) == name for name, other in granted.items())
        if (one.last_epoch, one.last_lsn) == greatest and one.voters.get(one.store_uuid) == node and 2 * among > len(one.voters):
            found.add(node)
    return found


def test_median_of_the_clocks() -> None:
    """R17: one clock far off moves nothing; of two the lower counts."""
    assert log_time_base_ms([1_000, 999_999_999, 1_010]) == 1_010
    assert log_time_base_ms([1_000, 0, 1_010]) == 1_000
    assert log_time_base_ms([1_000, 2_000]) == 1_000
    assert log_time_base_ms([7]) == 7


def test_latest_configuration() -> None:
    """The furthest store's configuration counts; stores without one say nothing."""
    old, new = {"u1": "node-1"}, VOTERS

    def status(epoch: int, lsn: int, voters: dict[str, str]) -> PartitionStatus:
        return PartitionStatus("AA", "replica", "u", (9, "m"), (epoch, "m"), lsn, 0, 0, -1, False, voters)

    assert latest_voters([status(1, 50, old), status(2, 3, new), status(3, 0, {}), None]) == new
    assert latest_voters([None, status(0, 0, {})]) == {}
