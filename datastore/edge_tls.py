"""Mutual TLS for the edge: contexts that follow their files, the peer's role, and certificates for a cluster.

A process proves its role with its certificate: one SAN URI `spiffe://holdfast/<role>[/<name>]`. The host name or address that
was dialled must stand in the certificate too, so one process's certificate does not serve at another's address.
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from datastore.errors import ConfigInvalid

IDENTITY_PREFIX = "spiffe://holdfast/"
CERTIFICATE_DAYS = 90
AUTHORITY_DAYS = 3650

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tls:
    """The files of one process: its certificate (chain), its key, and the authorities whose peers it accepts."""

    certificate: Path
    key: Path
    authorities: Path


@dataclass(frozen=True)
class Peer:
    """Who is at the other end. `role` and `name` are what its certificate says; "" without TLS."""

    address: str
    role: str = ""
    name: str = ""


class TlsContexts:
    """Gives the context for the next handshake, made anew when a file changed, so short-lived certificates need no restart."""

    def __init__(self, tls: Tls, *, server_side: bool) -> None:
        """Load the files.

        Raises:
            ConfigInvalid: A file is missing, or they do not fit each other.
        """
        self._tls = tls
        self._server_side = server_side
        self._mutex = threading.Lock()
        self._files_seen = self._look()
        try:
            self._context = _context(tls, server_side)
        except (OSError, ValueError) as cause:
            files = [str(path) for path in (tls.certificate, tls.key, tls.authorities)]
            raise ConfigInvalid(f"the TLS files cannot be used ({', '.join(files)}): {cause}", files=files) from cause

    def current(self) -> ssl.SSLContext:
        """Return the context for the files as they are now, or the last good one while they do not fit each other.

        Certificate and key are two files: between writing the one and the other they never fit.
        """
        with self._mutex:
            seen = self._look()
            if seen != self._files_seen:
                self._files_seen = seen  # Also when they do not fit: one log line for each change, not for each connection.
                try:
                    self._context = _context(self._tls, self._server_side)
                except (OSError, ValueError) as cause:
                    log.error("the changed TLS files cannot be used, going on with the last good ones: %s", cause)
            return self._context

    def _look(self) -> tuple[int, ...]:
        paths = (self._tls.certificate, self._tls.key, self._tls.authorities)
        return tuple(path.stat().st_mtime_ns if path.exists() else 0 for path in paths)


def _context(tls: Tls, server_side: bool) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_cert_chain(tls.certificate, tls.key)
    context.load_verify_locations(tls.authorities)
    if server_side:
        # A session ticket arrives after the handshake and makes the client's socket readable with nothing to read.
        context.num_tickets = 0
    return context


def peer_of(certificate: Mapping[str, object] | None, address: str) -> Peer | None:
    """Return the peer that `certificate` (as `SSLSocket.getpeercert` gives it) names, or None if it names no role of ours."""
    names = (certificate or {}).get("subjectAltName", ())
    identities = [value for kind, value in names if kind == "URI" and value.startswith(IDENTITY_PREFIX)]  # type: ignore[attr-defined]
    if len(identities) != 1:  # Two roles in one certificate would make the allow-list a matter of order.
        return None
    role, _, name = identities[0].removeprefix(IDENTITY_PREFIX).partition("/")
    return Peer(address, role, name) if role else None


def make_certificates(directory: Path, names: Iterable[str], hosts: Iterable[str] = ("localhost", "127.0.0.1")) -> dict[str, Tls]:
    """Write a new authority and one certificate and key a name, and return their paths by name.

    Args:
        names: `role` or `role/name`, such as `lb` or `node/a`; files are named with a hyphen for the slash.
        hosts: Names and addresses under which every one of them may be dialled.
    Raises:
        ConfigInvalid: The `cryptography` package is not installed.
    """
    try:
        from datastore.edge_certificates import Authority  # Only who makes certificates needs the package.
    except ImportError as cause:
        raise ConfigInvalid("making certificates needs the package 'cryptography'") from cause
    directory.mkdir(parents=True, exist_ok=True)
    authority = Authority(AUTHORITY_DAYS)
    authority_path = directory / "authority.pem"
    authority_path.write_bytes(authority.certificate_pem)
    made = {}
    for name in names:
        stem = name.replace("/", "-")
        tls = Tls(directory / f"{stem}.pem", directory / f"{stem}.key", authority_path)
        certificate_pem, key_pem = authority.issue(f"{IDENTITY_PREFIX}{name}", stem, list(hosts), CERTIFICATE_DAYS)
        tls.certificate.write_bytes(certificate_pem)
        tls.key.touch(mode=0o600)  # Before the key is in it.
        tls.key.chmod(0o600)
        tls.key.write_bytes(key_pem)
        made[name] = tls
    return made
