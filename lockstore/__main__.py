"""Run and look after lock servers: `python -m lockstore serve | initialise | status | recover | stop`.

`serve` replaces itself by the server binary, so that the process id of the child is the server's own and signals reach
it directly. The other commands speak with servers; they load what they need for it when they run, so that a start stays short.
"""

from __future__ import annotations

import argparse
import os
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

from lockstore.config import LockStoreConfig, from_toml
from lockstore.errors import LockConfigInvalid, LockError, LockServerRefused
from lockstore.preparing import prepare_server

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_CONFIG = 78  # EX_CONFIG of sysexits.h, as the other tiers use it.


def load_config(path: Path) -> LockStoreConfig:
    """Return the lock store's settings from a cluster.toml.

    Raises:
        LockConfigInvalid: The file cannot be read or used.
    """
    try:
        return from_toml(tomllib.loads(path.read_text(encoding="utf-8")), str(path))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise LockConfigInvalid(file=str(path), key="-", reason=str(error)) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code."""
    options = _parser().parse_args(arguments)
    try:
        config = load_config(options.config)
        return int(options.run(config, options))
    except LockConfigInvalid as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_CONFIG
    except LockError as error:
        print(f"error: {error}", file=sys.stderr)
        return EXIT_FAILED


def _serve(config: LockStoreConfig, options: argparse.Namespace) -> int:
    command = prepare_server(config, options.name, options.data)
    os.execv(command[0], command)


def _initialise(config: LockStoreConfig, options: argparse.Namespace) -> int:
    from lockstore import admission, servers

    done = admission.initialise(servers.addresses(config), servers.admin_settings(config, options.data), config.generation)
    for name in done.admitted:
        print(f"{name}: admitted to generation {config.generation}")
    for name in done.rejoined:
        print(f"{name}: rejoined")
    return EXIT_OK


def _status(config: LockStoreConfig, options: argparse.Namespace) -> int:
    from lockstore import servers

    client = servers.lock_client(config, options.data)
    try:
        states = client.probe()
    finally:
        client.close()
    for state in states:
        where = f"{state.address.host}:{state.address.port}"
        counter = "-" if state.counter is None else str(state.counter)
        verdict = "votes" if state.votes else f"does not vote: {state.reason}"
        print(f"{state.address.name:<12} {where:<22} {state.version or '-':<9} counter {counter:<12} {verdict}")
    voting = sum(state.votes for state in states)
    print(f"{voting} of {len(states)} vote, {config.quorum} are needed")
    return EXIT_OK if voting >= config.quorum else EXIT_FAILED


def _recover(config: LockStoreConfig, options: argparse.Namespace) -> int:
    from lockstore import admission, servers

    config.server(options.name)
    addresses = servers.addresses(config)
    lost = next(address for address in addresses if address.name == options.name)
    peers = [address for address in addresses if address is not lost]
    print(f"{options.name}: waiting until no older attempt can count its answers")
    counter = admission.rejoin(lost, peers, servers.admin_settings(config, options.data), config.generation)
    print(f"{options.name}: rejoined with counter {counter}")
    return EXIT_OK


def _stop(config: LockStoreConfig, options: argparse.Namespace) -> int:
    from lockstore import servers

    if not config.server(options.name).managed:
        raise LockServerRefused(f'lock server "{options.name}" has managed = false: it is run by others', server=options.name)
    print(f"{options.name}: {'stopped' if servers.stop_server(config, options.name, options.data) else 'was not running'}")
    return EXIT_OK


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lockstore", description="Run and look after lock servers.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, text, named in (
        ("serve", _serve, "run one lock server in the foreground", True),
        ("initialise", _initialise, "admit the servers of a new set, or those that came back", False),
        ("status", _status, "say which servers vote and why others do not", False),
        ("recover", _recover, "let a server that lost its data rejoin", True),
        ("stop", _stop, "stop one lock server", True),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("--config", type=Path, default=Path("cluster.toml"), help="the cluster's configuration file")
        command.add_argument("--data", type=Path, required=True, help="the cluster's data directory")
        if named:
            command.add_argument("--name", required=True, help="name of the lock server")
        command.set_defaults(run=run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
