"""What an operator's and an administrator's desk holds besides the client: keys, logs, and the processes of this machine.

All of it is files and signals, so everything here is called on another thread than the screen's (see `Gateway`).
"""

from __future__ import annotations

import os
import signal
from functools import cached_property
from pathlib import Path
from typing import Any

from client import administering, keys, members, processes, recovering, rejoining
from client.folders import Folders
from client.plan import ClusterPlan, plan_of
from client.terminal import Session
from client.tui.gateway import Client
from datastore import administration
from datastore.errors import InvalidRequest, nearest

SIGNALS = {"kill": signal.SIGKILL, "freeze": signal.SIGSTOP, "continue": signal.SIGCONT}
AFTERWARDS = {"kill": "the supervisor starts it again", "freeze": "it answers nobody until it is continued", "continue": "it goes on"}
ADMIN_MS = 30_000


class Desk:
    """The data folder of the cluster, where this machine has one; what is missing there is said when it is needed."""

    def __init__(self, session: Session) -> None:
        self._session = session

    @property
    def folders(self) -> Folders:
        return self._session.folders

    @cached_property
    def plan(self) -> ClusterPlan:
        return plan_of(self._session.mapping, str(self._session.config_file))

    def operators(self) -> list[str]:
        """Return the codes of the operators whose keys are kept here."""
        return sorted(path.stem for path in self.folders.keys.glob("*.key"))

    def operator_key(self, service_id: str) -> str:
        """Return the key of a service's operator.

        Raises:
            ConfigInvalid: None is kept here.
        """
        return keys.operator_key(self.folders, service_id)

    def admin_key(self) -> str:
        """Return the administrator's key.

        Raises:
            ConfigInvalid: It is not kept here.
        """
        return administering.admin_key(self._session)

    def administer(self, client: Client, wish: administration.AnyWish) -> Any:
        """Have the managers do what is wished, as the administrator.

        Raises:
            ConfigInvalid: The administrator's key is not kept here.
            HoldfastError: What the managers say.
        """
        return administering.ask(client, self.admin_key(), wish, ADMIN_MS)

    # --- nodes and lock servers ----------------------------------------------------------------------------------------

    def next_name(self) -> str:
        """Return a name for one node more."""
        return members.next_name(self._session)

    def newcomer(self, name: str, host: str, port: int) -> members.Newcomer:
        """Return a node that may be added; see `members.newcomer` for what is refused."""
        return members.newcomer(self._session, name, host, port)

    def join(self, new: members.Newcomer, tell: members.Tell) -> administration.NodeReport:
        """Write a node down, wait until it runs and have the managers take it in; see `members.join`."""
        try:
            return members.join(self._session, new, tell)
        finally:
            self.__dict__.pop("plan", None)  # One process more.

    def recovery(self, client: Client) -> recovering.Ask:
        """Return what asks a node about the recovery of its copies.

        Raises:
            ConfigInvalid: The administrator's key is not kept here.
        """
        return recovering.asker(client, self.admin_key())

    def rejoin(self, name: str) -> list[str]:
        """Have a lock server that lost its data rejoin the others; return what each says afterwards.

        Raises:
            InvalidRequest: It was refused, with the reason.
        """
        rejoining.rejoin(self._session, name)
        return rejoining.standing(self._session)

    def logs(self) -> list[Path]:
        """Return the log files of this machine's processes."""
        return sorted(self.folders.logs.glob("*.log"))

    def running(self) -> list[str]:
        """Return the names of the cluster's processes that run on this machine."""
        names = [process.name for process in self.plan.processes]
        return [name for name in names if processes.running(self.folders.pid(name)) is not None]

    def send(self, name: str, word: str) -> str:
        """Kill, freeze or continue a process of this machine; return what that means.

        Raises:
            InvalidRequest: No such process runs here; names the nearest that does.
        """
        found = processes.running(self.folders.pid(name))
        if found is None:
            near = nearest(name, self.running())
            hint = f"; did you mean {near[0]}?" if near else ""
            raise InvalidRequest(f"{name} does not run on this machine{hint}", field="process")
        os.kill(found.pid, SIGNALS[word])
        return f"{SIGNALS[word].name} sent to {name} (process {found.pid}); {AFTERWARDS[word]}"
