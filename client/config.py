"""The `[client]` table of cluster.toml as a frozen value: what the commands need beyond the cluster itself.

Reads a mapping that somebody else parsed; opens no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from datastore.errors import shown
from datastore.settings import Bounds, choice, flag, number, only, refuse

TABLE = "client"
COLOURS = ("auto", "always", "never")
TIMETABLE_DAYS_MAX = 3_660
WAIT_MIN_MS = 500
WAIT_MAX_MS = 600_000


@dataclass(frozen=True)
class ClientConfig:
    """The settings of the commands and of the cluster starter.

    Attributes:
        timetables: Dataset folders that `cluster up` loads where they are not loaded yet; relative to cluster.toml.
        timetable_days: How many days from today the schedules of these are valid.
        data: The data folder when none is named; relative to cluster.toml.
        cluster: A name under which wallets keep the manage tokens of this cluster; "" lets `cluster up` draw one.
        colour: Whether seat maps and tables are coloured: auto (a terminal without NO_COLOR), always, never.
        call_ms: How long a command waits for the answer of the cluster.
        start_ms: How long `cluster up` waits until everything serves.
        stop_ms: How long a process may take to end before it is killed.
        restart_pause_ms: Pause before a process that ended is started again; doubles while it keeps ending.
        host: Start the processes of this host only; "" is those whose address this machine has.
        production: Refuse to start with what is fit for a demonstration only (see `client.production`).
    """

    timetables: tuple[str, ...] = ()
    timetable_days: int = 330
    data: str = "var"
    cluster: str = ""
    colour: str = "auto"
    call_ms: int = 10_000
    start_ms: int = 30_000
    stop_ms: int = 8_000
    restart_pause_ms: int = 300
    production: bool = False
    host: str = ""


# Key -> (least, most, why a value outside cannot work).
_BOUNDS: dict[str, Bounds] = {
    "timetable_days": (1, TIMETABLE_DAYS_MAX, "nothing would be on sale, or what nobody plans"),
    "call_ms": (10, 120_000, "no answer comes sooner, and nobody waits longer"),
    "start_ms": (WAIT_MIN_MS, WAIT_MAX_MS, "nothing starts sooner, and nobody waits longer"),
    "stop_ms": (WAIT_MIN_MS, WAIT_MAX_MS, "a process has to flush first, and nobody waits longer"),
    "restart_pause_ms": (10, 60_000, "a shorter one burns processor time, a longer one keeps a process away"),
}
KEYS = tuple(field.name for field in fields(ClientConfig))


def from_toml(mapping: Mapping[str, Any], file: str = "cluster.toml") -> ClientConfig:
    """Return the validated settings; a missing table gives the defaults.

    Args:
        mapping: The whole parsed cluster.toml; only its `client` table is read.
        file: The file's name, for messages.

    Raises:
        ConfigInvalid: Something cannot be used; the first such thing is named. Mend the file.
    """
    table = mapping.get(TABLE, {})
    if not isinstance(table, Mapping):
        refuse(file, TABLE, "must be a table")
    only(table, KEYS, TABLE, file)
    default = ClientConfig()
    numbers = {key: number(table[key], f"{TABLE}.{key}", file, bounds) for key, bounds in _BOUNDS.items() if key in table}
    return ClientConfig(
        timetables=_texts(table, "timetables", file),
        data=_folder(table.get("data", default.data), file),
        cluster=_text(table, "cluster", file),
        host=_text(table, "host", file),
        colour=choice(table.get("colour", default.colour), f"{TABLE}.colour", file, COLOURS),
        production=flag(table.get("production", default.production), f"{TABLE}.production", file),
        **numbers,
    )


def _folder(value: Any, file: str) -> str:
    if not isinstance(value, str) or not value:
        refuse(file, f"{TABLE}.data", f"{shown(value)} must name a folder")
    return value


def _text(table: Mapping[str, Any], key: str, file: str) -> str:
    value = table.get(key, "")
    if not isinstance(value, str):
        refuse(file, f"{TABLE}.{key}", f"{shown(value)} is not a text")
    return value


def _texts(table: Mapping[str, Any], key: str, file: str) -> tuple[str, ...]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        refuse(file, f"{TABLE}.{key}", f"{shown(value)} is not a list of folders")
    return tuple(value)
