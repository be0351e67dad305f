"""The certificates that a cluster's configuration asks for: which to make, whether those here will do, and a caller's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from client.plan import ClusterPlan, ProcessPlan
from datastore import config as datastore_config
from datastore.edge import Tls, certificate_folder, tls_of
from datastore.errors import ConfigInvalid, InvalidRequest, shown

if TYPE_CHECKING:
    # Imported where they are used: every command comes here for a caller's files, and few need what makes and reads certificates.
    from datastore.certificates import Certificate, Wanted

CALLER, ADMIN = "client", "admin"
HOST_LENGTH_MAX = 253
LOOPBACK = ("127.0.0.1", "::1", "localhost")
DAYS_LEFT_LEAST = 14  # From here on every start says when a certificate expires.


def wanted(plan: ClusterPlan, extra_hosts: Sequence[str] = (), only: Iterable[ProcessPlan] | None = None) -> list[Wanted]:
    """Return what to make: one certificate a process that the cluster runs, one for callers, one for administration.

    Args:
        extra_hosts: More names and addresses under which the processes are dialled.
        only: Of these processes; None is all.
    """
    from datastore.certificates import Wanted

    made = []
    for process in plan.processes if only is None else only:
        if process.managed:
            own = ("localhost",) if process.host in LOOPBACK else ()
            hosts = tuple(dict.fromkeys((process.host, *own, *extra_hosts)))
            made.append(Wanted(process.name, f"{process.role.identity}/{process.name}", hosts))
    return [*made, Wanted(CALLER, CALLER), Wanted(ADMIN, ADMIN)]


def host_names(words: str) -> list[str]:
    """Return the names and addresses of a list with commas.

    Raises:
        InvalidRequest: One cannot be a host's.
    """
    found = [word.strip() for word in words.split(",") if word.strip()]
    for word in found:
        if any(character.isspace() for character in word) or not (word.isascii() and word.isprintable()) or len(word) > HOST_LENGTH_MAX:
            raise InvalidRequest(f"{shown(word)} is not a host name or address", field="hosts")
    return found


def caller_tls(mapping: Mapping[str, Any], data: Path, file: str = "cluster.toml") -> Tls | None:
    """Return the files with which commands call the load balancers, or None where the cluster goes without TLS.

    Args:
        mapping: The resolved configuration; one that only names load balancers will do.
        data: The data folder.
    """
    return tls_of(datastore_config.link_security(mapping, file), data, CALLER)


def check(plan: ClusterPlan, here: Sequence[ProcessPlan], data: Path, file: str) -> list[str]:
    """Check the certificates of the processes of this host; return a line for each that expires soon.

    Raises:
        ConfigInvalid: One is missing, cannot be used, has expired, or names another address.
    """
    links = datastore_config.link_security(plan.mapping, file)
    lockstore = plan.mapping.get("lockstore", {})
    folders: dict[Path, list[ProcessPlan]] = {}
    for process in here:
        if links.tls and process.role.package != "lockstore":
            folders.setdefault(certificate_folder(links, data), []).append(process)
        if lockstore.get("tls"):
            folders.setdefault(Path(lockstore.get("certificates") or data / "certificates"), []).append(process)
    if not folders:
        return []
    from datastore.certificates import look

    soon = []
    for folder, used in folders.items():
        found = look(folder, dict.fromkeys([*(process.name for process in used), CALLER]))
        for one in found:
            _check_one(folder, one, [process for process in used if process.name == one.name])
            if one.days_left < DAYS_LEFT_LEAST:
                soon.append(f"{folder / one.name}.pem expires in {one.days_left} days; make it anew with: holdfast certificates make")
    return soon


def _check_one(folder: Path, certificate: Certificate, used: Sequence[ProcessPlan]) -> None:
    path = folder / f"{certificate.name}.pem"
    fault = certificate.fault
    for process in used:
        expected = f"{process.role.identity}/{process.name}"
        if not fault and certificate.identity != expected:
            fault = f"says {certificate.identity or 'no role'}, not {expected}"
        if not fault and process.host not in certificate.hosts:
            fault = f"is not for {process.host}, where {process.name} listens, but for {', '.join(certificate.hosts)}"
    if fault:
        raise ConfigInvalid(f"{path}: {fault}; make it anew with: holdfast certificates make", file=str(path), reason=fault)
