"""python -m datastore serve --node NAME --config FILE --data DIR, and python -m datastore verify --store FILE.

Exit codes: 0 ended by SIGTERM or SIGINT, or verified; 1 the ledger is damaged or proves a double sale; 70 an invariant is
broken; 74 a disk failed; 78 the configuration cannot be used.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from datastore import receipts
from datastore.config import from_toml
from datastore.edge import Address, tls_of
from datastore.errors import ConfigInvalid, DiskFailed, HoldfastError, InvalidRequest, InvariantBroken
from datastore.ledger import LedgerDamaged
from datastore.node import Node
from datastore.process import End, freeze_what_stays, log_to_stderr, prepare_server_process
from datastore.proving import as_document, judge
from datastore.server import NodeServer
from datastore.settings import EXIT_CONFIG
from datastore.verification import verify_folder, verify_store

EXIT_DAMAGED = 1
EXIT_INVARIANT = 70
EXIT_DISK = 74

log = logging.getLogger("datastore")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m datastore", description="A Holdfast data node.")
    commands = parser.add_subparsers(dest="command", required=True)
    serve_parser = commands.add_parser("serve", help="run one data node until SIGTERM")
    serve_parser.add_argument("--node", required=True, metavar="NAME", help="its name in the configuration")
    serve_parser.add_argument("--config", required=True, type=Path, metavar="FILE")
    serve_parser.add_argument("--data", required=True, type=Path, metavar="DIR", help="its files are in DIR/NAME")
    verify_parser = commands.add_parser("verify", help="verify ledgers, live or stopped, and prove that no seat had two owners")
    which = verify_parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--store", type=Path, metavar="FILE", help="one store's ledger")
    which.add_argument("--data", type=Path, metavar="DIR", help="every copy in a cluster's data folder; prints one JSON document")
    verify_parser.add_argument("--operator", action="append", default=[], metavar="CODE", help="with --data: only these operators")
    verify_parser.add_argument("--receipt", action="append", default=[], metavar="RECEIPT", help="with --data: also check these")
    chosen = parser.parse_args(arguments)
    if chosen.command == "verify":
        return verify(chosen.store) if chosen.store else verify_all(chosen.data, chosen.operator, chosen.receipt)
    log_to_stderr(chosen.node)
    try:
        return serve(chosen.node, chosen.config, chosen.data)
    except ConfigInvalid as error:
        log.error("cannot start reason=%s", error.detail)
        return EXIT_CONFIG
    except (DiskFailed, LedgerDamaged) as error:
        log.error("cannot start reason=%s", error.detail)
        return EXIT_DISK


def serve(name: str, file: Path, data: Path) -> int:
    """Run a node until SIGTERM or SIGINT."""
    prepare_server_process()
    config = from_toml(read_toml(file), str(file))
    where = config.node(name)
    end = End()
    tls = tls_of(config.links, data, name)
    removed: list[str] = []

    def end_removed(reason: str) -> None:
        removed.append(reason)
        end.ask()

    node = Node(name, config, data, on_fatal=stop_now, on_removed=end_removed, tls=tls, configured_ms=file.stat().st_mtime_ns // 1_000_000)
    server = NodeServer(node, Address(where.host, where.port), tls=tls)
    server.start()
    node.start()
    freeze_what_stays()
    log.info("serves address=%s tls=%s partitions=%d boot=%s", server.address, tls is not None, len(node.partitions()), node.boot_id)
    end.wait()
    log.info("ends")
    server.close()
    node.close()
    return EXIT_CONFIG if removed else 0


def stop_now(error: BaseException) -> None:
    """End the process at once: what a thread would still do after this could acknowledge what is not so."""
    log.critical("stops reason=%s", error, exc_info=error)
    logging.shutdown()
    disk = isinstance(error, DiskFailed | LedgerDamaged | OSError)  # An OSError that nobody expected is of a file: sockets have their own.
    os._exit(EXIT_DISK if disk else EXIT_INVARIANT)


def read_toml(file: Path) -> dict[str, Any]:
    """Return the parsed file.

    Raises:
        ConfigInvalid: It cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as cause:
        raise ConfigInvalid(f"{file}: {cause}", file=str(file)) from cause


def verify(store: Path) -> int:
    """Print what the ledger proves."""
    try:
        operator, report = verify_store(store)
    except (LedgerDamaged, InvariantBroken) as error:
        print(f"damaged: {error.detail}", file=sys.stderr)
        return EXIT_DAMAGED
    except HoldfastError as error:
        print(error.detail, file=sys.stderr)
        return EXIT_DISK
    print(f"operator {operator}: {report.entries} entries, {report.events} events, {report.seats} seats touched, {report.orders} orders")
    print(f"chain whole up to lsn {report.end.lsn}, hash {report.end.hash.hex()}")
    for violation in report.violations:
        print(violation, file=sys.stderr)
    print("no seat ever had two owners" if not report.violations else f"{len(report.violations)} violations")
    return EXIT_DAMAGED if report.violations else 0


def verify_all(data: Path, operators: Sequence[str], words: Sequence[str]) -> int:
    """Print what every copy in a data folder proves, as one JSON document (`proving.as_document`)."""
    try:
        wanted = [receipts.parse(word) for word in words]
    except InvalidRequest as error:
        print(error.detail, file=sys.stderr)
        return EXIT_CONFIG
    copies, apart = verify_folder(data, operators, wanted)
    verdict = judge(copies, apart, wanted)
    sys.stdout.write(msgspec.json.encode(as_document(verdict, copies)).decode() + "\n")
    return EXIT_DAMAGED if verdict.state == "damaged" else 0


if __name__ == "__main__":
    sys.exit(main())
