"""The demonstration: a real cluster out of nothing, rivals who buy, and nothing left, even when its starter is killed."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from client import api
from client.demo import demo_mapping, take_down
from client.rivals import Rivals, wanted_seats
from datastore.errors import HoldfastError
from tests.integration.harness import TOP
from tests.waiting import wait_until

READY_S = 120.0
GONE_S = 90.0


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """Yield the starter and what it says."""
    said = tmp_path / "said"
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(TOP)}
    with said.open("wb") as output:
        starter = subprocess.Popen(
            [sys.executable, "-m", "client", "demo", "--no-tui"],
            stderr=output,
            stdout=output,
            cwd=TOP,
            env=environment,
            start_new_session=True,
        )
    try:
        yield starter, said
    finally:
        with contextlib.suppress(ProcessLookupError):
            starter.kill()
        starter.wait()


def test_a_demonstration_sells_has_rivals_and_leaves_nothing_when_it_is_killed(
    demo: tuple[subprocess.Popen[bytes], Path], tmp_path: Path
) -> None:
    """It says where it runs and sells trips; rivals take seats of a service until told to stop; after SIGKILL of the starter its
    processes and its folder are gone."""
    starter, said = demo

    def ready() -> bool:
        assert starter.poll() is None, said.read_text(encoding="utf-8")
        return "Ctrl+C ends it" in said.read_text(encoding="utf-8")

    wait_until(ready, "the demonstration", READY_S)
    text = said.read_text(encoding="utf-8")
    config = next(tmp_path.glob("holdfast-demo-*/data/run/cluster.toml"))
    assert str(config.parent.parent.parent) in text and re.search(r"balancer-1: 127\.0\.0\.1:\d+", text)
    service = f"AR1140-EZE-{(date.today() + timedelta(days=5)).isoformat()}"
    rivals = Rivals(config)
    with api.connect(config) as client:
        assert client.search("EZE", "DOH", (date.today() + timedelta(days=5)).isoformat()).outbound
        rivals.start(service)
        try:

            def taken() -> bool:
                try:
                    return any(seat.state != "available" for seat in client.seat_map(service).seats)
                except HoldfastError:
                    return False

            wait_until(taken, "rivals to buy", READY_S)
            assert rivals.running
        finally:
            rivals.stop()
        assert not rivals.running
    pids = [int(path.read_text(encoding="ascii").split()[0]) for path in config.parent.glob("*.pid")]
    assert len(pids) > 8
    os.kill(starter.pid, signal.SIGKILL)
    starter.wait()
    wait_until(lambda: not list(tmp_path.glob("holdfast-demo-*")), "the folder to go", GONE_S)
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in pids), "the processes to go", GONE_S)


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
