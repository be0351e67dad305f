"""What a command can do the application can, and the other way round: `docs/terminal.md` says where, and is whole."""

from __future__ import annotations

import re
from pathlib import Path

from client import cli
from client.tui import keymap

PAGE = Path(__file__).resolve().parents[3] / "docs" / "terminal.md"
# Keys that go somewhere, and those that agree to or leave what another key began.
GOING = re.compile(
    r"app\.(travel|bookings|holds|cluster|services|locks|log|figures|payments|command|palette|help)|place\.list|command\.\w+"
)
WITHIN = re.compile(r"\w+\.(back|leave|none|no|yes|left|right|up|down|home|end|page_up|page_down|month_before|month_after|take|focus)")


def rows() -> list[list[str]]:
    """Return the cells of each row of the tables: what, commands, where in the application."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ") and not line.startswith("| What")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_every_command_has_its_place_in_the_application() -> None:
    """Each is named, none that there is not; a place is a key, or the line that runs any command."""
    named = {word for row in rows() for word in re.findall(r"`([a-z][a-z -]*)`", row[1]) if not word.startswith("-")}
    assert cli.command_names() == named
    assert [] == [row[0] for row in rows() if len(row) != 3 or not row[2]]


def test_every_action_of_the_application_stands_beside_its_command() -> None:
    """An id that the page names is one; one that does something, and does not only move or agree, is named."""
    named = {word for row in rows() for word in re.findall(r"`([a-z]+\.[a-z_]+)`", row[2])}
    known = set(keymap.bindings())
    assert set() == named - known
    assert set() == {one for one in known - named if not GOING.fullmatch(one) and not WITHIN.fullmatch(one)}


def test_every_journey_that_is_listed_is_walked() -> None:
    """The list of journeys names tests that there are."""
    folder = PAGE.parents[1] / "tests" / "client"
    named = re.findall(r"`(test_\w+\.py)::(test_\w+)`", (folder / "DESIGN.md").read_text(encoding="utf-8"))
    assert len(named) > 20
    assert [] == [one for one in named if f"def {one[1]}(" not in (folder / one[0]).read_text(encoding="utf-8")]
