"""Other seats and other services for a booking that stands, through a whole balancer, with and without payments."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from datastore import errors, messages
from datastore.model import BasketState, Passenger
from loadbalancer.payments import Intent, StripeAdapter
from loadbalancer.payments_config import PaymentsConfig
from loadbalancer.sandbox import Sandbox
from tests.unit.loadbalancer.scenery import ADMIN_KEY, DAY, FLIGHT, OTHER, OWNER, Scene, scene
from tests.unit.loadbalancer.test_changing import cancel, confirm, looked_up, manifest, quoted, taken, trip, wait_taken
from tests.unit.loadbalancer.test_itineraries import before_look_at_legs
from tests.waiting import wait_until

NEXT_DAY = (date.fromisoformat(DAY) + timedelta(days=1)).isoformat()
LATER = f"AR1140-EZE-{NEXT_DAY}"
KEY = "sk_test_of_the_changing_suite"
ADA = [Passenger("Byron", "Ada")]


@pytest.fixture
def trips() -> Iterator[Scene]:
    with scene(("AR", "QR", "LA"), hold_ttl_ms=60_000) as made:
        yield made


def offered(made: Scene, order: messages.OrderAnswer, *swaps: str, **more: object) -> messages.QuoteAnswer:
    """Quote a change; swaps are "3A 5A": the seat given up and the one taken."""
    pairs = [messages.SeatSwap(*swap.split()) for swap in swaps]
    request = messages.QuoteChange(reference=order.reference, token=order.manage_token, swaps=pairs, **more)  # type: ignore[arg-type]
    answer = made.ask("quote_change", request)
    assert isinstance(answer, messages.QuoteAnswer)
    return answer


def change(made: Scene, order: messages.OrderAnswer, quote: str, card: str = "", request_id: str = "") -> messages.OrderAnswer:
    request = messages.ChangeOrder(
        request_id=request_id or made.request_id(), reference=order.reference, token=order.manage_token, quote=quote, payment_method=card
    )
    answer = made.ask("change", request)
    assert isinstance(answer, messages.OrderAnswer)
    return answer


def test_a_seat_moves_and_the_old_one_is_on_sale(trips: Scene) -> None:
    """One service: the passenger stays who it is, the other keeps the seat, and nobody else ever had either."""
    order = confirm(trips, trips.hold("3A", "3B"))
    quote = offered(trips, order, "3A 5C")
    assert quote.difference is not None and quote.difference.minor == 0
    wait_taken(trips, AR="3A 3B")
    changed = change(trips, order, quote.quote)
    assert (changed.seats, changed.total) == (["5C", "3B"], order.total)
    assert [(one.surname, one.seat_id) for one in changed.passengers] == [("Byron", "5C"), ("Babbage", "3B")]
    assert "3A to 5C" in changed.history[-1][1]
    wait_taken(trips, AR="3B 5C")
    assert manifest(trips, FLIGHT) == {"5C": "Byron", "3B": "Babbage"}
    assert trips.hold("3A", owner=OTHER).seats == ["3A"]
    again = change(trips, order, offered(trips, order, "5C 6A", "3B 6B").quote)
    assert again.seats == ["6A", "6B"]
    wait_taken(trips, AR="3A 6A 6B")
    assert cancel(trips, order).state == "cancelled"
    wait_taken(trips, AR="3A")


def test_a_seat_of_another_operators_leg_moves_too(trips: Scene) -> None:
    """The anchor decides, the leg's operator follows: its manifest has the passenger in the new seat."""
    order = trip(trips, AR="3A 3B", QR="4A 4B", LA="5A 5B")
    changed = change(trips, order, offered(trips, order, "4B 7C").quote)
    assert [leg.seats for leg in changed.legs] == [["3A", "3B"], ["4A", "7C"], ["5A", "5B"]]
    wait_taken(trips, AR="3A 3B", QR="4A 7C", LA="5A 5B")
    assert manifest(trips, f"QR1140-EZE-{DAY}") == {"4A": "Byron", "7C": "Babbage"}
    left = cancel(trips, order, quoted(trips, order, passengers=[1]).quote)
    assert [leg.seats for leg in left.legs] == [["3B"], ["7C"], ["5B"]]
    wait_taken(trips, AR="3B", QR="7C", LA="5B")
    assert manifest(trips, f"QR1140-EZE-{DAY}") == {"7C": "Babbage"}
    assert cancel(trips, order).state == "cancelled"
    wait_taken(trips, AR="", QR="", LA="")


def test_a_date_is_changed_with_everybody_on_it(trips: Scene) -> None:
    """Named seats, or the best that are left; the leg's place in the trip stays."""
    order = confirm(trips, trips.hold("3A", "3B"))
    quote = offered(trips, order, service_id=LATER, seats=["6A", "6B"])
    assert [leg.service_id for leg in quote.taken] == [LATER]
    changed = change(trips, order, quote.quote)
    assert (changed.service_id, changed.seats) == (LATER, ["6A", "6B"])
    assert changed.service is not None and changed.service.date == NEXT_DAY
    wait_taken(trips, AR="6A 6B")
    assert manifest(trips, FLIGHT) == {} and set(manifest(trips, LATER)) == {"6A", "6B"}
    back = change(trips, order, offered(trips, order, service_id=FLIGHT).quote)
    assert back.service_id == FLIGHT and len(back.seats) == 2
    wait_taken(trips, AR=" ".join(back.seats))
    assert cancel(trips, order).state == "cancelled"
    wait_taken(trips, AR="")


def test_whoever_is_faster_and_the_booking_is_as_it_was(trips: Scene) -> None:
    """Somebody takes the wanted seat between quote and change, or the booking changes: a refusal, and nothing else."""
    order = confirm(trips, trips.hold("3A", "3B"))
    quote = offered(trips, order, "3A 5C")
    other = offered(trips, order, "3B 5D")
    trips.hold("5C", owner=OTHER)
    with pytest.raises(errors.SeatUnavailable):
        change(trips, order, quote.quote)
    change(trips, order, other.quote)
    with pytest.raises(errors.QuoteExpired):
        change(trips, order, other.quote)
    wait_taken(trips, AR="3A 5C 5D")
    assert looked_up(trips, order).seats == ["3A", "5D"]


def test_the_same_request_changes_once(trips: Scene) -> None:
    """A repeat after a lost answer, here or at another balancer, is told how the booking stands."""
    order = trip(trips, AR="3A 3B", QR="4A 4B")
    quote, request_id = offered(trips, order, "3A 5C", leg=1).quote, trips.request_id()
    first = change(trips, order, quote, request_id=request_id)
    assert change(trips, order, quote, request_id=request_id).legs[0].seats == first.legs[0].seats == ["5C", "3B"]
    with scene(managers=trips.managers) as twin:
        assert change(twin, order, quote, request_id=request_id).legs[0].seats == ["5C", "3B"]
    wait_taken(trips, AR="3B 5C", QR="4A 4B")


@pytest.mark.parametrize(
    ("swaps", "more", "kind"),
    [
        (("3A 3B",), {}, errors.InvalidRequest),
        (("9A 3C",), {}, errors.InvalidRequest),
        (("3A 99Z",), {}, errors.UnknownSeat),
        (("3A 5A", "3B 5A"), {}, errors.InvalidRequest),
        (("3A 5A", "3A 5B"), {}, errors.InvalidRequest),
        ((), {}, errors.InvalidRequest),
        ((), {"service_id": FLIGHT, "leg": 1}, errors.InvalidRequest),
        ((), {"service_id": LATER}, errors.InvalidRequest),
        ((), {"service_id": LATER, "leg": 3}, errors.InvalidRequest),
        ((), {"service_id": LATER, "leg": 1}, errors.ConnectionTooShort),
        ((), {"service_id": f"QR1140-EZE-{NEXT_DAY}", "leg": 2, "seats": ["3A"]}, errors.InvalidRequest),
        ((), {"service_id": f"QR1140-EZE-{DAY}", "leg": 1}, errors.InvalidRequest),
    ],
)
def test_what_cannot_be_changed_is_told_before_anything_is_held(
    trips: Scene, swaps: tuple[str, ...], more: dict[str, object], kind: type[errors.HoldfastError]
) -> None:
    """Each refusal names the thing; no seat is touched."""
    order = trip(trips, AR="3A 3B", QR="4A 4B")
    with pytest.raises(kind):
        offered(trips, order, *swaps, **more)
    wait_taken(trips, AR="3A 3B", QR="4A 4B")


def test_a_change_is_not_sold_as_a_booking_of_its_own(trips: Scene) -> None:
    """What is held for a change becomes part of that order or of none; a cancelled order takes nothing in."""
    order = confirm(trips, trips.hold("3A", "3B"))
    quote = offered(trips, order, "3A 5C").quote
    cancel(trips, order)
    with pytest.raises(errors.QuoteExpired):
        change(trips, order, quote)
    wait_taken(trips, AR="")


# --- paid -----------------------------------------------------------------------------------------------------------


class Till:
    def __init__(self, made: Scene, provider: StripeAdapter) -> None:
        self.scene = made
        self.provider = provider

    def book(self, *seats: str) -> messages.OrderAnswer:
        return self.confirm(self.scene.hold(*seats).hold_id)

    def confirm(self, hold_id: str) -> messages.OrderAnswer:
        request = messages.ConfirmHold(
            request_id=self.scene.request_id(), owner_key=OWNER, hold_id=hold_id, passengers=ADA, payment_method="pm_card_visa"
        )
        answer = self.scene.ask("confirm", request)
        assert isinstance(answer, messages.OrderAnswer)
        return answer

    def balanced(self) -> list[Intent]:
        """Wait until nothing is open, check the books, and return the provider's payments."""

        def closed() -> bool:
            found = self.scene.ask("accounts", messages.Accounts(admin_key=ADMIN_KEY))
            assert isinstance(found, messages.AccountsAnswer)
            return not any(line.open for line in found.lines)

        wait_until(closed, "every payment finished", 30)
        books = self.scene.ask("accounts", messages.Accounts(admin_key=ADMIN_KEY))
        assert isinstance(books, messages.AccountsAnswer) and books.findings == []
        return self.provider.page("")[0]


@pytest.fixture
def till(tmp_path: Path) -> Iterator[Till]:
    sandbox = Sandbox("payments-1", "127.0.0.1", 0, file=tmp_path / "payments.db", api_key=KEY)
    sandbox.start()
    host, port = sandbox.address
    provider = StripeAdapter(KEY, timeout_ms=5_000, base=f"http://{host}:{port}")
    with scene(("AR", "QR"), payments=PaymentsConfig("sandbox", paying_ms=30_000), provider=provider, hold_ttl_ms=60_000) as made:
        yield Till(made, provider)
    sandbox.close()


def test_the_difference_is_paid_before_the_old_seat_is_given_up_and_refunded_after(till: Till) -> None:
    """Up to the dearer cabin and back: what is charged is what is booked and retained, to the cent, after each step."""
    order = till.book("3A")
    up = offered(till.scene, order, "3A 1A")
    assert up.to_pay is not None and up.difference is not None and up.to_pay.minor == up.difference.minor > 0
    with pytest.raises(errors.InvalidRequest, match="which card"):
        change(till.scene, order, up.quote)
    assert taken(till.scene, "AR") == {"3A"}
    with pytest.raises(errors.PaymentDeclined):
        change(till.scene, order, up.quote, "pm_card_visa_chargeDeclined")
    wait_taken(till.scene, AR="3A")
    changed = change(till.scene, order, up.quote, "pm_card_visa")
    assert (changed.seats, changed.total.minor) == (["1A"], order.total.minor + up.to_pay.minor)
    wait_taken(till.scene, AR="1A")
    paid = till.balanced()
    assert sum(one.received_minor for one in paid) == changed.total.minor
    down = offered(till.scene, order, "1A 3A")
    assert down.refund.minor + down.retained.minor == up.to_pay.minor
    back = change(till.scene, order, down.quote)
    assert back.seats == ["3A"]
    assert sum(one.received_minor - one.refunded_minor for one in till.balanced()) == changed.total.minor - down.refund.minor
    rest = quoted(till.scene, order)
    gone = cancel(till.scene, order, rest.quote)
    assert gone.refund is not None and gone.refund.minor == down.refund.minor + rest.refund.minor
    assert sum(one.received_minor - one.refunded_minor for one in till.balanced()) == changed.total.minor - gone.refund.minor


def test_a_change_that_is_paid_and_cannot_be_made_is_not_charged(till: Till) -> None:
    """The order was cancelled while the difference was being paid: the card is let go, and the seat."""
    order = till.book("3A")
    up = offered(till.scene, order, "3A 1A")
    request_id = till.scene.request_id()
    cancel(till.scene, order)
    with pytest.raises(errors.QuoteExpired):
        change(till.scene, order, up.quote, "pm_card_visa", request_id)
    wait_taken(till.scene, AR="")
    assert sum(one.received_minor for one in till.balanced()) == order.total.minor
    states = {row.state for row in till.scene.managers.operators["AR"].state.baskets.values()}
    assert states <= {BasketState.ABORTED}


def test_a_try_that_looks_while_another_one_changes_hears_of_the_change(till: Till) -> None:
    """It has read that the change is held; when it looks at the other operator's seat that is booked. It is paid for once."""
    legs = [messages.LegWish(service_id=f"{code}1140-EZE-{DAY}", seats=[seat]) for code, seat in (("AR", "3A"), ("QR", "4A"))]
    held = till.scene.ask("hold_trip", messages.HoldTrip(request_id=till.scene.request_id(), owner_key=OWNER, legs=legs))
    assert isinstance(held, messages.HoldAnswer)
    order = till.confirm(held.hold_id)
    up = offered(till.scene, order, "4A 1A", leg=2)
    assert up.to_pay is not None
    request_id, first = till.scene.request_id(), list[messages.OrderAnswer]()

    def make() -> None:
        first.append(change(till.scene, order, up.quote, "pm_card_visa", request_id))
        wait_until(lambda: not till.scene.managers.operators["QR"].state.legs, "the other seat to be booked", 10)

    before_look_at_legs(till.scene, make)
    again = change(till.scene, order, up.quote, "pm_card_visa", request_id)
    assert [leg.seats for leg in again.legs] == [leg.seats for leg in first[0].legs] == [["3A"], ["1A"]]
    assert sum(one.received_minor for one in till.balanced()) == again.total.minor == order.total.minor + up.to_pay.minor


def test_a_child_pays_a_childs_fare_there_too_and_sits_at_no_exit(trips: Scene) -> None:
    """What was checked when the party was named holds for its changes; row 5 is an exit row."""
    held = trips.hold("3A", "3B")
    people = [Passenger("Byron", "Ada"), Passenger("Byron", "Medora", type="CHD", born=f"{int(DAY[:4]) - 6}-01-01")]
    order = trips.ask(
        "confirm", messages.ConfirmHold(request_id=trips.request_id(), owner_key=OWNER, hold_id=held.hold_id, passengers=people)
    )
    assert isinstance(order, messages.OrderAnswer)
    with pytest.raises(errors.InvalidRequest, match="exit"):
        offered(trips, order, "3B 5B")
    changed = change(trips, order, offered(trips, order, "3B 6B").quote)
    assert changed.prices == order.prices and changed.prices[1].minor < changed.prices[0].minor
    wait_taken(trips, AR="3A 6B")
