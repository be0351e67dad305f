"""The machine of one basket: what an ABORT names when a fence elsewhere was out of date in between."""

from __future__ import annotations

from datastore import commands
from datastore.errors import OperatorUnavailable, StaleFence
from datastore.model import Leg
from loadbalancer.itinerary import Itinerary, Lock, Plan, Reply, Send

LEGS = tuple(Leg(code, f"{code}1-EZE-2026-12-01", ("1A",), (100,), 80) for code in ("AR", "QR"))
HELD = Reply({"legs": [("AR", LEGS[0].service_id, ("1A",)), ("QR", LEGS[1].service_id, ("1A",))]})


def test_an_abort_names_the_lock_under_which_the_anchor_held() -> None:
    """Z6, Z7: the anchor held under the first lock; the other operator wanted a newer fence, and the second lock has another nonce."""
    machine = Itinerary(Plan("r", b"d", "AR.b", "ann", LEGS, "USD", 60_000, 9, 9))
    assert [Lock(0)] == machine.started()
    assert ["AR", "QR"] == [one.operator for one in machine.locked((1, 5), "first") if isinstance(one, Send)]
    machine.answered("AR", HELD)
    assert [Lock(9)] == machine.answered("QR", Reply({}, StaleFence("too old", fence=(1, 9)).to_data()))
    assert ["QR"] == [one.operator for one in machine.locked((1, 10), "second") if isinstance(one, Send)]
    (given_up,) = machine.answered("QR", Reply({}, OperatorUnavailable("QR is silent", operator="QR").to_data()), in_time=False)
    assert isinstance(given_up, Send) and isinstance(given_up.command, commands.Abort)
    assert ("AR", "first", "failed") == (given_up.operator, given_up.command.driver, given_up.command.why)
