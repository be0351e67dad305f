"""The `[datastore]` table of cluster.toml as a frozen value.

Reads a mapping that somebody else parsed; opens no file. Every bound and relation is checked here, its reason in the
message, so that nothing later has to wonder about a configuration. Pure.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any, NoReturn

from datastore.errors import ConfigInvalid, nearest, shown
from datastore.model import OPERATOR_PATTERN, OperatorKind

TABLE = "datastore"
COPIES_ALLOWED = (1, 3, 5)
NAME_LENGTH_MAX = 64


@dataclass(frozen=True)
class NodeConfig:
    """One data node: its name and where it listens."""

    name: str
    host: str
    port: int


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
    """

    nodes: tuple[NodeConfig, ...]
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
    file: str = "cluster.toml"

    def node(self, name: str) -> NodeConfig:
        """Return the node of that name.

        Raises:
            ConfigInvalid: There is none.
        """
        for node in self.nodes:
            if node.name == name:
                return node
        _fail(self.file, f"{TABLE}.node", f"no node is named {shown(name)}", name, [node.name for node in self.nodes])


# Bounds in milliseconds, both inclusive, and why the ends are where they are.
_BOUNDS = {
    "submit_timeout_ms": (100, 60_000, "shorter is less than an ordinary pause, longer keeps a traveller waiting for nothing"),
    "heartbeat_ms": (10, 5000, "shorter is all the nodes would do, longer leaves views behind"),
    "suspicion_ms": (100, 60_000, "shorter changes primaries for an ordinary pause, longer keeps seats off sale after a crash"),
    "append_timeout_ms": (50, 60_000, "shorter is less than an ordinary disk flush"),
    "retry_ms": (10, 60_000, "shorter hammers a dead node, longer delays its return"),
    "sweep_ms": (50, 5000, "seats must come back within 5 s of the hold's end"),
    "flush_ms": (10, 60_000, "longer only makes a restart apply more of the log again"),
    "feed_wait_ms_max": (0, 60_000, "longer outlives the caller's patience"),
}
_SIZES = {
    "segment_entries": (16, 1_000_000, "fewer make a file of every moment, more a file that is verified in one go"),
    "segment_bytes": (65_536, 268_435_456, "less makes a file of every moment, more is held in memory while it is sealed"),
    "tail_entries": (16, 1_000_000, "fewer send every replica that blinked to the segments, more make the file large"),
}
_NODE_KEYS = tuple(field.name for field in fields(NodeConfig))
_OPERATOR_KEYS = tuple(field.name for field in fields(OperatorConfig))
_TABLE_KEYS = ("copies", *_BOUNDS, *_SIZES, "node", "operator")


def from_toml(mapping: Mapping[str, Any], file: str = "cluster.toml") -> DatastoreConfig:
    """Return the validated settings of the data nodes.

    Args:
        mapping: The whole parsed cluster.toml; only its `datastore` table is read.
        file: The file's name, for messages.
    Raises:
        ConfigInvalid: Something cannot be used; the first such thing is named. Mend the file.
    """
    table = mapping.get(TABLE)
    if not isinstance(table, Mapping):
        _fail(file, TABLE, "the table is missing", TABLE, list(mapping))
    _only(table, _TABLE_KEYS, TABLE, file)
    nodes = tuple(_node(row, index, file) for index, row in enumerate(_list_of(table, "node", file)))
    _check_nodes(nodes, file)
    names = [node.name for node in nodes]
    operators = tuple(_operator(row, index, names, file) for index, row in enumerate(_list_of(table, "operator", file)))
    for index, operator in enumerate(operators):
        if operator.code in [other.code for other in operators[:index]]:
            _fail(file, f"{TABLE}.operator[{index}].code", f"{operator.code} stands twice; every operator has one partition")
    copies = _integer(table, "copies", 3, TABLE, file)
    _check_copies(copies, len(nodes), file)
    times = {key: _time(table, key, file) for key in _BOUNDS if key in table}
    sizes = {key: _size(table, key, file) for key in _SIZES if key in table}
    config = DatastoreConfig(nodes=nodes, operators=operators, copies=copies, file=file, **times, **sizes)
    if config.heartbeat_ms * 2 > config.suspicion_ms:
        _fail(file, f"{TABLE}.heartbeat_ms", f"twice {config.heartbeat_ms} is over suspicion_ms = {config.suspicion_ms}: one lost would do")
    return config


def _check_copies(copies: int, nodes: int, file: str) -> None:
    key = f"{TABLE}.copies"
    if copies % 2 == 0:
        _fail(file, key, f"{copies} is even: a majority of {copies} survives no more failures than one of {copies - 1}; use 3 or 5")
    if copies not in COPIES_ALLOWED:
        _fail(file, key, f"{copies} is none of {', '.join(map(str, COPIES_ALLOWED))}")
    if copies > nodes:
        _fail(file, key, f"{copies} copies need {copies} nodes, {nodes} are given; every copy has a disk of its own")


def _check_nodes(nodes: tuple[NodeConfig, ...], file: str) -> None:
    for index, node in enumerate(nodes):
        for other in nodes[:index]:
            if node.name == other.name:
                _fail(file, f"{TABLE}.node[{index}].name", f"{shown(node.name)} stands twice")
            if (node.host, node.port) == (other.host, other.port):
                reason = f"port {node.port} at {shown(node.host)} stands twice: {shown(other.name)} has it"
                _fail(file, f"{TABLE}.node[{index}].port", reason)


def _node(row: Any, index: int, file: str) -> NodeConfig:
    where = f"{TABLE}.node[{index}]"
    _only(row, _NODE_KEYS, where, file)
    port = _integer(row, "port", None, where, file)
    if not 1 <= port <= 65_535:
        _fail(file, f"{where}.port", f"{port} is not within 1..65535")
    name = _text(row, "name", where, file)
    if not all(character.isalnum() or character in "-_." for character in name) or name.startswith("."):
        _fail(file, f"{where}.name", f'{shown(name)} is not a plain name (letters, digits, "-", "_", "."): it names a folder')
    return NodeConfig(name, _text(row, "host", where, file), port)


def _operator(row: Any, index: int, nodes: Collection[str], file: str) -> OperatorConfig:
    where = f"{TABLE}.operator[{index}]"
    _only(row, _OPERATOR_KEYS, where, file)
    code = _text(row, "code", where, file)
    if not OPERATOR_PATTERN.fullmatch(code):
        _fail(file, f"{where}.code", f"{shown(code)} is not an operator code: 2 to 8 capitals and digits")
    kind = _text(row, "kind", where, file)
    if kind not in list(OperatorKind):
        _fail(file, f"{where}.kind", f"{shown(kind)} is none of {', '.join(OperatorKind)}", kind, list(OperatorKind))
    if "primary" not in row:
        _fail(file, f"{where}.primary", f"operator {code} has no primary; name the node that should lead it first")
    primary = _text(row, "primary", where, file)
    if primary not in nodes:
        _fail(file, f"{where}.primary", f"operator {code} names {shown(primary)}, no such node", primary, nodes)
    return OperatorConfig(code, _text(row, "name", where, file), kind, primary)


def _list_of(table: Mapping[str, Any], key: str, file: str) -> list[Any]:
    rows = table.get(key)
    if not isinstance(rows, list) or not rows:
        _fail(file, f"{TABLE}.{key}", f"none is given; write one [[{TABLE}.{key}]] for each")
    return rows


def _only(table: Any, known: Collection[str], where: str, file: str) -> None:
    if not isinstance(table, Mapping):
        _fail(file, where, "is not a table")
    for key in table:
        if key not in known:
            _fail(file, f"{where}.{key}", "no such key", str(key), known)


def _integer(table: Mapping[str, Any], key: str, default: int | None, where: str, file: str) -> int:
    value = table.get(key, default)
    if value is None:
        _fail(file, f"{where}.{key}", "is missing")
    if not isinstance(value, int) or isinstance(value, bool):
        _fail(file, f"{where}.{key}", f"{shown(value)} is not a whole number")
    return value


def _time(table: Mapping[str, Any], key: str, file: str) -> int:
    value = _integer(table, key, None, TABLE, file)
    lowest, highest, why = _BOUNDS[key]
    if not lowest <= value <= highest:
        _fail(file, f"{TABLE}.{key}", f"{value} is not within {lowest}..{highest} ms: {why}")
    return value


def _size(table: Mapping[str, Any], key: str, file: str) -> int:
    value = _integer(table, key, None, TABLE, file)
    lowest, highest, why = _SIZES[key]
    if not lowest <= value <= highest:
        _fail(file, f"{TABLE}.{key}", f"{value} is not within {lowest}..{highest}: {why}")
    return value


def _text(table: Mapping[str, Any], key: str, where: str, file: str) -> str:
    value = table.get(key)
    if value is None:
        _fail(file, f"{where}.{key}", "is missing")
    if not isinstance(value, str) or not 0 < len(value) <= NAME_LENGTH_MAX or not value.isprintable():
        _fail(file, f"{where}.{key}", f"{shown(value)} is not a text of 1 to {NAME_LENGTH_MAX} printable characters")
    return value


def _fail(file: str, key: str, reason: str, word: str = "", known: Collection[str] = ()) -> NoReturn:
    likely = nearest(word, known) if word else []
    hint = f"; did you mean {' or '.join(likely)}?" if likely else ""
    raise ConfigInvalid(f"{file}: {key}: {reason}{hint}", file=file, key=key, reason=reason, nearest=likely)
