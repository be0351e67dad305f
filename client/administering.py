"""How commands ask the managers for something: the wish, the administrator's key, and waiting until it has come true."""

from __future__ import annotations

import getpass
import sys
import threading
import time
from typing import Any, Protocol

from client import keys
from client.terminal import Session, tell
from datastore import administration, messages, wire
from datastore.errors import InvalidRequest, OutcomeUnknown

POLL_S = 0.2
WAIT_S = 600.0


def whoever() -> str:
    """Return the name of who runs the command, for the records that people read."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "somebody"


class Asks(Protocol):
    """What of the client is needed here."""

    deadline_ms: int

    def call(self, method: str, request: messages.Request) -> messages.Answer:
        """Return the answer to any question."""
        ...


def ask(client: Asks, admin_key: str, wish: administration.AnyWish, deadline_ms: int = 0) -> Any:
    """Have the managers do what is wished; return the answer of the type that `administration.ANSWERS` names.

    Another balancer may be asked when one does not answer: every wish may be repeated.
    """
    request = messages.Administer(admin_key=admin_key, wish=wire.encode(wish), deadline_ms=deadline_ms or client.deadline_ms)
    answer = client.call("administer", request)
    assert isinstance(answer, messages.Administered)
    return wire.decode(administration.ANSWERS[type(wish)], answer.result)


def ask_once(session: Session, wish: administration.AnyWish, deadline_ms: int = 0) -> Any:
    """Ask as the administrator of the session's cluster."""
    with session.connect() as client:
        return ask(client, admin_key(session), wish, deadline_ms)


def admin_key(session: Session) -> str:
    """Return the administrator's key that is kept in the data folder."""
    return keys.admin_key(session.folders)


def agreed(what: str, *, yes: bool, json: bool) -> None:
    """Ask whether to go on, after `what` was said.

    Raises:
        InvalidRequest: Nobody can be asked, or the answer was no; nothing was done.
    """
    if yes:
        return
    if json or not sys.stdin.isatty():
        raise InvalidRequest(f"{what}: add --yes", field="yes")
    import typer

    tell(what)
    if not typer.confirm("go on?", default=False, err=True):
        raise InvalidRequest("nothing was done", field="yes")


def wait_for_node(session: Session, name: str, states: tuple[str, ...], wait_s: float = WAIT_S) -> administration.NodeReport:
    """Return when nothing is left to do with a node and it is in one of `states`; says on stderr how it goes.

    Raises:
        OutcomeUnknown: It takes longer; it goes on, and the same command waits on.
    """
    deadline, pause, said = time.monotonic() + wait_s, threading.Event(), ""
    with session.connect() as client:
        key = admin_key(session)
        while True:
            report: administration.NodeReport = ask(client, key, administration.LookAtNode(name=name))
            if report.done and report.state in states:
                return report
            words = "; ".join(f"{operator}: {what}" for operator, what in sorted(report.left.items())[:3])
            left = f"{len(report.left)} left: {words}" if report.left else f"{name} is {report.state}"
            if left != said:
                tell(left)
                said = left
            if time.monotonic() >= deadline:
                raise OutcomeUnknown(f"{name}: not done after {wait_s:.0f} s, it goes on by itself ({left}); the same command waits on")
            pause.wait(POLL_S)
