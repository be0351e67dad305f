"""What the edge promises its callers: answers, errors of the same class, and exact words about what may have happened."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest
import rpyc

from datastore.certificates import make_certificates
from datastore.edge import Address, EdgeClient, EdgeLimits, EdgeServer, Peer, Tls
from datastore.errors import (
    ConfigInvalid,
    HoldfastError,
    InvalidRequest,
    InvariantBroken,
    NodeUnreachable,
    NotAuthorised,
    NotPrimary,
    OutcomeUnknown,
    SeatUnavailable,
)
from tests.integration.datastore.edge_peers import (
    LOOPBACK,
    SLOW_S,
    Attempt,
    Relay,
    address_of,
    connected,
    echo,
    edge_client,
    edge_log,
    edge_server,
    plain_connection,
    plain_server,
)
from tests.waiting import wait_until

TIMEOUT_MS = 5000


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Tls]:
    return make_certificates(tmp_path_factory.mktemp("tls"), ["node/a", "lb", "manager"])


@pytest.mark.parametrize("size_bytes", [0, 1, 200, 65_530, 65_536, 300_000, 4_000_000])
def test_round_trip(size_bytes: int) -> None:
    """A payload of any size below the frame cap comes back as it went."""
    payload = bytes(index % 251 for index in range(size_bytes))
    with edge_server() as server, edge_client(server.address) as client:
        assert payload == client.call("echo", payload, TIMEOUT_MS)
        assert payload == client.call("echo", payload, TIMEOUT_MS)


@pytest.mark.parametrize("size_bytes", [0, 300_000, 4_000_000])
def test_round_trip_under_tls(certificates: dict[str, Tls], size_bytes: int) -> None:
    """The same holds under TLS, where one frame is many records."""
    payload = bytes(index % 251 for index in range(size_bytes))
    with edge_server(tls=certificates["node/a"]) as server, edge_client(server.address, tls=certificates["lb"]) as client:
        assert payload == client.call("echo", payload, TIMEOUT_MS)


def test_oversized_payload_is_refused_before_it_is_sent() -> None:
    """Nothing went out, so the refusal is definite and names both sizes."""
    with edge_server() as server, edge_client(server.address) as client:
        with pytest.raises(InvalidRequest) as caught:
            client.call("echo", bytes(4 * 1024 * 1024), TIMEOUT_MS)
        assert caught.value.fields["size_bytes"] == 4 * 1024 * 1024
        assert client.call("echo", b"x", TIMEOUT_MS) == b"x"


def test_error_keeps_its_class_and_fields() -> None:
    """What a handler raises is raised anew at the caller: class, fields, flags and request id."""

    def refuse(method: str, _payload: bytes, _peer: Peer) -> bytes:
        if method == "hold":
            raise SeatUnavailable("seat 12A is held", request_id="r1", seats=[{"seat": "12A", "state": "held"}])
        raise NotPrimary(primary="b")

    with edge_server(refuse, ("hold", "other")) as server, edge_client(server.address) as client:
        with pytest.raises(SeatUnavailable) as caught:
            client.call("hold", b"", TIMEOUT_MS)
        assert (
            caught.value.detail,
            caught.value.request_id,
            caught.value.retryable,
            caught.value.maybe_committed,
        ) == ("seat 12A is held", "r1", False, False)
        assert caught.value.fields == {"seats": [{"seat": "12A", "state": "held"}]}
        with pytest.raises(NotPrimary) as other:
            client.call("other", b"", TIMEOUT_MS)
        assert (other.value.fields, other.value.retryable) == ({"primary": "b"}, True)


@pytest.mark.parametrize("fault", [RuntimeError("secret 4711"), SystemExit(3), KeyboardInterrupt(), HoldfastError(unsendable=object())])
def test_fault_of_a_handler_is_told_without_its_text(fault: BaseException) -> None:
    """The caller gets a bare internal error that may have happened; the traceback stays in the server's log."""

    def fail(_method: str, _payload: bytes, _peer: Peer) -> bytes:
        raise fault

    with edge_log() as lines, edge_server(fail) as server, edge_client(server.address) as client:
        with pytest.raises(HoldfastError) as caught:
            client.call("echo", b"", TIMEOUT_MS)
        assert (HoldfastError, "internal", False, True) == (
            type(caught.value),
            caught.value.code,
            caught.value.retryable,
            caught.value.maybe_committed,
        )
        assert "4711" not in str(msgspec.to_builtins(caught.value.to_data()))
        assert [record.levelname for record in lines.records] == ["ERROR"]
        assert lines.records[0].exc_info is not None


@pytest.mark.parametrize("reply", [None, "text", bytearray(b"x"), bytes(5 * 1024 * 1024)])
def test_reply_that_cannot_be_sent_is_an_internal_error(reply: object) -> None:
    """A handler that gives anything but bytes that fit a frame has failed, and the connection stays usable."""
    with edge_log(), edge_server(lambda *_: reply) as server, edge_client(server.address) as client:  # type: ignore[arg-type]
        for _ in range(2):
            with pytest.raises(HoldfastError) as caught:
                client.call("echo", b"", TIMEOUT_MS)
            assert caught.value.code == "internal"


def test_broken_invariant_stops_the_node() -> None:
    """The hook runs, the log says CRITICAL, and the caller learns that the outcome is unknown."""
    stopped = threading.Event()

    def break_it(_method: str, _payload: bytes, _peer: Peer) -> bytes:
        raise InvariantBroken("two owners of 12A")

    with edge_log() as lines, edge_server(break_it, on_broken=stopped.set) as server, edge_client(server.address) as client:
        with pytest.raises(OutcomeUnknown):
            client.call("echo", b"", TIMEOUT_MS)
        assert stopped.is_set()
        assert [record.levelname for record in lines.records] == ["CRITICAL"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # Plain RPyC's, when its server is closed.
def test_peer_cannot_stop_its_caller() -> None:
    """An InvariantBroken that comes over the wire is the peer's: here it is an unknown outcome."""
    data = b"\x01" + msgspec.msgpack.encode(InvariantBroken("yours too").to_data())

    class Spreading(rpyc.Service):  # type: ignore[misc]
        def exposed_call(self, _method: str, _payload: bytes) -> bytes:
            return data

    with plain_server(Spreading) as plain, edge_client(address_of(plain)) as client, pytest.raises(OutcomeUnknown):
        client.call("echo", b"", TIMEOUT_MS)


BREAKING_SERVER = """
import threading
from datastore.edge import Address, EdgeServer
from datastore.errors import InvariantBroken
def break_it(method, payload, peer):
    raise InvariantBroken("two owners of 12A")
server = EdgeServer(Address("127.0.0.1", 0), break_it, methods=["hold"])
server.start()
print(server.address.port, flush=True)
threading.Event().wait(30)
"""


def test_broken_invariant_ends_the_process_by_default() -> None:
    """Without a hook the process is gone before anything is answered, and its exit status says why."""
    command = [sys.executable, "-c", BREAKING_SERVER]
    checkout = Path(__file__).parents[3]
    with subprocess.Popen(command, cwd=checkout, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = Address(LOOPBACK, int(process.stdout.readline()))
        with edge_client(address) as client, pytest.raises(OutcomeUnknown):
            client.call("hold", b"", TIMEOUT_MS)
        _, written = process.communicate(timeout=10)
        assert process.returncode == 70
        assert "two owners of 12A" in written


def test_unknown_method_is_refused_with_the_nearest() -> None:
    """Only listed methods reach the handler."""
    with edge_server(echo, ("hold", "release")) as server, edge_client(server.address) as client:
        with pytest.raises(InvalidRequest) as caught:
            client.call("holt", b"", TIMEOUT_MS)
        assert caught.value.fields == {"method": "holt", "nearest": ["hold"]}


def test_roles_under_tls(certificates: dict[str, Tls]) -> None:
    """A method is open to the roles it lists; one that lists none is closed."""

    def who(_method: str, _payload: bytes, peer: Peer) -> bytes:
        return f"{peer.role}/{peer.name}".encode()

    roles = {"hold": ["lb", "manager"], "promise": ["manager", "node"]}
    with edge_server(who, ("hold", "promise", "debug"), tls=certificates["node/a"], roles=roles) as server:
        with edge_client(server.address, tls=certificates["lb"]) as balancer:
            assert balancer.call("hold", b"", TIMEOUT_MS) == b"lb/"
            for method in ("promise", "debug"):
                with pytest.raises(NotAuthorised):
                    balancer.call(method, b"", TIMEOUT_MS)
        with edge_client(server.address, tls=certificates["node/a"]) as node:
            assert node.call("promise", b"", TIMEOUT_MS) == b"node/a"


def test_strangers_are_refused_under_tls(certificates: dict[str, Tls], tmp_path: Path) -> None:
    """No certificate, another authority's, or one without a role: unreachable for them, one line each in the log."""
    stranger = make_certificates(tmp_path / "other", ["lb"])["lb"]
    posing = Tls(stranger.certificate, stranger.key, certificates["lb"].authorities)
    with edge_log() as lines, edge_server(tls=certificates["node/a"]) as server:
        for tls in (None, posing, stranger):
            with edge_client(server.address, tls=tls) as client, pytest.raises(NodeUnreachable):
                client.call("echo", b"", TIMEOUT_MS)
        wait_until(lambda: len(lines.records) >= 3, "a line for each", 3)
        assert len(lines.texts("closed the connection")) == 3


def test_certificate_for_another_host_is_refused(tmp_path: Path) -> None:
    """A valid certificate does not serve at an address that it does not name."""
    tls = make_certificates(tmp_path, ["node/a"], ["elsewhere.example"])["node/a"]
    refused = pytest.raises(NodeUnreachable, match="not valid for")
    with edge_log(), edge_server(tls=tls) as server, edge_client(server.address, tls=tls) as client, refused:
        client.call("echo", b"", TIMEOUT_MS)


def test_new_certificates_need_no_restart(tmp_path: Path) -> None:
    """Files that change are used by the next handshake; until they fit each other the last good ones are."""
    first = make_certificates(tmp_path / "first", ["node/a"])["node/a"]
    second = make_certificates(tmp_path / "second", ["node/a"])["node/a"]
    with edge_log() as lines, edge_server(tls=first) as server:
        first_key = first.key.read_bytes()
        first.key.write_bytes(second.key.read_bytes())
        with edge_client(server.address, tls=Tls(first.certificate, _copy(tmp_path / "k", first_key), first.authorities)) as client:
            assert client.call("echo", b"old", TIMEOUT_MS) == b"old"
        assert len(lines.texts("cannot be used")) == 1
        for changed, source in ((first.certificate, second.certificate), (first.authorities, second.authorities)):
            changed.write_bytes(source.read_bytes())
        with edge_client(server.address, tls=second) as client:
            assert client.call("echo", b"new", TIMEOUT_MS) == b"new"


def _copy(path: Path, content: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


def test_missing_tls_files_are_named(tmp_path: Path) -> None:
    """A configuration that cannot work is refused when the server is made."""
    with pytest.raises(ConfigInvalid, match=r"none\.pem"):
        EdgeServer(Address(LOOPBACK, 0), echo, methods=[], tls=Tls(tmp_path / "none.pem", tmp_path / "none.key", tmp_path / "ca.pem"))


def test_busy_port_is_named() -> None:
    """Two servers on one port: the second says which port."""
    with edge_server() as server:
        second = EdgeServer(server.address, echo, methods=["echo"])
        with pytest.raises(ConfigInvalid, match=f"port {server.address.port} ") as caught:
            second.start()
        assert server.address.port == caught.value.fields["port"]


def test_nobody_listens() -> None:
    """A refused connection is definite, at once."""
    with edge_server() as server:
        address = server.address
    with edge_client(address) as client, pytest.raises(NodeUnreachable) as caught:
        client.call("echo", b"", TIMEOUT_MS)
    assert (False, str(address)) == (caught.value.maybe_committed, caught.value.fields["node"])


def test_restart_of_the_peer_is_invisible_to_the_next_call() -> None:
    """Connections that died while idle are found dead before anything is sent on them."""
    with edge_server() as server:
        client = EdgeClient(server.address)
        gate = threading.Barrier(4)
        calls = [Attempt(lambda: (gate.wait(5), client.call("echo", b"x", TIMEOUT_MS))[1]) for _ in range(4)]
        assert all(call.ends_within(10) for call in calls)
    with edge_server(port=server.address.port):
        assert client.call("echo", b"again", TIMEOUT_MS) == b"again"
    client.close()


@pytest.mark.parametrize("kept_bytes", [0, 8])
def test_lost_reply_is_an_unknown_outcome(kept_bytes: int) -> None:
    """The handler ran and the reply was cut off: only the caller's request id can tell what happened."""
    seen = []

    def note(_method: str, payload: bytes, _peer: Peer) -> bytes:
        seen.append(payload)
        return payload

    with edge_server(note) as server, Relay(server.address) as relay, edge_client(relay.address) as client:
        client.call("echo", b"first", TIMEOUT_MS)
        relay.replies_left = kept_bytes
        call = Attempt(lambda: client.call("echo", b"second", 300))
        assert call.ends_within(SLOW_S)
        assert isinstance(call.error, OutcomeUnknown)
        assert call.error.maybe_committed
        assert 0.3 <= call.elapsed_s
        assert seen == [b"first", b"second"]
        relay.replies_left = None
        assert client.call("echo", b"third", TIMEOUT_MS) == b"third"  # Not the late reply to the second.


def test_late_reply_never_answers_another_call() -> None:
    """After a timeout the next call gets its own answer, however soon it comes."""
    release = threading.Event()

    def late(_method: str, payload: bytes, _peer: Peer) -> bytes:
        if payload == b"slow":
            release.wait(0.5)
        return payload

    with edge_server(late) as server, edge_client(server.address) as client:
        with pytest.raises(OutcomeUnknown):
            client.call("echo", b"slow", 100)
        assert client.call("echo", b"quick", TIMEOUT_MS) == b"quick"
        release.set()


def test_sixteen_threads_share_a_client() -> None:
    """Every thread gets its own answers."""

    def many(thread: int) -> int:
        return sum(client.call("echo", b"%d-%d" % (thread, n), 20_000) == b"%d-%d" % (thread, n) for n in range(200))

    with edge_server() as server, edge_client(server.address, connect_ms=5000) as client:
        attempts = [Attempt(lambda thread=thread: many(thread)) for thread in range(16)]  # type: ignore[misc]
        assert all(attempt.ends_within(60) for attempt in attempts)
        assert [attempt.result for attempt in attempts] == [200] * 16


def test_connections_over_the_cap_are_closed() -> None:
    """The cap holds, says so, and a place that becomes free can be taken."""
    limits = EdgeLimits(connections_max=2)
    with edge_log() as lines, edge_server(limits=limits) as server:
        clients = [EdgeClient(server.address) for _ in range(3)]
        for client in clients[:2]:
            client.call("echo", b"", TIMEOUT_MS)
        with pytest.raises(NodeUnreachable):
            clients[2].call("echo", b"", TIMEOUT_MS)
        wait_until(lambda: lines.texts("over 2 connections"), "the line about the cap", 2)
        clients[0].close()
        wait_until(lambda: _answers(clients[2]), "the place of the closed client", 3)
        for client in clients:
            client.close()


def _answers(client: EdgeClient) -> bool:
    try:
        return client.call("echo", b"x", TIMEOUT_MS) == b"x"
    except NodeUnreachable:
        return False


def test_silent_tcp_client_is_ended_without_tls_too() -> None:
    """A connection that never says a word must not keep one of the server's places."""
    with edge_log() as lines, edge_server(limits=EdgeLimits(handshake_ms=300)) as server, connected(server.address) as sock:
        sock.settimeout(3)
        assert sock.recv(1) == b""
        wait_until(lambda: lines.texts("silent for 300 ms"), "the line about the silent connection", 3)


def test_closed_client_refuses() -> None:
    """A call on a closed client never starts."""
    with edge_server() as server:
        client = EdgeClient(server.address)
        client.close()
        with pytest.raises(NodeUnreachable, match="closed"):
            client.call("echo", b"", TIMEOUT_MS)


def test_plain_rpyc_client_reaches_call_and_nothing_else() -> None:
    """The wire is RPyC's own: a person with a plain client can call, and any other attribute ends the connection."""
    with edge_log() as lines, edge_server() as server:
        connection = plain_connection(server.address.port, sync_request_timeout=5)
        assert connection.root.call("echo", b"hello") == b"\x00hello"
        with pytest.raises(EOFError):
            _ = connection.root.get_service_name
        wait_until(lambda: lines.texts("not exposed"), "the line about the attribute", 2)
        connection.close()
