"""Log lines as data: every form that the processes write, filters, and files that grow."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from client.loglines import matching, merged, parse
from client.logtails import Tail

BALANCER = "2026-11-21 11:32:07,778 INFO balancer-1 feeds: operator=GRAND begun at node=node-2 lsn=0"
MANAGER = "2026-11-21T11:32:07.877 INFO manager-1 served operator=US node=node-3"
NODE = "2026-11-21T11:32:08 WARNING node-1 ledger slow operator=LA lsn=1"
NOW = "2026-11-21T11:32:08.125Z INFO node-1 promised operator=AR"
SUPERVISOR = "2026-11-21T11:32:04.479+00:00 INFO supervisor started process=manager-2 pid=13033 start=1"


def test_every_form_of_line_is_read() -> None:
    """All tiers' stamps are understood, and lines of several processes are put in the order of time."""
    lines = merged(parse(text, "x") for text in (BALANCER, MANAGER, NODE, SUPERVISOR))
    assert ["supervisor", "balancer-1", "manager-1", "node-1"] == [line.process for line in lines]
    assert "2026-11-21 11:32:07.778" == lines[1].stamp
    assert ("2026-11-21 11:32:04.479Z", "2026-11-21 11:32:08.125Z") == (lines[0].stamp, parse(NOW, "x")[0].stamp)
    assert {"operator": "GRAND", "node": "node-2", "lsn": "0"} == lines[1].fields


@pytest.mark.parametrize(
    "program",
    [
        "import logging; from datastore.process import log_to_stderr; log_to_stderr('node-1'); logging.info('hello lsn=7')",
        "from client import supervisor; supervisor.NAME = 'node-1'; supervisor.log('hello', lsn=7)",
    ],
    ids=["a server", "the supervisor"],
)
def test_whoever_writes_writes_one_form_in_utc(program: str) -> None:
    """Wherever the machine's clock says it is: lines of several hosts, and of the hour that comes twice, are in order."""
    elsewhere = {**os.environ, "TZ": "Asia/Tokyo"}
    ran = subprocess.run([sys.executable, "-c", program], env=elsewhere, stderr=subprocess.PIPE, text=True, check=True)
    (line,) = parse(ran.stderr, "x")
    assert ("INFO", "node-1", "hello lsn=7") == (line.level, line.process, line.text)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO node-1 hello lsn=7\n", ran.stderr)
    assert abs(datetime.now(UTC) - datetime.fromisoformat(line.stamp)) < timedelta(hours=1)


def test_a_traceback_belongs_to_its_line_and_a_strange_program_is_shown() -> None:
    """What has no stamp is never lost."""
    (line,) = parse(f"{NODE}\nTraceback (most recent call last)\n  File x", "node-1")
    assert line.text.count("\n") == 2
    (strange,) = parse("Ready to accept connections", "lock-1")
    assert ("", "lock-1", "Ready to accept connections") == (strange.stamp, strange.process, strange.text)


def test_all_words_must_be_there_and_levels_are_a_ladder() -> None:
    """A filter narrows by each word; a graver level hides the rest."""
    lines = merged(parse(text, "x") for text in (BALANCER, MANAGER, NODE, SUPERVISOR))
    assert ["balancer-1"] == [line.process for line in matching(lines, "operator=GRAND node-2")]
    assert ["node-1"] == [line.process for line in matching(lines, "", "WARNING")]
    assert [] == matching(lines, "operator=GRAND", "ERROR")


def test_a_tail_gives_whole_lines_once_and_notices_a_new_file(tmp_path: Path) -> None:
    """Nothing twice, nothing torn, and a file that was begun anew is read from its start."""
    path = tmp_path / "a.log"
    tail = Tail(path)
    assert "" == tail.more()
    path.write_text("one\ntwo\nthr", encoding="utf-8")
    assert "one\ntwo\n" == tail.more()
    with path.open("a", encoding="utf-8") as file:
        file.write("ee\n")
    assert ("three\n", "") == (tail.more(), tail.more())
    path.write_text("new\n", encoding="utf-8")
    assert "new\n" == tail.more()
