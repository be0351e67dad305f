"""The demonstration: a real cluster out of nothing, rivals who buy, and nothing left, even when its starter is killed."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest

from client import api
from client.demo import PREFIX, demo_mapping, take_down
from client.rivals import Rivals, card_for, wanted_seats
from tests.client.test_terminal import Terminal
from tests.integration.harness import TOP
from tests.waiting import wait_until

DAY = (date.today() + timedelta(days=5)).isoformat()
READY_S = 120.0
GONE_S = 90.0
FIRST_PICTURE = "gives it up"  # Stands on the screen of the start alone.


class Started:
    """`holdfast demo` in a terminal, with all that it makes under one folder."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("tmux") is None:
            pytest.skip("tmux is not installed: no terminal to run the application in")
        self._folder, self._note = folder, folder / "pid"
        variables = {"TMPDIR": str(folder), "PYTHONPATH": str(TOP), "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
        words = ["env", *(f"{name}={value}" for name, value in variables.items()), sys.executable, "-m", "client", "demo"]
        # The shell becomes the program, whose id is the shell's then.
        script = f"cd {shlex.quote(str(TOP))}; echo $$ > {shlex.quote(str(self._note))}; exec {shlex.join(words)}"
        self.terminal = Terminal(folder, f"sh -c {shlex.quote(script)}; echo ended with $?; cat")

    def kill(self) -> None:
        """Kill the program, which is the launcher and the application in one process, with SIGKILL."""
        os.kill(int(self._note.read_text(encoding="ascii")), signal.SIGKILL)

    @property
    def config(self) -> Path:
        return next(self._folder.glob(f"{PREFIX}*/data/run/cluster.toml"))


def belonging(folder: Path) -> list[str]:
    """Return the command lines of all processes that belong to a demonstration under `folder`."""
    found, mark = [], f"{folder}/{PREFIX}"
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            place = os.readlink(process / "cwd")  # A lock server shows a title alone, and works in its own folder.
        except OSError:
            continue
        if mark in words or place.startswith(mark):
            found.append(words)
    return found


def wait_gone(folder: Path) -> None:
    """Wait until nothing is left of a demonstration, neither a folder nor a process."""
    wait_until(lambda: not list(folder.glob(f"{PREFIX}*")), "the folder to go", GONE_S)
    try:
        wait_until(lambda: not belonging(folder), "the processes to go", GONE_S)
    except AssertionError as error:
        raise AssertionError(f"{error}: {belonging(folder)}") from error
    assert [] == list(folder.glob(f"{PREFIX}*"))


def test_a_demonstration_is_seen_to_start_sells_has_rivals_and_leaves_nothing_when_it_is_killed(tmp_path: Path) -> None:
    """The first picture is there before the cluster is, and names its processes; then trips are sold, rivals take seats and buy some,
    and after SIGKILL of the program its processes and its folder are gone."""
    started = Started(tmp_path)
    try:
        started.terminal.see(FIRST_PICTURE)
        started.terminal.see("balancer-2")
        started.terminal.see("● ok")
        config = started.config
        assert len(belonging(tmp_path)) > 9
        service = f"AR1140-EZE-{DAY}"
        rivals = Rivals(config)
        with api.connect(config) as client:
            assert client.search("EZE", "DOH", DAY).outbound
            rivals.start(service)
            try:
                booked = lambda: any(seat.state == "occupied" for seat in client.seat_map(service).seats)  # noqa: E731
                wait_until(booked, "rivals to buy", READY_S)
                assert rivals.running
            finally:
                rivals.stop()
            assert not rivals.running
        started.kill()
        wait_gone(tmp_path)
    finally:
        started.terminal.end()


@pytest.mark.parametrize("end", ["killed", "closed"])
def test_a_demonstration_that_ends_while_it_starts_leaves_nothing(tmp_path: Path, end: str) -> None:
    """Killed, or its terminal closed, at the first picture: what had begun to start ends with it."""
    started = Started(tmp_path)
    try:
        started.terminal.see(FIRST_PICTURE)
        wait_until(lambda: any("client.supervisor" in words for words in belonging(tmp_path)), "its first process", READY_S)
        if end == "killed":
            started.kill()
        else:
            started.terminal.end()
        wait_gone(tmp_path)
    finally:
        started.terminal.end()


def test_a_demonstration_for_other_terminals_ends_when_it_is_told_to(tmp_path: Path) -> None:
    """With --no-tui it says where it runs; SIGTERM, even while it starts, ends it with all it has started, and it says so."""
    said = tmp_path / "said"
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(TOP)}
    with said.open("wb") as output:
        command = [sys.executable, "-m", "client", "demo", "--no-tui"]
        starter = subprocess.Popen(command, stderr=output, stdout=output, cwd=TOP, env=environment, start_new_session=True)
    try:

        def told() -> bool:
            assert starter.poll() is None, said.read_text(encoding="utf-8")
            return bool(re.search(r"balancer-2: 127\.0\.0\.1:\d+", said.read_text(encoding="utf-8")))

        wait_until(told, "it to say where it runs", READY_S)
        assert str(next(tmp_path.glob(f"{PREFIX}*"))) in said.read_text(encoding="utf-8")
        starter.terminate()
        assert 0 == starter.wait(GONE_S)
        assert "gone: the cluster, its folder" in said.read_text(encoding="utf-8")
        wait_gone(tmp_path)
    finally:
        with contextlib.suppress(ProcessLookupError):
            starter.kill()
        starter.wait()


def test_only_a_demonstrations_own_folder_is_deleted(tmp_path: Path) -> None:
    """A folder of any other name is refused, whatever it holds."""
    (tmp_path / "precious").write_text("x", encoding="utf-8")
    with pytest.raises(ValueError, match="no demonstration"):
        take_down(tmp_path)
    assert (tmp_path / "precious").exists()


def test_the_small_configuration_keeps_the_processes_and_drops_profiles() -> None:
    """Fewer operators, the same cluster."""
    rows = [{"code": "AR", "name": "A"}, {"code": "ZZ", "name": "Z"}]
    small = demo_mapping({"datastore": {"operator": rows, "copies": 3}, "client": {"call_ms": 5}, "profile": {"x": {}}})
    assert ["AR"] == [row["code"] for row in small["datastore"]["operator"]]
    assert (3, 5) == (small["datastore"]["copies"], small["client"]["call_ms"])
    assert "profile" not in small
    assert ("pm_card_visa", "") == (card_for(small), card_for({"payments": {"provider": "none"}}))


def test_rivals_want_seats_beside_each_other_where_there_are_some() -> None:
    """A run ends at the row's end and at a gap; of nothing nothing is wanted."""

    class First:
        """Draws the first there is."""

        def randrange(self, _most: int) -> int:
            return 0

    draw = First()
    assert ["1A", "1B"] == wanted_seats([("1A", 0, 0), ("1B", 0, 1), ("1D", 0, 3)], 3, draw)  # type: ignore[arg-type]
    assert ["1A"] == wanted_seats([("1A", 0, 0), ("2A", 1, 0)], 3, draw)  # type: ignore[arg-type]
    assert [] == wanted_seats([], 3, draw)  # type: ignore[arg-type]
