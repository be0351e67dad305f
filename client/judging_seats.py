"""Whether one seat's part of a history can have happened one after another: the search of Wing, Gong and Lowe. Pure.

A seat is a register: free, or held or booked for one hold. Each step happened at one moment between its question and its answer.
The search looks for an order of all steps that agrees with time (no step before one that was over when it began) and in which
every answer was the right one. Steps of unknown outcome, and those that nobody asked for (a hold that runs out), are optional:
they may be anywhere after their beginning, or nowhere. What was tried is remembered by (steps done, state), so that no situation
is searched twice.

Sources: Wing and Gong, "Testing and Verifying Concurrent Objects" (1993); Lowe, "Testing for Linearizability" (2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

FOREVER = float("inf")
SITUATIONS_MAX = 200_000


class State(NamedTuple):
    """Who has the seat: "" nobody."""

    hold: str = ""
    booked: bool = False


FREE = State()


class Act(Enum):
    """What a step does to its seat, or says of it."""

    TAKE = "take"  # free -> held
    BOOK = "book"  # held -> booked
    END = "end"  # held -> free
    CANCEL = "cancel"  # booked -> free
    SEE_TAKEN = "see taken"
    SEE_NOT_MINE = "see not held by"  # the hold is told to be over
    SEE_BOOKED = "see booked"
    SEE_NOT_BOOKED = "see not booked"


LOOKS = (Act.SEE_TAKEN, Act.SEE_NOT_MINE, Act.SEE_BOOKED, Act.SEE_NOT_BOOKED)


class Step(NamedTuple):
    """One step; `optional` ones may be left out. Times in any unit, one clock."""

    call: float
    end: float
    act: Act
    hold: str = ""
    optional: bool = False
    name: str = ""


class Found(NamedTuple):
    """`verdict`: True there is an order, False there is none, None: given up after `situations`.

    Attributes:
        stuck: The names of the steps of which none could come next, in the longest order that was found.
    """

    verdict: bool | None
    situations: int
    stuck: tuple[str, ...] = ()


def after(state: State, step: Step) -> State | None:
    """Return the state after a step, or None where the step cannot come here."""
    act, hold = step.act, step.hold
    if act is Act.TAKE:
        return State(hold) if state == FREE else None
    if act is Act.BOOK:
        return State(hold, True) if state == State(hold) else None
    if act is Act.END:
        return FREE if state == State(hold) else None
    if act is Act.CANCEL:
        return FREE if state == State(hold, True) else None
    fits = {
        Act.SEE_TAKEN: state != FREE,
        Act.SEE_NOT_MINE: state != State(hold),
        Act.SEE_BOOKED: state == State(hold, True),
        Act.SEE_NOT_BOOKED: not state.booked,
    }[act]
    return state if fits else None


def search(steps: Sequence[Step], situations_max: int = SITUATIONS_MAX) -> Found:
    """Look for an order of the steps that began with a free seat."""
    ordered = sorted(steps, key=lambda step: step.call)
    needed = sum(1 << place for place, step in enumerate(ordered) if not step.optional)
    seen: set[tuple[int, State]] = {(0, FREE)}
    # Depth first, without recursion: (steps done, state, first place not done).
    stack: list[tuple[int, State, int]] = [(0, FREE, 0)]
    most = -1
    stuck: tuple[str, ...] = ()
    while stack:
        done, state, first = stack.pop()
        if done & needed == needed:
            return Found(True, len(seen))
        while done >> first & 1:
            first += 1
        candidates = _candidates(ordered, done, first)
        following = _following(ordered, candidates, done, state)
        progress = (done & needed).bit_count()
        if progress > most:
            most, stuck = progress, tuple(ordered[place].name for place in candidates if not ordered[place].optional)
        # Reversed: the candidate that began first is tried first, which is nearly always how it was.
        for situation in reversed(following):
            if situation not in seen:
                seen.add(situation)
                stack.append((*situation, first))
        if len(seen) > situations_max:
            return Found(None, len(seen), stuck)
    return Found(False, len(seen), stuck)


def _following(ordered: Sequence[Step], candidates: Sequence[int], done: int, state: State) -> list[tuple[int, State]]:
    """Return the situations after each candidate that may come next; after one look alone, where one is true now."""
    found = []
    for place in candidates:
        then = after(state, ordered[place])
        if then is None:
            continue
        situation = (done | 1 << place, then)
        if ordered[place].act in LOOKS:
            # In any order that works it may as well come now: it changes nothing, and nothing has to come before it.
            return [situation]
        found.append(situation)
    return found


def _candidates(ordered: Sequence[Step], done: int, first: int) -> list[int]:
    """Return the places of the steps that may come next: none that began after one was over which is still to come."""
    found: list[int] = []
    soonest = FOREVER
    for place in range(first, len(ordered)):
        step = ordered[place]
        if step.call > soonest:
            break
        if not done >> place & 1:
            found.append(place)
            if not step.optional:
                soonest = min(soonest, step.end)
    # One that began before the soonest end was found may yet have begun after it.
    return [place for place in found if ordered[place].call <= soonest]
