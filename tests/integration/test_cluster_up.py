"""`holdfast cluster up` and `down`: a cluster from nothing, kept running, stopped in order, started again after anything."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tomlkit

from client import api, claiming, exit_codes, processes, supervisor
from client.folders import Folders
from datastore.errors import ConfigInvalid, HoldfastError
from tests.integration.harness import TOP
from tests.integration.starter import SERVICE, Starter
from tests.waiting import wait_until


@pytest.fixture
def starter(tmp_path: Path) -> Iterator[Starter]:
    with Starter(tmp_path) as made:
        yield made


def kill_all(starter: Starter) -> None:
    """Kill every process of the cluster with SIGKILL, the supervisor first."""
    pids = starter.pids()
    assert supervisor.NAME in pids
    for name in (supervisor.NAME, *pids):
        os.kill(pids[name], signal.SIGKILL)
    wait_until(lambda: not starter.pids(), "everything to be dead", 10)


def test_from_nothing_and_after_kill_9_of_everything(starter: Starter) -> None:
    """Up, book, kill all, up again: the booking is there, and so are the timetables, keys and the wallet's cluster."""
    done = starter.up()
    for word in ("lock-1", "node-3", "manager-2", "balancer-1", str(starter.folders.data), "7 of 7 operators in order"):
        assert word in done.stdout
    # What is printed to be copied acts on this cluster, and finds something in it.
    options = f"--config {starter.config} --data {starter.folders.data}"
    assert "all is well" in done.stdout
    assert f"./start-cluster {options} --stop, or: holdfast {options} cluster down" in done.stderr
    assert f"next: holdfast {options} services --from EZE --to MIA" in done.stderr
    with starter.client() as client:
        assert {"AR", "FO", "LUM", "GRAND"} == {operator.code for operator in client.operators()} & {"AR", "FO", "LUM", "GRAND"}
        hold = client.hold_any(SERVICE, 2, together=True)
        order = client.confirm(hold.hold_id, [api.Passenger("Byron", "Ada"), api.Passenger("Babbage", "Charles")])
        other = client.hold_any(SERVICE, 1)
        each = [one.hold.hold_id for one in client.hold_each(SERVICE, client.free_seats(SERVICE)[-3:]) if one.hold is not None]
        client.release(each.pop())
    kill_all(starter)
    starter.up()
    with starter.client() as client:
        again = client.order(order.reference, token=order.manage_token)
        assert ("confirmed", order.seats, order.receipt) == (again.state, again.seats, again.receipt)
        assert {other.hold_id, *each} == {one.hold_id for one in client.my_holds().holds} and len(each) == 2
        assert "confirmed" == client.confirm(each[0], [api.Passenger("Hopper", "Grace")]).state
        assert "cancelled" == client.cancel(order.reference, order.manage_token).state
    os.kill(starter.pids()[supervisor.NAME], signal.SIGKILL)
    wait_until(lambda: supervisor.NAME not in starter.pids(), "the supervisor to be dead", 10)
    told = "the supervisor is not running: nothing that ends is started again"
    assert told in starter.run("cluster", "status").stdout
    assert exit_codes.DONE == starter.run("cluster", "down").returncode
    starter.check_logs()


def test_what_ends_is_started_again_and_a_stop_ends_all(starter: Starter) -> None:
    """One of each kind is killed; the supervisor brings it back, and callers meet no more than a retry."""
    starter.up()
    before = starter.pids()
    for name in ("lock-1", "node-2", "manager-1", "balancer-1"):
        os.kill(before[name], signal.SIGKILL)
        wait_until(lambda name=name: starter.pids().get(name, before[name]) != before[name], f"{name} to be started again", 10)

    def holds() -> bool:
        try:
            with starter.client() as client:
                client.release(client.hold_any(SERVICE, 1).hold_id)
        except HoldfastError:
            return False
        return True

    wait_until(holds, "seats to be sold again", 30)
    assert {name for name in before} == set(starter.pids())
    assert exit_codes.DONE == starter.run("cluster", "down").returncode
    assert {} == starter.pids()
    status = starter.run("cluster", "status")
    assert exit_codes.NO_ANSWER == status.returncode
    assert f"nothing runs in {starter.folders.data}" in status.stderr
    assert "start it with: ./start-cluster --config" in status.stderr


def test_ctrl_c_stops_everything(starter: Starter) -> None:
    """The foreground start stays until it is interrupted, and leaves nothing behind."""
    with subprocess.Popen(
        starter.command("cluster", "up", "--free-ports", "--no-timetables"),
        env=starter.environment, cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        said: list[str] = []
        for line in process.stdout:
            said.append(line)
            if "Ctrl+C stops it" in line:
                break
        assert any("balancer-2" in line for line in said), "".join(said)
        second = starter.run("cluster", "up", "--detach")
        assert exit_codes.INVALID == second.returncode
        assert "already runs" in second.stderr
        process.send_signal(signal.SIGINT)
        assert exit_codes.DONE == process.wait(40)
    assert {} == starter.pids()


def test_a_closed_terminal_stops_everything(starter: Starter) -> None:
    """The window is closed: a signal, and then no write reaches anybody. Nothing may be left that nobody sees."""
    ours, theirs = os.openpty()
    # Only a session's own terminal signals when it goes; this makes it that before the command runs in its place.
    own = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.executable, sys.argv[1:])"
    command = [sys.executable, "-c", own, *starter.command("cluster", "up", "--free-ports", "--no-timetables")]
    with subprocess.Popen(
        command, env=starter.environment, cwd=TOP, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True
    ) as process:
        os.close(theirs)
        said = b""
        while b"Ctrl+C stops it" not in said:
            said += os.read(ours, 4096)
        assert b" operators" in said.partition(b"next: ")[2]
        assert b"EZE" not in said
        assert supervisor.NAME in starter.pids()
        os.close(ours)
        process.wait(40)
    assert {} == starter.pids()


def test_a_busy_port_is_named_with_who_has_it(starter: Starter) -> None:
    """Nothing is started, and the message says which port and who listens."""
    free = processes.free_ports(10)  # At once: what is drawn and not listened on may be drawn again.
    ports = {f"lock-{n}": free.pop() for n in (1, 2, 3)}
    mapping: dict[str, Any] = json.loads(json.dumps(tomlkit.parse(starter.config.read_text()).unwrap()))
    for rows in (mapping["datastore"]["node"], mapping["manager"]["manager"], mapping["loadbalancer"]["balancer"]):
        for row in rows:
            row["port"] = free.pop()
    for row in mapping["lockstore"]["server"]:
        row["port"] = ports[row["name"]]
    starter.config.write_text(tomlkit.dumps(mapping))
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", ports["lock-2"]))
        listener.listen()
        done = starter.run("cluster", "up", "--detach")
    assert exit_codes.INVALID == done.returncode
    assert f"port {ports['lock-2']}" in done.stderr
    assert "lock-2" in done.stderr
    assert f"process {os.getpid()}" in done.stderr
    assert {} == starter.pids()


def test_fresh_deletes_only_a_clusters_folder(tmp_path: Path) -> None:
    """A slip in --data must not cost somebody's files."""
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigInvalid, match="nothing was deleted"):
        claiming.wipe(Folders(tmp_path))
    assert "years of work" == (tmp_path / "thesis.tex").read_text()
    (tmp_path / ".holdfast").write_text("")
    claiming.wipe(Folders(tmp_path))
    assert not tmp_path.exists()
    tmp_path.mkdir()
