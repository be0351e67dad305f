"""Lock servers as processes: find the binary, write the files, start, wait until ready, stop; and the secrets they share.

Layout below the data directory: `<server name>/` holds one server's configuration, access list, log, process id and
append-only file; `secrets/` holds the passwords of the two users, each in a file that only its owner may read. The
access list has digests of the passwords, and no password is ever an argument of a process.

The bundled server's own Python class turns persistence off; it is never used. A lock server that forgets breaks fencing.
"""

from __future__ import annotations

import errno
import os
import secrets
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from redis.exceptions import RedisError

from lockstore.binaries import ServerBinary, find_binary
from lockstore.config import LockServerConfig, LockStoreConfig
from lockstore.errors import LockConfigInvalid, LockServerRefused, PortInUse
from lockstore.links import LinkSettings, LinkTls, ServerAddress, call, open_connection
from lockstore.seatlocks import SeatLocks

ADMIN_USER: Final = "holdfast-admin"
ADMIN: Final = "admin"  # Whose certificate the administration shows.
READY_DEADLINE_MS: Final = 10_000
STOP_DEADLINE_MS: Final = 5_000
ADMIN_TIMEOUT_MS: Final = 2_000
POLL_S: Final = 0.005
LOG_TAIL_LINES: Final = 5

_KEYS: Final = "~seat:* ~promote:* ~{rsv}:*"
_COMMANDS: Final = "+ping +hello +auth +client|setname +time +eval +evalsha +script|load +get +mget +set +del +exists +pexpire +scan +pttl"
_ADMIN_COMMANDS: Final = "+ping +hello +auth +client|setname +time +eval +get +set +info +shutdown"


@dataclass(frozen=True)
class Secrets:
    """The passwords of the lock users and of the administration."""

    locks: str
    admin: str


@dataclass(frozen=True)
class LockServerFiles:
    """Where one lock server keeps what belongs to it."""

    folder: Path

    @property
    def configuration(self) -> Path:
        return self.folder / "lock-server.conf"

    @property
    def users(self) -> Path:
        return self.folder / "users.acl"

    @property
    def log(self) -> Path:
        return self.folder / "lock-server.log"

    @property
    def pid(self) -> Path:
        return self.folder / "lock-server.pid"


@dataclass(frozen=True)
class RunningServer:
    """A lock server that answered after its start."""

    name: str
    pid: int
    address: ServerAddress


def ensure_secrets(data: Path) -> Secrets:
    """Return the passwords, making those that do not exist yet.

    Raises:
        LockConfigInvalid: A secret file can be read by others; nothing that protects may be that open.
    """
    folder = data / "secrets"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return Secrets(locks=_secret(folder / "locks.password"), admin=_secret(folder / "locks-admin.password"))


def read_password(path: Path) -> str:
    """Return the password in a file that only its owner may read.

    Raises:
        LockConfigInvalid: The file is missing, open to others, or empty.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii").strip()
    except (OSError, ValueError) as error:
        raise LockConfigInvalid(file=str(path), key="password", reason=str(error)) from error
    if mode & 0o077:
        raise LockConfigInvalid(file=str(path), key="password", reason=f"others may read it (mode {mode & 0o777:03o}); set 0600")
    if not text:
        raise LockConfigInvalid(file=str(path), key="password", reason="is empty")
    return text


def link_tls(config: LockStoreConfig, data: Path, name: str) -> LinkTls | None:
    """Return the files of the caller of that name (a process, or "admin"), or None where lock servers go without TLS.

    Raises:
        LockConfigInvalid: A file is missing.
    """
    if not config.tls:
        return None
    folder = Path(config.certificates) if config.certificates else data / "certificates"
    authority = Path(config.authority) if config.authority else folder / "authority.pem"
    files = (folder / f"{name}.pem", folder / f"{name}.key", authority)
    for path in files:
        if not path.exists():
            reason = f"TLS is on, and {path} is missing; make it with: holdfast certificates make"
            raise LockConfigInvalid(file=config.file, key="lockstore.tls", reason=reason)
    return LinkTls(*(str(path.resolve()) for path in files))


def lock_client(config: LockStoreConfig, data: Path, name: str = ADMIN) -> SeatLocks:
    """Return a SeatLocks for all servers of the configuration, with the lock user's password.

    Args:
        name: The process that calls: whose locks they are, and whose certificate is shown under TLS.
    """
    return SeatLocks(
        addresses(config),
        ttl_ms=config.ttl_ms,
        timeout_ms=config.timeout_ms,
        suspect_ms=config.suspect_ms,
        generation=config.generation,
        username=config.user,
        password=ensure_secrets(data).locks,
        tls=link_tls(config, data, name),
        name=name,
    )


def addresses(config: LockStoreConfig) -> tuple[ServerAddress, ...]:
    """Return where all configured servers listen, in their order."""
    return tuple(ServerAddress(server.name, server.host, server.port) for server in config.servers)


def admin_settings(config: LockStoreConfig, data: Path, timeout_ms: int = ADMIN_TIMEOUT_MS) -> LinkSettings:
    """Return the connection settings of the administration, which may admit, inspect and shut down a server."""
    return LinkSettings(
        timeout_ms=timeout_ms,
        suspect_ms=timeout_ms,
        username=ADMIN_USER,
        password=ensure_secrets(data).admin,
        tls=link_tls(config, data, _administration(config, data)),
    )


def _administration(config: LockStoreConfig, data: Path) -> str:
    """Return whose certificate the administration shows: its own where it is, on a host of several that of a lock server there."""
    folder = Path(config.certificates) if config.certificates else data / "certificates"
    names = (ADMIN, *(server.name for server in config.servers))
    return next((name for name in names if (folder / f"{name}.pem").exists()), ADMIN)


def start_server(config: LockStoreConfig, name: str, data: Path, deadline_ms: int = READY_DEADLINE_MS) -> RunningServer:
    """Start one managed lock server as a process of its own and wait until it is usable.

    The process outlives this one; stop it with `stop_server`. A new server still has to be admitted to the set
    (`lockstore.admission`) before it grants anything.

    Raises:
        PortInUse: Something listens there already.
        BinaryNotFound: No usable server binary.
        LockServerRefused: It did not become ready in time or its clock stands still; the detail has its last log lines.
    """
    command = prepare_server(config, name, data)
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    server = config.server(name)
    # Reaping in the background: a server that ends must not stay behind as a zombie that looks alive.
    threading.Thread(target=process.wait, name=f"reap-{name}", daemon=True).start()
    try:
        wait_ready(config, name, data, alive=lambda: process.poll() is None, deadline_ms=deadline_ms)
    except LockServerRefused:
        process.kill()
        raise
    return RunningServer(name, process.pid, ServerAddress(server.name, server.host, server.port))


def prepare_server(config: LockStoreConfig, name: str, data: Path) -> list[str]:
    """Write one server's files and return the command that runs it in the foreground.

    Raises:
        LockServerRefused: The server is run by others, or its port is taken.
    """
    server = config.server(name)
    if not server.managed:
        raise LockServerRefused(f'lock server "{name}" has managed = false: it is run by others', server=name)
    _check_port(server)
    tls = link_tls(config, data, name)
    binary = find_binary(config.binary, tls=tls is not None)
    files = LockServerFiles((data / name).resolve())
    files.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write_private(files.users, acl_text(config.user, ensure_secrets(data), binary))
    _write_private(files.configuration, configuration_text(server, files, config.appendfsync, binary, tls))
    return [str(binary.path), str(files.configuration)]


def configuration_text(
    server: LockServerConfig, files: LockServerFiles, appendfsync: str, binary: ServerBinary, tls: LinkTls | None = None
) -> str:
    """Return a lock server's configuration; each line guards something, see docs/redlock.md."""
    lines = [
        f"bind {server.host}",
        *_port_lines(server.port, tls),
        "protected-mode yes",
        f'dir "{files.folder}"',
        f'aclfile "{files.users}"',
        f'pidfile "{files.pid}"',
        f'logfile "{files.log}"',
        "daemonize no",
        "databases 1",
        # The counter must survive: every write is in the append-only file before its reply, and nothing is evicted.
        "appendonly yes",
        f"appendfsync {appendfsync}",
        "no-appendfsync-on-rewrite no",
        "aof-load-truncated yes",
        'save ""',
        "maxmemory 0",
        "maxmemory-policy noeviction",
    ]
    if binary.version >= (7, 0, 0):
        lines.append("enable-debug-command no")
    return "\n".join(lines) + "\n"


def _port_lines(port: int, tls: LinkTls | None) -> list[str]:
    if tls is None:
        return [f"port {port}"]
    return [
        "port 0",  # Nothing listens for plain text.
        f"tls-port {port}",
        f'tls-cert-file "{tls.certificate}"',
        f'tls-key-file "{tls.key}"',
        f'tls-ca-cert-file "{tls.authorities}"',
        "tls-auth-clients yes",
        'tls-protocols "TLSv1.3"',
    ]


def acl_text(user: str, passwords: Secrets, binary: ServerBinary) -> str:
    """Return the access list: nobody by default, lock users on lock keys, the administration on the set's own keys.

    EVAL is the door of most published attacks on these servers, so only the two users have it, on few commands.
    """
    # Redis before 7.2 does not know the subcommand and refuses to start with it.
    setinfo = " +client|setinfo" if binary.version >= (7, 2, 0) else ""
    # Redis reads its append-only file back as this user, and drops every script's writes that it has no right to: a restart
    # lost the counter. A user that is off can be nobody's, whatever its rights.
    rights = " allkeys allchannels allcommands" if binary.kind == "redis" else ""
    return (
        f"user default off{rights}\n"
        f"user {user} on #{_sha256(passwords.locks)} resetchannels {_KEYS} -@all {_COMMANDS}{setinfo}\n"
        f"user {ADMIN_USER} on #{_sha256(passwords.admin)} resetchannels ~{{rsv}}:* -@all {_ADMIN_COMMANDS}{setinfo}\n"
    )


def wait_ready(
    config: LockStoreConfig, name: str, data: Path, alive: Callable[[], bool] = lambda: True, deadline_ms: int = READY_DEADLINE_MS
) -> None:
    """Wait until a lock server answers and its clock moves.

    Raises:
        LockServerRefused: It ended, did not answer in time, or its clock stands still.
    """
    server = config.server(name)
    address, settings = ServerAddress(server.name, server.host, server.port), admin_settings(config, data)
    deadline = time.monotonic() + deadline_ms / 1000
    pause = threading.Event()
    reason = "no answer"
    while time.monotonic() < deadline:
        if not alive():
            reason = "the process ended"
            break
        try:
            connection = open_connection(address, settings, settings.timeout_ms)
            try:
                information = call(connection, "INFO", "server")
                first = call(connection, "TIME")
                pause.wait(POLL_S)
                advances = call(connection, "TIME") != first
            finally:
                connection.disconnect()  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            reason = str(error)
            pause.wait(POLL_S)
            continue
        if not advances or _clock_is_broken(information):
            # Seen with an unsynchronised time stamp counter: the clock freezes at boot and no lock ever expires.
            raise LockServerRefused(f'lock server "{name}": its clock stands still, locks would never expire', server=name)
        return
    tail = _log_tail(LockServerFiles(data / name).log)
    raise LockServerRefused(f'lock server "{name}" on {server.host}:{server.port} is not ready: {reason}\n{tail}', server=name)


def stop_server(config: LockStoreConfig, name: str, data: Path, deadline_ms: int = STOP_DEADLINE_MS) -> bool:
    """Stop one managed lock server; return whether it was running.

    Raises:
        LockServerRefused: It did not end by the deadline, not even when killed.
    """
    pid = running_pid(config, name, data)
    if pid is None:
        return False
    for sign, share in ((signal.SIGTERM, 0.6), (signal.SIGKILL, 0.4)):
        try:
            os.kill(pid, sign)
        except ProcessLookupError:
            return True
        deadline = time.monotonic() + share * deadline_ms / 1000
        pause = threading.Event()
        while time.monotonic() < deadline:
            if running_pid(config, name, data) != pid:
                return True
            pause.wait(POLL_S)
    raise LockServerRefused(f'lock server "{name}" (process {pid}) does not end', server=name, pid=pid)


def running_pid(config: LockStoreConfig, name: str, data: Path) -> int | None:
    """Return the process id of a managed lock server, or None if it does not run."""
    try:
        pid = int(LockServerFiles(data / name).pid.read_text().strip())
        os.kill(pid, 0)
    except (OSError, ValueError):
        return None
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        # No /proc on this system: the process exists, and its pid file says that it is ours.
        return None if Path("/proc/self").exists() else pid
    # A pid file survives a crash, and the number may be another's by now. A zombie has no command line. The server shows its
    # address there once it is up, and its configuration file before.
    place, folder = f":{config.server(name).port}", str(LockServerFiles(data.resolve() / name).folder)
    words = command.decode(errors="replace").replace("\0", " ").split(" ")
    return pid if any(word.endswith(place) for word in words) or folder in " ".join(words) else None


def _check_port(server: LockServerConfig) -> None:
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((server.host, server.port))
        except OSError as error:
            where = f"{server.host}:{server.port}"
            if error.errno == errno.EADDRINUSE:
                detail = f'lock server "{server.name}": port {server.port} on {server.host} is in use by another process'
                raise PortInUse(detail, server=server.name, host=server.host, port=server.port) from error
            raise LockServerRefused(f'lock server "{server.name}": cannot listen on {where}: {error}', server=server.name) from error


def _secret(path: Path) -> str:
    """Return the password of a file, made at the first use. Several servers of a set come here at once at the first start."""
    if path.exists():
        return read_password(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(32) + "\n")
            file.flush()
            os.fsync(file.fileno())
        # A link appears whole and never replaces: who comes second reads the first one's, and nobody an empty file.
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink(missing_ok=True)
    return read_password(path)


def _write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read; whole or not at all."""
    draft = path.with_suffix(path.suffix + ".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def _sha256(password: str) -> str:
    return sha256(password.encode()).hexdigest()


def _clock_is_broken(information: bytes) -> bool:
    return any(line.startswith(b"monotonic_clock:") and b" inf" in line for line in information.splitlines())


def _log_tail(path: Path) -> str:
    try:
        return "\n".join(path.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])
    except OSError:
        return "(no log)"
