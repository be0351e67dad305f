"""The mutation proof: every rule broken on purpose, who noticed, and after how many seeds; written into docs/proof.md."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tests.contract import test_snapshot_rules
from tests.simulation import test_membership, test_replication
from tests.simulation.faults import all_mutations
from tests.simulation.runs import Caught, Failed, Totals, catch, run_many
from tests.simulation.scenario import draw

BEGIN, END = "<!-- mutations: begin -->", "<!-- mutations: end -->"
LONG_BEGIN, LONG_END = "<!-- simulated: begin -->", "<!-- simulated: end -->"
RIGHT_SEEDS = 200


class Walked(NamedTuple):
    """A rule broken for the walks of one machine: `count` walks were needed, None if none noticed."""

    name: str
    rule: str
    walks: str
    count: int | None


class Row(NamedTuple):
    """One line of the table, as it is kept: `checker` "" where nobody noticed."""

    name: str
    rule: str
    profile: str
    checker: str
    seeds: int


def run(
    seeds_max: int, report: Path | None, results: Path | None = None, only: str = "", *, quick: bool = False, right_seeds: int = RIGHT_SEEDS
) -> int:
    """Break every rule in turn, or those that are quickly caught; return 0 if each was caught, and the right rules held.

    Args:
        right_seeds: How many runs with every rule as it is have to hold first.
        results: Where each row is kept as soon as it is known, one JSON line each: whoever stops it loses nothing, and what is there is
            not run again. A row is run again when its line is taken out, or when its rule, profile or name has changed.
    """
    totals = Totals()
    failed = run_many((draw(seed) for seed in range(right_seeds)), totals)
    print("\n".join(totals.describe()), flush=True)
    if failed is not None:
        print(f"the right rules are caught too: seed {failed.scenario.seed}: {failed.checker}: {failed.detail}")
        return 1
    kept = _kept(results)
    rows: list[Row] = []
    walked = [] if only or quick else list(walks())
    for mutation in all_mutations():
        if (only and only != mutation.name) or (quick and not mutation.quick):
            continue
        row = kept.get((mutation.name, mutation.rule, mutation.profile))
        if row is None:
            row = _row(catch(mutation, seeds_max))
            if results is not None:
                with results.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(row) + "\n")
        rows.append(row)
        print(_line(row), flush=True)
        if report is not None:
            write(report, rows, walked, totals, quick=quick)
    missed = [row.name for row in rows if not row.checker] + [one.name for one in walked if one.count is None]
    for name in missed:
        print(f"not caught: {name}")
    return 1 if missed else 0


def _kept(results: Path | None) -> dict[tuple[str, str, str], Row]:
    """Return the rows that were run before."""
    if results is None or not results.exists():
        return {}
    rows = [Row(*json.loads(line)[:5]) for line in results.read_text(encoding="utf-8").splitlines()]
    return {row[:3]: row._replace(checker=row.checker or "") for row in rows}


def _row(caught: Caught) -> Row:
    mutation, failed = caught.mutation, caught.failed
    return Row(mutation.name, mutation.rule, mutation.profile, failed.checker if failed else "", caught.seeds)


def walks() -> Iterator[Walked]:
    """Break the rules of single machines, whose walks are denser than a whole cluster's runs."""
    for name, rules in test_replication.BROKEN.items():
        count = test_replication.first_caught(rules)
        yield Walked(name, "R1-R6, R14", "test_replication.py", count + 1 if count < test_replication.WALKS_BROKEN_MAX else None)
    for broken in test_snapshot_rules.BROKEN:
        yield Walked(broken.instead, broken.rule, "test_snapshot_rules.py, real files", test_snapshot_rules.first_noticed(broken))
    for kind in test_membership.BROKEN:
        yield Walked(str(kind.__doc__).partition(":")[0].rstrip("."), "R15", "test_membership.py", test_membership.first_caught(kind))


def write(report: Path, rows: list[Row], walked: list[Walked], totals: Totals, *, quick: bool) -> None:
    """Put the tables between the page's two marks."""
    command = f"python -m tests.simulation --mutations{' --quick' if quick else ''} --seeds {totals.runs} --report docs/proof.md"
    caught = sum(bool(row.checker) for row in rows)
    lines = [f"Written by `{command}` ({machine()}): {caught} of {len(rows)} faults were caught by the simulated cluster.", ""]
    lines += ["| broken on purpose | rule | profile | caught by | seeds needed |", "|---|---|---|---|---|"]
    for row in rows:
        seeds = str(row.seeds) if row.checker else f"more than {row.seeds}"
        lines.append(f"| {row.name} | {row.rule} | {row.profile} | {row.checker or '**not caught**'} | {seeds} |")
    if walked:
        lines += ["", "The same and others, in walks that drive the production machine alone through denser faults:", ""]
        lines += ["| broken on purpose | rule | walks | walks needed |", "|---|---|---|---|"]
        lines += [f"| {one.name} | {one.rule} | `{one.walks}` | {one.count or '**not caught**'} |" for one in walked]
    lines += ["", "With every rule as it is:", "", *[f"- {line}" for line in totals.describe()]]
    between(report, BEGIN, END, lines)


def needed(page: Path) -> dict[str, int]:
    """Return broken rule -> seeds that it took until it was noticed, as the page says."""
    lines = page.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0].splitlines()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("| ")]
    return {row[0]: int(row[-1]) for row in rows if len(row) == len(Row._fields) and row[-1].isdecimal()}


def write_long_run(report: Path, totals: Totals, first: int, wall_s: float, failed: Failed | None) -> None:
    """Put what a long run of fresh seeds came to between the page's two marks for it."""
    hours = totals.simulated_s / 3600
    command = f"holdfast simulate --hours {wall_s / 3600:.2g} --report docs/proof.md"
    lines = [f"Written by `{command}` ({machine()}), fresh seeds {first} to {first + totals.runs - 1}, every profile:", ""]
    lines += [f"- {hours:,.1f} simulated hours of clusters", *[f"- {line}" for line in totals.describe()]]
    if failed is None:
        lines.append("- invariants violated: **0**")
    else:
        lines.append(f"- **violated**: {failed.checker}, seed {failed.scenario.seed}, profile {failed.scenario.profile}")
    between(report, LONG_BEGIN, LONG_END, lines)


def machine() -> str:
    """Return the date and the machine."""
    return f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"


def between(report: Path, begin: str, end: str, lines: list[str]) -> None:
    """Replace what stands between two marks of a page.

    Raises:
        ValueError: The page does not have them; it is left as it is.
    """
    text = report.read_text(encoding="utf-8")
    if begin not in text or end not in text:
        raise ValueError(f"{report} has no lines {begin} and {end} between which this belongs")
    head, _, rest = text.partition(begin)
    report.write_text(f"{head}{begin}\n\n" + "\n".join(lines) + f"\n\n{end}{rest.partition(end)[2]}", encoding="utf-8")


def _line(row: Row) -> str:
    if not row.checker:
        return f"MISSED  {row.name} ({row.rule}): {row.seeds} seeds"
    return f"caught  {row.name} ({row.rule}): {row.checker}, seed {row.seeds - 1}"
