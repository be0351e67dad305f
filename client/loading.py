"""What a cluster is given at its first start: its operators with their keys, and the configured timetables."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Sequence
from datetime import date
from pathlib import Path

from client import api, certificates, importing, keys
from client.folders import Folders
from client.plan import BALANCER, ClusterPlan
from client.readiness import StartFailed
from datastore import messages
from datastore.edge import Tls
from datastore.errors import ConfigInvalid, InvalidRequest, WorldFailure
from datastore.settings import refuse

IMPORT_MS = 60_000
SEEN_MS = 10_000
POLL_S = 0.02


def first_data(plan: ClusterPlan, folders: Folders, config: Path, tell: Callable[[str], None], *, timetables: bool = True) -> None:
    """Make the configured operators known and load the timetables that are not loaded yet; a repeat changes nothing.

    Raises:
        ConfigInvalid: A dataset is not where the configuration says, or has bad rows.
        StartFailed: The balancers did not see in time what was loaded.
    """
    balancers = [api.Address(process.host, process.port) for process in plan.of(BALANCER)]
    tls = certificates.caller_tls(plan.mapping, folders.data)
    with api.connect(balancers, deadline_ms=IMPORT_MS, tls=tls) as client:
        # A partition without its operator's row is listed too, with no kind: it exists, nobody has said whose it is.
        known = {operator.code: operator for operator in client.operators() if operator.kind}
        admin_key = keys.ensure_admin(folders)
        for operator in plan.operators:
            if operator.code not in known:
                register(client, folders, admin_key, operator.code, operator.name, operator.kind)
        # Every balancer must know the keys before one of them is shown one.
        wait_seen(balancers, [operator.code for operator in plan.operators], [], tls)
        loaded: list[tuple[str, str]] = []
        for word in plan.client.timetables if timetables else ():
            loaded += load(client, folders, find_dataset(word, config), plan.client.timetable_days, known, tell)
    wait_seen(balancers, [operator.code for operator in plan.operators], loaded, tls)


def register(
    client: api.Holdfast, folders: Folders, admin_key: str, code: str, name: str, kind: str, nodes: Sequence[str] = (), accounting: str = ""
) -> None:
    """Make one operator known, with the digest of the key that is kept in the data folder."""
    key, _ = keys.ensure_secret(folders.operator_key(code))
    client.create_operator(admin_key, code, name, kind, keys.digest(key), nodes=nodes, accounting=accounting)


def not_seen_by(balancers: Sequence[api.Address], code: str, tls: Tls | None = None) -> list[str]:
    """Wait until every balancer lists an operator; return the addresses of those that do not in time, or do not answer at all."""
    lacking = []
    for address in balancers:
        try:
            wait_seen([address], [code], [], tls)
        except (StartFailed, WorldFailure):
            lacking.append(str(address))
    return lacking


def find_dataset(word: str, config: Path) -> Path:
    """Return the folder of a configured dataset: beside cluster.toml, else among those that ship.

    Raises:
        ConfigInvalid: It is in neither place.
    """
    beside = config.resolve().parent / word
    if beside.is_dir():
        return beside
    try:
        return importing.shipped_data(Path(word).name)
    except InvalidRequest:
        refuse(str(config), "client.timetables", f'there is no dataset "{word}", neither beside the file nor among those that ship')


def load(
    client: api.Holdfast,
    folders: Folders,
    path: Path,
    days: int,
    known: dict[str, messages.OperatorInfo],
    tell: Callable[[str], None],
    only: Collection[str] = (),
) -> list[tuple[str, str]]:
    """Import one dataset for the operators that have none of it; return (operator, dataset) of what was loaded.

    Args:
        known: What the cluster has already.
        only: Operators to import; empty means all.

    Raises:
        ConfigInvalid: It has bad rows, or an operator's part was refused.
    """
    dataset = importing.load_dataset(path, valid_from=date.today(), days=days)
    wanted = [
        code for code in dataset.operators if (not only or code in only) and (code not in known or dataset.name not in known[code].datasets)
    ]
    if not wanted:
        return []
    tell(f"loading {path.name}: {', '.join(wanted)}")
    made = {code: keys.ensure_secret(folders.operator_key(code))[0] for code in wanted}
    reports = importing.send(
        dataset,
        client.call,
        admin_key=keys.ensure_admin(folders),
        operator_keys=made,
        operator_key_digests={code: keys.digest(key) for code, key in made.items()},
        only=wanted,
    )
    problems = [f"{problem.file}:{problem.line}: {problem.reason}" for problem in dataset.problems]
    problems += [f"{report.operator}: {report.error}" for report in reports if report.error]
    if problems:
        raise ConfigInvalid(f"{path}: {len(problems)} problems, the first: {problems[0]}", file=str(path), problems=problems[:20])
    return [(report.operator, dataset.name) for report in reports]


def wait_seen(balancers: Sequence[api.Address], operators: list[str], loaded: list[tuple[str, str]], tls: Tls | None = None) -> None:
    """Wait until every balancer's view has the operators and what was loaded: whoever asks next must find it.

    Raises:
        StartFailed: Not in time.
    """
    deadline = time.monotonic() + SEEN_MS / 1000
    pause = threading.Event()
    for address in balancers:
        with api.connect([address], tls=tls) as client:
            while True:
                seen = {operator.code: operator.datasets for operator in client.operators() if operator.kind}
                lacking = [code for code in operators if code not in seen]
                lacking += [f"{code}/{dataset}" for code, dataset in loaded if dataset not in seen.get(code, [])]
                if not lacking:
                    break
                if time.monotonic() >= deadline:
                    raise StartFailed(f"the balancer at {address} does not see {', '.join(lacking[:5])}", lacking=lacking[:50])
                pause.wait(POLL_S)
