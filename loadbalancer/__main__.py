"""`python -m loadbalancer serve --balancer NAME --config FILE --data DIR`: one load balancer as a process.

`--sandbox NAME` in its place serves the payment sandbox.
"""

from __future__ import annotations

import argparse
import logging
import sys
import tomllib
from pathlib import Path

from datastore import config as nodes_config
from datastore.edge import Address, tls_of
from datastore.errors import ConfigInvalid
from datastore.process import End, freeze_what_stays, log_to_stderr, prepare_server_process
from datastore.settings import EXIT_CONFIG, address_of
from loadbalancer import config as own
from loadbalancer import payments_config
from loadbalancer.payments import provider_of, read_key
from loadbalancer.server import BalancerServer
from loadbalancer.ticketing import Signer
from lockstore import config as locks_config
from lockstore.errors import LockConfigInvalid
from lockstore.servers import lock_client
from manager import config as manager_config
from manager.stub import ManagerStub

DIGEST_BYTES = 32
SANDBOX_KEY = "secrets/payments.key"  # below the data folder
TICKET_SECRET = "secrets/tickets.key"


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; return the exit code: 0 done, 78 a configuration that cannot be used."""
    parser = argparse.ArgumentParser(prog="python -m loadbalancer", description="One load balancer of a Holdfast cluster.")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="serve until told to stop")
    which = serve.add_mutually_exclusive_group(required=True)
    which.add_argument("--balancer", help="a load balancer's name in the configuration")
    which.add_argument("--sandbox", help="the payment sandbox's name in the configuration")
    serve.add_argument("--config", required=True, type=Path, help="the resolved cluster.toml")
    serve.add_argument("--data", required=True, type=Path, help="the cluster's data folder (secrets are read from it)")
    chosen = parser.parse_args(arguments)
    name = chosen.balancer or chosen.sandbox
    log_to_stderr(name)
    try:
        return (_serve if chosen.balancer else _serve_sandbox)(name, chosen.config, chosen.data)
    except (ConfigInvalid, LockConfigInvalid) as error:
        logging.error("cannot start reason=%s", error.detail)
        return EXIT_CONFIG


def _serve(name: str, file: Path, data: Path) -> int:
    prepare_server_process()
    mapping = _read(file)
    config = own.from_toml(mapping, str(file))
    here = config.balancer(name)
    addresses = {one.name: Address(one.host, one.port) for one in manager_config.from_toml(mapping, str(file)).managers}
    payments = payments_config.from_toml(mapping, str(file))
    store = nodes_config.from_toml(mapping, str(file))
    tls = tls_of(store.links, data, name)
    managers = ManagerStub(list(addresses.values()), tls=tls)
    addresses |= {one.name: Address(one.host, one.port) for one in store.nodes}
    locks = lock_client(locks_config.from_toml(mapping, str(file)), data, name)
    server = BalancerServer(
        name,
        Address(here.host, here.port),
        config,
        locks=locks,
        managers=managers,
        admin_digest=_admin_digest(data),
        addresses=addresses,
        tls=tls,
        payments=payments,
        provider=provider_of(payments, data / SANDBOX_KEY),
        signer=Signer(data / TICKET_SECRET),
    )
    end = End()
    server.start()
    freeze_what_stays()
    logging.info("serving address=%s", server.address)
    end.wait()
    server.close()
    managers.close()
    locks.close()
    logging.info("stopped")
    return 0


def _serve_sandbox(name: str, file: Path, data: Path) -> int:
    from loadbalancer.sandbox import Sandbox  # Here: a balancer needs none of it, and starts the sooner.

    prepare_server_process()
    sandboxes = payments_config.from_toml(_read(file), str(file)).sandboxes
    here = address_of(name, sandboxes, f"{payments_config.TABLE}.sandbox", "payment sandbox", str(file))
    api_key = read_key(data / SANDBOX_KEY)
    try:
        sandbox = Sandbox(name, here.host, here.port, file=data / name / "payments.db", api_key=api_key)
    except OSError as error:
        raise ConfigInvalid(f"{file}: {here.host}:{here.port}: {error}", file=str(file)) from error
    end = End()
    sandbox.start()
    logging.info("serving address=%s:%s", *sandbox.address)
    end.wait()
    sandbox.close()
    logging.info("stopped")
    return 0


def _read(file: Path) -> dict[str, object]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigInvalid(f"{file}: {error}", file=str(file)) from error


def _admin_digest(data: Path) -> bytes:
    """Return the digest of the administrator's key, b"" where there is none: then nobody acts as one."""
    path = data / "secrets" / "admin.digest"
    if not path.exists():
        logging.warning("no administrator: %s does not exist", path)
        return b""
    try:
        digest = bytes.fromhex(path.read_text(encoding="ascii").strip())
    except (OSError, ValueError) as error:
        raise ConfigInvalid(f"{path}: {error}", file=str(path)) from error
    if len(digest) != DIGEST_BYTES:
        raise ConfigInvalid(f"{path}: {len(digest)} bytes, not {DIGEST_BYTES}", file=str(path))
    return digest


if __name__ == "__main__":
    sys.exit(main())
