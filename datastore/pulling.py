"""Carries out a `recovery.Pull`: asks the source, writes what comes, has it checked, takes it into use."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from datastore import recovery
from datastore.errors import HoldfastError, InvalidRequest, RequestInProgress
from datastore.incoming import Incoming, Noted
from datastore.recovery import Cause, Pull, PullSettings
from datastore.snapshots import Children
from datastore.stub import NodeStub
from datastore.wire_recovery import RecoverReport, SnapshotAsk, SnapshotOffer, SnapshotRead

CALL_MS = 5000

log = logging.getLogger(__name__)


@dataclass
class Job:
    """One recovery. `wanted`: the source that a person named; `busy`: it waits for another that is under way."""

    operator: str
    cause: Cause
    wanted: str = ""
    fresh_uuid: str = ""
    due: float = 0.0
    tries: int = 0
    busy: bool = False
    avoid: set[str] = field(default_factory=set)
    report: RecoverReport = field(default_factory=lambda: RecoverReport("", "waiting"))


class PullRun:
    """Carries out the instructions of one `Pull`."""

    def __init__(
        self,
        job: Job,
        stub: NodeStub,
        incoming: Incoming,
        children: Children,
        *,
        at_least_lsn: int,
        bytes_per_s: int,
        stop: threading.Event,
        use: Callable[[SnapshotOffer], None],
    ) -> None:
        """Prepare.

        Args:
            stub: The source's; its name is the source's.
            at_least_lsn: A snapshot of less is of no use here.
            stop: Set when the node ends.
            use: Takes the checked file into use; raises RequestInProgress or InvalidRequest when it cannot.
        """
        self._job = job
        self._stub = stub
        self._incoming = incoming
        self._children = children
        self._at_least_lsn = at_least_lsn
        self._bytes_per_s = bytes_per_s
        self._stop = stop
        self._use = use
        self._began = time.monotonic()
        self._began_bytes: int | None = None  # Where this run began to read.

    def run(self) -> bool:
        report = self._job.report
        pull = Pull(self._stub.name, self._leftover(), PullSettings())
        waiting = deque(pull.begin())
        while waiting:
            if self._stop.is_set():
                report.detail = "the node ends"
                return False
            step = waiting.popleft()
            report.elapsed_ms = int((time.monotonic() - self._began) * 1000)
            report.bytes_total, report.bytes_done = (pull.offer.size_bytes, pull.size_bytes) if pull.offer is not None else (0, 0)
            match step:
                case recovery.Finished():
                    report.state, report.detail = "done", ""
                    return True
                case recovery.GiveUp(reason):
                    report.detail = reason
                    return False
                case recovery.Note(offer):
                    self._incoming.note(self._noted(offer))
                case recovery.Settle(offer):
                    self._incoming.settle(self._noted(offer))
                case recovery.Discard():
                    self._incoming.discard()
                case _:
                    waiting.extend(pull.receive(self._carried_out(step)))
        raise AssertionError("a pull ends with Finished or GiveUp")

    def _noted(self, offer: SnapshotOffer) -> Noted:
        return Noted(self._job.operator, self._job.cause, self._stub.name, offer, self._job.fresh_uuid)

    def _leftover(self) -> recovery.Leftover | None:
        """Return what is there already of this very recovery: a file that is to get another identity is another recovery's."""
        noted = self._incoming.found()
        if noted is None or bool(noted.fresh_uuid) != bool(self._job.fresh_uuid) or noted.offer.lsn < self._at_least_lsn:
            self._incoming.discard()
            return None
        self._job.fresh_uuid = noted.fresh_uuid
        return self._incoming.leftover()

    def _carried_out(self, step: recovery.Instruction) -> recovery.Event:
        report, job = self._job.report, self._job
        match step:
            case recovery.Ask(snapshot_id, pause_ms):
                report.state = "fetching"
                self._stop.wait(pause_ms / 1000)
                try:
                    return recovery.Offered(self._stub.snapshot_ask(SnapshotAsk(job.operator, snapshot_id, self._at_least_lsn), CALL_MS))
                except HoldfastError as error:
                    return recovery.Silent(error.detail)
            case recovery.Fetch():
                return self._fetch(step)
            case recovery.Compare(offer, size_bytes):
                return recovery.Compared(self._incoming.differing(offer, size_bytes))
            case recovery.Check(offer):
                report.state = "checking"
                self._incoming.flush()
                arguments = [str(self._incoming.path), job.operator, offer.sha256, str(offer.lsn), offer.hash.hex()]
                answer = self._children.run("check", arguments, offer.size_bytes)
                reason = str(answer.get("error", answer.get("reason", "")))
                if not reason:
                    self._tell_done(offer)
                return recovery.Checked(reason)
            case recovery.Install(offer):
                report.state = "installing"
                try:
                    self._use(offer)
                except (RequestInProgress, InvalidRequest) as error:
                    return recovery.Installed(error.detail)
                return recovery.Installed("")
        raise AssertionError(f"{step} has no event")

    def _fetch(self, step: recovery.Fetch) -> recovery.Event:
        report = self._job.report
        if self._began_bytes is None or step.offset < self._began_bytes:
            self._began, self._began_bytes = time.monotonic(), step.offset
        pace_s = (step.offset - self._began_bytes) / self._bytes_per_s - (time.monotonic() - self._began)
        self._stop.wait(max(step.pause_ms / 1000, pace_s, 0.0))
        try:
            part = self._stub.snapshot_read(SnapshotRead(step.snapshot_id, step.offset, step.length), CALL_MS)
        except HoldfastError as error:
            report.detail = error.detail
            return recovery.Silent(error.detail)
        if not part.known:
            return recovery.Gone()
        end = self._incoming.write(step.offset, part.data) if part.data else step.offset
        report.state, report.detail = "fetching", ""
        return recovery.Came(end)

    def _tell_done(self, offer: SnapshotOffer) -> None:
        try:
            self._stub.snapshot_done(offer.snapshot_id, CALL_MS)
        except HoldfastError as error:
            log.debug("the source keeps its snapshot for a while id=%s reason=%s", offer.snapshot_id, error.detail)
