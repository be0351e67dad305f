"""Which lock servers may be admitted, and how."""

from __future__ import annotations

import pytest

from lockstore import scripts
from lockstore.recovery import AdmissionPlan, Standing, plan_admission, rejoin_counter, rejoin_wait_ms


def empty(name: str) -> Standing:
    return Standing(name)


def admitted(name: str, generation: int = 1, counter: int = 100) -> Standing:
    return Standing(name, marker=generation, counter=counter)


def absent(name: str) -> Standing:
    return Standing(name, reachable=False, reason="connection refused")


def founded(name: str) -> Standing:
    return Standing(name, counter=0)


def test_a_new_set_is_founded_and_admitted_as_a_whole() -> None:
    """Counters first, markers after."""
    plan = plan_admission([empty("a"), empty("b"), empty("c")], 1, 2)
    assert plan == AdmissionPlan(found=("a", "b", "c"), admit=("a", "b", "c"))


@pytest.mark.parametrize(
    "standings",
    [
        [founded("a"), empty("b"), empty("c")],
        [founded("a"), founded("b"), founded("c")],
        [admitted("a", counter=0), founded("b"), founded("c")],
        [admitted("a"), admitted("b"), founded("c")],
    ],
)
def test_an_interrupted_initialisation_is_completed(standings: list[Standing]) -> None:
    """From every middle the next run ends with all admitted, and nobody waits."""
    plan = plan_admission(standings, 1, 2)
    assert not plan.blocked
    assert not plan.rejoin
    done = {server.name for server in standings if server.marker == 1} | set(plan.admit)
    assert done == {"a", "b", "c"}


def test_a_new_set_waits_for_all_of_its_servers() -> None:
    """The absent one may be the one that remembers."""
    plan = plan_admission([empty("a"), empty("b"), absent("c")], 1, 2)
    assert "not reached: c" in plan.blocked
    assert plan.admit == ()


def test_a_server_that_lost_its_data_rejoins() -> None:
    """It is never taken for new while its peers have markers."""
    assert plan_admission([admitted("a"), admitted("b"), empty("c")], 1, 2) == AdmissionPlan(rejoin=("c",))


def test_a_counter_without_a_marker_is_data_loss() -> None:
    """Only the counter 0 proves that a server never voted."""
    plan = plan_admission([admitted("a"), admitted("b"), Standing("c", counter=55)], 1, 2)
    assert plan == AdmissionPlan(rejoin=("c",))


def test_too_few_that_remember_block_everything() -> None:
    """A majority lost its data: what was certified cannot be known any more."""
    plan = plan_admission([admitted("a"), empty("b"), empty("c")], 1, 2)
    assert "raise lockstore.generation" in plan.blocked


def test_a_raised_generation_is_adopted_with_the_counters() -> None:
    """Fences of the new generation outrank all older ones, whatever the counters."""
    plan = plan_admission([admitted("a"), admitted("b"), empty("c")], 2, 2)
    assert plan == AdmissionPlan(found=("c",), admit=("a", "b", "c"))


def test_an_old_generation_is_never_returned_to() -> None:
    """The configuration is behind; admitting would lower fences."""
    assert "later generation" in plan_admission([admitted("a", 3), admitted("b", 3), admitted("c", 3)], 2, 2).blocked


def test_nothing_is_done_to_a_healthy_set() -> None:
    """Also with one server away."""
    assert plan_admission([admitted("a"), admitted("b"), absent("c")], 1, 2) == AdmissionPlan()


def test_rejoining_takes_longer_than_any_attempt() -> None:
    """The longest ttl, its drift, and a margin."""
    assert rejoin_wait_ms(10_000) > 10_000 + 102


def test_a_rejoining_counter_is_far_above_a_quorum_of_peers() -> None:
    """One peer is not enough."""
    assert rejoin_counter([7], 2) is None
    assert rejoin_counter([7, 9], 2) == 9 + scripts.REJOIN_STEP
