"""The `[datastore]` table of cluster.toml as a frozen value.

Reads a mapping that somebody else parsed; opens no file. Every bound and relation is checked here, its reason in the
message, so that nothing later has to wonder about a configuration. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any

from datastore.errors import shown
from datastore.model import OPERATOR_PATTERN, OperatorKind
from datastore.settings import Bounds, ProcessAddress, address_of, addresses, choice, flag, number, only, refuse, table_of, text

TABLE = "datastore"
COPIES_ALLOWED = (1, 3, 5)
PATH_LENGTH_MAX = 1_024


@dataclass(frozen=True)
class LinkSecurity:
    """Whether links are mutual TLS, and where this host's certificates are ("" is the data folder's own)."""

    tls: bool
    certificates: str


@dataclass(frozen=True)
class OperatorConfig:
    """Who owns a partition; `primary` is a preference for the first placement, the log's CONFIG is the truth (Z16)."""

    code: str
    name: str
    kind: str
    primary: str


@dataclass(frozen=True)
class DatastoreConfig:
    """The data nodes' settings. Times are milliseconds.

    Attributes:
        copies: Replicas of every operator: 3 or 5; 1 is for development only.
        submit_timeout_ms: How long a node waits for a commit before it answers `outcome_unknown`.
        heartbeat_ms: How often an idle primary tells its replicas what is committed.
        suspicion_ms: A primary that no majority answers for twice this long steps down.
        append_timeout_ms: How long one message to a replica may take.
        retry_ms: How often a node that cannot be reached is tried again.
        sweep_ms: How often a primary looks for holds whose time is over.
        flush_ms: After how long without entries a store writes the rows it has staged.
        segment_entries: Old entries of a ledger move to sealed segments of so many at most ...
        segment_bytes: ... or of about so many bytes, before compression.
        tail_entries: The newest entries that stay in the file: what a replica that lags asks for.
        feed_wait_ms_max: How long a follower of the change stream may ask to wait for news.
        tls: Whether every link between processes, and from callers to load balancers, is mutual TLS 1.3.
        certificates: Folder of this host's certificates; "" is `certificates` in the data folder.
        auto_recover: Whether a node takes copies that it has lost from a peer by itself.
        recovery_bytes_per_s: How fast a snapshot is copied at its source, and read by its receiver, at most.
    """

    nodes: tuple[ProcessAddress, ...]
    operators: tuple[OperatorConfig, ...]
    copies: int = 3
    submit_timeout_ms: int = 4000
    heartbeat_ms: int = 100
    suspicion_ms: int = 1000
    append_timeout_ms: int = 2000
    retry_ms: int = 200
    sweep_ms: int = 1000
    flush_ms: int = 500
    segment_entries: int = 4096
    segment_bytes: int = 16_777_216
    tail_entries: int = 1024
    feed_wait_ms_max: int = 10_000
    tls: bool = False
    certificates: str = ""
    auto_recover: bool = True
    recovery_bytes_per_s: int = 100_663_296
    file: str = "cluster.toml"

    @property
    def links(self) -> LinkSecurity:
        return LinkSecurity(self.tls, self.certificates)

    def node(self, name: str) -> ProcessAddress:
        """Return the node of that name.

        Raises:
            ConfigInvalid: There is none.
        """
        return address_of(name, self.nodes, f"{TABLE}.node", "node", self.file)


# Bounds in milliseconds, both inclusive, and why the ends are where they are.
_BOUNDS: dict[str, Bounds] = {
    "submit_timeout_ms": (100, 60_000, "shorter is less than an ordinary pause, longer keeps a traveller waiting for nothing"),
    "heartbeat_ms": (10, 5000, "shorter is all the nodes would do, longer leaves views behind"),
    "suspicion_ms": (100, 60_000, "shorter changes primaries for an ordinary pause, longer keeps seats off sale after a crash"),
    "append_timeout_ms": (50, 60_000, "shorter is less than an ordinary disk flush"),
    "retry_ms": (10, 60_000, "shorter hammers a dead node, longer delays its return"),
    "sweep_ms": (50, 5000, "seats must come back within 5 s of the hold's end"),
    "flush_ms": (10, 60_000, "longer only makes a restart apply more of the log again"),
    "feed_wait_ms_max": (0, 60_000, "longer outlives the caller's patience"),
}
_SIZES: dict[str, Bounds] = {
    "segment_entries": (16, 1_000_000, "fewer make a file of every moment, more a file that is verified in one go"),
    "segment_bytes": (65_536, 268_435_456, "less makes a file of every moment, more is held in memory while it is sealed"),
    "tail_entries": (16, 1_000_000, "fewer send every replica that blinked to the segments, more make the file large"),
    "recovery_bytes_per_s": (1_048_576, 17_179_869_184, "slower a large copy never catches up, faster no disk is"),
}
_OPERATOR_KEYS = tuple(field.name for field in fields(OperatorConfig))
_TABLE_KEYS = ("copies", "auto_recover", "tls", "certificates", *_BOUNDS, *_SIZES, "node", "operator")


def from_toml(mapping: Mapping[str, Any], file: str = "cluster.toml") -> DatastoreConfig:
    """Return the validated settings of the data nodes.

    Args:
        mapping: The whole parsed cluster.toml; only its `datastore` table is read.
        file: The file's name, for messages.
    Raises:
        ConfigInvalid: Something cannot be used; the first such thing is named. Mend the file.
    """
    table = table_of(mapping, TABLE, _TABLE_KEYS, file)
    nodes = addresses(table.get("node"), f"{TABLE}.node", "node", file)
    names = [node.name for node in nodes]
    operators = tuple(_operator(row, index, names, file) for index, row in enumerate(_operator_rows(table, file)))
    for index, operator in enumerate(operators):
        if operator.code in [other.code for other in operators[:index]]:
            refuse(file, f"{TABLE}.operator[{index}].code", f"{operator.code} stands twice; every operator has one partition")
    copies = _copies(table.get("copies", 3), len(nodes), file)
    bounded = {**_BOUNDS, **_SIZES}
    numbers = {key: number(table[key], f"{TABLE}.{key}", file, bounds) for key, bounds in bounded.items() if key in table}
    recovers = flag(table.get("auto_recover", True), f"{TABLE}.auto_recover", file)
    links = link_security(mapping, file)
    config = DatastoreConfig(
        nodes, operators, copies, auto_recover=recovers, tls=links.tls, certificates=links.certificates, file=file, **numbers
    )
    if config.heartbeat_ms * 2 > config.suspicion_ms:
        reason = f"twice {config.heartbeat_ms} is over suspicion_ms = {config.suspicion_ms}: one lost would do"
        refuse(file, f"{TABLE}.heartbeat_ms", reason)
    return config


def link_security(mapping: Mapping[str, Any], file: str = "cluster.toml") -> LinkSecurity:
    """Return what a caller has to know of the links; a caller's own file may name load balancers and no nodes.

    Raises:
        ConfigInvalid: As `from_toml`.
    """
    table = mapping.get(TABLE, {})
    if not isinstance(table, Mapping):
        refuse(file, TABLE, "must be a table")
    folder = table.get("certificates", "")
    return LinkSecurity(
        tls=flag(table.get("tls", False), f"{TABLE}.tls", file),
        certificates=text(folder, f"{TABLE}.certificates", file, PATH_LENGTH_MAX) if folder != "" else "",
    )


def _copies(value: Any, nodes: int, file: str) -> int:
    key = f"{TABLE}.copies"
    copies = number(value, key, file, (1, 99, "every copy has a disk of its own"))
    if copies > 1 and copies % 2 == 0:
        refuse(file, key, f"{copies} is even: a majority of {copies} survives no more failures than one of {copies - 1}; use 3 or 5")
    if copies not in COPIES_ALLOWED:
        refuse(file, key, f"{copies} is none of {', '.join(map(str, COPIES_ALLOWED))}")
    if copies > nodes:
        refuse(file, key, f"{copies} copies need {copies} nodes, {nodes} are given; every copy has a disk of its own")
    return copies


def _operator_rows(table: Mapping[str, Any], file: str) -> list[Any]:
    rows = table.get("operator", [])
    if not isinstance(rows, list):
        refuse(file, f"{TABLE}.operator", f"must be a list; write one [[{TABLE}.operator]] for each")
    return rows


def _operator(row: Any, index: int, nodes: Collection[str], file: str) -> OperatorConfig:
    where = f"{TABLE}.operator[{index}]"
    if not isinstance(row, Mapping):
        refuse(file, where, f"must be a table with {', '.join(_OPERATOR_KEYS)}")
    only(row, _OPERATOR_KEYS, where, file)
    code = _present(row, "code", where, file)
    if not OPERATOR_PATTERN.fullmatch(code):
        refuse(file, f"{where}.code", f"{shown(code)} is not an operator code: 2 to 8 capitals and digits")
    kind = choice(_present(row, "kind", where, file), f"{where}.kind", file, list(OperatorKind))
    if "primary" not in row:
        refuse(file, f"{where}.primary", f"operator {code} has no primary; name the node that should lead it first")
    primary = _present(row, "primary", where, file)
    if primary not in nodes:
        refuse(file, f"{where}.primary", f"operator {code} names {shown(primary)}, no such node", primary, nodes)
    return OperatorConfig(code, _present(row, "name", where, file), kind, primary)


def _present(row: Mapping[str, Any], key: str, where: str, file: str) -> str:
    if key not in row:
        refuse(file, f"{where}.{key}", "is missing")
    return text(row[key], f"{where}.{key}", file)
