"""What this machine can do for the nemesis, and what was promised that it can: `capabilities.toml` beside this file.

A fault that the machine cannot do is left out, with the reason said. Where the file declares that a machine can do it (the one that
runs continuous integration: it says so by HOLDFAST_MACHINE), a missing capability is an error: nothing is skipped in silence.
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Collection
from functools import cache
from pathlib import Path

DECLARED = Path(__file__).with_name("capabilities.toml")
MACHINE = "HOLDFAST_MACHINE"
NAMESPACES, SMALL_DISKS, CLOCKS = "network namespaces", "small disks", "shifted clocks"
FAKETIME = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1", "/usr/local/lib/faketime/libfaketimeMT.so.1")


@cache
def missing(capability: str) -> str:
    """Return why the machine cannot do it, "" where it can. Tried, not guessed."""
    return {NAMESPACES: _no_namespaces, SMALL_DISKS: _no_small_disks, CLOCKS: _no_shifted_clocks}[capability]()


def require(capability: str) -> str:
    """Return why the machine cannot do it, "" where it can.

    Raises:
        AssertionError: It was declared that this machine can.
    """
    return checked(capability, missing(capability), declared(os.environ.get(MACHINE, "")))


def checked(capability: str, reason: str, promised: Collection[str]) -> str:
    """Return the reason why something cannot be done, if it was not promised that it can."""
    assert not reason or capability not in promised, f"this machine is declared to have {capability}: {reason}"
    return reason


def declared(name: str) -> list[str]:
    """Return what a machine was declared to do; nothing for "", the machine of whoever runs this."""
    found = tomllib.loads(DECLARED.read_text(encoding="utf-8"))
    assert not name or name in found, f"{MACHINE}={name} is not in {DECLARED.name}; there are {', '.join(found)}"
    capabilities: list[str] = found[name]["can"] if name else []
    return capabilities


def libfaketime() -> str:
    """Return the library's path, "" where it is not installed."""
    return next((path for pattern in FAKETIME for path in sorted(glob.glob(pattern))), "")


def _no_shifted_clocks() -> str:
    library = libfaketime()
    if not library:
        return "libfaketime is not installed"
    with tempfile.NamedTemporaryFile("w", suffix=".clock") as file:
        file.write("+100d\n")
        file.flush()
        command = ["python3", "-c", "import time; print(int(time.time()))"]
        environment = {**os.environ, **clock_environment(library, file.name)}
        done = subprocess.run(command, env=environment, capture_output=True, timeout=20, check=False)
        plain = subprocess.run(command, capture_output=True, timeout=20, check=True)
    shifted = done.returncode == 0 and int(done.stdout) - int(plain.stdout) > 99 * 86_400
    return "" if shifted else f"{library} does not shift this Python's clock: {done.stderr.decode()[-200:]}"


def clock_environment(library: str, file: str) -> dict[str, str]:
    """Return what a process needs to read its wall clock's shift from a file, again and again; the monotonic clock stays."""
    return {
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": file,
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        # Its remedy for old C libraries makes every wait with a time limit a matter of tens of milliseconds.
        "FAKETIME_FORCE_MONOTONIC_FIX": "0",
    }


def _no_small_disks() -> str:
    if os.geteuid() != 0:
        return "only root mounts a file system"
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True, timeout=20, check=False)
        if done.returncode:
            return f"mount: {done.stderr.decode().strip()}"
        subprocess.run(["umount", folder], capture_output=True, timeout=20, check=True)
    return ""


def _no_namespaces() -> str:
    if os.geteuid() != 0:
        return "only root makes network namespaces"
    if shutil.which("ip") is None:
        return "iproute2 is not installed"
    name = f"holdfast-{os.getpid()}"
    done = subprocess.run(["ip", "netns", "add", name], capture_output=True, timeout=20, check=False)
    if done.returncode:
        return f"ip netns: {done.stderr.decode().strip()}"
    try:
        link = ["ip", "link", "add", f"hf{os.getpid()}", "type", "veth", "peer", "name", "eth0", "netns", name]
        done = subprocess.run(link, capture_output=True, timeout=20, check=False)
        return f"veth: {done.stderr.decode().strip()}" if done.returncode else ""
    finally:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, timeout=20, check=False)
