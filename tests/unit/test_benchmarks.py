"""What a benchmark tells of several turns."""

import pytest

from benchmarks.calibration import Calibration
from benchmarks.phases import GOAL_MACHINE, PHASES, Turn, told_of


def turn(sold: int, speed: float = 1.0) -> Turn:
    """Return a turn in which each phase sold so many, on a machine so fast beside that of the goals."""
    machine = Calibration(*(speed * value for value in GOAL_MACHINE))
    return Turn(machine, [{"callers": phase.name, "holds_per_second": sold} for phase in PHASES], machine)


def test_the_turn_in_the_middle_is_told_with_the_lowest_and_highest_share() -> None:
    told = told_of([turn(300), turn(600), turn(900)])[0]

    assert PHASES[0].goal == 600
    assert (told.row["holds_per_second"], told.share()) == (600, "100% (50%–150%)")
    assert told.per_thousand == pytest.approx(600 / 12.6)


def test_each_turn_is_beside_its_own_yardstick() -> None:
    """A machine half as fast that sold 360 did better than one as fast as the goals' that sold 600."""
    told = told_of([turn(600), turn(360, speed=0.5), turn(660)])[0]

    assert (told.row["holds_per_second"], told.share()) == (660, "110% (100%–120%)")


def test_of_one_turn_there_is_no_lowest_and_of_no_goal_no_share() -> None:
    told = told_of([turn(600)])

    assert [one.share() for one, phase in zip(told, PHASES, strict=True) if not phase.goal] == ["-", "-"]
    assert told[0].share() == "100%"
