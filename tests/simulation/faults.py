"""Deliberate faults of the protocol: each must be caught, or the checks cannot tell right from wrong.

A mutation replaces a class of the cluster by a broken subclass, or a function of a production module for as long as it is
applied. Production code has no switch for any of it. `Mutation.rule` is the rule that it breaks, by its number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from tests.simulation.cluster import Parts

Break = Callable[[Parts, ExitStack], None]


class Mutation(NamedTuple):
    """One broken rule.

    Attributes:
        profile: Which runs are most likely to meet it; "" for any.
        quick: Caught within a few seeds, so that continuous integration can run it every time.
    """

    name: str
    rule: str
    profile: str
    quick: bool
    apply: Break


MUTATIONS: dict[str, Mutation] = {}


def mutation(name: str, rule: str, profile: str = "replication", *, quick: bool = False) -> Callable[[Break], Break]:
    """Enter a function that breaks `parts`, or patches, as the mutation of that name."""

    def enter(apply: Break) -> Break:
        assert name not in MUTATIONS
        MUTATIONS[name] = Mutation(name, rule, profile, quick, apply)
        return apply

    return enter


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Let `owner.name` be `value` for a while; a name that is not there is a mistake of the mutation."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def broken(name: str) -> Iterator[Parts]:
    """Apply a mutation; give the parts of which a cluster with it is built."""
    all_mutations()
    with ExitStack() as stack:
        parts = Parts()
        MUTATIONS[name].apply(parts, stack)
        yield parts


def all_mutations() -> list[Mutation]:
    """Return every mutation, in the order of the report."""
    import tests.simulation.faults_above
    import tests.simulation.faults_locks
    import tests.simulation.faults_membership
    import tests.simulation.faults_parties
    import tests.simulation.faults_recovery
    import tests.simulation.faults_replication
    import tests.simulation.faults_trips  # noqa: F401  # Each enters its mutations.

    return list(MUTATIONS.values())
