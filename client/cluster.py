"""Start, stop and look at a whole cluster: the configuration as a whole, the data folder, the processes, the first data.

This starts processes and talks to load balancers; it imports no server. What it starts runs under `client.supervisor`.
Killing everything with SIGKILL and starting again is a normal path: pid files name a process and the moment of its
start, the supervisor's lock dies with it, and the lower tiers keep every acknowledged write on disk.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client import certificates, keys, processes, profiles, supervisor
from client.folders import Folders
from client.plan import BALANCER, SANDBOX, ClusterPlan, ProcessPlan, plan_of, with_ports
from datastore.errors import ConfigInvalid, HoldfastError, WorldFailure
from datastore.settings import refuse

POLL_S = 0.05
STATUS_MS = 2_000
DOWN_EXTRA_MS = 3_000
LOG_TAIL_LINES = 8
LOG_BYTES_MAX = 16 * 1024 * 1024

CERTIFICATES = "certificates"
# Settings that name files.
FILE_KEYS = {"datastore": ("certificates",), "lockstore": ("certificates", "authority"), "payments": ("key_file",)}

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Start:
    """What `cluster up` is asked to do.

    Attributes:
        config: The cluster.toml, with its profiles.
        data: The data folder; None takes the configuration's, relative to the file.
        fresh: Delete what the data folder holds first.
        free_ports: Choose ports that nobody uses, instead of the configured ones.
        timetables: Load the configured timetables where they are not loaded yet.
        host: Start the processes of this host only; "" is those whose address this machine has.
    """

    config: Path
    profile: str = profiles.DEFAULT
    data: Path | None = None
    fresh: bool = False
    free_ports: bool = False
    timetables: bool = True
    host: str = ""


class StartFailed(WorldFailure):
    """The cluster did not come up; the detail has the reason and the last log lines of who is at fault."""

    code = "start_failed"
    title = "The cluster did not start"


def read_config(path: Path, profile: str = profiles.DEFAULT) -> dict[str, Any]:
    """Return the resolved mapping of a cluster.toml.

    Raises:
        ConfigInvalid: The file cannot be read, is no TOML, or has no such profile.
    """
    try:
        mapping = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigInvalid(f"{path}: {error.strerror}", file=str(path), key="-", reason=str(error.strerror)) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"{path}: {error}", file=str(path), key="-", reason=str(error)) from error
    return _with_whole_paths(profiles.resolve(mapping, profile, str(path)), path.resolve().parent)


def _with_whole_paths(mapping: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the configuration with its files given whole: they are relative to the file, and processes run elsewhere."""
    for table, keys_of in FILE_KEYS.items():
        for key in keys_of:
            word = mapping[table].get(key) if isinstance(mapping.get(table), dict) else None
            if isinstance(word, str) and word:
                mapping = profiles.merge(mapping, {table: {key: str(folder / word)}})
    return mapping


def data_folder(plan: ClusterPlan, config: Path, data: Path | None) -> Path:
    """Return the data folder: the one named, else the configuration's, which is relative to the file."""
    return data if data is not None else config.resolve().parent / plan.client.data


def is_running(folders: Folders) -> bool:
    """Return whether a supervisor looks after this data folder."""
    if not folders.supervisor_lock.exists():
        return False
    with supervisor.sole(folders) as alone:
        return not alone


def prepare(start: Start, tell: Tell) -> tuple[ClusterPlan, Folders]:
    """Check everything that can be checked before a process starts, and write what the processes read.

    Raises:
        ConfigInvalid: The configuration, the data folder or a port cannot be used; says which and why.
    """
    mapping = read_config(start.config, start.profile)
    if start.host:
        mapping = profiles.merge(mapping, {"client": {"host": start.host}})
    plan = plan_of(mapping, str(start.config))
    if not supervisor.here(plan):
        hosts = ", ".join(dict.fromkeys(process.host for process in plan.processes if process.managed))
        refuse(str(start.config), "client.host", f"no process is configured for this machine; name a host with --host: {hosts}")
    folders = Folders(data_folder(plan, start.config, start.data))
    if is_running(folders):
        found = processes.read_pid(folders.pid(supervisor.NAME))
        who = f" (process {found.pid})" if found else ""
        reason = f"a cluster already runs in {folders.data}{who}; look with: holdfast cluster status, stop it with: holdfast cluster down"
        raise ConfigInvalid(reason, file=str(folders.data), reason="already running")
    if start.fresh:
        wipe(folders)
    claim(folders)
    ended = supervisor.end_leftovers(plan, folders)
    if ended:
        tell(f"ended what an earlier start left running: {', '.join(ended)}")
    local = supervisor.here(plan)
    if start.free_ports:
        names = [process.name for process in local]
        mapping = with_ports(mapping, dict(zip(names, processes.free_ports(len(names)), strict=True)))
    # Written as whole paths and names: whoever reads the resolved file alone must come to the same folder and wallet.
    if supervisor.elsewhere(plan):
        from client import handover

        handover.check_shared(folders)
    own = {"data": str(folders.data.resolve()), "cluster": plan.client.cluster or cluster_name(folders)}
    mapping = profiles.merge(mapping, {"client": own})
    plan = plan_of(mapping, str(start.config))
    for line in certificates.check(plan, supervisor.here(plan), folders.data, str(start.config)):
        tell(line)
    check_ports(supervisor.here(plan), str(start.config))
    if plan.of(SANDBOX):
        keys.ensure_secret(folders.sandbox_key)
    if brings_first_data(plan):
        keys.ensure_admin(folders)
        for operator in plan.operators:
            keys.ensure_secret(folders.operator_key(operator.code))
    write_config(folders, mapping, start.config, start.profile)
    return plan, folders


def write_config(folders: Folders, mapping: dict[str, Any], source: Path, profile: str) -> None:
    """Write the resolved configuration that every process reads."""
    import tomlkit  # Only a start writes TOML; every other command would pay for the import.

    heading = f"# Written at every start from {source.resolve()}, profile {profile}: change that file, not this one.\n\n"
    folders.run.mkdir(parents=True, exist_ok=True)
    draft = folders.config.with_suffix(".new")
    draft.write_text(heading + tomlkit.dumps(mapping), encoding="utf-8")
    draft.replace(folders.config)


def check_ports(local: Iterable[ProcessPlan], file: str) -> None:
    """Refuse to start where somebody listens already; names the port and, where it can be seen, who that is."""
    for process in local:
        if not processes.port_is_free(process.host, process.port):
            who = processes.who_listens(process.port)
            reason = f"port {process.port} on {process.host}, configured for {process.name}, is in use" + (f" by {who}" if who else "")
            refuse(file, f"{process.role.where}.port", reason)


def up(start: Start, tell: Tell = lambda _: None) -> tuple[ClusterPlan, Folders]:
    """Start a cluster in the background and return when it serves, its operators known and its timetables loaded.

    Raises:
        ConfigInvalid: See `prepare`; nothing was started.
        StartFailed: It did not serve in time; what was started is stopped again.
    """
    plan, folders = prepare(start, tell)
    _rotate_logs(folders)
    child = processes.spawn(
        [sys.executable, "-m", "client.supervisor", "serve", "--data", str(folders.data.resolve())], folders.log(supervisor.NAME)
    )
    # Reaped in the background: where we stay in the foreground, an ended supervisor must not look alive as a zombie.
    threading.Thread(target=child.wait, name="reap-supervisor", daemon=True).start()
    try:
        if supervisor.elsewhere(plan):
            wait_listening(plan, folders, lambda: child.poll() is None)
        else:
            wait_serving(plan, folders, lambda: child.poll() is None)
        if brings_first_data(plan):
            from client import loading

            loading.first_data(plan, folders, start.config, tell, timetables=start.timetables)
    except BaseException:
        processes.end(processes.identity(child.pid), _stop_ms(plan))
        raise
    return plan, folders


def brings_first_data(plan: ClusterPlan) -> bool:
    """Return whether a start makes the operators and their keys and loads timetables: on one machine, for a demonstration.

    A host of several cannot, as the others may not run yet; for real sales the administrator does it knowingly.
    """
    return not plan.client.production and not supervisor.elsewhere(plan)


def wait_listening(plan: ClusterPlan, folders: Folders, alive: Callable[[], bool]) -> None:
    """Wait until every process of this host listens; what the cluster as a whole can do, the other hosts decide with it.

    Raises:
        StartFailed: Not within `start_ms`, or `alive` said no.
    """
    deadline = time.monotonic() + plan.client.start_ms / 1000
    pause = threading.Event()
    while True:
        deaf = [process.name for process in supervisor.here(plan) if processes.port_is_free(process.host, process.port)]
        if not deaf:
            return
        if not alive() or time.monotonic() >= deadline:
            raise StartFailed(f"does not listen: {', '.join(deaf)}\n{_evidence(plan, folders)}", log=str(folders.logs))
        pause.wait(POLL_S)


def wait_serving(plan: ClusterPlan, folders: Folders, alive: Callable[[], bool] = lambda: True) -> None:
    """Wait until every balancer answers that every process is there and every operator has a primary.

    Raises:
        StartFailed: Not within `start_ms`, or `alive` said no.
    """
    from client import api

    deadline = time.monotonic() + plan.client.start_ms / 1000
    pause = threading.Event()
    waiting = "no answer yet"
    tls = certificates.caller_tls(plan.mapping, folders.data)
    clients = [(process, api.connect([api.Address(process.host, process.port)], tls=tls)) for process in plan.of(BALANCER)]
    try:
        for process, client in clients:
            while True:
                if not alive():
                    raise StartFailed(f"the supervisor ended\n{tail(folders.log(supervisor.NAME))}", log=str(folders.logs))
                waiting = missing(plan, process, client)
                if not waiting:
                    break
                if time.monotonic() >= deadline:
                    detail = f"not ready after {plan.client.start_ms} ms: {waiting}\n{_evidence(plan, folders)}"
                    raise StartFailed(detail, waiting=waiting, log=str(folders.logs))
                pause.wait(POLL_S)
    finally:
        for _, client in clients:
            client.close()


def missing(plan: ClusterPlan, process: ProcessPlan, client: Any) -> str:
    """Return what one balancer still lacks, or ""."""
    try:
        answer = client.status(deadline_ms=STATUS_MS)
    except HoldfastError as error:
        return f"{process.name}: {error.detail}"
    primaries = {line.operator for line in answer.partitions if line.primary}
    lacking = [operator.code for operator in plan.operators if operator.code not in primaries]
    if lacking:
        return f"{process.name}: no primary yet for {', '.join(lacking[:5])}{' …' if len(lacking) > 5 else ''}"
    late = [f"{line.name} ({line.state or line.verdict})" for line in answer.processes if line.verdict != "ok"]
    if late:
        return f"{process.name}: {', '.join(late)}"
    try:
        client.operators()  # Its views: until they have begun it can answer nobody.
    except HoldfastError as error:
        return f"{process.name}: {error.detail}"
    return ""


def _evidence(plan: ClusterPlan, folders: Folders) -> str:
    """Return the last log lines of the processes that do not run, or of the supervisor."""
    dead = [process.name for process in supervisor.here(plan) if processes.running(folders.pid(process.name)) is None]
    names = dead or [process.name for process in plan.of(BALANCER)[:1]]
    return "\n".join(f"--- {folders.log(name)}\n{tail(folders.log(name))}" for name in names)


def tail(path: Path, lines: int = LOG_TAIL_LINES) -> str:
    """Return the last lines of a log."""
    try:
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except OSError:
        return "(no log)"


def down(folders: Folders, tell: Tell = lambda _: None) -> bool:
    """Stop the cluster of a data folder; return whether anything ran.

    Without a supervisor (it was killed) the processes that it left are ended all the same.
    """
    if not folders.config.exists():
        return False
    plan = plan_of(read_config(folders.config), str(folders.config))
    found = processes.running(folders.pid(supervisor.NAME)) if is_running(folders) else None
    if found is not None:
        tell("stopping")
        processes.end(found, _stop_ms(plan))
    ended = supervisor.end_leftovers(plan, folders)
    folders.pid(supervisor.NAME).unlink(missing_ok=True)
    return found is not None or bool(ended)


def _stop_ms(plan: ClusterPlan) -> int:
    # Five kinds of processes end one after the other, each within stop_ms.
    return 5 * plan.client.stop_ms + DOWN_EXTRA_MS


def wipe(folders: Folders) -> None:
    """Delete a cluster's data folder.

    Raises:
        ConfigInvalid: The folder holds something and is not marked as a cluster's: nothing is deleted.
    """
    if not folders.data.exists():
        return
    if any(folders.data.iterdir()) and not folders.mark.exists():
        reason = f"{folders.data} holds files and is no cluster's data folder; nothing was deleted"
        raise ConfigInvalid(reason, file=str(folders.data), reason="not a data folder")
    for path in folders.data.iterdir():
        # Certificates are no data: other hosts and callers have their counterparts.
        if path.name == CERTIFICATES:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path != folders.mark:
            path.unlink()
    if (folders.data / CERTIFICATES).exists():
        return
    folders.mark.unlink(missing_ok=True)
    folders.data.rmdir()


def claim(folders: Folders) -> None:
    """Make the data folder and mark it as ours.

    Raises:
        ConfigInvalid: It holds something else, or cannot be made.
    """
    try:
        folders.data.mkdir(parents=True, exist_ok=True)
        if not folders.mark.exists() and any(folders.data.iterdir()):
            reason = f"{folders.data} holds files and is no cluster's data folder; name another with --data"
            raise ConfigInvalid(reason, file=str(folders.data), reason="not a data folder")
        folders.mark.write_text("The data of a Holdfast cluster. Deleted as a whole by: holdfast cluster up --fresh\n", encoding="utf-8")
        for folder in (folders.run, folders.logs):
            folder.mkdir(exist_ok=True)
    except OSError as error:
        raise ConfigInvalid(f"{folders.data}: {error.strerror}", file=str(folders.data), reason=str(error.strerror)) from error


def cluster_name(folders: Folders) -> str:
    """Return the name under which wallets know this data folder's cluster, drawn at the first start."""
    return keys.ensure_secret(folders.secrets / "cluster.name")[0][:16].replace("_", "x").replace("-", "y")


def _rotate_logs(folders: Folders) -> None:
    """Put a log that has grown large aside, the older one with it: a start is the moment when nobody writes."""
    for path in folders.logs.glob("*.log"):
        if path.stat().st_size > LOG_BYTES_MAX:
            path.replace(path.with_suffix(".log.1"))
