"""Coverage-guided fuzzing of every decoder of bytes from outside, with atheris (`pip install -e '.[fuzz]'`, Linux on x86_64).

    python -m tests.fuzzing.guided segments -max_total_time=600 corpus/

Hypothesis changes valid bytes at random; libFuzzer, which is in atheris, keeps what reaches new code and changes that further. What it
finds (a crash, more than 10 s for one input, more memory than the bound) it writes to a file and ends with another exit code than 0:
the bytes become an example of the tests in this folder. What follows the name of the decoder is libFuzzer's (`-help=1`).
"""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["datastore", "client.cluster", "client.plan", "client.history", "client.importing"]):
    from client.cluster import read_config
    from client.history import read
    from client.plan import plan_of
    from datastore import administration, wire, wire_ledger, wire_recovery
    from datastore.errors import HoldfastError, InvalidRequest, InvariantBroken, TooNew
    from datastore.exporting import verify_export
    from datastore.ledger import LedgerDamaged, genesis, unseal, verify_chain
    from datastore.sealing import opened
    from tests.fuzzing.test_files import EXPORT, HISTORY, LEDGER, OPERATOR, SEGMENT, SEGMENT_BYTES

LENGTH_MAX = 64 * 1024
SEEDED = "HOLDFAST_FUZZ_SEEDS"  # Says to the process that fuzzes where the valid bytes are.
LIMITS = ("-rss_limit_mb=2048", "-timeout=10")
# What the control, replication and client planes of a node, and those that carry their messages on, take in.
MESSAGES = (
    wire.COMMANDS, list[wire.SubmitItem], list[wire.ReadItem], list[wire.AppendItem], list[wire.PromiseItem], list[wire.BecomeItem],
    list[wire.BootstrapItem], wire.FeedRequest, wire.SnapshotRequest, wire.NodeStatus, list[administration.ConfigureItem],
    wire_ledger.SegmentRequest, wire_recovery.SnapshotAsk, wire_recovery.SnapshotOffer, wire_recovery.SnapshotPart,
)  # fmt: skip


def messages(data: bytes) -> None:
    """A message of the type that the first byte chooses."""
    if data:
        wire.decode(MESSAGES[data[0] % len(MESSAGES)], data[1:])


def entries(data: bytes) -> None:
    """An entry of a ledger, and a chain that ends with it."""
    unseal(data)
    verify_chain([*LEDGER, data], genesis(OPERATOR))


def segments(data: bytes) -> None:
    """A sealed segment: only the one that was sealed may be opened."""
    assert opened(data, SEGMENT, OPERATOR) == LEDGER and data == SEGMENT_BYTES


def _as_file(name: str, reader: Callable[[Path], object]) -> Callable[[bytes], None]:
    def target(data: bytes) -> None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / name
            file.write_bytes(data)
            reader(file)

    return target


TARGETS: dict[str, Callable[[bytes], None]] = {
    "messages": messages,
    "entries": entries,
    "segments": segments,
    "exports": lambda data: verify_export(io.BytesIO(data).read) and None,
    "histories": lambda data: read(data.splitlines(keepends=True)) and None,
    "cluster.toml": _as_file("cluster.toml", lambda file: plan_of(read_config(file, "default"), str(file))),
}

# Valid bytes to begin with: what is refused at its first byte reaches nothing.
SEEDS: dict[str, list[bytes]] = {
    "messages": [bytes([number]) + begun for number in range(len(MESSAGES)) for begun in (b"\x90", b"\x91\x94\xa2AR", b"\x93\xa2AR")],
    "entries": LEDGER,
    "segments": [SEGMENT_BYTES],
    "exports": [EXPORT],
    "histories": [HISTORY],
    "cluster.toml": [(Path(__file__).parents[2] / "cluster.toml").read_bytes()],
}


def guarded(target: Callable[[bytes], None]) -> Callable[[bytes], None]:
    """Let a decoder refuse by name; whatever else it raises is a finding."""

    def one(data: bytes) -> None:
        try:
            target(data)
        except (LedgerDamaged, TooNew, InvalidRequest, InvariantBroken, HoldfastError) as error:
            assert len(str(error)) < 4_000, f"{len(str(error))} characters of error"

    return one


def main(arguments: list[str]) -> int:
    """Fuzz the decoder named first; return libFuzzer's exit code."""
    if not arguments or arguments[0] not in TARGETS:
        print(f"name one of {', '.join(TARGETS)}, then what libFuzzer takes", file=sys.stderr)
        return 2
    name, *more = arguments
    if SEEDED in os.environ:
        # The first folder named is where libFuzzer keeps what it finds worth keeping: the caller's, if there is one.
        atheris.Setup([sys.argv[0], *LIMITS, f"-max_len={LENGTH_MAX}", *more, os.environ[SEEDED]], guarded(TARGETS[name]))
        atheris.Fuzz()
    # libFuzzer ends its process where it stands, so that another one tidies up.
    with tempfile.TemporaryDirectory() as seeds:
        for number, data in enumerate(SEEDS[name]):
            (Path(seeds) / str(number)).write_bytes(data)
        command = [sys.executable, "-m", "tests.fuzzing.guided", *arguments]
        return subprocess.run(command, env={**os.environ, SEEDED: seeds}, check=False).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
