"""What a run consists of, drawn from its seed: machines, weather, habits, and the faults with their times.

Everything that happens by plan is in the `Scenario`, as data: a failing run is made smaller by taking parts of it away.
"""

from __future__ import annotations

import random
from typing import NamedTuple

from tests.simulation import parties
from tests.simulation.network import Weather
from tests.simulation.nodes import NodeTimes
from tests.simulation.plans import PLANS

SEATS = tuple(f"{row}{letter}" for row in (1, 2) for letter in "ABCD")
SETTLED_S = 5.0
FAILOVER_S = 3.0
FIRST_FAULT_MS = 2_500  # The cluster is founded and the timetable loaded by then.


class Fault(NamedTuple):
    """One thing that goes wrong.

    Attributes:
        kind: "kill", "freeze", "apart" (cut off, both ways), "deaf" (nothing arrives), "mute" (nothing gets out), "split" (with the last
            manager and balancer cut off from all other nodes, managers and balancers), "bridge" (the same but for one other node,
            which both sides reach), "secluded" (only who admits lock servers to their set reaches it), "reshape" (an administrator
            names other nodes for an operator's copies), "power" (gone at a disk write), "full" (disk), "disk" (lost), "rot" (killed,
            and the disk lies about one sector from then on), "backup" (after that time the files are as they were), "forget" (a lock
            server's data), "jump" (wall clock), "drift", "provider" (answers of the payment sandbox lost, late, or errors),
            and aimed at a moment, once it comes after that time: "unheard" (a balancer that has just sent a trip's holds hears nothing),
            "late" (the write-back of a lock, which lapses meanwhile at a server), "asleep" (who has just asked for a lock is frozen),
            "tardy" (the next hold that a balancer sends is late).
        target: A process, or "primary": whichever data node leads then.
        number: "power": at which write from then on, negative for just after it; "jump": ms; "drift": parts per million; "provider":
            its last digit says which of these, the others how often.
    """

    at_ms: int
    kind: str
    target: str
    lasts_ms: int
    number: int = 0

    def __str__(self) -> str:
        more = f" ({self.number})" if self.number else ""
        return f"{self.at_ms:6} ms  {self.kind} {self.target}{more} for {self.lasts_ms} ms"


class Scenario(NamedTuple):
    """One run.

    Attributes:
        profile: What it is about, see PROFILES and `plans.PLANS`.
        sits: For what share of its validity a sitter relies on a lock.
        impatience: How likely a traveller asks another balancer before the first can have answered.
        dawdles: Travellers think for seconds about what they hold.
        parties: How often a traveller asks for the best seats instead of naming some.
        deadline_ms: How long a balancer may take for a traveller's hold.
        bulks: How often a buyer asks for a hold of each seat in one request.
        own_managers: Each balancer asks another manager first, as it does after its line to the others was cut.
    """

    seed: int
    profile: str = "mixed"
    operators: tuple[str, ...] = ("AR",)
    nodes: int = 3
    copies: int = 5
    managers: int = 2
    balancers: int = 2
    lock_servers: int = 3
    buyers: int = 4
    travellers: int = 0
    lookers: int = 0
    sitters: int = 0
    sits: float = 1.0
    impatience: float = 0.2
    dawdles: bool = False
    parties: float = 0.0
    deadline_ms: int = 3_000
    own_managers: bool = False
    payments: bool = False
    pause_ms: int = 150
    reads: float = 0.25
    bulks: float = 0.0
    seats: tuple[str, ...] = SEATS
    lock_ttl_ms: int = 1_000
    lasts_ms: int = 12_000
    weather: Weather = Weather()
    times: NodeTimes = NodeTimes()
    faults: tuple[Fault, ...] = ()

    @property
    def clocks_keep_bounds(self) -> bool:
        """Whether every clock keeps the rate and the date that lock validity and true-time checks rest on."""
        drifts = [fault.number for fault in self.faults if fault.kind == "drift"]
        jumps = any(fault.kind in ("jump", "late") for fault in self.faults)
        return not jumps and all(abs(ppm) <= DRIFT_PPM_BOUND for ppm in drifts)

    def settled_by(self, since_s: float) -> float:
        """Return by when what was decided is carried out everywhere: 5 s later (Z5), or after the faults that begin meanwhile."""
        until_s = since_s + SETTLED_S
        for fault in sorted(self.faults):
            if fault.at_ms / 1000 <= until_s:
                until_s = max(until_s, (fault.at_ms + fault.lasts_ms) / 1000 + FAILOVER_S + SETTLED_S)
        return until_s

    def describe(self) -> list[str]:
        """Return it for people."""
        lines = [
            f"seed {self.seed}, profile {self.profile}: {self.nodes} nodes, {self.managers} managers, {self.balancers} balancers,"
            f" {self.lock_servers} lock servers, {self.buyers} buyers, {len(self.seats)} seats, {self.lasts_ms} ms",
            f"weather: {self.weather}",
        ]
        return lines + [str(fault) for fault in sorted(self.faults)]


# Redlock allows 1 % in all for what two clocks differ by.
DRIFT_PPM_BOUND = 4_000
CALM = Weather()
WEATHERS = (
    CALM,
    Weather(delay_us=3_000, loss=0.01, repeat=0.02, slow=0.02, slow_us=60_000),
    Weather(delay_us=2_000, loss=0.05, repeat=0.05, slow=0.05, slow_us=300_000),
    Weather(delay_us=8_000, loss=0.15, repeat=0.1, slow=0.1, slow_us=800_000),
)
# Which faults a profile draws from, and how many it draws.
NODE_FAULTS = ("kill", "freeze", "apart", "deaf", "mute", "power", "power", "power", "full")
PROFILES: dict[str, tuple[tuple[str, ...], int, int]] = {
    "mixed": ((*NODE_FAULTS, "disk", "rot", "backup", "forget", "jump", "drift"), 3, 14),
    "replication": (NODE_FAULTS, 6, 24),
    "duel": (("kill", "freeze", "apart", "deaf", "mute", "split", "split", "power", "power", "power"), 15, 40),
    "locks": (("kill", "freeze", "deaf", "mute", "forget", "forget", "drift", "drift", "drift"), 5, 20),
    "fences": (("kill", "freeze", "deaf", "mute", "forget", *["jump"] * 8), 10, 40),
    "reshape": (("reshape", "reshape", "reshape", "reshape", "kill", "freeze", "apart", "power", "power", "split"), 6, 20),
    "recover": (("disk", "disk", "rot", "rot", "backup", "backup", "kill", "freeze", "apart", "apart", "mute", "power", "split"), 4, 14),
    "trips": (("kill", "kill", "freeze", "freeze", "apart", "deaf", "mute", "power", "provider", "provider"), 2, 14),
    "parties": (("kill", "freeze", "freeze", "apart", "deaf", "mute", "power"), 1, 8),
}
LOSSES = frozenset({"disk", "rot", "backup"})
LOCK_FAULTS = frozenset({"kill", "freeze", "deaf", "mute", "forget", "drift", "jump"})


# Where buyers hold in bulk too. Not where faults are aimed at their moment: what they aim at is what the rest of those runs is tuned to.
IN_BULK = ("mixed", "locks", "fences")


def draw(seed: int, profile: str = "", lasts_ms: int = 12_000) -> Scenario:
    """Return the run of a seed; without a profile the seed chooses one."""
    chance = random.Random(f"scenario {seed}")
    profile = profile or chance.choice(
        ("mixed", "mixed", "replication", "duel", "duel", "locks", "fences", "trips", "trips", "parties", "reshape", "recover")
    )
    kinds, least, most = PROFILES.get(profile, ((), 0, 0))
    nodes = chance.choice((3, 3, 3, 5))
    lock_servers = chance.choice((3, 3, 5))
    managers, balancers = chance.choice((1, 2, 2, 3)), chance.choice((1, 2, 3))
    if profile == "duel":
        managers, balancers = chance.choice((2, 3)), chance.choice((2, 3))
    dense = profile in ("locks", "fences")
    # Small times make more happen; the proportions are those of the defaults.
    duel = profile == "duel"
    scale = 4 if duel else chance.choice((1, 2, 4))
    times = NodeTimes(
        heartbeat_ms=200 // scale,
        suspicion_ms=1_200 // scale,
        append_timeout_ms=800 // scale,
        submit_timeout_ms=1_500,
        entries=chance.choice((1, 2, 500)),
    )
    scenario = Scenario(
        seed,
        profile,
        nodes=nodes,
        managers=managers,
        balancers=balancers,
        lock_servers=lock_servers,
        buyers=chance.choice((6, 10)) if dense else chance.choice((1, 2, 4) if duel else (2, 4, 8)),
        pause_ms=chance.choice((20, 60)) if dense else chance.choice((60, 150, 400)),
        lookers=chance.choice((0, 2, 3)) if duel else 0,
        sitters=chance.choice((0, 3, 4)) if dense else 0,
        reads=0.9 if duel else 0.25,
        bulks=0.15 if profile in IN_BULK else 0.0,
        seats=SEATS[: chance.choice((1, 2))] if dense else SEATS[: chance.choice((4, 8))],
        lock_ttl_ms=chance.choice((200, 400, 1_000)),
        lasts_ms=lasts_ms,
        weather=chance.choice(WEATHERS[:3] if duel else WEATHERS),
        times=times,
    )
    if profile == "trips":
        scenario = scenario._replace(
            operators=chance.choice((("AR", "LA"), ("AR", "LA"), ("AR", "LA", "IB"))),
            nodes=3,
            buyers=0,
            travellers=chance.choice((3, 5, 8)),
            payments=chance.random() < 0.8,
            seats=SEATS[: chance.choice((2, 4, 8))],
            pause_ms=chance.choice((60, 150)),
            # One lost message stops an operator's lane for as long as a manager may take: with many lost, nobody travels.
            weather=chance.choice((CALM, CALM, Weather(delay_us=3_000, loss=0.002, repeat=0.02, slow=0.02, slow_us=60_000))),
        )
    if profile == "parties":
        scenario = scenario._replace(
            operators=chance.choice((("AR",), ("AR",), ("AR", "LA"))),
            nodes=3,
            balancers=max(2, balancers),
            buyers=0,
            travellers=chance.choice((2, 3, 5)),
            parties=chance.choice((0.6, 0.9)),
            impatience=chance.choice((0.2, 0.7)),
            seats=parties.SEATS,
            pause_ms=chance.choice((60, 150)),
            weather=chance.choice((CALM, CALM, Weather(delay_us=3_000, loss=0.002, repeat=0.02, slow=0.02, slow_us=60_000))),
        )
    if profile in ("recover", "reshape"):
        # Logs that are soon sealed and short, so that who was away or is new needs a snapshot.
        sealing = {"segment_entries": chance.choice((4, 16)), "tail_entries": chance.choice((2, 8, 30))}
        times = times._replace(**sealing, log_entries_max=chance.choice((4, 12, 1_000)))
        scenario = scenario._replace(times=times)
    if profile == "reshape":
        scenario = scenario._replace(nodes=5, copies=3, managers=max(2, managers), balancers=max(2, balancers))
    if profile in PLANS:
        return PLANS[profile](scenario, chance)
    count = chance.randint(least, most)
    faults: list[Fault] = []
    for _ in range(count):
        fault = _draw_fault(chance, scenario, chance.choice(kinds), faults)
        if fault is not None:
            faults.append(fault)
    return scenario._replace(faults=tuple(faults))


def node_names(scenario: Scenario) -> list[str]:
    return [f"node-{number}" for number in range(1, scenario.nodes + 1)]


def lock_names(scenario: Scenario) -> list[str]:
    return [f"lock-{number}" for number in range(1, scenario.lock_servers + 1)]


def _draw_fault(chance: random.Random, scenario: Scenario, kind: str, so_far: list[Fault]) -> Fault | None:
    at_ms = chance.randrange(FIRST_FAULT_MS, scenario.lasts_ms)
    lasts_ms = chance.choice((50, 300, 500, 1_000) if scenario.profile == "duel" else (50, 300, 1_000, 3_000))
    nodes, locks = node_names(scenario), lock_names(scenario)
    others = [f"manager-{n + 1}" for n in range(scenario.managers)] + [f"balancer-{n + 1}" for n in range(scenario.balancers)]
    if kind in ("power", "full"):
        number = chance.choice((1, 1, 2, 3, 5, -1, -1, -2, -3)) if kind == "power" else 0
        return Fault(at_ms, kind, chance.choice([*nodes, *["primary"] * len(nodes)]), lasts_ms, number)
    if kind in LOSSES:
        # Before a lost voter is replaced a second loss would end the partition, so there is one at most.
        if any(fault.kind in LOSSES for fault in so_far):
            return None
        if kind == "backup":
            lasts_ms = chance.choice((1_000, 3_000, 6_000))
        return Fault(at_ms, kind, chance.choice(nodes), 0 if kind == "disk" else lasts_ms, chance.randrange(1, 10_000))
    if kind == "forget":
        # Where a majority forgot, no counter can be trusted and a person raises the generation: a minority may, again and again.
        return Fault(at_ms, kind, chance.choice(locks[: (len(locks) - 1) // 2]), 0)
    if kind == "jump":
        if scenario.profile == "fences":
            return Fault(at_ms, kind, chance.choice(locks), 0, chance.choice((-300, 300, 700, 5_000)))
        return Fault(at_ms, kind, chance.choice([*nodes, *locks]), 0, chance.choice((-3_600_000, -700, 700, 5_000, 3_600_000)))
    if kind == "drift" and scenario.sitters:
        sitters = [f"sitter-{number + 1}" for number in range(scenario.sitters)]
        return Fault(at_ms, kind, chance.choice([*locks, *sitters]), 0, chance.choice((-4_000, -4_000, 4_000, 4_000)))
    if kind == "drift":
        return Fault(at_ms, kind, chance.choice([*nodes, *locks, *others]), 0, chance.choice((-4_000, -500, 500, 4_000)))
    if kind == "split":
        return Fault(at_ms, kind, "primary", lasts_ms)
    if kind == "reshape":
        return Fault(at_ms, kind, f"manager-{chance.randint(1, scenario.managers)}", 0, chance.randrange(1_000))
    if kind == "provider":
        return Fault(at_ms, kind, "sandbox", 0, chance.randrange(50)) if scenario.payments else None
    targets = [*locks, *others] if scenario.profile in ("locks", "fences") else [*nodes, *nodes, *["primary"] * 4, *locks, *others]
    if scenario.profile in ("trips", "parties"):
        targets = [*[name for name in others if name.startswith("balancer")] * 3, *nodes, "primary", "primary", *others]
        targets += ["sandbox", "sandbox"] if scenario.payments else []
    if scenario.profile == "duel":
        targets = [*nodes, *["primary"] * 6]
    return Fault(at_ms, kind, chance.choice(targets), lasts_ms)
