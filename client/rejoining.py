"""Lock servers that lost their data vote again: a process of the lock store does it, as this package speaks to no Redis."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from client.terminal import Session
from datastore.errors import InvalidRequest

ALL = "all"
# Longer than the longest ttl and the margin of the rejoin rule, which it waits for (docs/redlock.md).
ENDS_S = 120.0


def standing(session: Session) -> list[str]:
    """Return a line for each lock server: whether it votes, and its counter."""
    return _ran(session, "status").stdout.splitlines()


def rejoin(session: Session, name: str) -> None:
    """Have one lock server rejoin; with `ALL`, admit whatever can be, a set that was lost as a whole too.

    Raises:
        InvalidRequest: It was refused; the reason is the administration's.
    """
    done = _ran(session, "initialise") if name == ALL else _ran(session, "recover", "--name", name)
    if done.returncode:
        reason = done.stderr.strip().removeprefix("error: ") or f"ended with {done.returncode}"
        raise InvalidRequest(reason, field="name")


def _ran(session: Session, command: str, *more: str) -> subprocess.CompletedProcess[str]:
    folders = session.folders
    config = folders.config if folders.config.exists() else Path(session.config_file)
    words = [sys.executable, "-m", "lockstore", command, "--config", str(config), "--data", str(folders.data), *more]
    return subprocess.run(words, capture_output=True, text=True, timeout=ENDS_S, check=False)
