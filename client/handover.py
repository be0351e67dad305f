"""What each host of a cluster is given before its first start: its certificates and the secrets that all hosts share.

`prepare` writes one folder for each host, which becomes that host's data folder, and the folder `admin`, the administrator's:
there are the authority, the administrator's key and later the operators'. Done again it keeps every secret and makes the
certificates anew, which is how they are renewed.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from client import certificates, claiming, keys
from client.folders import Folders
from client.plan import ClusterPlan, ProcessPlan
from datastore import certificates as made
from datastore import config as datastore_config
from datastore.errors import ConfigInvalid

ADMIN_FOLDER = "admin"
CERTIFICATES = "certificates"
# Of secrets/: what every host needs. The administrator's key itself stays with the administrator.
SHARED = ("locks.password", "locks-admin.password", "admin.digest", "cluster.name", "tickets.key")


def hosts_of(plan: ClusterPlan) -> list[str]:
    """Return the hosts on which this cluster runs processes, in the order of the configuration."""
    return list(dict.fromkeys(process.host for process in plan.processes if process.managed))


def prepare(plan: ClusterPlan, out: Path, extra_hosts: Sequence[str] = (), days: int = made.CERTIFICATE_DAYS) -> dict[str, Folders]:
    """Write the folders; return each host's, and the administrator's under "admin".

    Raises:
        ConfigInvalid: A folder holds something else, or the authority's key is not there.
    """
    admin = Folders(out / ADMIN_FOLDER)
    claiming.claim(admin)
    keys.ensure_admin(admin)
    for name in SHARED:
        if name == "cluster.name":
            claiming.cluster_name(admin)
        elif name != "admin.digest":
            keys.ensure_secret(admin.secrets / name)
    if uses_tls(plan):
        made.make(admin.data / CERTIFICATES, certificates.wanted(plan, extra_hosts), days=days)
    found = {ADMIN_FOLDER: admin}
    for host in hosts_of(plan):
        folders = Folders(out / host)
        claiming.claim(folders)
        for name in SHARED:
            keys.write_private(folders.secrets / name, (admin.secrets / name).read_text(encoding="ascii"))
        if uses_tls(plan):
            _hand_certificates(admin, folders, [process for process in plan.processes if process.managed and process.host == host])
        found[host] = folders
    return found


def uses_tls(plan: ClusterPlan) -> bool:
    """Return whether any link of the cluster is TLS."""
    return datastore_config.link_security(plan.mapping).tls or bool(plan.mapping.get("lockstore", {}).get("tls"))


def check_shared(folders: Folders) -> None:
    """Check that a host of several has what it shares with the others.

    Raises:
        ConfigInvalid: Something is missing: made here, it would differ from the other hosts'.
    """
    missing = [str(folders.secrets / name) for name in SHARED if not (folders.secrets / name).exists()]
    if missing:
        why = "all hosts share them; make every host's folder with: holdfast cluster prepare --out DIR"
        reason = f"{', '.join(missing)} missing: {why}"
        raise ConfigInvalid(reason, file=str(folders.secrets), reason=reason, missing=missing)


def _hand_certificates(admin: Folders, folders: Folders, here: Sequence[ProcessPlan]) -> None:
    source, target = admin.data / CERTIFICATES, folders.data / CERTIFICATES
    target.mkdir(mode=0o700, exist_ok=True)
    for name in [*(process.name for process in here), certificates.CALLER]:
        keys.write_private(target / f"{name}.key", (source / f"{name}.key").read_text(encoding="ascii"))
        shutil.copyfile(source / f"{name}.pem", target / f"{name}.pem")
    shutil.copyfile(source / "authority.pem", target / "authority.pem")
