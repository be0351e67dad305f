"""The outermost edge of the command: whatever is typed and wherever it writes, one line and an exit code, no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from client import api, exit_codes
from datastore.errors import InvalidRequest
from tests.integration.harness import TOP
from tests.integration.typed import typed

NO_UNICODE = "\udcff"  # How Python reads the byte 0xff of a command line.
# Nobody listens at these: what is wrong must be found before anybody is asked.
CONFIG = """
[[loadbalancer.balancer]]
name = "balancer-1"
host = "127.0.0.1"
port = 1
[client]
cluster = "c1"
"""


def run(folder: Path, *words: str, home: Path | None = None, out: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    config = folder / "cluster.toml"
    config.write_text(CONFIG)
    environment = {**os.environ, "HOLDFAST_HOME": str(home or folder / "home"), "HOLDFAST_CONFIG": str(config), "PYTHONPATH": str(TOP)}
    environment |= {"HOLDFAST_DATA": str(folder / "data"), "PYTHONIOENCODING": "utf-8"}
    if out == subprocess.PIPE:
        return typed(*words, environment=environment, folder=TOP)
    return subprocess.run(
        [sys.executable, "-m", "client", *words], env=environment, cwd=TOP, stdout=out, stderr=subprocess.PIPE, text=True, timeout=60,
        check=False,
    )  # fmt: skip


def check(done: subprocess.CompletedProcess[str]) -> None:
    assert exit_codes.INVALID == done.returncode, f"{done.stdout}{done.stderr}"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("hold", "AR1140-EZE-tomorrow", NO_UNICODE),
        ("hold", NO_UNICODE, "12A"),
        ("services", "--from", NO_UNICODE),
        ("services", "--date", NO_UNICODE),
        ("order", "K7Q2MX", "--surname", NO_UNICODE),
        ("confirm", NO_UNICODE, "--passenger", "Ada Byron"),
        ("confirm", "AR.1", "--passenger", NO_UNICODE),
        ("--config", NO_UNICODE, "places"),
        (NO_UNICODE,),
    ],
)
def test_what_is_no_unicode_is_refused(tmp_path: Path, words: tuple[str, ...]) -> None:
    """In words, and as one JSON document."""
    done = run(tmp_path, *words)
    check(done)
    assert done.stderr.strip()
    as_json = run(tmp_path, *words, "--json")
    check(as_json)
    assert json.loads(as_json.stdout)["detail"]
    assert not list((tmp_path / "home").glob(".orders*")), "a draft of the wallet was left behind"


def test_the_library_refuses_it_too() -> None:
    """Before anybody is asked."""
    with api.connect(["127.0.0.1:1"]) as client, pytest.raises(InvalidRequest, match="not valid Unicode"):
        client.hold("AR1140-EZE-2026-12-01", [NO_UNICODE])
    with api.connect(["127.0.0.1:1"]) as client, pytest.raises(InvalidRequest, match="64 bits"):
        client.hold_any("AR1140-EZE-2026-12-01", 10**30)


def test_one_seat_alone_is_that_seat() -> None:
    """Not a seat for each of its letters."""
    with api.connect(["127.0.0.1:1"]) as client:
        assert client.hold_request("AR1140-EZE-2026-12-01", "20A").seats == ["20A"]


def test_a_wallet_that_cannot_be_made(tmp_path: Path) -> None:
    """It is a file, or below one."""
    (tmp_path / "file").write_text("")
    for home in (tmp_path / "file", tmp_path / "file" / "home", Path("/proc/holdfast")):
        done = run(tmp_path, "holds", home=home)
        check(done)
        assert str(home) in done.stderr
        as_json = run(tmp_path, "holds", "--json", home=home)
        check(as_json)
        assert "invalid_configuration" == json.loads(as_json.stdout)["code"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("words", [("--help",), ("--version",), ("services", "--date", "never", "--json")])
def test_a_full_disk_under_stdout(tmp_path: Path, words: tuple[str, ...]) -> None:
    """What could not be written was not done."""
    with open("/dev/full", "w") as full:
        done = run(tmp_path, *words, out=full.fileno())
    check(done)
    assert 1 == done.stderr.count("error: "), done.stderr
