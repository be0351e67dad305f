"""What a caller may get wrong: each gets its own error, with the nearest right word where there is one, and changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
import pytest

from client import api
from datastore import messages
from datastore.edge import Address, EdgeClient
from datastore.errors import HoldfastError
from tests.faults.buyers import BOTH, assert_replicas_equal, gathered, running, seats_of, services_of
from tests.integration.harness import ClusterUnderTest
from tests.waiting import wait_until

OWNER = "owner-of-the-bad-input"
TOKEN = "x" * 32
LONG = "A" * 1_000_000
ADA = [api.Passenger("Byron", "Ada")]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterUnderTest]:
    with running(tmp_path_factory.mktemp("bad-input")) as made:
        yield made


@dataclass
class Scene:
    """What the wrong requests are about: a service with one seat of every state."""

    client: api.Holdfast
    service: str
    seats: list[str]
    held: messages.HoldAnswer
    confirmed: messages.HoldAnswer
    order: messages.OrderAnswer
    foreign: messages.HoldAnswer
    expired: messages.HoldAnswer
    operator_key: str


@pytest.fixture(scope="module")
def scene(cluster: ClusterUnderTest) -> Scene:
    client, other = cluster.client(OWNER), cluster.client("another-owner-entirely")
    service = next(one.service_id for one in services_of(cluster, "LUM", 3) if "-LUMEN1-" in one.service_id)
    seats = seats_of(cluster, service)
    held, confirmed = client.hold(service, seats[:2]), client.hold(service, seats[2:3])
    order = client.confirm(confirmed.hold_id, ADA)
    foreign = other.hold(service, seats[3:4])
    expired = client.hold(service, seats[4:5], ttl_ms=1_000)
    key = cluster.operator_key("LUM")
    blocked = client.block(key, service, seats[5:6], "broken")
    # Until every balancer shows its seat free again: what comes back by itself later would look like an effect.
    for name in ("balancer-1", "balancer-2"):
        one = cluster.client(OWNER, balancers=[name])

        def is_back(one: api.Holdfast = one) -> bool:
            shown = one.seat_map(service, min_lsn=blocked.lsn)
            return not shown.partial and {seat.seat_id: seat.state for seat in shown.seats}[seats[4]] == "available"

        wait_until(is_back, f"{name} to show that the hold ran out", 10)
    assert "expired" == client.get_hold(expired.hold_id).state
    return Scene(client, service, seats, held, confirmed, order, foreign, expired, key)


Wrong = Callable[[Scene], Any]

# What is asked, the code of the error, and words that its detail must hold.
CASES: dict[str, tuple[Wrong, str, str]] = {
    "unknown operator": (lambda s: s.client.services("2030-01-01", operator="LUN"), "unknown_operator", "LUM"),
    "unknown operator in a service": (lambda s: s.client.hold("XQ12-EZE-2030-01-01", ["1A"]), "unknown_operator", ""),
    "no list of seats": (lambda s: s.client.hold(s.service, None), "invalid_request", "NoneType"),  # type: ignore[arg-type]
    "unknown place": (lambda s: s.client.services("2030-01-01", origin="GRANDD"), "unknown_place", "GRAND"),
    "unknown service": (lambda s: s.client.hold(s.service.replace("LUMEN1", "LUMEN9"), ["A5"]), "unknown_service", "LUM"),
    "a day it does not run": (lambda s: s.client.hold(s.service[:-10] + "2020-01-01", ["A5"]), "unknown_service", ""),
    "not a service": (lambda s: s.client.hold("whatever", ["A5"]), "invalid_request", "whatever"),
    "unknown seat": (lambda s: s.client.hold(s.service, [s.seats[6], "ZZ99"]), "unknown_seat", "ZZ99"),
    "unknown seat, near": (lambda s: s.client.hold(s.service, ["G44"]), "unknown_seat", "G4"),
    "no seats": (lambda s: s.client.hold(s.service, []), "invalid_request", "seat"),
    "a seat twice": (lambda s: s.client.hold(s.service, [s.seats[6], s.seats[6]]), "invalid_request", "twice"),
    "a seat twice, in two spellings": (
        lambda s: s.client.hold(s.service, [s.seats[6], s.seats[6].lower()]),
        "invalid_request",
        "twice",
    ),
    "ten seats": (lambda s: s.client.hold(s.service, s.seats[10:20]), "invalid_request", "9"),
    "ten of the best": (lambda s: s.client.hold_any(s.service, 10), "invalid_request", "9"),
    "none of the best": (lambda s: s.client.hold_any(s.service, 0), "invalid_request", "0"),
    "minus one of the best": (lambda s: s.client.hold_any(s.service, -1), "invalid_request", "-1"),
    "a huge number of the best": (lambda s: s.client.hold_any(s.service, 2**62), "invalid_request", ""),
    "seats and how many": (lambda s: ask(s, "hold", hold(s, seats=[s.seats[6]], count=2)), "invalid_request", "both"),
    "unknown cabin": (lambda s: s.client.hold_any(s.service, 1, cabin="SKY"), "invalid_request", "HALL"),
    "a negative time": (lambda s: s.client.hold(s.service, s.seats[6:7], ttl_ms=-5), "invalid_request", "ttl_ms"),
    "a time of years": (lambda s: s.client.hold(s.service, s.seats[6:7], ttl_ms=2**62), "invalid_request", "ttl_ms"),
    "an hour": (lambda s: s.client.hold(s.service, s.seats[6:7], ttl_ms=3_600_000), "invalid_request", "30 minutes"),
    "control characters in a seat": (lambda s: s.client.hold(s.service, ["A\x1b[2J"]), "unknown_seat", "\\x1b"),
    "control characters in a service": (lambda s: s.client.hold("LUM\x00\n-X-2030-01-01", ["A5"]), "invalid_request", "\\x00"),
    "a line feed in a request id": (lambda s: s.client.hold(s.service, s.seats[6:7], request_id="abcdefgh\n"), "invalid_request", ""),
    "a short request id": (lambda s: s.client.hold(s.service, s.seats[6:7], request_id="a"), "invalid_request", "request_id"),
    "1 MB of seat": (lambda s: s.client.hold(s.service, [LONG]), "invalid_request", "seats"),
    "1 MB of service": (lambda s: s.client.hold(LONG, ["A5"]), "invalid_request", "service_id"),
    "a million seats": (lambda s: s.client.hold(s.service, ["A5"] * 1_000_000), "invalid_request", "seats"),
    "a taken seat": (lambda s: s.client.hold(s.service, [s.seats[3], s.seats[6]]), "seat_unavailable", ""),
    "an occupied seat": (lambda s: s.client.hold(s.service, s.seats[2:3]), "seat_unavailable", ""),
    "a blocked seat": (lambda s: s.client.hold(s.service, s.seats[5:6]), "seat_blocked", ""),
    "a confirmed hold confirmed": (lambda s: s.client.confirm(s.confirmed.hold_id, ADA), "already_confirmed", ""),
    "a confirmed hold released": (lambda s: s.client.release(s.confirmed.hold_id), "already_confirmed", ""),
    "a confirmed hold extended": (lambda s: s.client.extend(s.confirmed.hold_id, 60_000), "already_confirmed", ""),
    "another's hold confirmed": (lambda s: s.client.confirm(s.foreign.hold_id, ADA), "hold_not_yours", ""),
    "another's hold, wrong count": (lambda s: s.client.confirm(s.foreign.hold_id, ADA * 2), "hold_not_yours", ""),
    "another's hold released": (lambda s: s.client.release(s.foreign.hold_id), "hold_not_yours", ""),
    "another's hold extended": (lambda s: s.client.extend(s.foreign.hold_id, 60_000), "hold_not_yours", ""),
    "another's hold looked at": (lambda s: s.client.get_hold(s.foreign.hold_id), "hold_not_yours", ""),
    "an expired hold confirmed": (lambda s: s.client.confirm(s.expired.hold_id, ADA), "hold_expired", ""),
    "an expired hold released": (lambda s: s.client.release(s.expired.hold_id), "hold_expired", ""),
    "an expired hold extended": (lambda s: s.client.extend(s.expired.hold_id, 60_000), "hold_expired", ""),
    "unknown hold": (lambda s: s.client.release("LUM.nothing-like-it"), "unknown_hold", ""),
    "unknown hold confirmed": (lambda s: s.client.confirm("LUM.nothing-like-it", ADA), "unknown_hold", ""),
    "not a hold": (lambda s: s.client.release("\x00\x01"), "unknown_hold", ""),
    "1 MB of hold": (lambda s: s.client.release(LONG), "invalid_request", "hold_id"),
    "too few passengers": (lambda s: s.client.confirm(s.held.hold_id, ADA), "invalid_request", "2 seats"),
    "nobody": (lambda s: s.client.confirm(s.held.hold_id, []), "invalid_request", "passengers"),
    "no surname": (lambda s: s.client.confirm(s.held.hold_id, [api.Passenger(" "), *ADA]), "invalid_request", "surname"),
    "control characters in a name": (
        lambda s: s.client.confirm(s.held.hold_id, [api.Passenger("By\x1b[31mron"), *ADA]),
        "invalid_request",
        "\\x1b",
    ),
    "1 MB of surname": (lambda s: s.client.confirm(s.held.hold_id, [api.Passenger(LONG), *ADA]), "invalid_request", ""),
    "a negative extension": (lambda s: s.client.extend(s.held.hold_id, -1), "invalid_request", "ttl_ms"),
    "unknown order": (lambda s: s.client.order("ZZZZZZ", surname="Byron"), "unknown_order", ""),
    "an order, wrong name": (lambda s: s.client.order(s.order.reference, surname="Lovelace"), "unknown_order", ""),
    "an order, wrong token": (lambda s: s.client.order(s.order.reference, token=TOKEN), "unknown_order", ""),
    "an order, nothing shown": (lambda s: s.client.order(s.order.reference), "invalid_request", ""),
    "cancelled with a wrong token": (lambda s: s.client.cancel(s.order.reference, TOKEN), "unknown_order", ""),
    "control characters in a reference": (lambda s: s.client.order("\x00\x07\x1b", surname="Byron"), "unknown_order", ""),
    "blocked by nobody": (lambda s: s.client.block(TOKEN, s.service, s.seats[6:7], "x"), "not_authorised", ""),
    "blocked, taken": (lambda s: s.client.block(s.operator_key, s.service, s.seats[2:4], "x"), "seat_unavailable", ""),
    "unblocked, not blocked": (lambda s: s.client.unblock(s.operator_key, s.service, s.seats[6:7]), "invalid_request", "not blocked"),
    "an unknown state": (lambda s: s.client.change_service(s.operator_key, s.service, "shut"), "invalid_request", "shut"),
    "a manifest for nobody": (lambda s: s.client.manifest(TOKEN, s.service), "not_authorised", ""),
    "a date that is none": (lambda s: s.client.services("2030-02-30"), "invalid_request", "2030-02-30"),
    "a huge page": (lambda s: ask(s, "services", messages.ListServices(date="2030-01-01", limit=10**9)), "invalid_request", "limit"),
    "an operator for nobody": (lambda s: s.client.create_operator(TOKEN, "NEW", "New", "airline"), "not_authorised", ""),
}


def hold(scene: Scene, **changes: Any) -> messages.HoldSeats:
    fields: dict[str, Any] = {"request_id": api.new_request_id(), "owner_key": OWNER, "service_id": scene.service, **changes}
    return messages.HoldSeats(**fields)


def ask(scene: Scene, method: str, request: messages.Request) -> messages.Answer:
    return scene.client.call(method, request)


def told(cluster: ClusterUnderTest, scene: Scene) -> tuple[list[tuple[str, str]], list[Any], list[str], int]:
    """Return everything that a wrong request might have changed: seats, manifest, holds; and the service's taken seats."""
    manifest = scene.client.manifest(scene.operator_key, scene.service)
    seen = scene.client.seat_map(scene.service, min_lsn=manifest.lsn)
    holds = sorted(one.hold_id for one in scene.client.my_holds().holds)
    return [(one.seat_id, one.state) for one in seen.seats], [*manifest.lines, *manifest.blocked], holds, manifest.held


@pytest.mark.parametrize("what", CASES)
def test_a_wrong_request_is_told_so_and_changes_nothing(cluster: ClusterUnderTest, scene: Scene, what: str) -> None:
    """The code says which kind of wrong it is, the detail names the thing; seats, orders and holds are as before."""
    wrong, code, words = CASES[what]
    before = told(cluster, scene)
    with pytest.raises(HoldfastError) as raised:
        wrong(scene)
    assert (code, False) == (raised.value.code, raised.value.maybe_committed), raised.value.detail
    assert words in raised.value.detail
    assert len(raised.value.detail) < 1_000 and raised.value.detail.isprintable()
    assert before == told(cluster, scene)


# The same as bytes, past the client's own checks: what a program of somebody else may send.
RAW: dict[str, tuple[str, dict[str, Any], str]] = {
    "an unknown field": ("hold", {"colour": "red"}, "invalid_request"),
    "a missing field": ("hold", {"service_id": None}, "invalid_request"),
    "a number for a text": ("hold", {"service_id": 7}, "invalid_request"),
    "a text for a list": ("hold", {"seats": "A5"}, "invalid_request"),
    "a list of lists": ("hold", {"seats": [["A5"]]}, "invalid_request"),
    "a huge number": ("hold", {"count": 2**63}, "invalid_request"),
    "a negative number": ("hold", {"count": -3}, "invalid_request"),
    "a float": ("hold", {"count": 1.5}, "invalid_request"),
    "true": ("hold", {"count": True}, "invalid_request"),
    "a short secret": ("hold", {"owner_key": "abc"}, "invalid_request"),
    "a long secret": ("hold", {"owner_key": LONG}, "invalid_request"),
    "a deadline of nothing": ("hold", {"deadline_ms": 0}, "invalid_request"),
    "a deadline of days": ("hold", {"deadline_ms": 10**9}, "invalid_request"),
    "1 MB of cabin": ("hold", {"cabin": LONG}, "invalid_request"),
    "bytes for a text": ("hold", {"cabin": b"\xff\xfe"}, "invalid_request"),
    "a null": ("hold", {"together": None}, "invalid_request"),
}


@pytest.mark.parametrize("what", RAW)
def test_wrong_fields_on_the_wire(cluster: ClusterUnderTest, scene: Scene, what: str) -> None:
    """The border refuses them by name, and nothing changes."""
    method, changes, code = RAW[what]
    fields = {"request_id": api.new_request_id(), "owner_key": OWNER, "service_id": scene.service, "seats": [scene.seats[6]], **changes}
    sent = {name: value for name, value in fields.items() if value is not None or what == "a null"}
    before = told(cluster, scene)
    process = cluster.plan.process(BOTH[0])
    client = EdgeClient(Address(process.host, process.port))
    try:
        with pytest.raises(HoldfastError) as raised:
            client.call(method, msgspec.msgpack.encode(sent), 5_000)
        assert code == raised.value.code
        assert len(raised.value.detail) < 1_000
    finally:
        client.close()
    assert before == told(cluster, scene)


def test_a_hold_confirmed_by_two_at_once(cluster: ClusterUnderTest, scene: Scene) -> None:
    """Six confirms with six request ids: one order, the others hear that it is confirmed, with its reference."""
    held = scene.client.hold(scene.service, scene.seats[30:31])

    def confirm(_number: int) -> str:
        try:
            return scene.client.confirm(held.hold_id, ADA).reference
        except HoldfastError as error:
            assert "already_confirmed" == error.code
            return str(error.fields["reference"])

    assert 1 == len(set(gathered(confirm, 6)))
    assert_replicas_equal(cluster, "LUM")


def test_a_cancelled_order_is_not_cancelled_again(scene: Scene) -> None:
    """The second cancel says so; the seat is on sale."""
    held = scene.client.hold(scene.service, scene.seats[31:32])
    order = scene.client.confirm(held.hold_id, ADA)
    scene.client.cancel(order.reference, order.manage_token)
    with pytest.raises(HoldfastError) as raised:
        scene.client.cancel(order.reference, order.manage_token)
    assert "already_cancelled" == raised.value.code
    scene.client.release(scene.client.hold(scene.service, scene.seats[31:32]).hold_id)
