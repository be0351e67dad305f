"""Baskets over tiny partitions, explored completely: every order of delay, loss, repetition and expiry within the bounds.

What decides here is production code: the engine on its rows (`datastore.engine`), the machine that holds
(`loadbalancer.itinerary`), the proof and the follow-ups (`loadbalancer.reconciling`). The model is only the world around them:

* A command once sent may arrive at any time, any number of times, or never. Its reply may be late or lost; then the driver is
  told that nobody knows.
* Every partition has its own clock, which may pass any deadline at any moment.
* Reconcilers look at any record at any time, and what they send is as unreliable as everything else.
* Partitions are built anew from their rows at every step: any step may be the first one of a new primary (B10).

`variant` switches one rule off; the checkers, which know only rows and what buyers were told, must notice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import msgspec

from datastore import commands, wire
from datastore.errors import HoldfastError, InvariantBroken, OutcomeUnknown
from datastore.model import BasketState, HoldState
from loadbalancer import reconciling
from loadbalancer.itinerary import Clear, Failed, Held, Itinerary, Lock, Plan, Reply, Send, Tell
from tests.simulation.basket_partitions import START_MS, Part, Partitions, baskets_of, legs_of

TICK_MS = 150  # A tick passes every deadline that stood before it.


class Violation(AssertionError):
    """A checker found what must never be."""


class Sent(msgspec.Struct, frozen=True, cache_hash=True):
    """A command on its way, for ever: `driver` -1 is a reconciler's."""

    driver: int
    operator: str
    command: Any


class State(msgspec.Struct, frozen=True, cache_hash=True):
    """One state of the world. `histories`: what each driver was told, from which its machine follows."""

    parts: tuple[Part, ...]
    histories: tuple[tuple[tuple[Any, ...], ...], ...]
    sent: frozenset[Sent] = frozenset()
    replies: frozenset[tuple[int, str, bytes]] = frozenset()
    counter: int = 0


@dataclass(frozen=True)
class Driver:
    """A balancer's thread with one request. `cancels`: the buyer cancels after the sale. `cuts`: what a change replaces."""

    plan: Plan
    confirms: bool = True
    cancels: bool = False
    cuts: tuple[tuple[int, tuple[int, ...]], ...] = ()


@dataclass
class Standing:
    """What follows from a driver's history."""

    machine: Itinerary
    awaited: dict[str, Any] = field(default_factory=dict)  # operator -> the command whose reply is awaited
    wants_lock: int | None = None
    clears: dict[str, Clear] = field(default_factory=dict)
    end: Held | Failed | None = None
    basket: dict[str, Any] | None = None
    legs: dict[str, Any] = field(default_factory=dict)
    told: str = ""
    reference: str = ""
    tells: list[Tell] = field(default_factory=list)
    asked: list[tuple[str, Any]] = field(default_factory=list)  # commands sent by the last event


class World(Partitions):
    """The transitions between states, and the checks of one state."""

    def __init__(
        self, drivers: tuple[Driver, ...], operators: tuple[str, ...], variant: str = "", ticks: int = 1, prompt: bool = False
    ) -> None:
        """Begin; `prompt`: a reply is heard at once or never, which leaves fewer states."""
        super().__init__(variant)
        self.drivers = drivers
        self.operators = operators
        self.ticks = ticks
        self.prompt = prompt
        self.standings: dict[tuple[int, tuple[tuple[Any, ...], ...]], Standing] = {}
        self.alike: dict[tuple[int, bytes], tuple[tuple[Any, ...], ...]] = {}

    def first(self) -> State:
        parts = tuple(Part(operator, START_MS, 1) for operator in self.operators)
        return State(parts, tuple(() for _ in self.drivers))

    def part(self, state: State, operator: str) -> Part:
        return state.parts[self.operators.index(operator)]

    def with_part(self, state: State, part: Part) -> State:
        place = self.operators.index(part.operator)
        return msgspec.structs.replace(state, parts=(*state.parts[:place], part, *state.parts[place + 1 :]))

    # --- drivers --------------------------------------------------------------------------------------------------

    def standing(self, number: int, history: tuple[tuple[Any, ...], ...]) -> Standing:
        """Replay what a driver was told. What is returned is shared: not to be changed."""
        known = self.standings.get((number, history))
        if known is not None:
            return known
        driver = self.drivers[number]
        found = Standing(Itinerary(driver.plan))
        self._take(found, found.machine.started())
        for event in history:
            found.asked = []
            self._feed(driver, found, event)
        self.standings[number, history] = found
        return found

    def _first_alike(self, number: int, history: tuple[tuple[Any, ...], ...]) -> tuple[tuple[Any, ...], ...]:
        """Return the history that stands for all that leave a driver where this one leaves it."""
        found = self.standing(number, history)
        facts = {name: value for name, value in vars(found.machine).items() if name != "plan"}
        rest = (found.awaited, found.wants_lock, found.clears, found.end, found.basket, found.legs, found.told, found.reference)
        return self.alike.setdefault((number, repr((sorted(facts.items()), rest)).encode()), history)

    def _feed(self, driver: Driver, found: Standing, event: tuple[Any, ...]) -> None:
        kind = event[0]
        if kind == "locked":
            found.wants_lock = None
            self._take(found, found.machine.locked((1, event[1]), f"nonce-{event[1]}"))
        elif kind == "reply" and found.end is None:
            found.awaited.pop(event[1])
            self._take(found, found.machine.answered(event[1], opened(event[2])))
        elif kind == "reply":
            self._bought(driver, found, event[1], opened(event[2]))
        elif kind == "basket":
            found.basket = msgspec.msgpack.decode(event[1])
            if self.variant == "decide before all hold":
                found.end, found.awaited = found.end or Held(found.basket), {}
        elif kind == "leg":
            found.legs[event[1]] = msgspec.msgpack.decode(event[2])
        elif kind == "cleared":
            del found.clears[event[1]]
            self._take(found, found.machine.cleared(event[1], None))
        if found.basket is not None and not found.told and not found.awaited:
            self._confirm(driver, found)

    def _take(self, found: Standing, instructions: Any) -> None:
        for one in instructions:
            if isinstance(one, Send):
                found.awaited[one.operator] = one.command
                found.asked.append((one.operator, one.command))
            elif isinstance(one, Tell):
                found.asked.append((one.operator, one.command))
            elif isinstance(one, Lock):
                found.wants_lock = one.hint
            elif isinstance(one, Clear):
                found.clears[one.operator] = one
            else:
                found.end = one

    def _confirm(self, driver: Driver, found: Standing) -> None:
        """Decide when every leg has been seen to be held (Z4)."""
        assert found.basket is not None
        others = reconciling.other_operators(found.basket)
        if self.variant == "decide before all hold":
            holds: tuple[tuple[str, int], ...] = tuple((operator, 2) for operator in others)
        elif set(others) - found.legs.keys():
            return
        else:
            try:
                holds = reconciling.proven_holds(found.basket, found.legs)
            except HoldfastError as error:
                found.told = error.code
                return
        own = sum(one.operator == driver.plan.anchor for one in driver.plan.legs)
        if driver.plan.replaces:
            self._accept(driver, found, holds, own)
            return
        reference = f"REF{self.drivers.index(driver)}"
        command = commands.Decide(
            f"confirm-{driver.plan.basket_id}", b"c", driver.plan.basket_id, driver.plan.owner, holds, (reference,), b"t", b"", (b"",) * own
        )
        found.awaited[driver.plan.anchor] = command
        found.asked.append((driver.plan.anchor, command))

    def _accept(self, driver: Driver, found: Standing, holds: tuple[tuple[str, int], ...], own: int) -> None:
        """Have the new seats come into the order for those that were quoted (B11)."""
        assert found.basket is not None
        plan = driver.plan
        words = (plan.replaces, b"t", int(found.basket["order_version"]), driver.cuts, 0, False, "moved", plan.basket_id, plan.owner)
        command = commands.Amend(f"change-{plan.basket_id}", b"c", *words, holds, (b"",) * own)
        found.awaited[plan.anchor] = command
        found.asked.append((plan.anchor, command))

    def _bought(self, driver: Driver, found: Standing, operator: str, reply: Reply) -> None:
        found.awaited.pop(operator)
        if reply.error:
            found.told = str(reply.error["code"])
        elif found.told != "confirmed":
            found.told, found.reference = "confirmed", reply.value["reference"]
            if driver.cancels:
                command = wire.Cancel(f"cancel-{driver.plan.basket_id}", b"x", found.reference, b"t")
                found.awaited[operator] = command
                found.asked.append((operator, command))
        else:
            found.told = "cancelled"

    # --- transitions ----------------------------------------------------------------------------------------------

    def successors(self, state: State) -> Iterator[tuple[str, State]]:
        for number, driver in enumerate(self.drivers):
            yield from self._driver_steps(state, number, driver)
        for sent in in_order(state.sent):
            yield f"{type(sent.command).__name__} arrives at {sent.operator}", self.arrive(state, sent)
        for part in state.parts:
            if part.now_ms < START_MS + self.ticks * TICK_MS:
                yield f"{part.operator}'s clock passes a deadline", self._tick(state, part)
            yield from self._reconcile(state, part)

    def _driver_steps(self, state: State, number: int, driver: Driver) -> Iterator[tuple[str, State]]:
        standing = self.standing(number, state.histories[number])
        if standing.wants_lock is not None:
            # Locks may be lost at any moment, so they exclude nobody here; only their fences grow.
            counter = max(state.counter, standing.wants_lock) + 1
            yield f"{number} locks", self._told(msgspec.structs.replace(state, counter=counter), number, ("locked", counter))
        for operator, command in standing.awaited.items():
            for to, of, data in sorted(state.replies):
                if (to, of) == (number, operator) and opened_for(data, command):
                    yield f"{number} hears {operator}", self._told(state, number, ("reply", operator, data))
            lost = wire.encode(({}, OutcomeUnknown("no answer").to_data(), (0, 0, b""), signature(command)))
            yield f"{number} hears nothing of {operator}", self._told(state, number, ("reply", operator, lost))
        for operator, clear in standing.clears.items():
            # The way of the shell: resolve at the anchor, tell the operator, go on.
            yield f"{number} clears {operator}", self._told(self._clear(state, operator, clear), number, ("cleared", operator))
        if self.variant == "decide before all hold" and self.part(state, driver.plan.anchor).lsn > 1:
            standing = replace(standing, end=Held({}), awaited={})
        if driver.confirms and isinstance(standing.end, Held) and not standing.told and not standing.awaited:
            yield from self._buying_steps(state, number, driver, standing)

    def _buying_steps(self, state: State, number: int, driver: Driver, standing: Standing) -> Iterator[tuple[str, State]]:
        if standing.basket is None:
            (basket,) = self.basket(state, driver.plan.basket_id)
            if driver.plan.replaces:
                order = self.read(self.part(state, driver.plan.anchor), "order", driver.plan.replaces)
                basket = {**basket, "order_version": order["version"]}
            yield f"{number} reads the basket", self._told(state, number, ("basket", wire.encode(basket)))
            return
        for operator in reconciling.other_operators(standing.basket):
            if operator not in standing.legs:
                found = self.read(self.part(state, operator), "leg", driver.plan.basket_id)
                yield f"{number} reads {operator}", self._told(state, number, ("leg", operator, wire.encode(found)))

    def _told(self, state: State, number: int, event: tuple[Any, ...]) -> State:
        history = (*state.histories[number], event)
        standing = self.standing(number, history)
        asked = standing.asked
        history = self._first_alike(number, history)
        histories = (*state.histories[:number], history, *state.histories[number + 1 :])
        sent = state.sent | {Sent(number, operator, command) for operator, command in asked}
        # A reply that nobody waits for any more makes no difference; a repeat of its command may bring another.
        replies = frozenset(one for one in state.replies if one[0] != number or is_awaited(standing, one[1], one[2]))
        return msgspec.structs.replace(state, histories=histories, sent=frozenset(sent), replies=replies)

    def arrive(self, state: State, sent: Sent) -> State:
        before = self.part(state, sent.operator)
        try:
            part, reply = self.apply(before, sent.command)
        except InvariantBroken as error:
            raise Violation(f"the engine stops: {error.detail}") from error
        state = self.with_part(state, part)
        if sent.driver >= 0:
            awaited = self.standing(sent.driver, state.histories[sent.driver]).awaited.get(sent.operator)
            if awaited is not None and signature(awaited) == signature(sent.command):
                value, error, position = msgspec.msgpack.decode(reply)
                signed = wire.encode((value, error, position, signature(sent.command)))
                if self.prompt:
                    state = self._told(state, sent.driver, ("reply", sent.operator, signed))
                else:
                    state = msgspec.structs.replace(state, replies=state.replies | {(sent.driver, sent.operator, signed)})
        return self._follow(state, sent, reply)

    def _follow(self, state: State, sent: Sent, reply: bytes) -> State:
        """Send what a reconciler sends when it hears this reply."""
        command, told = sent.command, set[Sent]()
        if isinstance(command, commands.Finalise | commands.ReleaseLegs):
            (basket,) = self.basket(state, command.basket_id) or (None,)
            if basket is not None:
                wanted = BasketState.COMMITTED if isinstance(command, commands.Finalise) else basket["basket_state"]
                # What is said to be followed is the word that was carried, however old.
                said = {**basket, "basket_state": wanted, "evidence": command.evidence}
                done = reconciling.done(said, {sent.operator: opened(reply)})
                if done is not None and wanted == basket["basket_state"]:
                    told.add(Sent(-1, reconciling.anchor_of(command.basket_id), done))
        elif isinstance(command, commands.Resolve):
            for basket in self.basket(state, command.basket_id):
                (one,) = reconciling.follow(basket, [command.operator])
                if isinstance(one.command, commands.LegDue):
                    return self.with_part(state, self.apply(self.part(state, one.operator), one.command)[0])
                told.add(Sent(-1, one.operator, one.command))
            if self.variant == "no tombstone" and not self.basket(state, command.basket_id):
                evidence = (1, 1, b"hash")
                release = commands.ReleaseLegs("", b"", command.basket_id, command.owner, sent.operator, evidence)
                told.add(Sent(-1, command.operator, release))
        return state if told <= state.sent else msgspec.structs.replace(state, sent=state.sent | told)

    def basket(self, state: State, basket_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.read(self.part(state, reconciling.anchor_of(basket_id)), "baskets", basket_id)
        return found

    def _tick(self, state: State, part: Part) -> State:
        state = self.with_part(state, msgspec.structs.replace(part, now_ms=part.now_ms + TICK_MS))
        if self.variant != "local expiry":
            return state
        for row in legs_of(part):
            if row.state == HoldState.ACTIVE:
                command = commands.ReleaseLegs("", b"", row.basket_id, row.owner, row.anchor, (1, 1, b"own clock"))
                state = self.with_part(state, self.apply(self.part(state, part.operator), command)[0])
        return state

    def _reconcile(self, state: State, part: Part) -> Iterator[tuple[str, State]]:
        """Let a reconciler look at a partition: what it asks for arrives at once or never, what it tells may arrive ever after."""
        told: set[Sent] = set()
        for row in baskets_of(part):
            if row.undone:
                told |= {Sent(-1, one.operator, one.command) for one in reconciling.follow(self.basket(state, row.basket_id)[0])}
        if told - state.sent:
            yield f"a reconciler looks at {part.operator}", msgspec.structs.replace(state, sent=state.sent | told)
        for leg_row in legs_of(part, closed=True):
            # Also for one that has ended since: such a question may have been on its way for long.
            if leg_row.due_ms <= part.now_ms:
                resolve = commands.Resolve("", b"", leg_row.basket_id, leg_row.owner, part.operator)
                yield f"{part.operator} has it resolved", self.arrive(state, Sent(-1, leg_row.anchor, resolve))
        yield f"{part.operator} sweeps", self.arrive(state, Sent(-1, part.operator, wire.Sweep("", b"")))

    def _clear(self, state: State, operator: str, clear: Clear) -> State:
        part, _ = self.apply(self.part(state, clear.anchor), commands.Resolve("", b"", clear.basket_id, clear.owner, operator))
        state = self.with_part(state, part)
        for basket in self.basket(state, clear.basket_id):
            for one in reconciling.follow(basket, [operator]):
                state = self.with_part(state, self.apply(self.part(state, one.operator), one.command)[0])
        return state


def in_order(sent: Iterable[Sent]) -> list[Sent]:
    """Return commands in an order that is the same in every process, whatever its hashes: a walk's seed must be one walk."""
    return sorted(sent, key=written)


@lru_cache(maxsize=1 << 14)
def written(sent: Sent) -> str:
    return repr(sent)


def signature(command: Any) -> bytes:
    """Return what tells a command's replies from those of others."""
    return f"{type(command).__name__}{getattr(command, 'counter', '')}".encode()


def is_awaited(standing: Standing, operator: str, data: bytes) -> bool:
    command = standing.awaited.get(operator)
    return command is not None and opened_for(data, command)


def opened(data: bytes) -> Reply:
    value, error, position = msgspec.msgpack.decode(data)[:3]
    return Reply(value, error, (position[0], position[1], position[2]))


def opened_for(data: bytes, command: Any) -> bool:
    return bool(msgspec.msgpack.decode(data)[3] == signature(command))
