"""Carries out what the machines instruct, for all operators at once: one message for each node and step."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from datastore import administration, wire
from datastore.errors import HoldfastError
from datastore.model import Epoch
from manager import failover_steps as steps
from manager.leases import PromoteLeases
from manager.membership import MakeStore, Reconfigure, Renew, Step
from manager.roster import Roster

log = logging.getLogger(__name__)
Kind = TypeVar("Kind")

# A primary that is about to hand over is asked this often whether it is ready: callers wait meanwhile.
HAND_OVER_EVERY_S = 0.005


class Asked(NamedTuple):
    """An instruction of one operator that waits to be carried out."""

    operator: str
    instruction: steps.Instruction


Tell = Callable[[str, steps.Event], list[Asked]]


class Carrier:
    """Carries out instructions and feeds the answers back. Used by one thread."""

    def __init__(
        self,
        roster: Roster,
        leases: PromoteLeases,
        timeout_ms: int,
        tell: Tell,
        *,
        at_once: Callable[[Mapping[str, Callable[[], Any]]], dict[str, Any]],
        now_ms: Callable[[], int],
    ) -> None:
        """Prepare.

        Args:
            tell: Gives a machine an event and returns what it asks for next.
            at_once: Makes calls to several nodes at the same time; see `nodes.at_once`.
            now_ms: The monotonic clock in milliseconds.
        """
        self._at_once = at_once
        self._now_ms = now_ms
        self._roster = roster
        self._leases = leases
        self._timeout_ms = timeout_ms
        self._tell = tell
        self._pause = threading.Event()
        self.stopped_ms: dict[str, int] = {}  # operator -> when its primary was asked to stop taking, monotonic

    def carry_out(self, asked: Sequence[Asked]) -> list[Asked]:
        """Carry out each kind of instruction for all operators at once; return what the machines ask for next."""
        return [
            *self._take_leases(_of(asked, steps.TakeLease)),
            *self._hand_over(_of(asked, steps.HandOver)),
            *self._name_stores(_of(asked, steps.NameStores)),
            *self._configure(_of(asked, steps.Configure)),
            *self._ask_promises(_of(asked, steps.AskPromises)),
            *self._name_one(_of(asked, steps.NameOne)),
        ]

    def _take_leases(self, group: Mapping[str, steps.TakeLease]) -> list[Asked]:
        leases = self._leases.take(list(group)) if group else {}
        return [asked for operator, lease in leases.items() for asked in self._tell(operator, steps.LeaseSettled(lease))]

    def _hand_over(self, group: Mapping[str, steps.HandOver]) -> list[Asked]:
        if any(ask.again for ask in group.values()):
            self._pause.wait(HAND_OVER_EVERY_S)
        now_ms = self._now_ms()
        for operator, ask in group.items():
            if not ask.again:
                self.stopped_ms[operator] = now_ms
        replies = self.ask("hand_over", {(op, ask.node): ask.item for op, ask in group.items()}, administration.HandOverReply)
        return [
            asked
            for operator, ask in group.items()
            for asked in self._tell(operator, steps.HandOverAnswered(replies.get(operator, {}).get(ask.node)))
        ]

    def _name_stores(self, group: Mapping[str, steps.NameStores]) -> list[Asked]:
        items = {(operator, node): wire.BootstrapItem(operator, {}) for operator, ask in group.items() for node in ask.nodes}
        replies = self.ask("bootstrap", items, wire.BootstrapReply)
        return [asked for operator in group for asked in self._tell(operator, steps.StoresNamed(replies.get(operator, {})))]

    def _configure(self, group: Mapping[str, steps.Configure]) -> list[Asked]:
        items = {(operator, node): wire.BootstrapItem(operator, ask.voters) for operator, ask in group.items() for node in ask.nodes}
        replies = self.ask("bootstrap", items, wire.BootstrapReply)
        return [asked for operator in group for asked in self._tell(operator, steps.Configured(replies.get(operator, {})))]

    def _ask_promises(self, group: Mapping[str, steps.AskPromises]) -> list[Asked]:
        items = {(operator, node): wire.PromiseItem(operator, ask.epoch) for operator, ask in group.items() for node in ask.nodes}
        replies = self.ask("promise", items, wire.PromiseReply)
        return [
            asked
            for operator, ask in group.items()
            for asked in self._tell(operator, steps.PromisesGiven(ask.epoch, replies.get(operator, {})))
        ]

    def _name_one(self, group: Mapping[str, steps.NameOne]) -> list[Asked]:
        items = {(operator, ask.node): ask.item for operator, ask in group.items()}
        replies = self.ask("become", items, wire.BecomeReply)
        following: list[Asked] = []
        for operator, ask in group.items():
            reply = replies.get(operator, {}).get(ask.node)
            following += self._tell(operator, steps.BecomeAnswered(Epoch(*ask.item.epoch), reply))
        return following

    def reshape(self, wanted: Mapping[str, tuple[str, Step]]) -> None:
        """Carry out one step of membership for each operator. Whatever fails is found again at the next look.

        Args:
            wanted: Operator -> (the primary's node, the step).
        """
        makes: dict[tuple[str, str], Any] = {}
        renews: dict[tuple[str, str], Any] = {}
        changes: dict[tuple[str, str], Any] = {}
        for operator, (leader, step) in wanted.items():
            if isinstance(step, MakeStore):
                makes[operator, step.node] = wire.BootstrapItem(operator, {})
            elif isinstance(step, Renew):
                renews[operator, step.node] = administration.RenewItem(operator, step.store_uuid)
            elif isinstance(step, Reconfigure):
                item = administration.ConfigureItem(operator, step.kind, step.store_uuid, step.node, step.config_lsn)
                changes[operator, leader] = item
        self.ask("bootstrap", makes, wire.BootstrapReply)
        self.ask("renew", renews, wire.BootstrapReply)
        for operator, replies in self.ask("configure", changes, administration.ConfigureReply).items():
            for node, reply in replies.items():
                step = wanted[operator][1]
                why = reply.reason or f"in force from lsn {reply.lsn}"
                log.info("copies operator=%s step=%s at=%s accepted=%s why=%s", operator, step, node, reply.accepted, why)

    def ask(self, method: str, items: Mapping[tuple[str, str], Any], kind: Any) -> dict[str, dict[str, Any]]:
        """Send each node its items in one message, all nodes at once.

        Args:
            items: (operator, node) -> item.
        Returns:
            Operator -> node -> reply; a node that did not answer is missing.
        """
        nodes = self._roster.nodes
        by_node: dict[str, list[Any]] = {}
        for (_, node), item in items.items():
            if node in nodes:
                by_node.setdefault(node, []).append(item)

        def call(node: str) -> Callable[[], list[Any]]:
            return lambda: nodes[node].control(method, by_node[node], kind, self._timeout_ms)

        replies: dict[str, dict[str, Any]] = {}
        for node, answer in self._at_once({node: call(node) for node in by_node}).items():
            if isinstance(answer, HoldfastError):
                log.warning("no answer node=%s method=%s why=%s", node, method, answer.detail)
                continue
            for reply in answer:
                if (reply.operator, node) in items:
                    replies.setdefault(reply.operator, {})[node] = reply
        return replies


def _of(asked: Iterable[Asked], kind: type[Kind]) -> dict[str, Kind]:
    return {one.operator: one.instruction for one in asked if isinstance(one.instruction, kind)}
