"""A basket at its anchor and at its other operators: who decides, who follows, and what never comes back."""

from __future__ import annotations

from typing import Any

import pytest

from datastore import commands, errors, wire
from datastore.model import BasketState, HoldState, Leg, PaymentState, SeatState, leg_hold_id
from datastore.reading import Reader
from datastore.rows import Kind, decode_row
from tests.unit.datastore.inventory import DAY_START_MS, Partition, schedule

DAY = "2026-12-01"
ID = "AR.trip.one"
EVIDENCE = (1, 5, b"hash of that entry")
TTL_MS = 60_000


def leg(operator: str, *seats: str, number: str = "1140") -> Leg:
    return Leg(operator, f"{operator}{number}-EZE-{DAY}", seats, tuple(10_000 for _ in seats), 80)


TRIP = (leg("AR", "1A", "1B"), leg("QR", "2A", "2B"), leg("AR", "3A", "3B", number="7"))


class Scene:
    """The anchor AR with two services and the other operator QR; `counter` grows with every lock."""

    def __init__(self) -> None:
        self.anchor = Partition("AR", [schedule(), schedule("7")])
        self.other = Partition("QR")
        self.counter = 0

    def hold_legs(self, operator: str, legs: tuple[Leg, ...] = TRIP, basket_id: str = ID, **more: Any) -> commands.HoldLegs:
        chosen = [(number, one) for number, one in enumerate(legs) if operator in (legs[0].operator, one.operator)]
        self.counter += 1
        fields: dict[str, Any] = {
            "request_id": f"request-{basket_id}",
            "digest": basket_id.encode(),
            "basket_id": basket_id,
            "owner": "ann",
            "anchor": legs[0].operator,
            "legs": tuple(one for _, one in chosen),
            "numbers": tuple(number for number, _ in chosen),
            "currency": "USD",
            "ttl_ms": TTL_MS,
            "generation": 1,
            "counter": self.counter,
            "nonce": f"nonce-{self.counter}",
            "owner_holds_max": 50,
            "service_holds_max": 10,
            **more,
        }
        return commands.HoldLegs(**fields)

    def hold(self) -> int:
        """Hold the trip at both; return the lsn of the other operator's holds."""
        self.anchor.submit(self.hold_legs("AR"))[0].unwrap()
        return int(self.other.submit(self.hold_legs("QR"))[0].unwrap()["lsn"])

    def decide(self, lsn: int, name: str = "one", **more: Any) -> wire.Outcome:
        fields: dict[str, Any] = {
            "request_id": f"confirm-{name}",
            "digest": b"c",
            "basket_id": ID,
            "owner": "ann",
            "holds": (("QR", lsn),),
            "references": ("ABC234",),
            "token_digest": b"token",
            "passengers": b"all",
            "leg_passengers": (b"first", b"third"),
            **more,
        }
        return self.anchor.submit(commands.Decide(**fields))[0]

    def follow(self, state: BasketState = BasketState.COMMITTED) -> None:
        """Tell the anchor that the other operator follows its last word."""
        self.anchor.submit(commands.LegsDone("", b"", ID, ("QR",), state, self.basket()["evidence"][1]))

    def sold(self) -> int:
        lsn = self.hold()
        self.decide(lsn).unwrap()
        self.other.submit(commands.Finalise("", b"", ID, lsn, "ABC234", (b"second",), EVIDENCE))[0].unwrap()
        self.follow()
        return lsn

    def states(self, operator: str) -> dict[str, SeatState]:
        rows = (self.anchor if operator == "AR" else self.other).rows.scan(Kind.SEAT)
        return {key: decode_row(Kind.SEAT, value).state for key, value in rows}

    def basket(self) -> dict[str, Any]:
        (found,) = Reader(self.anchor.state, lambda _: {}, lambda _: None).answer("baskets", {"basket_ids": [ID]}, self.anchor.now_ms)
        return dict(found)

    def leg_state(self) -> HoldState:
        row = self.other.state.leg(ID)
        assert row is not None
        return HoldState(row.state)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def release_legs() -> commands.ReleaseLegs:
    return commands.ReleaseLegs("", b"", ID, "ann", "AR", EVIDENCE)


def test_the_anchor_records_all_legs_and_the_other_its_own(scene: Scene) -> None:
    """The anchor's entry has the whole trip; what is bought of others is nobody else's business."""
    scene.hold()
    value = scene.basket()
    assert (value["basket_state"], len(value["legs"]), value["undone"]) == (BasketState.PENDING, 3, ())
    assert set(scene.states("AR").values()) == set(scene.states("QR").values()) == {SeatState.HELD}
    assert list(scene.other.state.open_holds.rows) == [leg_hold_id(ID, 1)]
    assert b"AR1140" not in b"".join(value for (kind, _), value in scene.other.rows.rows.items() if kind in (Kind.LEG, Kind.OPEN_HOLD))


def test_a_refusal_lists_every_seat_on_every_leg_and_takes_none(scene: Scene) -> None:
    """All services of one operator stand or fall in one entry."""
    scene.anchor.submit(scene.anchor.hold("x", "1B", owner="bob", counter=1), )
    scene.anchor.submit(scene.anchor.hold("y", "3A", owner="bob", counter=2, service_id=TRIP[2].service_id))
    scene.counter = 9
    with pytest.raises(errors.SeatUnavailable) as refusal:
        scene.anchor.submit(scene.hold_legs("AR"))[0].unwrap()
    legs = {one["service_id"]: one["seats"] for one in refusal.value.fields["services"]}
    assert legs == {
        TRIP[0].service_id: [{"seat": "1B", "state": "held"}],
        TRIP[2].service_id: [{"seat": "3A", "state": "held"}],
    }
    assert scene.anchor.state.basket(ID) is None
    assert list(scene.states("AR").values()).count(SeatState.HELD) == 2


def test_hold_again_answers_as_the_basket_stands(scene: Scene) -> None:
    """A repeat adopts the record; once it ended, the same words are too late (Z3)."""
    command = scene.hold_legs("AR")
    first = scene.anchor.submit(command)[0].unwrap()
    assert scene.anchor.submit(command)[0].unwrap()["made_lsn"] == first["made_lsn"]
    scene.anchor.submit(commands.Abort("", b"", ID, "ann", ("QR",), command.nonce, "failed"))[0].unwrap()
    with pytest.raises(errors.HoldExpired) as refusal:
        scene.anchor.submit(command)[0].unwrap()
    assert refusal.value.fields["why"] == "failed"


@pytest.mark.parametrize("late", [0, 1], ids=["the first", "the second"])
def test_a_driver_that_fails_does_not_end_what_another_drove_too(scene: Scene, late: int) -> None:
    """Either may have told its caller "held", whichever was first; a refusal is recorded for both, so it ends the basket at once."""
    drivers = [scene.hold_legs("AR"), scene.hold_legs("AR")]
    for command in drivers:
        scene.anchor.submit(command)[0].unwrap()
    scene.anchor.submit(drivers[0])[0].unwrap()  # A late copy does not make its sender the only driver again.
    outcome = scene.anchor.submit(commands.Abort("", b"", ID, "ann", ("QR",), drivers[late].nonce, "failed"))[0]
    assert (outcome.error["code"], scene.basket()["basket_state"]) == ("request_in_progress", BasketState.PENDING)
    refused = commands.Abort("", b"", ID, "ann", ("QR",), drivers[late].nonce, "refused")
    assert scene.anchor.submit(refused)[0].unwrap()["undone"] == ("QR",)


def test_a_due_leg_is_never_ended_by_its_own_clock(scene: Scene) -> None:
    """B6: the next taker is sent to the anchor, the sweeper does nothing, whatever the clock says."""
    scene.hold()
    scene.other.now_ms += 100 * TTL_MS
    taker = scene.other.hold("two", "2A", owner="bob", counter=99, service_id=TRIP[1].service_id)
    outcome = scene.other.submit(taker)[0]
    assert (outcome.error["code"], outcome.error["fields"]["anchor"]) == ("resolve_needed", "AR")
    assert outcome.error["fields"]["basket"] == ID
    assert scene.other.submit(wire.Sweep("", b""))[0].unwrap() == {"swept": 0}
    assert scene.other.state.next_due_ms() is None
    assert scene.leg_state() == HoldState.ACTIVE


def test_a_sale_books_the_anchors_legs_and_names_who_has_to_follow(scene: Scene) -> None:
    """B4, B5: the decision is one entry; the other operator follows, naming the lsn of its hold."""
    lsn = scene.hold()
    order = scene.decide(lsn).unwrap()
    assert (order["reference"], len(order["legs"]), scene.basket()["undone"]) == ("ABC234", 3, ("QR",))
    assert set(scene.states("AR").values()) == {SeatState.BOOKED}
    assert scene.other.submit(commands.Finalise("", b"", ID, lsn, "ABC234", (b"second",), EVIDENCE))[0].unwrap()["done"]
    scene.follow()
    assert set(scene.states("QR").values()) == {SeatState.BOOKED}
    assert (scene.anchor.state.baskets, scene.other.state.legs) == ({}, {})
    assert scene.other.state.closed_hold(leg_hold_id(ID, 1)).passengers == b"second"  # type: ignore[union-attr]


@pytest.mark.parametrize(("holds", "code"), [((), "invalid_request"), ((("QR", 0),), "invalid_request"), ((("XX", 3),), "invalid_request")])
def test_no_sale_without_the_proof_of_every_hold(scene: Scene, holds: tuple[tuple[str, int], ...], code: str) -> None:
    """Z4: the anchor refuses a decision that does not name what the others hold."""
    scene.hold()
    assert scene.decide(1, holds=holds).error["code"] == code
    assert scene.basket()["basket_state"] == BasketState.PENDING


def test_time_over_at_the_anchor_ends_all_legs_there(scene: Scene) -> None:
    """Whoever meets a due basket ends it whole: a taker of one leg's seat frees the other leg too, and the rest is told."""
    scene.hold()
    scene.anchor.now_ms += 2 * TTL_MS
    taker = scene.anchor.hold("two", "3A", owner="bob", counter=99, service_id=TRIP[2].service_id)
    scene.anchor.submit(taker)[0].unwrap()
    assert [key for key, state in scene.states("AR").items() if state == SeatState.HELD] == [f"{TRIP[2].service_id}/3A"]
    value = scene.basket()
    assert (value["basket_state"], value["why"], value["undone"]) == (BasketState.ABORTED, "expired", ("QR",))
    assert scene.decide(2).error["code"] == "hold_expired"


def test_sweep_ends_a_due_basket_once(scene: Scene) -> None:
    """Two legs of one basket are due together: one abort, and nothing left to sweep."""
    scene.hold()
    scene.anchor.now_ms += 2 * TTL_MS
    scene.anchor.submit(wire.Sweep("", b""))[0].unwrap()
    assert set(scene.states("AR").values()) == {SeatState.FREE}
    assert not scene.anchor.decide(wire.Sweep("", b"")).changed


def test_what_nobody_heard_of_gets_a_tombstone(scene: Scene) -> None:
    """B6: no record is written down as an end before a leg is released, so that a HOLD_LEGS on its way comes too late."""
    scene.other.submit(scene.hold_legs("QR"))[0].unwrap()
    late = scene.hold_legs("AR")
    value = scene.anchor.submit(commands.Resolve("", b"", ID, "ann", "QR"))[0].unwrap()
    assert (value["basket_state"], value["why"], value["undone"]) == (BasketState.ABORTED, "no record", ("QR",))
    assert scene.anchor.submit(late)[0].error["code"] == "hold_expired"
    scene.other.submit(release_legs())[0].unwrap()
    assert set(scene.states("QR").values()) == {SeatState.FREE}


def test_a_release_that_overtakes_its_hold_leaves_a_tombstone(scene: Scene) -> None:
    """The hold that arrives after its own release takes nothing."""
    late = scene.hold_legs("QR")
    scene.other.submit(release_legs())[0].unwrap()
    assert scene.other.submit(late)[0].error["code"] == "hold_expired"
    assert scene.states("QR") == {}


def test_a_late_finalise_does_not_bring_back_what_was_cancelled(scene: Scene) -> None:
    """I9: sold, cancelled, released; the repeat of FINALISE is left alone and says so."""
    lsn = scene.sold()
    cancelled = scene.anchor.submit(wire.Cancel("cancel-1", b"x", "ABC234", b"token"))[0].unwrap()
    assert cancelled["refund_minor"] == 6 * 8_000
    assert scene.basket()["undone"] == ("QR",)
    # A word about the sale does not clear the duty to take it back.
    scene.follow()
    assert scene.basket()["undone"] == ("QR",)
    scene.other.submit(release_legs())[0].unwrap()
    assert set(scene.states("QR").values()) == {SeatState.FREE}
    again = scene.other.submit(commands.Finalise("", b"", ID, lsn, "ABC234", (b"second",), EVIDENCE))[0].unwrap()
    assert (again["done"], scene.leg_state()) == (False, HoldState.CANCELLED)
    assert set(scene.states("QR").values()) == {SeatState.FREE}


@pytest.mark.parametrize("lsn", [1, 99])
def test_finalise_names_the_hold_that_it_finalises(scene: Scene, lsn: int) -> None:
    """B5: another lsn is another hold: left alone."""
    scene.hold()
    assert not scene.other.submit(commands.Finalise("", b"", ID, lsn, "ABC234", (b"second",), EVIDENCE))[0].unwrap()["done"]
    assert scene.leg_state() == HoldState.ACTIVE


def test_nothing_follows_without_evidence(scene: Scene) -> None:
    """Z5: a word of the anchor says where in its ledger it stands."""
    lsn = scene.hold()
    for command in (
        commands.Finalise("", b"", ID, lsn, "ABC234", (b"second",), (0, 0, b"")),
        commands.ReleaseLegs("", b"", ID, "ann", "AR", (1, 0, b"h")),
        commands.LegDue("", b"", ID, 1000, (1, 1, b"")),
    ):
        assert scene.other.submit(command)[0].error["code"] == "invalid_request"
    assert scene.leg_state() == HoldState.ACTIVE


def test_an_extension_is_one_entry_at_the_anchor_and_a_hint_elsewhere(scene: Scene) -> None:
    """Z11: counted from the stamp, bounded from the creation; the other operator's hint moves when it is told."""
    scene.hold()
    value = scene.anchor.submit(wire.Extend("extend-1", b"e", ID, "ann", 10 * TTL_MS, 5 * TTL_MS))[0].unwrap()
    assert value["expires_ms"] == scene.anchor.now_ms + 5 * TTL_MS
    scene.anchor.now_ms += 2 * TTL_MS
    assert scene.anchor.submit(wire.Sweep("", b""))[0].unwrap() == {"swept": 0}
    scene.other.now_ms += 2 * TTL_MS
    scene.other.submit(commands.LegDue("", b"", ID, 3 * TTL_MS, EVIDENCE))[0].unwrap()
    taker = scene.other.hold("two", "2A", owner="bob", counter=99, service_id=TRIP[1].service_id)
    assert scene.other.submit(taker)[0].error["code"] == "seat_unavailable"


def test_a_basket_is_one_hold_of_its_owner(scene: Scene) -> None:
    """My holds shows it once, at its anchor; a leg by itself can be neither released nor sold."""
    scene.hold()
    anchor = Reader(scene.anchor.state, lambda _: {}, lambda _: None)
    other = Reader(scene.other.state, lambda _: {}, lambda _: None)
    assert [one["hold_id"] for one in anchor.answer("holds", {"owner": "ann"}, scene.anchor.now_ms)] == [ID]
    assert other.answer("holds", {"owner": "ann"}, scene.other.now_ms) == []
    assert anchor.answer("hold", {"hold_id": ID}, scene.anchor.now_ms)["state"] == HoldState.ACTIVE
    refused = scene.other.submit(wire.Release("release-1", b"r", leg_hold_id(ID, 1), "ann"))[0]
    assert refused.error["code"] == "invalid_request"
    assert scene.anchor.submit(wire.Release("release-2", b"r", ID, "bob"))[0].error["code"] == "hold_not_yours"
    assert scene.anchor.submit(wire.Release("release-3", b"r", ID, "ann"))[0].unwrap()["state"] == HoldState.RELEASED


@pytest.mark.parametrize("is_sold", [True, False])
def test_a_service_that_its_operator_cancels_ends_the_trip_through_the_anchor(scene: Scene, is_sold: bool) -> None:
    """The other operator frees nothing by itself; the anchor ends the trip with the whole price back, and it follows."""
    if is_sold:
        scene.sold()
    else:
        scene.hold()
    was = scene.states("QR")
    scene.other.submit(wire.SetService("s", b"s", TRIP[1].service_id, 2, "strike"))[0].unwrap()
    assert scene.states("QR") == was
    assert scene.other.state.legs[ID].lost == "strike"
    value = scene.anchor.submit(commands.ServiceLost("", b"", ID, "QR", "strike"))[0].unwrap()
    assert value["basket_state"] == (BasketState.CANCELLED if is_sold else BasketState.ABORTED)
    assert value["undone"] == ("QR",)
    if is_sold:
        assert scene.anchor.state.order("ABC234").refund_minor == 60_000  # type: ignore[union-attr]
    scene.other.submit(release_legs())[0].unwrap()
    assert set(scene.states("QR").values()) == set(scene.states("AR").values()) == {SeatState.FREE}
    assert scene.other.state.legs == {}


def test_the_anchors_own_cancelled_service_ends_the_trip(scene: Scene) -> None:
    scene.sold()
    scene.anchor.submit(wire.SetService("s", b"s", TRIP[2].service_id, 2, "strike"))[0].unwrap()
    assert (scene.basket()["basket_state"], scene.basket()["undone"]) == (BasketState.CANCELLED, ("QR",))
    assert set(scene.states("AR").values()) == {SeatState.FREE}


# --- paying (Q2-Q7) -----------------------------------------------------------------------------------------------


def paying(scene: Scene, lsn: int, intent: str = "pi_1", amount: int = 60_000) -> wire.Outcome:
    command = commands.Paying(f"pay-{intent}", b"p", ID, "ann", intent, amount, "USD", (("QR", lsn),), 10 * TTL_MS, 20 * TTL_MS)
    return scene.anchor.submit(command)[0]


def payment(scene: Scene, intent: str = "pi_1") -> PaymentState:
    row = scene.anchor.state.payment(intent)
    assert row is not None
    return PaymentState(row.state)


def test_paying_is_recorded_before_money_moves_and_longer_once(scene: Scene) -> None:
    """Q2: the intent stands at the anchor with the proven holds; the time grows once, whichever cards are tried."""
    lsn = scene.hold()
    value = paying(scene, lsn).unwrap()
    assert (value["basket_state"], value["expires_ms"]) == (BasketState.PAYING, scene.anchor.now_ms + 10 * TTL_MS)
    scene.anchor.now_ms += TTL_MS
    again = paying(scene, lsn, "pi_2").unwrap()
    assert again["expires_ms"] == value["expires_ms"]
    assert (payment(scene), payment(scene, "pi_2")) == (PaymentState.VOID, PaymentState.PAYING)


def test_who_pays_again_for_what_is_sold_is_told_so(scene: Scene) -> None:
    """Q2: two tries of one confirmation run side by side; the slower one learns of the order, and never that it did something wrong."""
    lsn = scene.hold()
    paying(scene, lsn).unwrap()
    scene.decide(lsn, intent="pi_1").unwrap()
    proven = (("QR", lsn),)
    error = scene.anchor.submit(commands.Paying("again", b"q", ID, "ann", "pi_1", 60_000, "USD", proven, TTL_MS, TTL_MS))[0].error
    assert (error["code"], error["fields"]["reference"]) == ("already_confirmed", "ABC234")
    stranger = scene.anchor.submit(commands.Paying("theirs", b"r", ID, "bob", "pi_1", 60_000, "USD", proven, TTL_MS, TTL_MS))[0].error
    assert "ABC234" not in str(stranger)


def test_a_paid_basket_is_sold_to_its_own_intent(scene: Scene) -> None:
    """Q4, Q5: the decision names the intent and leaves the money to be captured; settled, nothing is open."""
    lsn = scene.hold()
    paying(scene, lsn).unwrap()
    assert scene.decide(lsn, "none").error["code"] == "order_not_payable"
    assert scene.decide(lsn, "other", intent="pi_9").error["code"] == "order_not_payable"
    scene.decide(lsn, intent="pi_1").unwrap()
    assert payment(scene) == PaymentState.CAPTURE
    scene.anchor.submit(commands.Settle("", b"", "pi_1", PaymentState.VOID, "too late"))
    assert payment(scene) == PaymentState.CAPTURE
    scene.anchor.submit(commands.Settle("", b"", "pi_1", PaymentState.CAPTURE, "captured"))
    assert (payment(scene), scene.anchor.state.payments) == (PaymentState.SETTLED, {})
    scene.anchor.submit(wire.Cancel("cancel-1", b"x", "ABC234", b"token"))[0].unwrap()
    assert (payment(scene), scene.anchor.state.payments["pi_1"].refund_minor) == (PaymentState.REFUND, 48_000)


@pytest.mark.parametrize("how", ["sweep", "taker", "resolve", "release"])
def test_whoever_ends_a_basket_that_is_being_paid_leaves_a_void(scene: Scene, how: str) -> None:
    """Q6, Z11: in the same entry; no way to an end forgets the money."""
    lsn = scene.hold()
    paying(scene, lsn).unwrap()
    if how != "release":
        scene.anchor.now_ms += 30 * TTL_MS
    before = scene.anchor.lsn
    if how == "sweep":
        scene.anchor.submit(wire.Sweep("", b""))
    elif how == "taker":
        scene.anchor.submit(scene.anchor.hold("two", "1A", owner="bob", counter=99))[0].unwrap()
    elif how == "resolve":
        scene.anchor.submit(commands.Resolve("", b"", ID, "ann", "QR"))[0].unwrap()
    else:
        scene.anchor.submit(wire.Release("release-1", b"r", ID, "ann"))[0].unwrap()
    assert (payment(scene), scene.anchor.lsn) == (PaymentState.VOID, before + 1)


def test_a_single_hold_is_paid_at_its_own_operator(scene: Scene) -> None:
    """One operator is its own anchor: PAYING, CONFIRM with the intent, and a VOID where it expires."""
    partition = scene.anchor
    partition.submit(partition.hold("h", "1A", counter=1), partition.hold("i", "1B", counter=2))
    for name in ("h", "i"):
        command = commands.Paying(f"pay-{name}", b"p", f"AR.{name}", "ann", f"pi_{name}", 10_000, "USD", (), TTL_MS, 9 * TTL_MS)
        assert partition.submit(command)[0].unwrap()["state"] == HoldState.PAYING
    wrong = commands.Paying("pay-x", b"p", "AR.h", "ann", "pi_x", 1, "USD", (), TTL_MS, 9 * TTL_MS)
    assert partition.submit(wrong)[0].error["code"] == "price_changed"
    confirm = wire.Confirm("confirm-h", b"c", "AR.h", "ann", ("REF234",), b"t", b"s", "pi_h")
    assert partition.submit(confirm)[0].unwrap()["intent"] == "pi_h"
    partition.now_ms += 2 * TTL_MS
    partition.submit(wire.Sweep("", b""))
    assert (payment(scene, "pi_h"), payment(scene, "pi_i")) == (PaymentState.CAPTURE, PaymentState.VOID)
    assert partition.now_ms < DAY_START_MS
