"""Mutual TLS for the edge: a process's files, contexts that follow them, the peer's role, and why a handshake failed.

A process proves its role with its certificate: one SAN URI `spiffe://holdfast/<role>[/<name>]`. The host name or address that
was dialled must stand in the certificate too, so one process's certificate does not serve at another's address.
`datastore.certificates` makes them.
"""

from __future__ import annotations

import logging
import ssl
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from datastore.config import LinkSecurity
from datastore.errors import ConfigInvalid

IDENTITY_PREFIX = "spiffe://holdfast/"
AUTHORITY = "authority"
FOLDER = "certificates"
HINT = "make them with: holdfast certificates make"

# OpenSSL's word -> ours. What is not here is told in OpenSSL's.
PLAIN_TEXT = "the other side does not speak TLS"
_FAILURES = {
    "WRONG_VERSION_NUMBER": PLAIN_TEXT,
    "UNKNOWN_PROTOCOL": PLAIN_TEXT,
    "HTTP_REQUEST": PLAIN_TEXT,
    "RECORD_LAYER_FAILURE": PLAIN_TEXT,
    "UNSUPPORTED_PROTOCOL": "the other side speaks no TLS 1.3",
    "TLSV1_ALERT_PROTOCOL_VERSION": "the other side speaks no TLS 1.3",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the other side showed no certificate",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "it wants a certificate, and none was shown",
    "TLSV1_ALERT_UNKNOWN_CA": "it does not accept our certificate: another authority issued it",
    "SSLV3_ALERT_BAD_CERTIFICATE": "it does not accept our certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "it does not accept our certificate: it has expired",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "it does not accept our certificate",
}

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tls:
    """The files of one process: its certificate (chain), its key, and the authorities whose peers it accepts."""

    certificate: Path
    key: Path
    authorities: Path


def tls_files(folder: Path, name: str) -> Tls:
    """Return the files of the process (or "client") of that name in a folder of certificates."""
    return Tls(folder / f"{name}.pem", folder / f"{name}.key", folder / f"{AUTHORITY}.pem")


def tls_of(links: LinkSecurity, data: Path, name: str) -> Tls | None:
    """Return the files with which the process of that name proves who it is, or None where the cluster goes without TLS.

    Args:
        data: The data folder.
    """
    return tls_files(certificate_folder(links, data), name) if links.tls else None


def certificate_folder(links: LinkSecurity, data: Path) -> Path:
    """Return where this host keeps its certificates: where the configuration says, else in the data folder."""
    return Path(links.certificates) if links.certificates else data / FOLDER


def is_plain_text(cause: ssl.SSLError) -> bool:
    """Return whether the handshake failed because the peer does not speak TLS."""
    return _FAILURES.get(cause.reason or "") == PLAIN_TEXT


def tls_failure(cause: ssl.SSLError) -> str:
    """Return why a handshake failed, in words for who has to mend it."""
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {cause.verify_message}"
    return _FAILURES.get(cause.reason or "", f"TLS: {cause.reason or cause}")


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
            missing = [file for file in files if not Path(file).exists()]
            if missing:
                raise ConfigInvalid(f"TLS is on, and {', '.join(missing)} is missing; {HINT}", files=missing) from cause
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
    mode = tls.key.stat().st_mode
    if mode & 0o077:
        raise ValueError(f"others may read {tls.key} (mode {mode & 0o777:03o}); chmod 600 it, and replace it if others may have")
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
