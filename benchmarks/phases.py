"""What `seats.py` measures, the goals, and what is told of several turns. No I/O: figures in, figures out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmarks.calibration import Calibration, mean_of

# The yardsticks of the machine on which the goals were set, measured with its prototype.
GOAL_MACHINE = Calibration(rpyc_calls=12_600, sqlite_commits=8_000, sqlite_rows=277_000)


class Phase(NamedTuple):
    """One measurement: `processes` × `threads` callers, `size` holds a call, `calls` calls of each.

    Attributes:
        method: "hold", "hold_many" (each hold a request of its own) or "hold_each" (one request for holds of one service).
        goal: Holds a second on the machine of the goals; 0 for none.
        is_apart: Whether each caller has a client of its own; else the callers of a process share one, which gathers what they ask at the
            same time.
    """

    name: str
    processes: int
    threads: int
    size: int
    calls: int
    method: str = "hold"
    goal: int = 0
    is_apart: bool = False

    @property
    def yardstick(self) -> str:
        """Which field of `Calibration` bounds it: calls where each hold travels alone, rows in batches where many do."""
        return "rpyc_calls" if self.size == 1 else "sqlite_rows"

    def goal_on(self, machine: Calibration) -> float:
        """Return the goal as it would be on a machine with those yardsticks."""
        return self.goal * float(getattr(machine, self.yardstick)) / float(getattr(GOAL_MACHINE, self.yardstick))

    def per_thousand(self, holds_per_second: float, machine: Calibration) -> float:
        """Return how many holds were sold for 1,000 of the yardstick."""
        return 1000 * holds_per_second / float(getattr(machine, self.yardstick))


PHASES = (
    Phase("1 caller", 1, 1, 1, 1500, goal=600),
    Phase("32 callers", 2, 16, 1, 600, goal=5_800),
    Phase("32 callers, a client each", 2, 16, 1, 600, goal=5_800, is_apart=True),
    Phase("1 caller, 64 requests a message", 1, 1, 64, 300, "hold_many"),
    Phase("16 callers, 64 requests a message", 2, 8, 64, 50, "hold_many", goal=40_000),
    Phase("1 caller, 64 holds a request", 1, 1, 64, 600, "hold_each"),
    Phase("16 callers, 64 holds a request", 2, 8, 64, 58, "hold_each", goal=40_000),
)


class Turn(NamedTuple):
    """The figures of every phase on one cluster, and the machine's yardsticks just before and just after it."""

    before: Calibration
    rows: list[dict[str, Any]]
    after: Calibration

    @property
    def machine(self) -> Calibration:
        return mean_of([self.before, self.after])


class Told(NamedTuple):
    """What is told of one phase.

    Attributes:
        row: The figures of the turn in the middle.
        per_thousand: Holds for 1,000 of the yardstick in that turn.
        of_goal: The share of the scaled goal in each turn, lowest first; empty without a goal.
    """

    row: dict[str, Any]
    per_thousand: float
    of_goal: list[float]

    def share(self) -> str:
        """Return the shares for a person to read: the middle one, and the lowest and highest of several."""
        if not self.of_goal:
            return "-"
        middle = f"{self.of_goal[len(self.of_goal) // 2]:.0%}"
        return middle if len(self.of_goal) == 1 else f"{middle} ({self.of_goal[0]:.0%}–{self.of_goal[-1]:.0%})"


def told_of(turns: Sequence[Turn]) -> list[Told]:
    """Return what is told of each phase: the turn whose ratio to its own yardstick is in the middle."""
    told = []
    for number, phase in enumerate(PHASES):
        ordered = sorted(turns, key=lambda turn: phase.per_thousand(turn.rows[number]["holds_per_second"], turn.machine))
        middle = ordered[len(ordered) // 2]
        shares = [turn.rows[number]["holds_per_second"] / phase.goal_on(turn.machine) for turn in ordered] if phase.goal else []
        row = middle.rows[number]
        told.append(Told(row, phase.per_thousand(row["holds_per_second"], middle.machine), shares))
    return told
