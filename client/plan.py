"""cluster.toml checked as a whole, and the processes that it asks for.

Every package checks its own table; what only shows when all are seen together is checked here: an unknown table, and
two processes with one name or one address.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from client import config as client_config
from client import production, profiles
from datastore import config as datastore_config
from datastore.errors import ConfigInvalid
from datastore.settings import refuse
from loadbalancer import config as loadbalancer_config
from loadbalancer import payments_config
from lockstore import config as lockstore_config
from lockstore.errors import LockConfigInvalid
from manager import config as manager_config

LOCK_SERVER, NODE, MANAGER, BALANCER, SANDBOX = "lock server", "node", "manager", "balancer", "payment sandbox"
# Names of certificates that belong to no process, and of the process that starts the others.
RESERVED = ("admin", "authority", "client", "supervisor")
TABLES = ("lockstore", "datastore", "manager", "loadbalancer", "payments", "client", profiles.TABLE)


@dataclass(frozen=True)
class Role:
    """A kind of process: where it stands in the configuration and how `python -m PACKAGE serve` is told its name.

    Attributes:
        identity: The role that its certificate names.
        section: The table that it stands in, where that is not its package's.
    """

    kind: str
    package: str
    table: str
    flag: str
    identity: str
    section: str = ""

    @property
    def where(self) -> str:
        """Return the key of its list in the configuration."""
        return f"{self.section or self.package}.{self.table}"


# In the order of starting; stopping goes the other way, so that nothing is asked of what has gone already.
ROLES = (
    Role(LOCK_SERVER, "lockstore", "server", "--name", "lock"),
    Role(NODE, "datastore", "node", "--node", "node"),
    Role(MANAGER, "manager", "manager", "--manager", "manager"),
    Role(SANDBOX, "loadbalancer", "sandbox", "--sandbox", "sandbox", section=payments_config.TABLE),
    Role(BALANCER, "loadbalancer", "balancer", "--balancer", "lb"),
)


@dataclass(frozen=True)
class ProcessPlan:
    """One process of the cluster. `managed` is False for a lock server that others run."""

    name: str
    role: Role
    host: str
    port: int
    managed: bool = True

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class OperatorPlan:
    """An operator of the configuration."""

    code: str
    name: str
    kind: str


@dataclass(frozen=True)
class ClusterPlan:
    """A checked configuration: the resolved mapping and what follows from it."""

    mapping: Mapping[str, Any]
    processes: tuple[ProcessPlan, ...]
    operators: tuple[OperatorPlan, ...]
    client: client_config.ClientConfig

    def of(self, kind: str) -> tuple[ProcessPlan, ...]:
        return tuple(process for process in self.processes if process.role.kind == kind)

    def process(self, name: str) -> ProcessPlan:
        """Return the process of that name.

        Raises:
            ConfigInvalid: There is none; the nearest known name is in the message.
        """
        for process in self.processes:
            if process.name == name:
                return process
        refuse("cluster.toml", name, "no process has this name", name, [process.name for process in self.processes])


def plan_of(mapping: Mapping[str, Any], file: str = "cluster.toml") -> ClusterPlan:
    """Return the plan of a resolved configuration (see `profiles.resolve`).

    Raises:
        ConfigInvalid: Something cannot be used; names the file, the key, the reason and the nearest known key.
    """
    for name in mapping:
        if name not in TABLES:
            refuse(file, name, "unknown table", name, TABLES)
    try:
        lockstore_config.from_toml(mapping, file)
    except LockConfigInvalid as error:
        # lockstore stands alone and has its own root error; above it there is one form.
        raise ConfigInvalid(error.detail, **error.fields) from error
    datastore_config.from_toml(mapping, file)
    manager_config.from_toml(mapping, file)
    loadbalancer_config.from_toml(mapping, file)
    payments_config.from_toml(mapping, file)
    client = client_config.from_toml(mapping, file)
    processes = tuple(process for role in ROLES for process in _processes(mapping, role))
    hosts = {process.host for process in processes}
    if client.host and client.host not in hosts:
        refuse(file, "client.host", f"no process has the host {client.host}; there are {', '.join(sorted(hosts))}", client.host, hosts)
    wrong = production.faults(mapping) if client.production else []
    if wrong:
        refuse(file, "client.production", f"is true, and {'; '.join(wrong)}")
    _check_names(processes, file)
    operators = tuple(
        OperatorPlan(str(row["code"]), str(row.get("name", row["code"])), str(row.get("kind", "airline")))
        for row in mapping.get("datastore", {}).get("operator", [])
    )
    return ClusterPlan(mapping, processes, operators, client)


def _processes(mapping: Mapping[str, Any], role: Role) -> list[ProcessPlan]:
    rows = mapping.get(role.section or role.package, {}).get(role.table, [])
    return [
        ProcessPlan(str(row["name"]), role, str(row.get("host", "127.0.0.1")), int(row["port"]), bool(row.get("managed", True)))
        for row in rows
    ]


def _check_names(processes: Sequence[ProcessPlan], file: str) -> None:
    """Refuse a name or an address that two processes share: names are files, and a port serves one."""
    names: dict[str, ProcessPlan] = {}
    addresses: dict[tuple[str, int], ProcessPlan] = {}
    for process in processes:
        where = process.role.where
        other = names.setdefault(process.name, process)
        if other is not process:
            refuse(file, f"{where}.name", f'"{process.name}" is also the name of a {other.role.kind}; names are files, give it another')
        if process.name in RESERVED:
            refuse(file, f"{where}.name", f'"{process.name}" names certificates of no process; give it another')
        if process.port == 0:
            refuse(file, f"{where}.port", f'0 at "{process.name}": the others have to know the port; use --free-ports to have one chosen')
        other = addresses.setdefault((process.host, process.port), process)
        if other is not process:
            reason = f'{process.port} at "{process.name}" is also the port of the {other.role.kind} "{other.name}" on {process.host}'
            refuse(file, f"{where}.port", reason)


def with_ports(mapping: Mapping[str, Any], ports: Mapping[str, int]) -> dict[str, Any]:
    """Return the configuration with the ports of the named processes replaced."""
    overlay: dict[str, Any] = {}
    for role in ROLES:
        table = role.section or role.package
        rows = mapping.get(table, {}).get(role.table, [])
        changed = [{**row, "port": ports.get(str(row.get("name")), row.get("port"))} for row in rows]
        if changed:
            overlay.setdefault(table, {})[role.table] = changed
    return profiles.merge(mapping, overlay)
