"""Runs that aim at one moment: which faults meet, and when, so that a rule which matters only then has to hold.

Each plan takes a drawn scenario and gives it machines, habits and faults of its own; what is left open is drawn from the seed. Nothing
here is beyond what the other profiles do or what a data centre does: it only does not wait for chance to bring it together.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.simulation.network import Weather

if TYPE_CHECKING:
    from tests.simulation.scenario import Scenario

Plan = Callable[["Scenario", random.Random], "Scenario"]

# Whoever falls silent is missed soon.
HASTY = {"heartbeat_ms": 50, "suspicion_ms": 300, "append_timeout_ms": 200}


def lapses(scenario: Scenario, chance: random.Random) -> Scenario:
    """Write-backs of locks are late, and their locks lapse meanwhile (PROTOCOL 2.3)."""
    from tests.simulation.scenario import SEATS, Fault

    faults = [Fault(2_100 + 300 * number, "late", "lock-1", chance.choice((15, 30, 50)), chance.randrange(5)) for number in range(30)]
    return scenario._replace(
        nodes=3,
        managers=1,
        balancers=1,
        lock_servers=3,
        buyers=1,
        sitters=chance.choice((4, 6)),
        sits=0.05,
        seats=SEATS[:1],
        lock_ttl_ms=chance.choice((200, 400)),
        weather=Weather(delay_us=3_000, loss=0.03),
        faults=tuple(faults),
    )


def adverse(scenario: Scenario, chance: random.Random) -> Scenario:
    """Clocks of lock servers run fast and those of who relies on their locks run slow, as far as they may (Redlock's drift)."""
    from tests.simulation.scenario import DRIFT_PPM_BOUND, SEATS, Fault, lock_names

    sitters = [f"sitter-{number + 1}" for number in range(4)]
    faults = [Fault(2_050 + number, "drift", name, 0, DRIFT_PPM_BOUND) for number, name in enumerate(lock_names(scenario))]
    faults += [Fault(2_060 + number, "drift", name, 0, -DRIFT_PPM_BOUND) for number, name in enumerate(sitters)]
    faults += [Fault(chance.randrange(3_000, 11_000), kind, "lock-1", 300) for kind in ("kill", "freeze")]
    # What clocks differ by is a part of the ttl: a long one shows more of it.
    return scenario._replace(
        nodes=3,
        managers=1,
        balancers=1,
        buyers=2,
        sitters=len(sitters),
        seats=SEATS[:2],
        lock_ttl_ms=chance.choice((1_000, 2_000)),
        weather=Weather(),
        faults=tuple(faults),
    )


def _cut_again_and_again(scenario: Scenario, chance: random.Random, kind: str) -> Scenario:
    """A primary loses some of its lines for a second, six times, while many buy and other managers take over soon."""
    from tests.simulation.scenario import SEATS, Fault

    faults = [Fault(2_500 + 1_600 * number + chance.randrange(400), kind, "primary", 1_000) for number in range(6)]
    return scenario._replace(
        nodes=3,
        managers=2,
        balancers=2,
        buyers=6,
        pause_ms=20,
        own_managers=True,
        seats=SEATS[:4],
        times=scenario.times._replace(**HASTY),
        weather=Weather(),
        faults=tuple(faults),
    )


def apart(scenario: Scenario, chance: random.Random) -> Scenario:
    """A primary is cut off with a manager, a balancer and people who look, again and again (5.4, R10)."""
    return _cut_again_and_again(scenario, chance, "split")._replace(lookers=6, reads=0.1)


def setback(scenario: Scenario, chance: random.Random) -> Scenario:
    """A store's files go back by some seconds while the primary is gone, and only another store that was away is left (R11)."""
    from tests.simulation.scenario import Fault

    begin_ms, back_ms = chance.randrange(2_500, 3_000), 5_600
    until_ms = begin_ms + back_ms
    faults = (
        Fault(begin_ms, "backup", "node-2", back_ms),
        Fault(begin_ms + chance.randrange(50, 300), "apart", "node-3", back_ms),
        Fault(until_ms - chance.randrange(1, 60), "kill", "node-1", chance.choice((1_500, 3_000))),
    )
    return scenario._replace(nodes=3, managers=2, balancers=2, buyers=4, pause_ms=150, weather=Weather(), faults=faults)


def absent(scenario: Scenario, chance: random.Random) -> Scenario:
    """A store is away while another comes back by a snapshot, without the old entries, and leads when the first returns (R12)."""
    from tests.simulation.scenario import Fault

    lost_ms, back_ms = chance.randrange(3_200, 3_800), chance.randrange(8_500, 9_500)
    faults = (
        Fault(2_700, "apart", "node-5", back_ms - 2_700),
        Fault(lost_ms, "disk", "node-1", 0, 1),
        Fault(back_ms - 1_200, "kill", "primary", 300),
    )
    times = scenario.times._replace(**HASTY, segment_entries=4, tail_entries=2, log_entries_max=12, sweep_ms=300)
    return scenario._replace(nodes=5, managers=2, balancers=2, buyers=4, pause_ms=60, times=times, weather=Weather(), faults=faults)


def torn(scenario: Scenario, chance: random.Random) -> Scenario:
    """The power goes while a snapshot comes, again and again: what was not flushed of it is lost or torn (R13)."""
    from tests.simulation.scenario import Fault

    faults = [Fault(3_000, "disk", "node-2", 0, 1)]
    faults += [Fault(3_001 + 450 * number, "power", "node-2", 50, chance.choice((1, -1)) * chance.randint(1, 14)) for number in range(6)]
    times = scenario.times._replace(**HASTY, log_entries_max=4)
    return scenario._replace(
        nodes=3, managers=2, balancers=2, buyers=4, pause_ms=60, times=times, weather=Weather(delay_us=3_000), faults=tuple(faults)
    )


def drivers(scenario: Scenario, chance: random.Random) -> Scenario:
    """Balancers that have just sent a trip's holds hear nothing for a while, and the traveller asks another one (Z3)."""
    from tests.simulation.scenario import SEATS, Fault

    faults = [Fault(2_100 + 1_100 * number, "unheard", "balancer-1", 1_000) for number in range(9)]
    return scenario._replace(
        operators=("AR", "LA"),
        nodes=3,
        managers=2,
        balancers=3,
        buyers=0,
        travellers=3,
        impatience=0.9,
        dawdles=True,
        deadline_ms=800,
        seats=SEATS,
        pause_ms=60,
        lock_ttl_ms=200,
        weather=Weather(),
        faults=tuple(faults),
    )


def rivals(scenario: Scenario, chance: random.Random) -> Scenario:
    """Managers see a primary fall silent at the same time, and no lock server keeps them from acting at once (R3)."""
    from tests.simulation.scenario import Fault, lock_names

    faults = [Fault(2_500, "kill", name, 8_500) for name in lock_names(scenario)]
    faults += [Fault(2_600 + 750 * number + chance.randrange(200), "freeze", "primary", 600) for number in range(11)]
    return scenario._replace(
        nodes=chance.choice((3, 5)),
        managers=3,
        balancers=1,
        buyers=1,
        times=scenario.times._replace(**HASTY),
        weather=Weather(delay_us=8_000),
        faults=tuple(faults),
    )


def bridged(scenario: Scenario, chance: random.Random) -> Scenario:
    """A primary is cut off with a manager and a balancer, again and again, but for its line to one copy that all others reach too (R1)."""
    return _cut_again_and_again(scenario, chance, "bridge")


def asleep(scenario: Scenario, chance: random.Random) -> Scenario:
    """Who has just asked for a lock is frozen for about its ttl, and then reads what was answered (Redlock: validity)."""
    from tests.simulation.scenario import SEATS, Fault

    ttl_ms = chance.choice((200, 400))
    names = ("sitter-1", "sitter-2", "sitter-3", "balancer-1")
    faults = [
        Fault(2_100 + 350 * number, "asleep", chance.choice(names), ttl_ms + chance.choice((-60, -10, 10, 60, 300))) for number in range(24)
    ]
    return scenario._replace(
        nodes=3, managers=1, balancers=2, buyers=2, sitters=3, seats=SEATS[:2], lock_ttl_ms=ttl_ms, weather=Weather(), faults=tuple(faults)
    )


def lagging(scenario: Scenario, chance: random.Random) -> Scenario:
    """Only its administrator reaches a lock server, another one forgets, and the only one that knows the counter falls silent (2.3)."""
    from tests.simulation.scenario import SEATS, Fault

    # An administrator looks twice a second, waits for the ttl, and then reads what is left of the counter.
    forgets_ms = chance.randrange(4_500, 5_500)
    silent_ms = forgets_ms + chance.randrange(550, 950)
    faults = (
        Fault(2_100, "secluded", "lock-3", silent_ms - 2_100),
        Fault(forgets_ms, "forget", "lock-1", 0),
        Fault(silent_ms, "freeze", "lock-2", chance.choice((3_000, 4_000))),
    )
    return scenario._replace(
        nodes=3,
        managers=1,
        balancers=1,
        lock_servers=3,
        buyers=4,
        sitters=3,
        sits=0.1,
        seats=SEATS[:2],
        pause_ms=60,
        lock_ttl_ms=1_000,
        weather=Weather(),
        faults=faults,
    )


def tardy(scenario: Scenario, chance: random.Random) -> Scenario:
    """A balancer's holds come late, when their locks are over and others have had the seats under newer ones (Z7, I7)."""
    from tests.simulation.scenario import SEATS, Fault

    faults = [Fault(2_100 + 900 * number, "tardy", f"balancer-{chance.choice((1, 2))}", chance.choice((500, 800))) for number in range(10)]
    return scenario._replace(
        nodes=3,
        managers=1,
        balancers=3,
        buyers=6,
        pause_ms=20,
        seats=SEATS[:2],
        lock_ttl_ms=200,
        weather=Weather(),
        faults=tuple(faults),
    )


PLANS: dict[str, Plan] = {
    "lapses": lapses,
    "adverse": adverse,
    "apart": apart,
    "setback": setback,
    "absent": absent,
    "torn": torn,
    "drivers": drivers,
    "rivals": rivals,
    "bridged": bridged,
    "asleep": asleep,
    "lagging": lagging,
    "tardy": tardy,
}
