"""Processes known by id and start; ports and who has them."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from client import processes
from tests.waiting import wait_until

SLEEPER = [sys.executable, "-c", "import threading; print('up', flush=True); threading.Event().wait(60)"]
DEAF = [
    sys.executable,
    "-c",
    "import signal, threading; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); threading.Event().wait(60)",
]


def started(command: list[str], log: Path) -> tuple[subprocess.Popen[bytes], processes.Identity]:
    process = processes.spawn(command, log)
    wait_until(lambda: b"up" in log.read_bytes(), "the process to run", 10)
    return process, processes.identity(process.pid)


def test_a_process_is_known_by_its_start_too(tmp_path: Path) -> None:
    """A recycled id is a stranger, and is never killed."""
    process, known = started(SLEEPER, tmp_path / "log")
    try:
        processes.write_pid(tmp_path / "x.pid", known)
        assert known == processes.running(tmp_path / "x.pid")
        stranger = processes.Identity(known.pid, known.started - 1)
        assert not stranger.is_alive()
        assert processes.end(stranger, 100)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()
    assert processes.running(tmp_path / "x.pid") is None


def test_ending_a_process_waits_for_it(tmp_path: Path) -> None:
    """SIGTERM is enough for one that listens; a zombie counts as ended."""
    process, known = started(SLEEPER, tmp_path / "log")
    assert processes.end(known, 5_000)
    assert not known.is_alive()
    process.wait()


def test_a_process_that_does_not_listen_is_killed_at_the_deadline(tmp_path: Path) -> None:
    """A stop must come to an end."""
    process, known = started(DEAF, tmp_path / "log")
    assert not processes.end(known, 200)
    assert not known.is_alive()
    process.wait()


@pytest.mark.parametrize("text", ["", "12", "x y", "1 2 3"])
def test_a_damaged_pid_file_names_nobody(tmp_path: Path, text: str) -> None:
    """A torn file after a crash is no process."""
    (tmp_path / "x.pid").write_text(text)
    assert processes.read_pid(tmp_path / "x.pid") is None


def test_a_busy_port_is_seen_with_who_has_it() -> None:
    """The message of a refused start names both."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert not processes.port_is_free("127.0.0.1", port)
        assert f"process {os.getpid()}" in processes.who_listens(port)
    assert processes.port_is_free("127.0.0.1", port)
    assert "" == processes.who_listens(port)


def test_free_ports_are_different_ones() -> None:
    """Each process gets its own."""
    found = processes.free_ports(20)
    assert 20 == len(set(found))


def test_what_is_local() -> None:
    """Only what this machine can listen at is started here (192.0.2.0/24 is nobody's, RFC 5737)."""
    assert processes.is_local("127.0.0.1")
    assert not processes.is_local("192.0.2.7")
