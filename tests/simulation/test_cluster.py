"""The whole cluster under the simulator: right rules hold, enough happens, broken rules are caught, a seed is one run for ever."""

from __future__ import annotations

import hashlib
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.simulation.cluster import Cluster
from tests.simulation.faults import all_mutations
from tests.simulation.plans import PLANS
from tests.simulation.proof import needed
from tests.simulation.runs import Failed, Totals, catch, minimised, run_many, run_one
from tests.simulation.scenario import IN_BULK, PROFILES, Fault, draw

# The first runs of every profile, always the same; then fresh ones of all of them, for as long as this says.
SEEDS_FIXED = 4
FRESH_S = float(os.environ.get("HOLDFAST_FRESH_SECONDS", "16"))
QUICK_SEEDS_MAX = 60
MINIMISING_TRIES = 60
ROOT = Path(__file__).parents[2]
NEEDED = needed(ROOT / "docs" / "proof.md")
SIMULATED = ("lockstore", "datastore", "manager", "loadbalancer", "tests/simulation")

# Seeds that once found something; what they found is in the comment. (seed, profile)
PAST = [
    # R14: a manager whose look at the primary was older than its look at a learner had the learner's store put aside, and
    # another made a voter of it: two of four voters were gone for good.
    (26, "mixed"),
    # R14: what is sent to a lost store reached its successor, which then seemed to take part.
    (3, "mixed"),
    (68, "trips"),  # A trip's lock ended before its legs were given back, and the checker thought that a free seat was refused.
    (148, "reshape"),  # R12: a copy that came by snapshot was asked from where its primary's log no longer was, and never sent the rest.
    (191, "recover"),  # R12: the same where entries came again whose segment was not there yet.
    (1024, "reshape"),  # R2: the entry that removes a voter had reached that voter alone, and nobody could be named any more.
    (2047, "reshape"),  # R14: two managers dropped and made a learner anew without end.
    (5_000_001, "trips"),  # Q2: who confirmed again while the first try sold was refused for good, and the order stood.
    (9_000_016, "drivers"),  # Z3: a late copy of a request took its basket over from who had told "held", and gave it up as failed.
    (9_000_023, "drivers"),  # Z3: the same.
    (124, "mixed"),  # Redlock: a grant whose validity ran out while others of its batch were cleaned up was handed out all the same.
    (1_795_295_819, "setback"),  # R11: under constant load a store wrote down what it had acknowledged every 5 s only.
    # The judge took its last look at once after the last answer, when a trip just sold was not yet carried out at its other operator.
    (1_795_316_894, "drivers"),
    # R11: a store in the place of a lost one was a voter before the record beside it named it; the power went, and it was put aside too.
    (1_795_336_560, "mixed"),
    (84, "mixed"),  # R11: the power took the record of a new promise, and a file from a backup came up as if it had never been given.
    (4, "replication"),  # R17: a reign's clock lagged by what its manager waited for a silent store, and the next one leapt.
]


@pytest.mark.parametrize("profile", ["mixed", "replication", "duel", "locks", "fences", "reshape", "recover"])
def test_right_rules_hold_and_enough_happens(profile: str) -> None:
    """No invariant is violated; and the runs are not vacuous: sales, refusals, reigns, expiries, both token paths (I14)."""
    totals = Totals()
    failed = run_many((draw(seed, profile) for seed in range(SEEDS_FIXED)), totals)
    assert failed is None, _told(failed)
    assert totals.done > 6 * SEEDS_FIXED, totals
    assert totals.refused > SEEDS_FIXED, totals
    assert totals.epochs >= (SEEDS_FIXED if profile in ("locks", "fences") else 2 * SEEDS_FIXED), totals
    assert totals.slow_locks >= 1 and totals.slow_locks + totals.locks > 8 * SEEDS_FIXED, totals
    assert totals.locks - totals.slow_locks > 4 * SEEDS_FIXED, totals
    assert totals.faults > 3 * SEEDS_FIXED, totals
    assert totals.expired > 0, totals
    assert totals.bulks > SEEDS_FIXED or profile not in IN_BULK, totals
    assert totals.installs > 0 or profile not in ("reshape", "recover"), totals


@pytest.mark.parametrize("profile", PLANS)
def test_right_rules_hold_where_faults_meet_their_moment(profile: str) -> None:
    """The runs in which rules are broken on purpose hold with every rule as it is; and what they aim at happens (I14)."""
    totals = Totals()
    failed = run_many([draw(0, profile)], totals)
    assert failed is None, _told(failed)
    assert totals.locks > 2 and totals.done >= 2, totals
    assert totals.epochs >= (1 if profile in ("lapses", "adverse", "drivers", "asleep", "lagging", "tardy") else 2), totals
    assert totals.installs > 0 or profile not in ("absent", "torn"), totals


def test_trips_are_whole_and_paid_for() -> None:
    """All legs or none, charged if and only if booked, seats back; and trips were sold, ended, paid and given back (I3, I14)."""
    totals = Totals()
    failed = run_many((draw(seed, "trips") for seed in range(SEEDS_FIXED)), totals)
    assert failed is None, _told(failed)
    assert totals.trips_sold > 2 * SEEDS_FIXED, totals
    assert totals.trips_ended > 4 * SEEDS_FIXED, totals
    assert totals.resolved > 2 * SEEDS_FIXED, totals
    assert totals.charged > SEEDS_FIXED, totals
    assert totals.given_back > SEEDS_FIXED // 2, totals


def test_parties_get_the_best_seats_or_are_told_the_truth() -> None:
    """The best available was that in the state before its entry, and nobody was turned away where there was room (Z8, I14)."""
    totals = Totals()
    failed = run_many((draw(seed, "parties") for seed in range(SEEDS_FIXED)), totals)
    assert failed is None, _told(failed)
    assert totals.chosen > 20 * SEEDS_FIXED, totals
    assert totals.no_room > 4 * SEEDS_FIXED, totals


def fresh_seed() -> int:
    """Return where the seeds of this state of the program begin: every change gets others, and chance decides on none."""
    said = os.environ.get("HOLDFAST_FRESH_SEED")
    if said:
        return int(said)
    digest = hashlib.sha256()
    for package in SIMULATED:
        for path in sorted((ROOT / package).rglob("*.py")):
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return 1_000_000 + int.from_bytes(digest.digest()[:4], "big")


@pytest.mark.timeout(FRESH_S + 600)
def test_fresh_seeds_hold() -> None:
    """Seeds that nobody ran before, of every profile in turn; a failure names its seed, which then belongs into PAST."""
    totals = Totals()
    first = fresh_seed()
    until = time.monotonic() + FRESH_S
    profiles = [*PROFILES, *PLANS]
    seeds = itertools.takewhile(lambda seed: seed == first or time.monotonic() < until, itertools.count(first))
    failed = run_many((draw(seed, profiles[seed % len(profiles)]) for seed in seeds), totals)
    assert failed is None, _told(minimised(failed, tries_max=MINIMISING_TRIES), failed)
    assert totals.runs, totals
    print(f"fresh seeds {first} to {first + totals.runs - 1}: {totals.operations:,} operations, {totals.faults:,} faults")


@pytest.mark.parametrize(("seed", "profile"), PAST)
def test_past_failures_stay_mended(seed: int, profile: str) -> None:
    """A seed that found a fault is run for ever."""
    # As its story went: nobody held in bulk yet.
    failed = run_many([draw(seed, profile)._replace(bulks=0.0)], Totals())
    assert failed is None, _told(failed)


@pytest.mark.parametrize("name", [mutation.name for mutation in all_mutations() if mutation.quick])
def test_a_broken_rule_is_caught(name: str) -> None:
    """Each rule broken on purpose is noticed, first by the seed that docs/proof.md says; those that need many seeds are there."""
    (mutation,) = [mutation for mutation in all_mutations() if mutation.name == name]
    assert catch(mutation, QUICK_SEEDS_MAX, NEEDED.get(name, 0)).failed is not None


def test_a_seed_is_one_run(tmp_path: Path) -> None:
    """The same seed tells the same story, in another process with other hashes of texts too."""
    stories = []
    for salt in ("1", "2"):
        command = [sys.executable, "-m", "tests.simulation", "--seed", "3", "--profile", "duel", "--replay"]
        told = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": salt}, capture_output=True, timeout=120, check=True)
        stories.append(told.stdout)
    assert stories[0] == stories[1]
    assert stories[0].count(b"\n") > 100


def test_a_failure_is_made_smaller() -> None:
    """Of the faults of a failing run those stay that it needs: here none, since nothing is wrong but the rule."""
    from tests.simulation.faults import broken

    with broken("refusals are not recorded") as parts:
        result = run_one(draw(0, "mixed"), parts)
        assert isinstance(result, Failed)
        smaller = minimised(result, parts, tries_max=6)
    assert result.checker == smaller.checker
    assert len(smaller.scenario.faults) < len(result.scenario.faults)
    assert smaller.story


def test_every_kind_of_fault_happens() -> None:
    """A run with one fault of each kind is told with each of them, and holds."""
    kinds = ("kill", "freeze", "apart", "deaf", "mute", "split", "power", "full", "rot", "backup")
    faults = [Fault(2_600 + 700 * number, kind, "primary", 300, 1) for number, kind in enumerate(kinds)]
    faults += [Fault(9_000, "forget", "lock-1", 0), Fault(9_100, "jump", "lock-2", 0, 5_000)]
    faults += [Fault(9_200, "drift", "node-2", 0, 4_000), Fault(9_300, "provider", "sandbox", 0, 1)]
    faults += [Fault(9_400, "reshape", "manager-1", 0)]
    cluster = Cluster(draw(0, "trips")._replace(nodes=3, managers=2, balancers=2, payments=True, faults=tuple(faults)))
    told: list[str] = []
    cluster.world.on_line = told.append
    cluster.run()
    assert {fault.kind for fault in faults} == {line.split("nemesis")[1].split()[0] for line in told if " nemesis " in line}


def _told(failed: Failed | None, whole: Failed | None = None) -> str:
    """Say what was violated, how to run it again, and the story's end: of the run made smaller, where there was a larger one."""
    if failed is None:
        return ""
    again = f"again: holdfast simulate --seed {failed.scenario.seed} --profile {failed.scenario.profile} --replay"
    smaller = f"with {len(failed.scenario.faults)} of {len(whole.scenario.faults)} faults:" if whole is not None else "its run:"
    return "\n".join([f"{failed.checker}: {failed.detail}", again, smaller, *failed.scenario.describe(), *failed.story])
