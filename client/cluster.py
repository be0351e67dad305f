"""Start, stop and look at a whole cluster: the configuration as a whole, the data folder, the processes, the first data.

This starts processes and talks to load balancers; it imports no server. What it starts runs under `client.supervisor`.
Killing everything with SIGKILL and starting again is a normal path: pid files name a process and the moment of its
start, the supervisor's lock dies with it, and the lower tiers keep every acknowledged write on disk.
"""

from __future__ import annotations

import sys
import threading
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from client import certificates, claiming, keys, processes, profiles, readiness, supervisor
from client.folders import Folders
from client.plan import SANDBOX, ClusterPlan, ProcessPlan, plan_of, with_ports
from datastore.errors import ConfigInvalid
from datastore.settings import refuse

DOWN_EXTRA_MS = 3_000

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
        raise ConfigInvalid(f"{path}: is not TOML: {error}", file=str(path), key="-", reason=f"is not TOML: {error}") from error
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
        claiming.wipe(folders)
    claiming.claim(folders)
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
    own = {"data": str(folders.data.resolve()), "cluster": plan.client.cluster or claiming.cluster_name(folders)}
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
    launch(plan, folders, start, tell)
    return plan, folders


def launch(
    plan: ClusterPlan, folders: Folders, start: Start, tell: Tell = lambda _: None, wanted: Callable[[], bool] = lambda: True
) -> None:
    """Start what `prepare` has prepared, in the background, and return when it serves.

    Args:
        wanted: Asked while waiting; once it says no, the start is given up.
    Raises:
        StartFailed: It did not serve in time, or is no longer wanted; what was started is stopped again.
    """
    claiming.rotate_logs(folders)
    child = processes.spawn(
        [sys.executable, "-m", "client.supervisor", "serve", "--data", str(folders.data.resolve())], folders.log(supervisor.NAME)
    )
    # Reaped in the background: where we stay in the foreground, an ended supervisor must not look alive as a zombie.
    threading.Thread(target=child.wait, name="reap-supervisor", daemon=True).start()

    def alive() -> bool:
        return child.poll() is None and wanted()

    try:
        if supervisor.elsewhere(plan):
            readiness.wait_listening(plan, folders, alive)
        else:
            readiness.wait_serving(plan, folders, alive)
        if brings_first_data(plan):
            from client import loading

            loading.first_data(plan, folders, start.config, tell, timetables=start.timetables)
    except BaseException:
        processes.end(processes.identity(child.pid), _stop_ms(plan))
        raise


def brings_first_data(plan: ClusterPlan) -> bool:
    """Return whether a start makes the operators and their keys and loads timetables: on one machine, for a demonstration.

    A host of several cannot, as the others may not run yet; for real sales the administrator does it knowingly.
    """
    return not plan.client.production and not supervisor.elsewhere(plan)


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
