"""The snapshots that a node offers to others: taken while it sells, kept for a bounded time, read in parts.

Its size and where its log ends are known when the copy begins: from then on what there is of it may be read, while the rest is
taken. SQLite writes some of its pages again at the end, so what was read before counts only as far as the sums agree that are
offered with the ready file.

A snapshot is a file of its own under `outgoing/`, known by a random id. It is kept for `KEEP_S` after it was last read, so
that a receiver which was cut off or started anew goes on where it was; a source that is started anew has none, and the
receiver begins again. Taking one needs as much room as the store has: less than that and `RESERVE_BYTES` refuses it, for a
disk that is full would stop this node.
"""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from datastore.ledger import Position
from datastore.snapshot_files import run_command
from datastore.wire_recovery import SnapshotAsk, SnapshotOffer, SnapshotPart

KEEP_S = 600.0
SHARE_S = 30.0
OFFERS_MAX = 4
RESERVE_BYTES = 256 * 1024 * 1024
PART_BYTES_MAX = 1024 * 1024
# Below this the work is done in a moment, and starting a process for it would take longer.
SMALL_BYTES = 4 * 1024 * 1024
CHILD_S = 3600.0

log = logging.getLogger(__name__)


class Children:
    """The processes that take and check snapshots: they end with the node."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._closed = False

    def run(
        self, action: str, arguments: list[str], size_bytes: int, begun: Callable[[dict[str, Any]], object] = lambda _: None
    ) -> dict[str, Any]:
        """Run `snapshot_files.run_command`, in a process of its own unless the file is small; return its answer.

        Args:
            begun: Told the fields of `snapshot_files.Begun` when a copy begins.
        """
        if size_bytes <= SMALL_BYTES:
            return run_command(action, arguments, lambda known: begun(known._asdict()))
        command = [sys.executable, "-m", "datastore.snapshot_child", action, *arguments]
        with self._mutex:
            if self._closed:
                return {"error": "the node ends"}
            # It ends when its standard input does, so not even a killed node leaves one behind.
            child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self._running.add(child)
        try:
            assert child.stdout is not None and child.stdin is not None
            answer: dict[str, Any] | None = None
            for line in child.stdout:
                said = json.loads(line)
                if "begun" in said:
                    begun(said["begun"])
                else:
                    answer = said
            child.wait(CHILD_S)
            child.stdin.close()
            child.stdout.close()
        finally:
            with self._mutex:
                self._running.discard(child)
            if child.poll() is None:
                child.kill()
                child.wait()
        return answer or {"error": f"the process for {action} ended with {child.returncode}"}

    def close(self) -> None:
        with self._mutex:
            self._closed = True
            running = list(self._running)
        for child in running:
            child.kill()


class _Offer:
    """One snapshot. `begun`: what is told of it while it is taken; `ready` None until then."""

    def __init__(self, operator: str, path: Path) -> None:
        self.operator = operator
        self.snapshot_id = path.stem
        self.path = path
        self.begun = SnapshotOffer("preparing", self.snapshot_id)
        self.ready: SnapshotOffer | None = None
        self.receivers = 0
        self.used = time.monotonic()

    def suits(self, ask: SnapshotAsk) -> bool:
        """Return whether it can be shared by somebody who asks for any."""
        fresh = time.monotonic() - self.used < SHARE_S
        known = self.ready or self.begun
        return self.operator == ask.operator and fresh and (not known.size_bytes or known.lsn >= ask.at_least_lsn)


class SnapshotOffers:
    """All snapshots that this node offers. Any thread may ask."""

    def __init__(self, folder: Path, children: Children, bytes_per_s: int) -> None:
        self._folder = folder
        self._children = children
        self._bytes_per_s = bytes_per_s
        self._mutex = threading.Lock()
        self._offers: dict[str, _Offer] = {}
        # What a former process offered nobody can ask for any more.
        shutil.rmtree(folder, ignore_errors=True)

    def ask(self, ask: SnapshotAsk, store: Path, committed: Callable[[], Position]) -> SnapshotOffer:
        """Return the offer of that id, or begin one and say that it is being prepared.

        Args:
            store: The file to take it from.
            committed: Gives the position that everything in the file up to it is committed; asked before the copy begins.
        """
        self.expire()
        operator = ask.operator
        with self._mutex:
            found = self._offers.get(ask.snapshot_id)
            if ask.snapshot_id and (found is None or found.operator != operator):
                return SnapshotOffer("gone")
            if found is None:
                # Several receivers of one operator share what was made a moment ago.
                found = next((offer for offer in self._offers.values() if offer.suits(ask)), None)
                if found is not None:
                    found.receivers += 1
            if found is None:
                reason = self._why_not(store)
                if reason:
                    return SnapshotOffer("refused", reason=reason)
                found = _Offer(operator, self._folder / f"{uuid.uuid4().hex}.snapshot")
                found.receivers = 1
                self._offers[found.snapshot_id] = found
                threading.Thread(target=self._take, args=(found, store, committed()), name=f"snapshot-{operator}", daemon=True).start()
            found.used = time.monotonic()
            return found.ready or found.begun

    def read(self, snapshot_id: str, offset: int, length: int) -> SnapshotPart:
        """Return a part of a snapshot; of one that is being taken what there is of it."""
        with self._mutex:
            found = self._offers.get(snapshot_id)
            if found is None or not (found.ready or found.begun).size_bytes:
                return SnapshotPart(False)
            found.used = time.monotonic()
        try:
            with found.path.open("rb") as file:
                file.seek(max(0, offset))
                return SnapshotPart(True, file.read(max(0, min(length, PART_BYTES_MAX))))
        except FileNotFoundError:
            return SnapshotPart(found.ready is None)  # One that has just begun has no file yet.

    def done(self, snapshot_id: str) -> None:
        """A receiver has it whole; with the last one it goes."""
        with self._mutex:
            found = self._offers.get(snapshot_id)
            if found is None:
                return
            found.receivers -= 1
        if found.receivers <= 0:
            self._drop(snapshot_id)

    def forget(self, operator: str) -> None:
        """Drop all snapshots of an operator, those that are being taken too: they hold what was erased (Z13)."""
        with self._mutex:
            found = [offer.snapshot_id for offer in self._offers.values() if offer.operator == operator]
        for snapshot_id in found:
            self._drop(snapshot_id)

    def expire(self) -> None:
        """Drop what nobody has read for too long."""
        now = time.monotonic()
        with self._mutex:
            old = [offer for offer in self._offers.values() if now - offer.used > KEEP_S]
        for offer in old:
            self._drop(offer.snapshot_id)

    def close(self) -> None:
        with self._mutex:
            offers = list(self._offers)
        for snapshot_id in offers:
            self._drop(snapshot_id)

    def _drop(self, snapshot_id: str) -> None:
        with self._mutex:
            found = self._offers.pop(snapshot_id, None)
        if found is not None:
            found.path.unlink(missing_ok=True)

    def _why_not(self, store: Path) -> str:
        if len(self._offers) >= OFFERS_MAX:
            return f"{OFFERS_MAX} snapshots are offered already; ask later"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            needed = store.stat().st_size + RESERVE_BYTES
            free = shutil.disk_usage(self._folder).free
        except OSError as error:
            return f"the store cannot be copied: {error.strerror}"
        return f"{free // 2**20} MiB are free on its disk and {needed // 2**20} MiB are needed" if free < needed else ""

    def _take(self, offer: _Offer, store: Path, committed: Position) -> None:
        began = time.monotonic()
        try:
            arguments = [str(store), str(offer.path), str(self._bytes_per_s)]
            arguments += [str(committed.lsn), str(committed.epoch.counter), committed.epoch.manager, committed.hash.hex()]

            def begun(known: dict[str, Any]) -> None:
                offer.begun = _offer("preparing", offer.snapshot_id, known)

            answer = self._children.run("take", arguments, store.stat().st_size, begun)
        except (OSError, ValueError) as error:
            answer = {"error": str(error)}
        if "error" in answer:
            log.error("no snapshot operator=%s reason=%s", offer.operator, answer["error"])
            self._drop(offer.snapshot_id)
            return
        offer.ready = _offer("ready", offer.snapshot_id, answer)
        offer.used = time.monotonic()
        with self._mutex:
            there = offer.snapshot_id in self._offers
        if not there:
            offer.path.unlink(missing_ok=True)
        log.info(
            "offers a snapshot operator=%s lsn=%d bytes=%d took_ms=%d",
            offer.operator,
            offer.ready.lsn,
            offer.ready.size_bytes,
            (time.monotonic() - began) * 1000,
        )


def _offer(state: str, snapshot_id: str, known: dict[str, Any]) -> SnapshotOffer:
    """Return the offer of what `snapshot_files.Begun` or `Taken` says."""
    lsn, counter, manager, entry_hash = known["at"]
    return SnapshotOffer(
        state,
        snapshot_id,
        known["size_bytes"],
        known.get("sha256", ""),
        lsn,
        (counter, manager),
        bytes.fromhex(entry_hash),
        block_bytes=known.get("block_bytes", 0),
        block_sums=tuple(known.get("block_sums", ())),
    )
