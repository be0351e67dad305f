"""The nursery's children are processes like others: own id, session and log, and they end as they say."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from client.processes import free_ports
from datastore.settings import EXIT_CONFIG
from tests import nursery
from tests.waiting import wait_until

pytestmark = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="this system cannot watch a process by a descriptor")


def serve(folder: Path, name: str) -> nursery.Process:
    """Start a data node of a small cluster, whose file names node-1 alone."""
    config = folder / "cluster.toml"
    if not config.exists():
        (port,) = free_ports(1)
        config.write_text(f'[datastore]\ncopies = 1\n[[datastore.node]]\nname = "node-1"\nhost = "127.0.0.1"\nport = {port}\n')
    command = [sys.executable, "-m", "datastore", "serve", "--node", name, "--config", str(config), "--data", str(folder)]
    return nursery.spawn(command, folder / "logs" / f"{name}.log")


def test_an_end_of_its_own_is_told(tmp_path: Path) -> None:
    """The exit code is the program's, and what it said is in its log."""
    child = serve(tmp_path, "node-9")
    assert EXIT_CONFIG == child.wait(60) == child.poll() == child.returncode
    assert "node-9" in (tmp_path / "logs" / "node-9.log").read_text()


def test_it_is_a_process_like_another(tmp_path: Path) -> None:
    """It leads a session of its own, answers signals, and nobody waits for it longer than wanted."""
    child = serve(tmp_path, "node-1")
    try:
        wait_until((tmp_path / "node-1" / "lock").exists, "the node to serve", 60)
        assert (child.pid, None) == (os.getsid(child.pid), child.poll())
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(0.01)
        child.terminate()
        assert 0 == child.wait(60)
        child.kill()  # Of one that has ended: nothing.
        again = serve(tmp_path, "node-1")
        again.kill()
        assert -signal.SIGKILL == again.wait(60)
    finally:
        child.kill()


def test_children_end_with_the_nursery(tmp_path: Path) -> None:
    """Tests that are killed leave no cluster behind."""
    program = (
        "import sys; from pathlib import Path; from tests.unit.test_nursery import serve;"
        "child = serve(Path(sys.argv[1]), 'node-1'); print(child.pid, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=nursery.TOP, text=True) as tests:
        assert tests.stdout is not None
        pid = int(tests.stdout.readline())
        os.kill(pid, 0)
        tests.kill()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the child to end", 60)


def test_what_wants_its_own_interpreter_gets_it(tmp_path: Path) -> None:
    """Another environment is no copy's to have."""
    (port,) = free_ports(1)
    command = [sys.executable, "-m", "datastore", "serve", "--node", "x", "--config", str(tmp_path / str(port)), "--data", str(tmp_path)]
    process = nursery.spawn(command, tmp_path / "log", {"TZ": "UTC"})
    assert isinstance(process, subprocess.Popen) and EXIT_CONFIG == process.wait(60)
