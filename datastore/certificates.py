"""The certificates of a cluster: made, made anew before they expire, and looked at.

One private authority a cluster, one certificate and key a process, one for callers ("client") and one for administration
("admin"). A caller's certificate names no host, so it serves nowhere. The authority's key is needed only to make more; it
belongs where nothing of the cluster runs. Every file appears whole, so processes that follow their files (the edge) take a
new certificate with the next handshake.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from datastore.authority import Authority, described
from datastore.edge_tls import AUTHORITY, IDENTITY_PREFIX, Tls, tls_files
from datastore.errors import ConfigInvalid

CERTIFICATE_DAYS = 90
AUTHORITY_DAYS = 3650
KEY_MODE = 0o600
CERTIFICATE_MODE = 0o644


@dataclass(frozen=True)
class Wanted:
    """A certificate to make.

    Attributes:
        name: Of the process; names the files.
        identity: Role, or role and name: "node/node-1", "client".
        hosts: Names and addresses at which it is dialled; none for who only calls.
    """

    name: str
    identity: str
    hosts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Certificate:
    """A certificate that is there. `fault`: why it cannot be used, or ""."""

    name: str
    identity: str
    hosts: tuple[str, ...]
    expires: datetime
    fault: str = ""

    @property
    def days_left(self) -> int:
        """Whole days until it expires, below zero afterwards."""
        return (self.expires - datetime.now(UTC)).days


def make(folder: Path, wanted: Sequence[Wanted], *, days: int = CERTIFICATE_DAYS, new_authority: bool = False) -> list[Certificate]:
    """Write a certificate and a key for each of `wanted`, replacing those that are there; return what was made.

    The authority is the one whose certificate and key lie in the folder; where neither does, one is made.

    Raises:
        ConfigInvalid: The folder has the authority's certificate and not its key, or they do not fit: nothing was written.
    """
    authority = _authority(folder, new_authority)
    try:
        for one in wanted:
            certificate_pem, key_pem = authority.issue(f"{IDENTITY_PREFIX}{one.identity}", one.name, one.hosts, days)
            files = tls_files(folder, one.name)
            # The key first: a certificate that is there has its key.
            _write(files.key, key_pem, KEY_MODE)
            _write(files.certificate, certificate_pem, CERTIFICATE_MODE)
    except OSError as cause:
        raise ConfigInvalid(f"{folder}: {cause.strerror}", file=str(folder), reason=str(cause.strerror)) from cause
    return look(folder, [one.name for one in wanted])


def look(folder: Path, names: Iterable[str] = ()) -> list[Certificate]:
    """Return the certificates of a folder, or those of the names given, the authority's first.

    Raises:
        ConfigInvalid: The folder, or a certificate that was named, is not there.
    """
    named = [AUTHORITY, *names]
    if len(named) == 1:
        named += sorted(path.stem for path in folder.glob("*.pem") if path.stem != AUTHORITY)
    return [_look(folder, name) for name in named]


def make_certificates(folder: Path, identities: Iterable[str], hosts: Iterable[str] = ("localhost", "127.0.0.1")) -> dict[str, Tls]:
    """Write one certificate an identity, all of them for the same hosts; return their files by identity."""
    wanted = [Wanted(identity.replace("/", "-"), identity, tuple(hosts)) for identity in identities]
    make(folder, wanted)
    return {one.identity: tls_files(folder, one.name) for one in wanted}


def _look(folder: Path, name: str) -> Certificate:
    files = tls_files(folder, name)
    try:
        identities, hosts, expires = described(files.certificate.read_bytes())
    except FileNotFoundError as cause:
        reason = f"{files.certificate} is missing; make certificates with: holdfast certificates make"
        raise ConfigInvalid(reason, file=str(files.certificate), reason="missing") from cause
    except (OSError, ValueError) as cause:
        return Certificate(name, "", (), datetime.fromtimestamp(0, UTC), f"cannot be read: {cause}")
    identity = ", ".join(one.removeprefix(IDENTITY_PREFIX) for one in identities) or ("authority" if name == AUTHORITY else "")
    return Certificate(name, identity, tuple(hosts), expires, _fault(name, files, expires))


def _fault(name: str, files: Tls, expires: datetime) -> str:
    if expires <= datetime.now(UTC):
        return "has expired"
    if not files.key.exists():
        return "" if name == AUTHORITY else "its key is missing"
    mode = files.key.stat().st_mode & 0o777
    return f"others may read its key (mode {mode:03o})" if mode & 0o077 else ""


def _authority(folder: Path, new: bool) -> Authority:
    files = tls_files(folder, AUTHORITY)
    if new or not files.certificate.exists():
        authority = Authority.new(AUTHORITY_DAYS)
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            _write(files.key, authority.key_pem, KEY_MODE)
            _write(files.certificate, authority.certificate_pem, CERTIFICATE_MODE)
        except OSError as cause:
            raise ConfigInvalid(f"{folder}: {cause.strerror}", file=str(folder), reason=str(cause.strerror)) from cause
        return authority
    try:
        return Authority.load(files.certificate.read_bytes(), files.key.read_bytes())
    except FileNotFoundError as cause:
        reason = f"{files.key} is missing: bring the authority's key here, or name another folder for a new authority"
        raise ConfigInvalid(reason, file=str(files.key), reason="missing") from cause
    except (OSError, ValueError, TypeError) as cause:
        raise ConfigInvalid(f"{files.key}: {cause}", file=str(files.key), reason=str(cause)) from cause


def _write(path: Path, content: bytes, mode: int) -> None:
    """Write a file whole or not at all, never open to more than `mode`."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
