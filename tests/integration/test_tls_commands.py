"""The commands that run a cluster, where every link wants a certificate: rolled lock servers, the console, a status from below."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator

import pytest
import tomlkit

from client import cluster, exit_codes, profiles, supervisor
from client.plan import LOCK_SERVER, ProcessPlan, plan_of
from tests.integration.harness import SMALL, TOP
from tests.integration.starter import PATIENT, SERVICE, Starter
from tests.integration.test_tls import lock_servers_can
from tests.waiting import wait_until

CALL_S = 30
pytestmark = pytest.mark.timeout(480)  # A busy machine starts a dozen processes, several times.


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    with Starter(tmp_path_factory.mktemp("tls")) as made:
        links = {"datastore": {"tls": True}, "lockstore": {"tls": lock_servers_can()}, "client": {"timetables": ["data/brief"], **PATIENT}}
        made.config.write_text(tomlkit.dumps(profiles.merge(SMALL, links)))
        done = made.run("certificates", "make")
        assert exit_codes.DONE == done.returncode, done.stdout + done.stderr
        made.up()
        yield made
    made.check_logs()


def typed(starter: Starter, *lines: str) -> str:
    """Return what the console with --dev answers to some lines."""
    command, text = starter.command("console", "--dev"), "\n".join([*lines, "quit"])
    done = subprocess.run(command, env=starter.environment, cwd=TOP, input=text, capture_output=True, text=True, timeout=120, check=False)
    assert exit_codes.DONE == done.returncode, done.stderr
    return done.stdout


def shown_by(starter: Starter, process: ProcessPlan) -> bytes:
    """Return the certificate that a process shows to a caller."""
    folder = starter.folders.data / "certificates"
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(folder / "authority.pem")
    context.load_cert_chain(folder / "client.pem", folder / "client.key")
    address = (process.host, process.port)
    with socket.create_connection(address, CALL_S) as plain, context.wrap_socket(plain, server_hostname=process.host) as spoken:
        found = spoken.getpeercert(binary_form=True)
    assert found is not None
    return found


def test_the_console_looks_into_nodes_that_want_a_certificate(starter: Starter) -> None:
    """A seat is held, the ledger and every copy are shown, a promise deposes the primary: as the administrator, by certificate."""
    said = typed(starter, f"use {SERVICE}", "c20", "partitions AR", "log AR 3", "promise AR", "is-primary AR")
    assert "held 20C" in said and "1 seat, 1 open hold" in said, said
    assert ["node-1", "node-2", "node-3"] == [name for name in ("node-1", "node-2", "node-3") if f"{name}: promised" in said], said


@pytest.mark.skipif(not lock_servers_can(), reason="no lock server binary with TLS on this machine")
def test_new_certificates_of_lock_servers_are_taken_by_a_rolling_restart(starter: Starter) -> None:
    """Made anew by the same authority: after the command each shows the new one, all vote, and seats are sold."""
    plan = plan_of(cluster.read_config(starter.folders.config))
    names = [process.name for process in plan.of(LOCK_SERVER)]
    before = {process.name: shown_by(starter, process) for process in plan.of(LOCK_SERVER)}
    assert exit_codes.DONE == starter.run("certificates", "make").returncode
    done = starter.run("cluster", "restart", "--rolling", *names)
    assert exit_codes.DONE == done.returncode, done.stdout + done.stderr
    after = {process.name: shown_by(starter, process) for process in plan.of(LOCK_SERVER)}
    folder = starter.folders.data / "certificates"
    assert [] == [name for name in names if after[name] == before[name]]
    assert after == {name: ssl.PEM_cert_to_DER_cert((folder / f"{name}.pem").read_text()) for name in names}
    wait_until(lambda: "all is well" in starter.run("cluster", "status").stdout, "all to be well", 30)
    said = typed(starter, f"use {SERVICE}", "d20")
    assert "held 20D" in said, said


def test_a_status_from_below_the_balancers(starter: Starter) -> None:
    """No balancer answers, then no manager: what is left is shown, asked by the administrator's certificate."""
    pids = starter.pids()
    os.kill(pids[supervisor.NAME], signal.SIGKILL)
    wait_until(lambda: supervisor.NAME not in starter.pids(), "the supervisor to be dead", 30)
    for names in (("balancer-1", "balancer-2"), ("manager-1", "manager-2")):
        for name in names:
            os.kill(pids[name], signal.SIGKILL)
        wait_until(lambda names=names: not {*names} & {*starter.pids()}, f"{names} to be dead", 30)  # type: ignore[misc]
        said = starter.run("cluster", "status", "--operators")
        assert exit_codes.NO_ANSWER == said.returncode, said.stdout + said.stderr
        assert "no balancer answers: nothing can be sold" in said.stdout, said.stdout + said.stderr
        assert "node-2" in said.stdout and "AR" in said.stdout


