"""The search for an order of one seat's steps, against a twin that tries every order there is."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from client.judging_seats import FOREVER, FREE, Act, Step, after, search

STEPS_MAX = 6


def tried_in_every_order(steps: list[Step]) -> bool:
    """Return whether some order of all needed steps, and of some of the optional ones, is possible: by trying them all."""
    needed = [step for step in steps if not step.optional]
    optional = [step for step in steps if step.optional]
    for count in range(len(optional) + 1):
        for chosen in itertools.combinations(optional, count):
            for order in itertools.permutations([*needed, *chosen]):
                if agrees_with_time(order) and is_possible(order):
                    return True
    return False


def agrees_with_time(order: tuple[Step, ...]) -> bool:
    return not any(later.end < earlier.call for earlier, later in itertools.combinations(order, 2))


def is_possible(order: tuple[Step, ...]) -> bool:
    state = FREE
    for step in order:
        then = after(state, step)
        if then is None:
            return False
        state = then
    return True


@st.composite
def some_steps(draw: st.DrawFn) -> list[Step]:
    """Draw steps of two holds that overlap in time; half of them near to a possible story, so that both answers are common."""
    steps = []
    for number in range(draw(st.integers(1, STEPS_MAX))):
        call = draw(st.integers(0, 12))
        act = draw(st.sampled_from([Act.TAKE, Act.TAKE, Act.BOOK, Act.END, Act.CANCEL, *Act]))
        optional = draw(st.integers(0, 3)) == 0 and act in (Act.TAKE, Act.BOOK, Act.END, Act.CANCEL)
        end = FOREVER if optional else call + draw(st.integers(0, 8))
        steps.append(Step(call, end, act, draw(st.sampled_from("ab")), optional, str(number)))
    return steps


@settings(max_examples=400, deadline=None, derandomize=True)
@given(some_steps())
def test_the_search_finds_what_trying_everything_finds(steps: list[Step]) -> None:
    """Whatever the steps are, the quick search and the slow one agree."""
    assert tried_in_every_order(steps) == search(steps).verdict


def sale(number: int, start: float, end: float) -> list[Step]:
    """Return a hold that is made, booked and cancelled, one step after another."""
    length = (end - start) / 6
    return [
        Step(start + 2 * place * length, start + (2 * place + 1) * length, act, f"h{number}", name=f"{act.value} {number}")
        for place, act in enumerate((Act.TAKE, Act.BOOK, Act.CANCEL))
    ]


def test_a_long_good_story_is_accepted() -> None:
    """300 steps with refusals and unknown ones among them are no trouble."""
    steps = [step for number in range(75) for step in sale(number, 100 * number, 100 * number + 90)]
    steps += [Step(100 * number + 20, 100 * number + 60, Act.SEE_TAKEN, name=f"refusal {number}") for number in range(75)]
    steps += [Step(1_000 * number, FOREVER, Act.TAKE, f"u{number}", optional=True) for number in range(5)]
    found = search(steps)
    assert found.verdict is True and found.situations < 20_000


def test_two_owners_are_found_and_named() -> None:
    """Of a double hold the search says which steps cannot come next."""
    steps = [*sale(1, 0, 90), Step(20, 25, Act.TAKE, "h2", name="the second hold")]
    found = search(steps)
    assert found.verdict is False and "the second hold" in found.stuck


def test_a_bound_is_kept_and_said() -> None:
    """A search that would take too long is given up, and is no verdict."""
    steps = [Step(0, 100, Act.TAKE, f"h{number}", name=str(number)) for number in range(12)]
    steps += [Step(0, FOREVER, Act.END, f"h{number}", optional=True) for number in range(12)]
    steps.append(Step(200, 300, Act.SEE_BOOKED, "nobody"))
    found = search(steps, situations_max=2_000)
    assert found.verdict is None and found.situations <= 2_000 + len(steps)
