"""Every state of the model, breadth first, or many long walks through it."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping

from tests.simulation.basket_checks import Checks
from tests.simulation.basket_model import State, Violation, World
from tests.simulation.basket_partitions import Part

RARE = 0.04


def explore(world: World, checks: Checks, states_max: int) -> tuple[int, bool]:
    """Visit every reachable state, breadth first; return how many there are and whether that was all of them.

    Raises:
        Violation: With the shortest story that leads there.
    """
    first = world.first()
    came: dict[State, tuple[State, str] | None] = {first: None}
    queue = deque([first])
    healed: set[tuple[Part, ...]] = set()
    while queue:
        state = queue.popleft()
        try:
            checks.check(state)
            if state.parts not in healed:
                healed.add(state.parts)
                checks.check_healed(state)
            for what, after in world.successors(state):
                if after not in came:
                    if len(came) >= states_max:
                        return len(came), False
                    came[after] = (state, what)
                    queue.append(after)
        except Violation as violation:
            raise Violation(f"{violation}\nthe story:\n{story(came, state)}") from violation
    return len(came), True


def story(came: Mapping[State, tuple[State, str] | None], state: State) -> str:
    lines = []
    step = came[state]
    while step is not None:
        state, what = step
        lines.append(what)
        step = came[state]
    return "\n".join(reversed(lines))


def walk(world: World, checks: Checks, seed: int, steps: int) -> int:
    """Go one way through the world, at random; return how many steps there were.

    Raises:
        Violation: With the seed and the story.
    """
    chance = random.Random(seed)
    state = world.first()
    told: list[str] = []
    try:
        for _ in range(steps):
            options = [option for option in world.successors(state) if option[1] != state]
            if not options:
                break
            # Loss and expiry end a story: rare enough, they come at every place of it.
            weights = [RARE if "hears nothing" in what or "clock" in what else 1.0 for what, _ in options]
            what, state = chance.choices(options, weights)[0]
            told.append(what)
            checks.check(state)
        checks.check_healed(state)
    except Violation as violation:
        raise Violation(f"seed {seed}: {violation}\nthe story:\n" + "\n".join(told)) from violation
    return len(told)
