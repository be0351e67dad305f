"""Lock servers as processes: ports, access lists, secrets, settings, and the command line."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from client.processes import free_ports
from lockstore import servers
from lockstore.binaries import find_binary
from lockstore.config import from_toml
from lockstore.errors import BinaryNotFound, LockConfigInvalid, LockServerRefused, PortInUse
from lockstore.redlock import Grant, LockRequest
from tests.integration.lockstore.servers_fixture import LockServerSet
from tests.waiting import wait_until

TOP = Path(__file__).parents[3]

DEADLINE_S = 10.0


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LockServerSet]:
    with LockServerSet(tmp_path_factory.mktemp("locks"), 3) as servers_running:
        yield servers_running


def test_a_busy_port_is_named(running: LockServerSet, tmp_path: Path) -> None:
    """Before anything is started, and without touching whoever listens there."""
    port = running.config.servers[0].port
    config = from_toml({"lockstore": {"server": [{"name": "lock-9", "port": port}]}})
    with pytest.raises(PortInUse, match=f"port {port} .*in use") as caught:
        servers.start_server(config, "lock-9", tmp_path)
    assert (caught.value.fields["server"], caught.value.fields["port"]) == ("lock-9", port)
    with socket.create_connection(("127.0.0.1", port), 1):
        pass


@pytest.mark.parametrize(
    "command",
    [
        ("FLUSHALL",),
        ("CONFIG", "GET", "*"),
        ("KEYS", "*"),
        ("SHUTDOWN",),
        ("DEBUG", "SLEEP", "0"),
        ("SET", "foreign", "1"),
        ("GET", "{rsv"),
        ("EVAL", "return redis.call('set', 'foreign', '1')", "0"),
        ("EVAL", "return redis.call('set', KEYS[1], '1')", "1", "foreign"),
    ],
    ids=lambda command: " ".join(command)[:24],
)
def test_the_lock_user_can_lock_and_nothing_else(running: LockServerSet, command: tuple[str, ...]) -> None:
    """Foreign keys, declared or not, and every command that does not belong to locking."""
    client = running.plain("lock-1")
    try:
        with pytest.raises((redis.exceptions.NoPermissionError, redis.exceptions.ResponseError), match=r"permission|ACL|not allowed"):
            client.execute_command(*command)
    finally:
        client.close()


def test_nobody_gets_in_without_a_password(running: LockServerSet) -> None:
    """The default user is off."""
    client = redis.Redis(port=running.config.servers[0].port, protocol=2, retry=Retry(NoBackoff(), 0))
    with pytest.raises((redis.exceptions.AuthenticationError, redis.exceptions.ResponseError)):
        client.ping()
    client.close()


def test_the_server_runs_with_the_settings_that_guard_the_counter(running: LockServerSet) -> None:
    """Everything that a lock server must be told is in its configuration, and no password is."""
    files = servers.LockServerFiles(running.data / "lock-1")
    lines = files.configuration.read_text().splitlines()
    for line in (
        "bind 127.0.0.1",
        "appendonly yes",
        "appendfsync always",
        "no-appendfsync-on-rewrite no",
        'save ""',
        "maxmemory 0",
        "maxmemory-policy noeviction",
        "aof-load-truncated yes",
    ):
        assert line in lines
    passwords = servers.ensure_secrets(running.data)
    for path in files.folder.rglob("*"):
        if path.is_file():
            text = path.read_bytes()
            assert passwords.locks.encode() not in text and passwords.admin.encode() not in text
    command = Path(f"/proc/{running.pids['lock-1']}/cmdline").read_bytes()
    assert passwords.locks.encode() not in command


def test_secrets_are_made_once_and_only_for_their_owner(tmp_path: Path) -> None:
    """An open secret is refused, not used."""
    first = servers.ensure_secrets(tmp_path)
    assert servers.ensure_secrets(tmp_path) == first
    assert first.locks != first.admin and len(first.locks) >= 32
    path = tmp_path / "secrets" / "locks.password"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    path.chmod(0o640)
    with pytest.raises(LockConfigInvalid, match="others may read it"):
        servers.ensure_secrets(tmp_path)


def test_an_explicit_binary_is_used_or_complained_about() -> None:
    """No silent fallback to another one."""
    assert find_binary().kind in ("valkey", "redis")
    with pytest.raises(BinaryNotFound, match="explicit setting"):
        find_binary("/nonexistent/valkey-server")
    with pytest.raises(BinaryNotFound, match="not a Redis or Valkey server"):
        find_binary(sys.executable)


def test_a_server_run_by_others_is_never_started(tmp_path: Path) -> None:
    """managed = false."""
    config = from_toml({"lockstore": {"server": [{"name": "theirs", "port": 1, "managed": False}]}})
    with pytest.raises(LockServerRefused, match="run by others"):
        servers.start_server(config, "theirs", tmp_path)


def test_a_server_that_cannot_start_shows_its_last_words(tmp_path: Path) -> None:
    """A damaged append-only file, say."""
    (port,) = free_ports(1)
    config = from_toml({"lockstore": {"server": [{"name": "lock-1", "port": port}]}})
    folder = tmp_path / "lock-1" / "appendonlydir"
    folder.mkdir(parents=True)
    (folder / "appendonly.aof.manifest").write_text("nonsense\n")
    with pytest.raises(LockServerRefused, match="not ready") as caught:
        servers.start_server(config, "lock-1", tmp_path)
    assert "AOF" in str(caught.value)


def command_line(config: Path, data: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m lockstore`."""
    return subprocess.run(
        [sys.executable, "-m", "lockstore", *words, "--config", str(config), "--data", str(data)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_set_lives_through_the_command_line(tmp_path: Path) -> None:
    """serve, initialise, status, stop; the child's process id is the server's own."""
    rows = "".join(f'[[lockstore.server]]\nname = "lock-{n}"\nport = {port}\n' for n, port in enumerate(free_ports(3), 1))
    config_path, data = tmp_path / "cluster.toml", tmp_path / "data"
    config_path.write_text(f"[lockstore]\ntimeout_ms = 500\n{rows}")
    config = from_toml(tomllib.loads(config_path.read_text()))
    serve = [sys.executable, "-m", "lockstore", "serve", "--config", str(config_path), "--data", str(data), "--name"]
    children = [subprocess.Popen([*serve, f"lock-{n}"]) for n in (1, 2, 3)]
    try:
        for child, server in zip(children, config.servers, strict=True):
            servers.wait_ready(config, server.name, data, alive=lambda child=child: child.poll() is None)
            assert servers.running_pid(config, server.name, data) == child.pid
        before = command_line(config_path, data, "status")
        assert before.returncode == 1 and "not initialised" in before.stdout
        first = command_line(config_path, data, "initialise")
        assert (first.returncode, first.stdout.count("admitted to generation 1")) == (0, 3)
        after = command_line(config_path, data, "status")
        assert after.returncode == 0 and "3 of 3 vote" in after.stdout
        refused = command_line(config_path, data, "recover", "--name", "lock-2")
        assert refused.returncode == 1 and "admitted already" in refused.stderr
        assert command_line(config_path, data, "recover", "--name", "lok-2").returncode == 78
        stopped = command_line(config_path, data, "stop", "--name", "lock-2")
        assert (stopped.returncode, stopped.stdout) == (0, "lock-2: stopped\n")
        wait_until(lambda: children[1].poll() is not None, "lock-2 ended", DEADLINE_S)
    finally:
        for child in children:
            if child.poll() is None:
                os.kill(child.pid, 9)
            child.wait(DEADLINE_S)


@pytest.mark.skipif(shutil.which("redis-server") is None, reason="no redis-server on this machine")
def test_a_redis_server_keeps_its_counter_through_a_kill(tmp_path: Path) -> None:
    """Redis reads its file back as the default user; were that one without rights, every script's writes would be lost.

    And with its rights that user is still nobody's: neither without a password nor with any.
    """
    with LockServerSet(tmp_path, 1, binary=shutil.which("redis-server") or "") as one:
        client = one.client()
        outcome = client.acquire_many([LockRequest(("seat:a",))])[0]
        client.close()
        assert isinstance(outcome, Grant)
        before = one.counter("lock-1")
        assert before > 0
        one.kill("lock-1")
        one.restart("lock-1")
        assert before == one.counter("lock-1")
        assert one.value("lock-1", "{rsv}:init") is not None
        port = one.config.servers[0].port
        once = {"socket_timeout": 2, "retry": Retry(NoBackoff(), 0)}
        for user in ({}, {"username": "default", "password": "x"}, {"username": "default", "password": ""}):
            with pytest.raises((redis.AuthenticationError, redis.ResponseError)):
                redis.Redis(host="127.0.0.1", port=port, **once, **user).ping()  # type: ignore[arg-type]


def test_servers_that_start_at_once_read_one_password(tmp_path: Path) -> None:
    """At the first start of a set several processes come to a password that nobody has made: all get the same, none an empty file."""
    program = "import sys; from pathlib import Path; from lockstore.preparing import ensure_secrets as make; print(make(Path(sys.argv[1])))"
    for turn in range(3):
        folder = tmp_path / str(turn)
        command = [sys.executable, "-c", program, str(folder)]
        starting = [
            subprocess.Popen(command, cwd=TOP, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(6)
        ]
        said = {process.communicate(timeout=60)[0] for process in starting}
        assert 1 == len(said) and all(process.returncode == 0 for process in starting), said
