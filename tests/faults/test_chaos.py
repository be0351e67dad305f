"""The nemesis, for a few seconds a scenario: whatever is done to the processes, callers are told nothing that is not true.

HOLDFAST_CHAOS_SEED and HOLDFAST_CHAOS_S choose another run, or a longer one; `holdfast chaos SCENARIO` is the same with a report.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from client import cli, exit_codes
from client.history import DONE, MANIFEST, History, read
from client.judging import judge
from tests.faults.chaos import __main__ as command
from tests.faults.chaos import figures, report
from tests.faults.chaos.run import NothingToDo, Outcome, run
from tests.faults.chaos.scenarios import SCENARIOS

SEED = int(os.environ.get("HOLDFAST_CHAOS_SEED", "1"))
SECONDS = float(os.environ.get("HOLDFAST_CHAOS_S", "4"))


def told(outcome: Outcome) -> str:
    return f"{report.text(outcome)}\n" + "\n".join(f"{one.at_us} {one.what}" for one in outcome.happened)


@pytest.mark.timeout(600)  # Nothing here takes long, but on a machine that does other things.
@pytest.mark.parametrize("name", SCENARIOS)
def test_every_promise_is_kept(name: str, tmp_path: Path) -> None:
    """One scenario: faults were injected, sales went on and resumed, and history, ledgers and logs show nothing wrong.

    The evidence stands alone: its file is judged again by the command, the report and the picture are made of it, and an
    acknowledged booking taken out of it is missed.
    """
    try:
        outcome = run(name, SECONDS, SEED, tmp_path)
    except NothingToDo as reason:
        pytest.skip(str(reason))
    assert "kept" == outcome.verdict, told(outcome)
    assert outcome.happened and 0 == outcome.unknown_left, told(outcome)
    assert exit_codes.DONE == cli.run(["verify", "--history", str(outcome.file)])
    assert report.VERDICTS["kept"] in report.text(outcome)
    report.chart(outcome, tmp_path / "chart.png")
    with Image.open(tmp_path / "chart.png") as picture:
        colours = picture.convert("RGB").getcolors(1_000_000) or []
        assert report.COLOURS[DONE].lower() in {"#{:02x}{:02x}{:02x}".format(*colour) for _, colour in colours}  # type: ignore[misc]
    assert_figures_are_told(outcome, tmp_path / "page.md")
    assert_a_lost_booking_is_missed(outcome)


def assert_figures_are_told(outcome: Outcome, page: Path) -> None:
    """The page has what was counted, between its marks, and nothing else is changed."""
    page.write_text("before\n" + "\n".join(figures.FIGURES) + "\nafter\n", encoding="utf-8")
    worse = replace(outcome, sold_twice=2, lost=1)
    for one, numbers in ((worse, ("**2**", "**1**")), (outcome, ("**0**", "**0**"))):
        figures.write_section(page, figures.FIGURES, figures.figures([one], command.SIMULATOR_PAGE))
        told_now = page.read_text(encoding="utf-8")
        assert (f"seats sold twice: {numbers[0]}" in told_now, f"lost: {numbers[1]}" in told_now) == (True, True), told_now
        assert told_now.startswith("before\n") and told_now.endswith("\nafter\n")
    assert f"| {len(outcome.happened)} |" in figures.table([outcome])
    with pytest.raises(ValueError, match="chaos: begin"):
        figures.write_section(page, figures.CHAOS, "")


def assert_a_lost_booking_is_missed(outcome: Outcome) -> None:
    """The same history with one booking less in the last manifests is refused."""
    with outcome.file.open("rb") as lines:
        history = read(lines)
    for record in history.records:
        if record.client == "clerk-at-the-end" and record.operation.kind == MANIFEST and record.answer.booked:
            record.answer.booked.popitem()
            assert judge(History(history.header, history.records)).faults
            return
    pytest.fail("nothing was booked in the end")


def test_an_unknown_scenario_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The nearest one is named, and nothing is started."""
    assert exit_codes.INVALID == command.main(["stom", "--out", str(tmp_path)])
    assert "did you mean storm?" in capsys.readouterr().err
