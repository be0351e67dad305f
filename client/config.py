"""The `[client]` table of cluster.toml as a frozen value: what the commands need beyond the cluster itself.

Reads a mapping that somebody else parsed; opens no file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NoReturn

from datastore.errors import ConfigInvalid, nearest

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
    for key in table:
        if key not in KEYS:
            refuse(file, f"{TABLE}.{key}", "unknown key", nearest(key, KEYS))
    default = ClientConfig()
    config = ClientConfig(
        timetables=_texts(table, "timetables", file),
        timetable_days=_integer(table, "timetable_days", default.timetable_days, 1, TIMETABLE_DAYS_MAX, file),
        data=_text(table, "data", default.data, file),
        cluster=_text(table, "cluster", default.cluster, file),
        colour=_text(table, "colour", default.colour, file),
        call_ms=_integer(table, "call_ms", default.call_ms, 10, 120_000, file),
        start_ms=_integer(table, "start_ms", default.start_ms, WAIT_MIN_MS, WAIT_MAX_MS, file),
        stop_ms=_integer(table, "stop_ms", default.stop_ms, WAIT_MIN_MS, WAIT_MAX_MS, file),
        restart_pause_ms=_integer(table, "restart_pause_ms", default.restart_pause_ms, 10, 60_000, file),
    )
    if config.colour not in COLOURS:
        refuse(file, f"{TABLE}.colour", f'"{config.colour}" is none of {", ".join(COLOURS)}', nearest(config.colour, COLOURS))
    if not config.data:
        refuse(file, f"{TABLE}.data", "must name a folder")
    return config


def refuse(file: str, key: str, reason: str, alike: Sequence[str] = ()) -> NoReturn:
    """Raise ConfigInvalid in the one form that every table's complaint has."""
    hint = f'; did you mean "{alike[0]}"?' if alike else ""
    raise ConfigInvalid(f"{file}: {key}: {reason}{hint}", file=file, key=key, reason=reason, nearest=list(alike))


def _integer(table: Mapping[str, Any], key: str, default: int, least: int, most: int, file: str) -> int:
    value = table.get(key, default)
    # bool is an int in Python, but `call_ms = true` is a slip.
    if not isinstance(value, int) or isinstance(value, bool):
        refuse(file, f"{TABLE}.{key}", f"{value!r} is not a whole number")
    if not least <= value <= most:
        refuse(file, f"{TABLE}.{key}", f"{value} is not within {least}..{most}")
    return value


def _text(table: Mapping[str, Any], key: str, default: str, file: str) -> str:
    value = table.get(key, default)
    if not isinstance(value, str):
        refuse(file, f"{TABLE}.{key}", f"{value!r} is not a text")
    return value


def _texts(table: Mapping[str, Any], key: str, file: str) -> tuple[str, ...]:
    value = table.get(key, [])
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        refuse(file, f"{TABLE}.{key}", f"{value!r} is not a list of folders")
    return tuple(value)
