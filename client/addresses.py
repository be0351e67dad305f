"""Where the load balancers are, and how to reach them: from addresses as people write them, or from a cluster.toml."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import TypeGuard

from datastore.config import LinkSecurity, link_security
from datastore.edge import Address, Tls, tls_of
from datastore.errors import ConfigInvalid


def balancers_of(addresses: str | Path | Iterable[str | Address]) -> list[Address]:
    """Return the load balancers' addresses.

    Raises:
        ConfigInvalid: None is given, or one is not of the form host:port.
    """
    if isinstance(addresses, Path) or is_file(addresses):
        return _of_file(Path(str(addresses)))
    words: Iterable[str | Address] = addresses.split(",") if isinstance(addresses, str) else addresses
    found = [word if isinstance(word, Address) else _address(word) for word in words]
    if not found:
        raise ConfigInvalid("no load balancer's address is given", key="addresses", reason="empty")
    return found


def is_file(addresses: str | Path | Iterable[str | Address]) -> TypeGuard[str]:
    return isinstance(addresses, str) and ":" not in addresses.rpartition("/")[2]


def tls_of_file(path: Path) -> Tls | None:
    """Return a caller's files where the configuration asks for TLS; they and the data folder are relative to the file."""
    mapping = tomllib.loads(path.read_text(encoding="utf-8"))
    links = link_security(mapping, str(path))
    folder = path.resolve().parent
    whole = LinkSecurity(links.tls, str(folder / links.certificates) if links.certificates else "")
    return tls_of(whole, folder / str(mapping.get("client", {}).get("data", "var")), "client")


def _of_file(path: Path) -> list[Address]:
    try:
        mapping = tomllib.loads(path.read_text(encoding="utf-8"))
        rows = mapping["loadbalancer"]["balancer"]
        return [Address(str(row.get("host", "127.0.0.1")), int(row["port"])) for row in rows]
    except (OSError, tomllib.TOMLDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigInvalid(f"{path}: names no load balancers: {error!r}", file=str(path), key="loadbalancer.balancer") from error


def _address(word: str) -> Address:
    host, _, port = word.strip().rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65_536:
        raise ConfigInvalid(f"{word!r} is not an address: expected host:port", key="addresses", reason="not host:port")
    return Address(host.strip("[]"), int(port))
