"""Nonsense on every RPyC port: the servers survive, say so in one line at most, and go on selling."""

from __future__ import annotations

import collections
import random
import re
import socket
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from rpyc.core import brine, consts

from client import api
from datastore import messages, wire
from datastore.edge import Address, EdgeClient
from datastore.edge_channel import FLUSHER, FRAME_HEADER
from datastore.errors import HoldfastError, NodeUnreachable, OutcomeUnknown
from datastore.stub import METHODS as NODE_METHODS
from manager.server import METHODS as MANAGER_METHODS
from tests.faults.buyers import assert_replicas_equal, running, seats_of, services_of
from tests.integration.harness import FAULT_MARKS, ClusterUnderTest
from tests.waiting import wait_until

SEED = 20_261_121
PORTS = ("node-1", "manager-1", "balancer-1")
METHODS = {"node": tuple(NODE_METHODS), "manager": tuple(MANAGER_METHODS), "balancer": tuple(messages.METHODS)}
LONG = "A" * 1_000_000
STALL_S = 40  # Half a frame is waited for no longer than the edge's read_stall_ms.


def frame(body: bytes) -> bytes:
    return FRAME_HEADER.pack(len(body), 0) + body + FLUSHER


def request(handler: object, boxed: object) -> bytes:
    return frame(bytes([consts.MSG_REQUEST]) + brine.dump((1, (handler, boxed))))


NOISE = {
    "http": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "tls": bytes.fromhex("1603010200010001fc0303") + bytes(200),
    "redis": b"*1\r\n$4\r\nPING\r\n",
    "zeros": bytes(4096),
    "ones": b"\xff" * 4096,
    "4 GiB announced": b"\xff\xff\xff\xff\x00",
    "half a header": b"\x00\x00",
    "half a frame": frame(b"\x01" * 100)[:50],
    "pickle": request(consts.HANDLE_PICKLE, (1, ())),
    "a call of print": request(consts.HANDLE_CALL, (consts.LABEL_VALUE, ("print", ("x",)))),
    "a deep tuple": frame(b"\x01" + brine.TAG_TUP1 * 10_000 + brine.TAG_NONE),
    "terminal escapes": b"\x1b[2J\x1b]0;owned\x07" * 20,
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterUnderTest]:
    with running(tmp_path_factory.mktemp("malformed")) as made:
        yield made


def address_of(cluster: ClusterUnderTest, name: str) -> Address:
    process = cluster.plan.process(name)
    return Address(process.host, process.port)


def log_of(cluster: ClusterUnderTest, name: str) -> list[str]:
    return cluster.folders.log(name).read_text(encoding="utf-8", errors="replace").splitlines()


def assert_well(cluster: ClusterUnderTest, pids: dict[str, int], word: str) -> None:
    """Every process is the one it was, no log has a fault in it, and a seat is sold."""
    assert pids == {name: process.pid for name, process in cluster.running.items() if process.poll() is None}
    for path in cluster.folders.logs.glob("*.log"):
        text = path.read_text(encoding="utf-8", errors="replace")
        assert not [mark for mark in FAULT_MARKS if mark in text], f"{path.name}: {text[-3000:]}"
        assert "\x1b" not in text and "\x07" not in text, f"{path.name} has control characters of a stranger"
    service = services_of(cluster, "LUM", 3)[0].service_id
    client = cluster.client(f"owner-after-{word}")
    client.confirm(client.hold_any(service, 1).hold_id, [api.Passenger("Byron")])


def pids_of(cluster: ClusterUnderTest) -> dict[str, int]:
    return {name: process.pid for name, process in cluster.running.items()}


@pytest.mark.parametrize("name", PORTS)
def test_noise_costs_one_connection_and_one_line(cluster: ClusterUnderTest, name: str) -> None:
    """Each kind of noise, and random bytes plain and in good frames: the connection ends, with one line for each at most."""
    pids, dice = pids_of(cluster), random.Random(SEED)
    pieces = list(NOISE.values())
    pieces += [dice.randbytes(dice.randrange(1, 300)) for _ in range(30)]
    pieces += [frame(bytes([dice.choice([1, 2, 3])]) + dice.randbytes(dice.randrange(1, 200))) for _ in range(30)]
    where, ours = address_of(cluster, name), []
    for piece in pieces:
        with socket.create_connection((where.host, where.port), timeout=10) as sock:
            ours.append("{}:{}".format(*sock.getsockname()))
            try:
                sock.sendall(piece)
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(65_536):
                    pass
            except ConnectionError:
                pass  # Reset: closed with bytes of ours unread.
    # Lines about its own work name none of our ports.
    told = collections.Counter(re.findall(r"127\.0\.0\.1:\d+", "\n".join(log_of(cluster, name))))
    assert {address: told[address] for address in ours if told[address] > 1} == {}
    assert any(told[address] for address in ours)
    assert_well(cluster, pids, name)


@pytest.mark.parametrize("name", PORTS)
def test_a_hundred_that_say_nothing(cluster: ClusterUnderTest, name: str) -> None:
    """Connections that stay silent, or stop in the middle of a frame, do not keep others from being served."""
    pids = pids_of(cluster)
    where = address_of(cluster, name)
    silent = [socket.create_connection((where.host, where.port), timeout=10) for _ in range(100)]
    try:
        for number, sock in enumerate(silent):
            sock.sendall(b"" if number % 2 else frame(b"\x01" * 100)[:50])
        assert_well(cluster, pids, f"silence-{name}")
    finally:
        for sock in silent:
            sock.close()


def wrong_payloads(dice: random.Random) -> list[bytes]:
    """Return payloads that are no message of anybody, or almost one."""
    things: list[Any] = [
        None, True, -1, 2**63, 2**64 - 1, 1.5, float("nan"), "", "x", LONG, b"", b"\xff", [], [[]], {}, {"a": 1}, [1, 2, 3],
        [2**63, []], [-5, []], [0, []], [10**12, []], [1000, [["LUM", b"\xff", {}]]], [1000, [["NOPE", b"\x90", {}]]],
        [1000, [["LUM", b"\x90", {}]]], [1000, [[LONG, b"\x90", {}]]], [1000, [["\x1b[2J\x00", b"\x90", {}]]],
        [1000, [["LUM", "seats", {"service_id": LONG}]]], [1000, [["LUM", LONG, {}]]], [1000, [["LUM", "holds", {"owner": 7}]]],
        [1000, [["LUM", "orders", {"references": [None, 7, "\x00", LONG]}]]],
        [1000, [["LUM", "seats", {"service_id": "LUM\x00"}]]],
        [["LUM", b"\x90", {}]], [["LUM", "seats", {}]], [["LUM", [-1, "x"]]], [["\x00../../etc/passwd", {}]], [["../evil", {}]],
        ["node-1", {"LUM": [-1, b""]}, 0], ["node-1", {"LUM": [2**62, b"x"]}, 0], ["node-1", {"LUM": [1, b"x" * 32]}, 10**15],
        ["node-9", {}, 0], ["node-1", "LUM", [0, ""], -5], ["node-1", "LUM", [999, "x"], 2**62], ["node-1", LONG, [0, ""], 5],
        ["LUM", -1, -1], ["LUM", 0, 2**62], ["LUM", 2**62, 5], [LONG, 1, 1], [1000, [["../x", "", LONG]]], [1000, [["lower"]]],
        {"request_id": "abcdefgh", "owner_key": LONG}, {"deadline_ms": 2**62}, {"deadline_ms": -1}, {"service_id": "\x00"},
        {"date": LONG}, {"date": "\x1b[2J"}, {"like": "\x00" * 60}, {"reference": "\x1b[2J", "surname": "\x07"},
    ]  # fmt: skip
    payloads = [msgspec.msgpack.encode(thing) for thing in things]
    payloads += [b"", b"\xc1", b"\x91" * 5_000, b"\xdd\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", payloads[9][:5000]]
    # Lists in lists where anything may stand: as deep as a reader goes, deeper than the next one may, and far too deep.
    nested = msgspec.msgpack.encode([1000, [["LUM", "seats", {"a": 0}]]])[:-1]
    payloads += [nested + b"\x91" * depth + b"\x90" for depth in (100, 400, 600, 800, 950, 5_000)]
    payloads += [nested + b"\xa1\xff", nested + b"\xd6\x05abcd", nested + b"\xc1"]
    payloads += [dice.randbytes(dice.randrange(1, 100)) for _ in range(20)]
    return payloads


@pytest.mark.parametrize("name", PORTS)
def test_wrong_payloads_to_every_method(cluster: ClusterUnderTest, name: str) -> None:
    """Every method of every tier takes anything: an error as data, no line in the log that is a fault, nothing changed."""
    pids = pids_of(cluster)
    dice = random.Random(SEED)
    where = address_of(cluster, name)
    kind = name.rpartition("-")[0]
    before = assert_replicas_equal(cluster, "LUM")
    met: dict[str, set[str]] = {}
    for method in METHODS[kind]:
        client = EdgeClient(where, plane="control")
        for payload in wrong_payloads(dice):
            try:
                client.call(method, payload, 15_000)
            except HoldfastError as error:
                met.setdefault(method, set()).add(error.code)
                assert not isinstance(error, NodeUnreachable), (method, payload[:80], error.detail)
                assert error.code != "internal", (method, payload[:80], error.detail)
                assert not isinstance(error, OutcomeUnknown), (method, payload[:80], error.detail)
                assert len(error.detail) < 2_000, (method, payload[:80], error.detail[:200])
        client.close()
    assert all("invalid_request" in codes for method, codes in met.items() if method not in ("status", "topology")), met
    assert before == assert_replicas_equal(cluster, "LUM")
    assert_well(cluster, pids, f"payloads-{name}")


@pytest.mark.parametrize("name", PORTS)
def test_unknown_methods(cluster: ClusterUnderTest, name: str) -> None:
    """A method that is not there is refused by name, whatever its name is."""
    pids = pids_of(cluster)
    client = EdgeClient(address_of(cluster, name))
    for method in ("", "nothing", "__class__", "exposed_call", "hold\n", "\x1b[2J", "a" * 10_000, "_handle", "close"):
        with pytest.raises(HoldfastError) as raised:
            client.call(method, b"", 5_000)
        assert raised.value.code == "invalid_request", (method[:20], raised.value.code)
    client.close()
    assert_well(cluster, pids, f"methods-{name}")


def test_commands_that_a_balancer_never_sends(cluster: ClusterUnderTest) -> None:
    """Straight at the primary: each wrong command is refused alone, those beside it in the same message are decided."""
    pids = pids_of(cluster)
    service = services_of(cluster, "LUM", 5)[0].service_id
    seats = seats_of(cluster, service)
    manager = EdgeClient(address_of(cluster, "manager-1"))

    def hold(word: str, **changes: Any) -> wire.Hold:
        fields: dict[str, Any] = dict(
            request_id=f"direct-{word}", digest=word.encode(), hold_id=f"LUM.{word}", owner="me", service_id=service, seats=(seats[0],),
            ttl_ms=60_000, generation=1, counter=2**40, nonce="n" * 32, currency="USD", prices=(1,), refundable_percent=0,
            owner_holds_max=99, service_holds_max=99,
        )  # fmt: skip
        return wire.Hold(**{**fields, **changes})

    wrong: list[wire.AnyCommand] = [
        hold("no-seats", seats=(), prices=()),
        hold("unknown-seat", seats=("ZZ9",)),
        hold("twice", seats=(seats[0], seats[0]), prices=(1, 1)),
        hold("prices", prices=()),
        hold("no-time", ttl_ms=0),
        hold("less-than-no-time", ttl_ms=-(2**62)),
        hold("no-service", service_id="LUM\x00-X-2030-01-01"),
        hold("long-service", service_id=LONG),
        hold("others-service", service_id="GRANDHAMLET-GRANDHAL-2030-01-01"),
        wire.Extend("direct-extend", b"", "LUM.none", "me", -1, 1),
        wire.Confirm("direct-confirm", b"", "LUM.none", "me", (), b"", b""),
        wire.Cancel("direct-cancel", b"", "\x00", b""),
        wire.SetService("direct-service", b"", service, 99, ""),
        wire.SetOperator("direct-operator", b"", "OTHER", "x", "airline", b""),
        wire.Import("direct-import", b"", "venues", b"not zlib"),
        wire.Import("direct-dataset", b"", "../../x", b"x\x9c\x03\x00\x00\x00\x00\x01"),
        wire.Unblock("direct-unblock", b"", service, (seats[0],)),
        wire.Block("direct-block", b"", service, ("ZZ9",), LONG, 1, 1, ""),
    ]
    good = hold("right")
    commands = [*wrong, good, wire.Release("direct-end", b"", good.hold_id, "me")]
    payload = wire.encode((8_000, [wire.SubmitItem("LUM", wire.encode(commands))]))
    results: list[wire.SubmitResult] = wire.decode(list[wire.SubmitResult], manager.call("submit", payload, 10_000))
    manager.close()
    assert not results[0].error, results[0].error
    outcomes: list[wire.Outcome] = wire.decode(wire.OUTCOMES, results[0].outcomes)
    codes = [outcome.error.get("code", "") for outcome in outcomes]
    assert all(codes[: len(wrong)]) and "internal" not in codes, list(zip(codes, wrong, strict=False))
    assert ["", ""] == codes[len(wrong) :]
    assert_well(cluster, pids, "commands")


def test_half_a_frame_is_not_waited_for_for_ever(cluster: ClusterUnderTest) -> None:
    """A peer that stops in the middle of a frame is let go after the edge's stall limit, with one line."""
    where = {name: address_of(cluster, name) for name in PORTS}
    sockets = {name: socket.create_connection((at.host, at.port), timeout=STALL_S) for name, at in where.items()}
    try:
        for sock in sockets.values():
            sock.sendall(frame(b"\x01" * 100)[:50])
        for name, sock in sockets.items():
            mine = f"{sock.getsockname()[0]}:{sock.getsockname()[1]}"
            assert sock.recv(1) == b"", name
            wait_until(lambda name=name, mine=mine: any(mine in line for line in log_of(cluster, name)), "a line about it", 5)  # type: ignore[misc]
            assert 1 == sum(mine in line for line in log_of(cluster, name))
    finally:
        for sock in sockets.values():
            sock.close()
