"""The real program in a real terminal: start, search, hold, confirm, quit."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from client import processes
from tests.integration.harness import TOP, ClusterUnderTest
from tests.waiting import wait_until

WAIT_S = 90.0
DAY = (date.today() + timedelta(days=12)).isoformat()


class Terminal:
    """A terminal of tmux, on a server of its own that ends with the test."""

    def __init__(self, folder: Path, command: str, columns: int = 100, lines: int = 32) -> None:
        self._tmux = ["tmux", "-S", str(folder / "tmux"), "-f", "/dev/null"]
        size = ["-x", str(columns), "-y", str(lines)]
        subprocess.run([*self._tmux, "new-session", "-d", *size, "-s", "t", command], check=True, timeout=60)

    def press(self, *keys: str) -> None:
        subprocess.run([*self._tmux, "send-keys", "-t", "t", *keys], check=True, timeout=60)

    def write(self, text: str) -> None:
        subprocess.run([*self._tmux, "send-keys", "-t", "t", "-l", text], check=True, timeout=60)

    def screen(self) -> str:
        done = subprocess.run([*self._tmux, "capture-pane", "-p", "-t", "t"], capture_output=True, text=True, check=False, timeout=60)
        return done.stdout

    def cursor(self) -> str:
        place = ["display-message", "-p", "-t", "t", "#{cursor_x} #{cursor_y}"]
        return subprocess.run([*self._tmux, *place], capture_output=True, text=True, check=True, timeout=60).stdout

    def next_field(self) -> None:
        """Press Tab and wait until the cursor stands elsewhere: keys that come at once with Tab would still go to the old field."""
        before = self.cursor()
        self.press("Tab")
        wait_until(lambda: self.cursor() != before, "the cursor in the next field", WAIT_S)

    def see(self, word: str) -> None:
        """Wait until a word is on the screen."""
        try:
            wait_until(lambda: word in self.screen(), f"{word!r} on the screen", WAIT_S)
        except AssertionError as error:
            raise AssertionError(f"{error}; there was:\n{self.screen()}") from None

    def end(self) -> None:
        subprocess.run([*self._tmux, "kill-server"], check=False, capture_output=True, timeout=60)


def words_of(cluster: ClusterUnderTest, folder: Path, *program: str) -> list[str]:
    """Return the words that run a Python program with the options of a cluster's application behind it."""
    assignments = {"HOLDFAST_HOME": str(folder / "home"), "PYTHONPATH": str(TOP), "TERM": "xterm-256color", "LC_ALL": "C.UTF-8"}
    files = ["--config", str(cluster.folders.config), "--data", str(cluster.folders.data)]
    return ["env", *(f"{name}={value}" for name, value in assignments.items()), sys.executable, *program, *files, "tui"]


@pytest.fixture
def terminal(cluster: ClusterUnderTest, tmp_path: Path) -> Iterator[Terminal]:
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed: no terminal to run the application in")
    made = Terminal(tmp_path, f"{shlex.join(words_of(cluster, tmp_path, '-m', 'client'))}; echo ended with $?; cat")
    try:
        yield made
    finally:
        made.end()


def test_start_search_hold_confirm_quit(terminal: Terminal, cluster: ClusterUnderTest) -> None:
    """A person's first minute: the seat is booked when the ticket is on the screen, and the program ends as it should."""
    terminal.see("From")
    terminal.write("EZE")
    terminal.see("EZE")
    terminal.next_field()
    terminal.write("DOH")
    terminal.see("DOH")
    terminal.next_field()
    terminal.press("C-u")
    wait_until(lambda: "tomorrow" not in terminal.screen(), "the date to be cleared", WAIT_S)
    terminal.write(DAY)
    terminal.see(DAY[1:])  # The field is as wide as the rest and the cursor.
    terminal.press("Enter")
    terminal.see("→ DOH")
    terminal.press("Enter")
    terminal.see("legs chosen")
    terminal.see("[")  # The cursor is on a seat: the map is there.
    terminal.press("b")
    terminal.see("Given Surname")
    terminal.write("Ada Byron")
    terminal.press("Enter")
    terminal.see("confirmed")
    text = terminal.screen()
    services = re.findall(r"[A-Z0-9]{2}\d+-[A-Z]{3}-\d{4}-\d\d-\d\d", text)
    assert len(services) == 2 and text.count("Ada Byron") >= 2
    taken = [seat for service in services for seat in cluster.client().seat_map(service).seats if seat.state == "occupied"]
    assert len(taken) >= 2
    terminal.press("C-q")
    terminal.see("ended with 0")


# As `demo` is run: whoever closes its terminal, or ends it, interrupts what goes on.
INTERRUPTED = """
import os, pathlib, signal, sys
from client import cli
for number in (signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.default_int_handler)
pathlib.Path(sys.argv.pop(1)).write_text(str(os.getpid()))
sys.exit(cli.run(sys.argv[1:]))
"""


@pytest.mark.parametrize("closed", [True, False], ids=["its terminal is closed", "it is told to end"])
def test_it_ends_whoever_ends_it(cluster: ClusterUnderTest, tmp_path: Path, closed: bool) -> None:
    """Nothing of it is left that reads from a terminal that is gone; told to end, it leaves the terminal as it was."""
    if shutil.which("tmux") is None:
        pytest.skip("tmux is not installed: no terminal to run the application in")
    note = tmp_path / "pid"
    words = words_of(cluster, tmp_path, "-c", INTERRUPTED, str(note))
    terminal = Terminal(tmp_path, f"{shlex.join(words)}; echo ended with $?; cat")
    try:
        terminal.see("From")
        application = processes.identity(int(note.read_text(encoding="ascii")))
        if closed:
            terminal.end()
        else:
            os.kill(application.pid, signal.SIGTERM)
            terminal.see("ended with 0")
        wait_until(lambda: not application.is_alive(), "it to end", WAIT_S)
    finally:
        terminal.end()
