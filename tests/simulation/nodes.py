"""A data node: production partitions (`datastore.partition`) on a simulated disk, network and clock.

What `datastore.node` and `datastore.server` do around them with threads and sockets is done here with turns: a message is
one turn, and an answer that is not there at its end (a commit is awaited) leaves in a later one, or at its time-out.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from datastore import administration, cluster_record, wire
from datastore.actor import FATAL_CODES
from datastore.cluster_record import ClusterRecord
from datastore.errors import HoldfastError, NotPrimary, UnknownOperator
from datastore.feed import of_the_silent
from datastore.ledger import LedgerDamaged
from datastore.links import Outgoing
from datastore.model import Epoch
from datastore.partition import Partition
from datastore.remembered import Remembered, must_last, went_back
from datastore.replication import Replica
from datastore.replication_steps import ReplicationSettings
from datastore.sealing import SealingLimits
from datastore.store_port import Store
from datastore.submission import Question, Reconfiguration, Submission
from tests.simulation.disk import Crashed, Disk, SimulatedStore
from tests.simulation.recoveries import Arrivals, Offers, SimulatedRecoverer
from tests.simulation.world import Ask, Process, Signal, Violation, World

if TYPE_CHECKING:
    from tests.simulation.observer import Observer

TURN_S = 5.0
Waiting = Submission | Question | Reconfiguration


class NodeTimes(NamedTuple):
    """As in `datastore.config`, in milliseconds; `entries` is how many travel in one APPEND."""

    heartbeat_ms: int = 100
    suspicion_ms: int = 1_000
    append_timeout_ms: int = 400
    submit_timeout_ms: int = 1_500
    sweep_ms: int = 1_000
    flush_ms: int = 300
    retry_ms: int = 100
    restart_ms: int = 400
    entries: int = 500
    segment_entries: int = 4_096
    tail_entries: int = 1_024
    log_entries_max: int = 1_000


class SimulatedLinks:
    """What `datastore.links` is to a partition, over the simulated network: a node that did not answer is left alone a while."""

    def __init__(self, node: DataNode) -> None:
        self._node = node
        self._down_until: dict[str, int] = {}

    def send(self, node: str, outgoing: Outgoing, urgent: bool) -> None:
        mine = self._node
        if node not in mine.world.processes or self._down_until.get(node, 0) > mine.now_ms():
            outgoing.done(None)
            return

        def answered(replies: list[wire.AppendReply] | None) -> None:
            if replies is None:
                self._down_until[node] = mine.now_ms() + mine.times.retry_ms
            outgoing.done(replies[0] if replies else None)

        mine.send(Ask(node, "append", [outgoing.item], mine.times.append_timeout_ms), answered)


class DataNode(Process):
    """One data node. Its stores and its disk outlive it."""

    store_type: type[SimulatedStore] = SimulatedStore
    partition_type: type[Partition] = Partition
    machine_type: type[Replica] = Replica
    recoverer_type: type[SimulatedRecoverer] = SimulatedRecoverer
    links_type: type[SimulatedLinks] = SimulatedLinks

    def __init__(self, world: World, name: str, times: NodeTimes, observer: Observer, seed: str) -> None:
        super().__init__(world, name)
        self.times = times
        self.disk = Disk(f"{seed} disk", name)
        self.stores: dict[str, SimulatedStore] = {}
        self.partitions: dict[str, Partition] = {}
        self.record: ClusterRecord = {}
        # On the disk too: who may come after a store (`datastore.identities`), and snapshots on their way.
        self.identities: dict[str, Remembered] = {}
        self._flushed: dict[str, Remembered] = {}  # of the records those that a power failure leaves
        self.incoming = Arrivals(self.disk)
        self.backup: dict[str, SimulatedStore] = {}
        self.replaced: set[str] = set()
        self.installs = 0
        self._peers: list[str] = []
        self._observer = observer
        self._stores_made = 0
        self._owed: list[tuple[Waiting, Callable[[Any], None]]] = []
        self._handlers: dict[str, Callable[[Any, Callable[[Any], None]], None]] = {
            "status": self._status,
            "bootstrap": self._bootstrap,
            "promise": self._promise,
            "become": self._become,
            "configure": self._configure,
            "hand_over": self._hand_over,
            "renew": self._renew,
            "record": self._take_record,
            "append": self._append,
            "submit": self._submit,
            "read": self._read,
            "feed": self._feed,
            "snapshot": self._snapshot,
            "snapshot_ask": lambda ask, answer: answer(self._offers.ask(ask)),
            "snapshot_read": lambda read, answer: answer(self._offers.read(read)),
        }

    def meet(self, nodes: Sequence[str]) -> None:
        """Know the other nodes."""
        self._peers = [name for name in nodes if name != self.name]

    # -- life --------------------------------------------------------------------------------------------------------

    def boot(self) -> None:
        self.partitions = {}
        self._owed = []
        self._bell = Signal()
        self.boot_id = f"{self.name}#{self.incarnation}"
        self._fatal: BaseException | None = None
        self._offers = Offers(self)
        self.recoverer = self.recoverer_type(self, self._peers)
        for operator, store in list(self.stores.items()):
            try:
                self.stores[operator] = store.reopened()
                reason = self.why_not_use(self.stores[operator])
            except LedgerDamaged as error:
                reason = error.detail
            if reason:
                self.tell("puts the store of {} aside: {}", operator, reason)
                self.replaced.add(operator)
                del self.stores[operator]
                self.make(operator)
            else:
                self._open(operator)
        self.recoverer.start()
        self.world.after(self, self.times.heartbeat_ms, self._tick, self.now_ms() + self.times.sweep_ms)

    def make(self, operator: str) -> Partition:
        """Return the operator's partition, with a new empty store, of a new identity, where there is none."""
        if operator not in self.partitions:
            if operator not in self.stores:
                self._stores_made += 1
                uuid = f"{self.name}-store-{self._stores_made}"
                self.stores[operator] = self.store_type(operator, uuid, self.disk)
            self._open(operator)
        return self.partitions[operator]

    def why_not_use(self, store: SimulatedStore) -> str:
        """Return why a store is not the one last used here, or "" (R11)."""
        summary = store.summary()
        return went_back(self.identities.get(store.operator), store.store_uuid, summary.promised, summary.led, summary.tail.lsn)

    def _remember(self, operator: str, remembered: Remembered, has_log: bool) -> None:
        # As `datastore.node` does: an empty store must not cover up that there was another.
        if has_log or operator not in self.replaced:
            self.write_identity(operator, remembered)

    def write_identity(self, operator: str, remembered: Remembered) -> None:
        """As `datastore.identities` does: what is not flushed may be taken back when the power goes."""
        if must_last(self.identities.get(operator), remembered):
            self._flushed[operator] = remembered
        self.identities[operator] = remembered

    def _tear_identities(self) -> None:
        """The power went: a record that was not flushed is there, or the last one that was, or none."""
        chance = random.Random(f"{self.boot_id} records")
        for operator in sorted(self.identities):
            if chance.random() < 0.5:
                continue
            del self.identities[operator]
            if operator in self._flushed:
                self.identities[operator] = self._flushed[operator]

    def lose_disk(self) -> None:
        """Everything is gone; what comes next here is somebody else (R14)."""
        self.tell("loses its disk")
        self.stores, self.identities, self.incoming, self.replaced = {}, {}, Arrivals(self.disk), set()
        self._flushed = {}

    def back_up(self) -> None:
        """Somebody copies the files of the stores."""
        self.backup = {operator: store.copied(self.disk) for operator, store in self.stores.items()}

    def put_backup_back(self) -> None:
        """Somebody puts the copied files back, while nothing runs here."""
        self.tell("finds its files as they were some time ago")
        self.stores |= {operator: store for operator, store in self.backup.items() if operator in self.stores}

    def _open(self, operator: str) -> None:
        store = self.stores[operator]
        times = self.times
        settings = ReplicationSettings(times.heartbeat_ms, times.suspicion_ms, times.entries, times.log_entries_max)
        partition = self.partition_type(
            store,
            self.name,
            self.links_type(self),  # type: ignore[arg-type]  # All that a partition asks of its links is `send`.
            settings,
            now_ms=self.now_ms,
            on_commit=self._bell.set,
            on_fatal=self._note_fatal,
            remember=self._remember,
            on_need=self.recoverer.needed,
            flush_ms=times.flush_ms,
        )
        if self.machine_type is not Replica:
            partition.machine = self.machine_type(store.summary(), store, settings)
        self.partitions[operator] = partition
        self._observer.opened(self, partition)

    def _note_fatal(self, error: BaseException) -> None:
        self._fatal = error

    # -- turns -------------------------------------------------------------------------------------------------------

    def turn(self, act: Callable[[Any], None], argument: Any) -> None:
        try:
            act(argument)
            if self._fatal is not None:  # Whoever waited for it may have taken it for an answer.
                raise self._fatal
            self._answer_owed()
            for partition in self.partitions.values():
                self._observer.after_turn(self, partition)
        except Crashed:
            self.tell("loses power at a disk write")
            self.incoming.tear()
            self._tear_identities()
            self._end()
        except HoldfastError as error:
            if error.code == "disk_failed":
                self.tell("ends: {}", error.detail)
                self._end()
            elif error.code in FATAL_CODES:
                raise Violation("invariant", f"{self.name} stops: {error.detail}") from error
            else:
                raise
        except Violation:
            raise
        except Exception as error:
            # In production too any other fault in a partition's turn ends the process.
            raise Violation("our own fault", f"{self.name} stops: {type(error).__name__}: {error}") from error

    def _end(self) -> None:
        """The process is gone; whoever watches over it starts it again."""
        self.kill()
        self.world.at(self.times.restart_ms * 1000, lambda _: self.start())

    def _answer_owed(self) -> None:
        if not self._owed:
            return
        left = []
        for waiting, answer in self._owed:
            if waiting._done.is_set():
                answer([waiting.result(0) if isinstance(waiting, Submission) else waiting.wait(0)])
            else:
                left.append((waiting, answer))
        self._owed = left

    def _tick(self, sweep_at_ms: int) -> None:
        for partition in list(self.partitions.values()):
            partition.tick()
            self._observer.ticked(self, partition)
            if self.now_ms() >= sweep_at_ms:
                partition.sweep()
                self._seal(partition.store)
        if self.now_ms() >= sweep_at_ms:
            sweep_at_ms = self.now_ms() + self.times.sweep_ms
        self.world.after(self, self.times.heartbeat_ms, self._tick, sweep_at_ms)

    def _seal(self, store: Store) -> None:
        """As `datastore.keeping` does: move what is old from the log to a sealed segment."""
        limits = SealingLimits(self.times.segment_entries, 1 << 30, self.times.tail_entries)
        while (found := store.seal_range(limits)) is not None:
            store.sealed(store.pack_range(*found))
        store.trim()

    # -- messages ----------------------------------------------------------------------------------------------------

    def handle(self, method: str, payload: Any, answer: Callable[[Any], None]) -> None:
        self._handlers[method](payload, answer)

    def _status(self, _: Any, answer: Callable[[Any], None]) -> None:
        partitions = [partition.status() for partition in self.partitions.values()]
        answer(wire.NodeStatus(self.name, self.boot_id, self.now_ms(), self.wall_ms(), partitions, self.record))

    def _bootstrap(self, items: list[wire.BootstrapItem], answer: Callable[[Any], None]) -> None:
        replies = []
        for item in items:
            # An empty store where another one was founds nothing: that would forget what was sold.
            voters = {} if item.operator in self.replaced else item.voters
            replies.append(self.make(item.operator).bootstrap(voters, TURN_S))
        answer(replies)

    def _promise(self, items: list[wire.PromiseItem], answer: Callable[[Any], None]) -> None:
        found = [(item, self.partitions.get(item.operator)) for item in items]
        answer([partition.promise(Epoch(*item.epoch), self.wall_ms(), TURN_S) for item, partition in found if partition is not None])

    def _become(self, items: list[wire.BecomeItem], answer: Callable[[Any], None]) -> None:
        replies = []
        for item in items:
            partition = self.partitions.get(item.operator)
            if partition is None:
                replies.append(wire.BecomeReply(item.operator, False, "no store of this operator"))
            else:
                replies.append(partition.become(item, TURN_S))
        answer(replies)

    def _configure(self, items: list[administration.ConfigureItem], answer: Callable[[Any], None]) -> None:
        missing = [administration.ConfigureReply(item.operator, False, "no store of this operator") for item in items]
        self._await_all([partition and partition.configure(item) for item, partition in self._with_partitions(items)], missing, answer)

    def _hand_over(self, items: list[administration.HandOverItem], answer: Callable[[Any], None]) -> None:
        replies = []
        for item in items:
            partition = self.partitions.get(item.operator)
            missing = administration.HandOverReply(item.operator, "refused", 0, "no store of this operator")
            replies.append(partition.hand_over(item, TURN_S) if partition is not None else missing)
        answer(replies)

    def _renew(self, items: list[administration.RenewItem], answer: Callable[[Any], None]) -> None:
        for item in items:
            store = self.stores.get(item.operator)
            partition = self.partitions.get(item.operator)
            stays = "" if partition is None else partition.machine.why_not_put_aside(self.now_ms())
            if store is not None and store.store_uuid == item.store_uuid and not stays:
                self.tell("puts the store {} aside", item.store_uuid)
                del self.stores[item.operator]
                closed = self.partitions.pop(item.operator, None)
                if closed is not None:
                    closed.close(TURN_S)
        answer([self.make(item.operator).bootstrap({}, TURN_S) for item in items])

    def _take_record(self, record: ClusterRecord, answer: Callable[[Any], None]) -> None:
        self.record = cluster_record.merged(self.record, record)
        answer(self.record)

    def _append(self, items: list[wire.AppendItem], answer: Callable[[Any], None]) -> None:
        answer([self._append_one(item) for item in items])

    def _append_one(self, item: wire.AppendItem) -> wire.AppendReply:
        partition = self.partitions.get(item.operator)
        if partition is None:
            return wire.AppendReply(item.operator, "refused", item.epoch, 0, "")
        try:
            return partition.append(item, TURN_S)
        except HoldfastError as error:
            if error.code in FATAL_CODES:
                raise
            return wire.AppendReply(item.operator, "refused", item.epoch, 0, "")

    def _submit(self, items: list[wire.SubmitItem], answer: Callable[[Any], None]) -> None:
        missing = [wire.SubmitResult(item.operator, b"", 0, 0, self._no_store(item.operator).to_data()) for item in items]
        self._await_all([partition and partition.submit(item) for item, partition in self._with_partitions(items)], missing, answer)

    def _read(self, items: list[wire.ReadItem], answer: Callable[[Any], None]) -> None:
        missing = [wire.ReadResult(item.operator, 0, 0, None, self._no_store(item.operator).to_data()) for item in items]
        self._await_all([partition and partition.ask(item) for item, partition in self._with_partitions(items)], missing, answer)

    def _with_partitions(self, items: list[Any]) -> list[tuple[Any, Partition | None]]:
        return [(item, self.partitions.get(item.operator)) for item in items]

    def _await_all(self, waiting: Sequence[Waiting | None], missing: list[Any], answer: Callable[[Any], None]) -> None:
        """Answer when all are decided; who has no store is answered with what is in `missing`."""
        found = list(missing)
        left = [place for place, one in enumerate(waiting) if one is not None]

        def take(place: int, result: list[Any]) -> None:
            found[place] = result[0]
            left.remove(place)
            if not left:
                answer(found)

        if not left:
            answer(found)
        for place, one in enumerate(waiting):
            if one is not None:
                self._await(one, partial(take, place))

    def _feed(self, request: wire.FeedRequest, answer: Callable[[Any], None]) -> None:
        """As `datastore.server` does it: what is new, or wait until something is."""

        def wait() -> None:
            until_ms = self.now_ms() + request.wait_ms
            while True:
                parts = []
                for operator, (lsn, digest) in request.after.items():
                    partition = self.partitions.get(operator)
                    missing = wire.FeedPart(operator, "behind", 0, b"", 0)
                    part = missing if partition is None else partition.feed(lsn, digest, TURN_S)
                    parts += [] if part is None else [part]
                left_ms = until_ms - self.now_ms()
                if parts or left_ms <= 0:
                    answer(parts + of_the_silent(request, parts, self.partitions.get))
                    return
                self.wait(self._bell, left_ms)

        self.run(wait)

    def _snapshot(self, request: wire.SnapshotRequest, answer: Callable[[Any], None]) -> None:
        partition = self.partitions.get(request.operator)
        if partition is None:
            answer(UnknownOperator(f"{self.name} has no store of {request.operator}", operator=request.operator))
        else:
            answer(partition.snapshot(request, TURN_S))

    def _no_store(self, operator: str) -> NotPrimary:
        return NotPrimary(f"{self.name} has no store of {operator}", operator=operator, primary="")

    def _await(self, waiting: Waiting, answer: Callable[[Any], None]) -> None:
        """Answer when it is decided, or at the time-out: then the production word for that is given."""
        self._owed.append((waiting, answer))

        def give_up(_: Any) -> None:
            for index, (one, _then) in enumerate(self._owed):
                if one is waiting:
                    del self._owed[index]
                    answer([waiting.result(0) if isinstance(waiting, Submission) else waiting.wait(0)])
                    return
            self.world.steps -= 1

        self.world.after(self, self.times.submit_timeout_ms, give_up, None)
