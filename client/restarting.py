"""A rolling restart: every process of this machine one after another, each only when the cluster is whole again.

That is how a newer version is taken into use while sales go on: the supervisor starts each process again from the program as
it is on the disk now, and with certificates that it would read only once, as a lock server does. Lower tiers first, so that
nobody meets a peer older than itself for longer than its own turn. A node's primaries are handed over before it ends where
the cluster can do that; otherwise managers promote others, which costs callers a pause inside their deadline and no error.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from client import certificates, processes, readiness, supervisor
from client.folders import Folders
from client.plan import BALANCER, ClusterPlan, ProcessPlan
from datastore.edge import Tls
from datastore.errors import ConfigInvalid, HoldfastError, OperatorUnavailable, nearest

POLL_S = 0.05
WHOLE_MS = 60_000
STEADY_S = 0.5  # The cluster must be whole for so long: a status may be a heartbeat old.

Tell = Callable[[str], None]
HandOver = Callable[[str], None]


@dataclass(frozen=True)
class Restarted:
    """One process: how long it was away, and how long until the cluster was whole again."""

    name: str
    kind: str
    away_ms: int
    whole_ms: int


def rolling(plan: ClusterPlan, folders: Folders, names: Sequence[str], tell: Tell, hand_over: HandOver) -> list[Restarted]:
    """Restart the processes named, all of this machine where none is; return what it took.

    Args:
        hand_over: Told the name of a node that is about to end: moves its primaries, if that can be done.
    Raises:
        ConfigInvalid: A name is none of this machine's, or no supervisor runs; nothing was restarted.
        OperatorUnavailable: The cluster is not whole, or did not become so in time: those restarted before stay so.
    """
    ours = {process.name: process for process in supervisor.here(plan)}
    for name in names:
        if name not in ours:
            near = nearest(name, ours)
            reason = f"no process {name} on this machine" + (f"; did you mean {near[0]}?" if near else "")
            raise ConfigInvalid(reason, file=str(folders.config), reason=reason, nearest=near)
    if processes.running(folders.pid(supervisor.NAME)) is None:
        reason = f"no supervisor runs in {folders.data}: nobody would start again what ends; start it with: holdfast cluster up --detach"
        raise ConfigInvalid(reason, file=str(folders.data), reason="no supervisor")
    chosen = [process for process in ours.values() if not names or process.name in names]
    tls = certificates.caller_tls(plan.mapping, folders.data)
    wait_whole(plan, tls)
    done: list[Restarted] = []
    for number, process in enumerate(chosen, 1):
        tell(f"{number}/{len(chosen)} {process.name}")
        done.append(_restart(plan, folders, process, hand_over))
    return done


def _restart(plan: ClusterPlan, folders: Folders, process: ProcessPlan, hand_over: HandOver) -> Restarted:
    if process.role.package == "datastore":
        hand_over(process.name)
    before = processes.running(folders.pid(process.name))
    began = time.monotonic()
    if before is not None:
        processes.end(before, plan.client.stop_ms)
    pause = threading.Event()
    end = began + WHOLE_MS / 1000
    while (now := processes.running(folders.pid(process.name))) is None or now == before:
        if time.monotonic() > end:
            raise OperatorUnavailable(f"{process.name} was not started again; its log: {folders.log(process.name)}", process=process.name)
        pause.wait(POLL_S)
    back = time.monotonic()
    wait_whole(plan, certificates.caller_tls(plan.mapping, folders.data), process.name)
    return Restarted(process.name, process.role.kind, int((back - began) * 1000), int((time.monotonic() - began) * 1000))


def wait_whole(plan: ClusterPlan, tls: Tls | None, after: str = "") -> None:
    """Wait until every balancer sees every process in order and a primary for every operator, for a moment without a break.

    Raises:
        OperatorUnavailable: Not within the time; says what is missing.
    """
    from client import api

    end = time.monotonic() + WHOLE_MS / 1000
    whole_since: float | None = None
    pause = threading.Event()
    clients = [(process, api.connect([api.Address(process.host, process.port)], tls=tls)) for process in plan.of(BALANCER)]
    try:
        while True:
            lacking = next((what for process, client in clients if (what := _lacking(plan, process, client))), "")
            now = time.monotonic()
            whole_since = (whole_since or now) if not lacking else None
            if whole_since is not None and now - whole_since >= STEADY_S:
                return
            if now > end:
                where = f" after {after} was restarted" if after else "; nothing was restarted"
                raise OperatorUnavailable(f"the cluster is not whole{where}: {lacking}", waiting=lacking)
            pause.wait(POLL_S)
    finally:
        for _, client in clients:
            client.close()


def _lacking(plan: ClusterPlan, process: ProcessPlan, client: object) -> str:
    """Return what one balancer still lacks, replicas that lag behind included."""
    from client import api

    assert isinstance(client, api.Holdfast)
    missing = readiness.missing(plan, process, client)
    if missing:
        return missing
    try:
        lines = client.status(deadline_ms=readiness.STATUS_MS).partitions
    except HoldfastError as error:
        return f"{process.name}: {error.detail}"
    late = [line.operator for line in lines if line.verdict != "ok"]
    return f"{', '.join(late[:5])}: a copy is missing or behind" if late else ""


