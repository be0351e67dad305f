"""`last`: the newest hold, or an error where nobody can say which that is."""

import pytest

from client.commands_selling import newest
from client.exit_codes import NO_ANSWER, exit_code
from datastore.errors import OperatorUnavailable, UnknownHold
from datastore.messages import HoldAnswer, HoldsAnswer
from datastore.model import Money


def made(hold_id: str, created_ms: int) -> HoldAnswer:
    nothing = Money(0, "USD")
    return HoldAnswer(
        hold_id=hold_id, service_id="AR1-EZE-2026-12-01", operator="AR", seats=["1A"], prices=[nothing], total=nothing,
        refundable_percent=100, state="active", created_ms=created_ms, expires_ms=created_ms + 1, remaining_ms=1, lsn=1,
    )  # fmt: skip


def test_last_is_the_newest() -> None:
    """Wherever it stands in the answer."""
    assert "AR.new" == newest(HoldsAnswer(holds=[made("AR.new", 2), made("AR.old", 1)]))
    with pytest.raises(UnknownHold):
        newest(HoldsAnswer(holds=[]))


@pytest.mark.parametrize("holds", [[], [made("AR.old", 1)]])
def test_last_is_refused_where_an_operator_is_silent(holds: list[HoldAnswer]) -> None:
    """The newest may be with the silent one: neither an older hold nor "none" is an answer."""
    with pytest.raises(OperatorUnavailable, match="FO, LUM") as caught:
        newest(HoldsAnswer(holds=holds, partial={"LUM": "no answer", "FO": "no answer"}))
    assert ["FO", "LUM"] == caught.value.fields["operators"]
    assert NO_ANSWER == exit_code(caught.value.code)
