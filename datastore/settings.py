"""Checking a table of cluster.toml: what every package's config.py needs to say what is wrong with it. Pure.

Each error names the file, the key, the reason and, where there is one, the nearest known key.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from datastore.errors import ConfigInvalid, nearest, shown

NAME_LENGTH_MAX = 64
EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h: how every process ends that cannot use its configuration.
ADDRESS_KEYS = ("name", "host", "port")
Bounds = tuple[int, int, str]  # least, most, why a value outside cannot work


@dataclass(frozen=True)
class ProcessAddress:
    """Where one process of the cluster listens."""

    name: str
    host: str
    port: int


def refuse(file: str, key: str, reason: str, word: str = "", known: Collection[str] = ()) -> NoReturn:
    """Raise ConfigInvalid; with `word`, the nearest of `known` is offered."""
    near = nearest(word, known, 1) if word else []
    hint = f"; did you mean {shown(near[0])}?" if near else ""
    raise ConfigInvalid(f"{file}: {key}: {reason}{hint}", file=file, key=key, reason=reason, nearest=near)


def table_of(mapping: Mapping[str, Any], name: str, known: Collection[str], file: str) -> Mapping[str, Any]:
    """Return a package's table, which must be there and have known keys only."""
    table = mapping.get(name)
    if not isinstance(table, Mapping):
        refuse(file, name, "the table is missing", name, list(mapping))
    only(table, known, name, file)
    return table


def only(table: Mapping[str, Any], known: Collection[str], where: str, file: str) -> None:
    """Refuse a key that is not known."""
    for key in table:
        if key not in known:
            refuse(file, f"{where}.{key}", "unknown key", key, known)


def number(value: Any, key: str, file: str, bounds: Bounds) -> int:
    """Return a whole number within its bounds."""
    # bool is an int in Python, but `port = true` is a slip.
    if not isinstance(value, int) or isinstance(value, bool):
        refuse(file, key, f"{shown(value)} is not a whole number")
    least, most, why = bounds
    if not least <= value <= most:
        refuse(file, key, f"{value} is not within {least}..{most}: {why}")
    return value


def text(value: Any, key: str, file: str, length_max: int = NAME_LENGTH_MAX) -> str:
    """Return a text that is not empty and has printable characters only."""
    if not isinstance(value, str) or not 0 < len(value) <= length_max or not value.isprintable():
        refuse(file, key, f"{shown(value)} is not a text of 1 to {length_max} printable characters")
    return value


def flag(value: Any, key: str, file: str) -> bool:
    """Return true or false; no other word stands for them."""
    if not isinstance(value, bool):
        refuse(file, key, f"{shown(value)} is neither true nor false")
    return value


def choice(value: Any, key: str, file: str, known: Collection[str]) -> str:
    """Return one of the known words."""
    if value not in known:
        refuse(file, key, f"{shown(value)} is none of {', '.join(known)}", str(value), known)
    return str(value)


def addresses(rows: Any, where: str, kind: str, file: str) -> tuple[ProcessAddress, ...]:
    """Return the processes of a list of tables; no name and no address may stand twice.

    Args:
        where: The key of the list, e.g. "manager.manager".
        kind: What one of them is, for people: "manager", "load balancer".
    """
    if not isinstance(rows, list) or not rows:
        refuse(file, where, f"no {kind} is given; write one [[{where}]] for each")
    found: list[ProcessAddress] = []
    for index, row in enumerate(rows):
        one = _address(row, f"{where}[{index}]", file)
        for other in found:
            if other.name == one.name:
                refuse(file, f"{where}[{index}].name", f"{shown(one.name)} is used twice")
            if (other.host, other.port) == (one.host, one.port):
                refuse(file, f"{where}[{index}].port", f"{one.host}:{one.port} is also the address of {shown(other.name)}")
        found.append(one)
    return tuple(found)


def address_of(name: str, known: Collection[ProcessAddress], where: str, kind: str, file: str) -> ProcessAddress:
    """Return the process of that name."""
    for one in known:
        if one.name == name:
            return one
    refuse(file, where, f"no {kind} is named {shown(name)}", name, [one.name for one in known])


def _address(row: Any, where: str, file: str) -> ProcessAddress:
    if not isinstance(row, Mapping):
        refuse(file, where, "must be a table with name, host and port")
    only(row, ADDRESS_KEYS, where, file)
    name, host = row.get("name"), row.get("host", "127.0.0.1")
    if not isinstance(name, str) or not _is_plain(name):
        # The name becomes a file's: of its log and of its process id.
        refuse(file, f"{where}.name", f"{shown(name)} is not a plain name (letters, digits, '-', '_')")
    if not isinstance(host, str) or not host or any(character.isspace() for character in host):
        refuse(file, f"{where}.host", f"{shown(host)} is not a host name or address")
    if "port" not in row:
        refuse(file, f"{where}.port", "is missing")
    return ProcessAddress(name, host, number(row["port"], f"{where}.port", file, (1, 65_535, "it is no TCP port")))


def _is_plain(name: str) -> bool:
    return 0 < len(name) <= NAME_LENGTH_MAX and name.isascii() and name.replace("-", "").replace("_", "").isalnum()
