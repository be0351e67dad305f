"""Tables on narrow terminals: what must be typed again is never cut."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from client.tables import GAP, Rows, fit, folded


def services() -> Rows:
    rows = Rows("SERVICE", "ROUTE", "ARRIVES", "WHAT", "FREE", "STATE", right=("FREE",), drop=("WHAT", "ROUTE", "ARRIVES"))
    rows.add_row("AR1140-EZE-2026-11-22", "EZE → MIA", "06:15+1", "Aerolíneas Argentinas", "7/300", "open")
    return rows


def plain(rows: Rows, width: int) -> list[str]:
    return [line.plain for line in rows.lines(width)]


def test_where_there_is_room_all_is_shown_without_blanks_at_the_ends() -> None:
    """Numbers stand right, texts left, and nothing follows the last cell."""
    assert [
        "SERVICE                ROUTE      ARRIVES  WHAT                    FREE  STATE",
        "AR1140-EZE-2026-11-22  EZE → MIA  06:15+1  Aerolíneas Argentinas  7/300  open",
    ] == plain(services(), 100)


@pytest.mark.parametrize(("width", "gone"), [(70, ("WHAT",)), (45, ("WHAT", "ROUTE")), (40, ("WHAT", "ROUTE", "ARRIVES"))])
def test_columns_go_in_order_of_worth(width: int, gone: tuple[str, ...]) -> None:
    """What vanishes is the least worth, and no cell that stays is cut."""
    head, row = plain(services(), width)
    assert all((name in head.split()) != (name in gone) for name in ("SERVICE", "ROUTE", "ARRIVES", "WHAT", "FREE", "STATE"))
    assert row.startswith("AR1140-EZE-2026-11-22")
    assert row.endswith("7/300  open")
    assert "…" not in row


def test_a_terminal_too_narrow_for_an_id_still_gets_it_whole() -> None:
    """The terminal breaks the line; it can be copied."""
    assert "AR1140-EZE-2026-11-22  7/300  open" == plain(services(), 10)[1]


def test_long_texts_fold_or_shorten() -> None:
    """A folded text goes on below its own column; a shortened one ends in an ellipsis."""
    rows = Rows("HOLD", "SEATS", "STATE", fold=("SEATS",))
    rows.add_row("AR.h1", "12A 12B 12C 12D 12E 12F", "active")
    assert ["HOLD   SEATS             STATE", "AR.h1  12A 12B 12C 12D   active", "       12E 12F"] == plain(rows, 31)
    rows = Rows("HOLD", "SEATS", "STATE", drop=("SEATS",), below="SEATS")
    rows.add_row("AR.h1", "12A 12B 12C 12D 12E 12F", "active")
    assert ["HOLD   STATE", "AR.h1  active", "  12A 12B 12C 12D 12E", "  12F"] == plain(rows, 22)
    rows = Rows("CODE", "NAME", "COUNTRY", shorten=("NAME",))
    rows.add_row("LGB", "Long Beach (Daugherty Field) Airport", "US")
    assert "LGB   Long Beach (Daugher…  US" == plain(rows, 35)[1]


def test_a_date_is_never_broken() -> None:
    """Lines break at blanks only."""
    assert ["on", "2026-11-22", "17:00"] == folded("on 2026-11-22 17:00", 6)


@given(widths=st.lists(st.integers(1, 40), min_size=1, max_size=8), room=st.integers(1, 200))
def test_what_fits_is_not_touched(widths: list[int], room: int) -> None:
    """Columns give way only where they must."""
    fitted = fit(widths, room, {0: 5}, list(range(1, len(widths))))
    if sum(widths) + GAP * (len(widths) - 1) <= room:
        assert fitted.columns == list(range(len(widths)))
        assert fitted.widths == dict(enumerate(widths))
