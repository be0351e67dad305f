"""python -m manager serve --manager NAME --config FILE --data DIR

Runs one manager until SIGTERM or SIGINT. Exit status: 0 stopped when asked, 70 a fault in the watch,
78 the configuration cannot be used.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import tomllib
from pathlib import Path

from datastore import config as datastore_config
from datastore.edge import tls_of
from datastore.errors import ConfigInvalid
from datastore.process import End, freeze_what_stays, log_to_stderr, prepare_server_process
from datastore.settings import EXIT_CONFIG
from lockstore import config as lockstore_config
from lockstore.errors import LockConfigInvalid
from lockstore.seatlocks import SeatLocks
from lockstore.servers import lock_client
from manager import config as manager_config
from manager.goals import Address, Goals
from manager.server import ManagerServer

log = logging.getLogger(__name__)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m manager", description="A data store manager of Holdfast.")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="run one manager until it is told to stop")
    serve.add_argument("--manager", required=True, metavar="NAME", help="which [[manager.manager]] of the configuration this is")
    serve.add_argument("--config", required=True, type=Path, metavar="FILE", help="the resolved cluster.toml")
    serve.add_argument("--data", required=True, type=Path, metavar="DIR", help="the data directory")
    options = parser.parse_args(arguments)
    log_to_stderr(options.manager)
    prepare_server_process()
    end = End()
    try:
        server = _server(options.manager, options.config, options.data)
        server.start()
        freeze_what_stays()
    except (ConfigInvalid, LockConfigInvalid) as error:
        log.error("%s", error.detail)
        return EXIT_CONFIG
    log.info("stops signal=%s", signal.Signals(end.wait()).name)
    server.close()
    return 0


def _server(name: str, file: Path, data: Path) -> ManagerServer:
    try:
        mapping = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as cause:
        raise ConfigInvalid(f"{file}: cannot be read: {cause}", file=str(file)) from cause
    config = manager_config.from_toml(mapping, str(file))
    store = datastore_config.from_toml(mapping, str(file))
    nodes = {node.name: Address(node.host, node.port) for node in store.nodes}
    primaries = {operator.code: operator.primary for operator in store.operators}
    goals = Goals(nodes, primaries, store.copies, base_ms=file.stat().st_mtime_ns // 1_000_000)
    locks: SeatLocks | None = None
    if lockstore_config.TABLE in mapping:
        locks = lock_client(lockstore_config.from_toml(mapping, str(file)), data, name)
    return ManagerServer(name, config, goals, locks, tls=tls_of(store.links, data, name))


if __name__ == "__main__":
    sys.exit(main())
