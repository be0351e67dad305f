"""The files of a lock server and of its callers: configuration, access list, passwords, certificates.

Layout below the data directory: `<server name>/` holds one server's configuration, access list, log, process id and
append-only file; `secrets/` holds the passwords of the two users, each in a file that only its owner may read. The
access list has digests of the passwords, and no password is ever an argument of a process.

Reaches no redis-py: who only starts a server need not load a client of it, which takes three times as long as the rest.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from lockstore.binaries import ServerBinary, find_binary
from lockstore.config import LockServerConfig, LockStoreConfig
from lockstore.errors import LockConfigInvalid, LockServerRefused, PortInUse

ADMIN_USER: Final = "holdfast-admin"
ADMIN: Final = "admin"  # Whose certificate the administration shows.

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


@dataclass(frozen=True, slots=True)
class LinkTls:
    """The files with which a caller proves who it is to lock servers, and knows theirs. Read anew for each connection."""

    certificate: str
    key: str
    authorities: str

    def options(self) -> dict[str, Any]:
        """Return redis-py's options; every one that matters is given."""
        import ssl  # Here: a server is started without it.

        return {
            "ssl_certfile": self.certificate,
            "ssl_keyfile": self.key,
            "ssl_ca_certs": self.authorities,
            "ssl_cert_reqs": "required",
            "ssl_check_hostname": True,
            "ssl_min_version": ssl.TLSVersion.TLSv1_3,
        }


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
