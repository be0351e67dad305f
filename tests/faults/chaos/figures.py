"""What runs came to, for pages of the documentation: a table of the runs, and the figures that everybody asks for first."""

from __future__ import annotations

import os
import platform
import re
from collections import Counter
from collections.abc import Sequence
from datetime import date
from pathlib import Path

from client.history import DONE, REFUSED, UNKNOWN, WRITES
from tests.faults.chaos.run import Outcome

CHAOS = ("<!-- chaos: begin -->", "<!-- chaos: end -->")
FIGURES = ("<!-- figures: begin -->", "<!-- figures: end -->")
SIMULATED = re.compile(r"([\d,]+) runs, ([\d,]+) simulated seconds")


def origin(command: str) -> str:
    """Return by what, when and where the figures were made."""
    machine = f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"
    return f"Written by `{command}` on {date.today().isoformat()} ({machine})."


def table(outcomes: Sequence[Outcome]) -> str:
    """Return the runs as a Markdown table."""
    lines = [
        "| scenario | seed | time | faults | done | refused | unknown | longest pause | seats sold twice | acknowledged, lost | verdict |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for one in outcomes:
        counts = Counter[str]()
        for (kind, answer), count in one.judgement.counts.items():
            if kind in WRITES:
                counts[answer] += count
        writes = f"{counts[DONE]:,} | {counts[REFUSED]:,} | {counts[UNKNOWN]:,}"
        pause_s = max((pause.lasted_us for pause in one.pauses), default=0) / 1e6
        wrong = f"{one.sold_twice} | {one.lost}"
        what = f"{one.scenario.name} | {one.seed} | {one.seconds:.0f} s | {len(one.happened)}"
        lines.append(f"| {what} | {writes} | {pause_s:.1f} s | {wrong} | {one.verdict} |")
    left_out = sorted({f"{one.scenario.name}: {reason}" for one in outcomes for reason in one.left_out})
    return "\n".join([*lines, *(["", "Left out: " + "; ".join(left_out) + "."] if left_out else [])])


def figures(outcomes: Sequence[Outcome], simulator_page: Path) -> str:
    """Return the sums over all runs as a Markdown list; how long was simulated stands in the simulator's own record."""
    operations = sum(sum(one.judgement.counts.values()) for one in outcomes)
    writes = sum(count for one in outcomes for (kind, _), count in one.judgement.counts.items() if kind in WRITES)
    kinds = Counter(fault.kind for one in outcomes for fault in one.happened)
    verdicts = Counter(one.verdict for one in outcomes)
    seconds = sum(one.seconds for one in outcomes)
    pause, whole = max(((pause, one) for one in outcomes for pause in one.pauses), key=lambda found: found[0].lasted_us)
    then = ", ".join(pause.during[:3]) or "nothing was being done to the cluster"
    return "\n".join(
        [
            f"- {len(outcomes)} scenarios, {seconds / 60:.0f} minutes on real processes: "
            + ", ".join(f"{count} {verdict}" for verdict, count in sorted(verdicts.items())),
            f"- {operations:,} operations, {writes:,} of them writes, by people who hold, pay, cancel and look",
            f"- {kinds.total():,} faults: " + ", ".join(f"{count} × {kind}" for kind, count in kinds.most_common()),
            f"- simulated beside: {simulated(simulator_page)}",
            f"- seats sold twice: **{sum(one.sold_twice for one in outcomes)}**",
            f"- acknowledged bookings lost: **{sum(one.lost for one in outcomes)}**",
            f"- longest time in which an operator sold nothing: {pause.lasted_us / 1e6:.1f} s, in `{whole.scenario.name}` ({then})",
        ]
    )


def simulated(page: Path) -> str:
    """Return how long the simulator ran by its own records on a page."""
    found = [[int(number.replace(",", "")) for number in one] for one in SIMULATED.findall(page.read_text(encoding="utf-8"))]
    if not found:
        return "no record"
    runs, seconds = (sum(numbers) for numbers in zip(*found, strict=True))
    return f"{seconds / 3600:.1f} hours of clusters in {runs:,} runs"


def write_section(file: Path, marks: tuple[str, str], section: str) -> None:
    """Put a section between the marks of a page.

    Raises:
        ValueError: The page has no marks.
    """
    begin, end = marks
    before, mark, rest = file.read_text(encoding="utf-8").partition(begin)
    _, last, after = rest.partition(end)
    if not mark or not last:
        raise ValueError(f"{file} has no {begin} and {end}")
    file.write_text(f"{before}{begin}\n\n{section}\n\n{end}{after}", encoding="utf-8")
