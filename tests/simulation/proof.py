"""The mutation proof: every rule broken on purpose, who noticed, and after how many seeds; written into docs/proof.md."""

from __future__ import annotations

import platform
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from tests.contract import test_snapshot_rules
from tests.simulation import test_membership, test_replication
from tests.simulation.faults import all_mutations
from tests.simulation.runs import Caught, Totals, catch, run_many
from tests.simulation.scenario import draw

BEGIN, END = "<!-- mutations: begin -->", "<!-- mutations: end -->"
RIGHT_SEEDS = 200
RIGHT_SEEDS_QUICK = 40


class Walked(NamedTuple):
    """A rule broken for the walks of one machine: `count` walks were needed, None if none noticed."""

    name: str
    rule: str
    walks: str
    count: int | None


def run(seeds_max: int, report: Path | None, only: str = "", *, quick: bool = False) -> int:
    """Break every rule in turn, or those that are quickly caught; return 0 if each was caught, and the right rules held.

    The page is written after each, so that whoever stops it loses nothing.
    """
    totals = Totals()
    failed = run_many((draw(seed) for seed in range(RIGHT_SEEDS_QUICK if quick else RIGHT_SEEDS)), totals)
    print("\n".join(totals.describe()), flush=True)
    if failed is not None:
        print(f"the right rules are caught too: seed {failed.scenario.seed}: {failed.checker}: {failed.detail}")
        return 1
    results: list[Caught] = []
    walked = [] if only or quick else list(walks())
    for mutation in all_mutations():
        if (only and only != mutation.name) or (quick and not mutation.quick):
            continue
        results.append(catch(mutation, seeds_max))
        print(_line(results[-1]), flush=True)
        if report is not None:
            write(report, results, walked, totals, quick=quick)
    missed = [result.mutation.name for result in results if result.failed is None] + [one.name for one in walked if one.count is None]
    for name in missed:
        print(f"not caught: {name}")
    return 1 if missed else 0


def walks() -> Iterator[Walked]:
    """Break the rules of single machines, whose walks are denser than a whole cluster's runs."""
    for name, rules in test_replication.BROKEN.items():
        count = test_replication.first_caught(rules)
        yield Walked(name, "R1-R6, R14", "test_replication.py", count + 1 if count < test_replication.WALKS_BROKEN_MAX else None)
    for broken in test_snapshot_rules.BROKEN:
        yield Walked(broken.instead, broken.rule, "test_snapshot_rules.py, real files", test_snapshot_rules.first_noticed(broken))
    for kind in test_membership.BROKEN:
        yield Walked(str(kind.__doc__).partition(":")[0].rstrip("."), "R15", "test_membership.py", test_membership.first_caught(kind))


def write(report: Path, results: list[Caught], walked: list[Walked], totals: Totals, *, quick: bool) -> None:
    """Put the tables between the page's two marks."""
    text = report.read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    machine = f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, Python {platform.python_version()}"
    command = f"python -m tests.simulation --mutations{' --quick' if quick else ''} --report docs/proof.md"
    caught = sum(result.failed is not None for result in results)
    lines = [BEGIN, "", f"Written by `{command}` ({machine}): {caught} of {len(results)} faults were caught by the simulated cluster.", ""]
    lines += ["| broken on purpose | rule | profile | caught by | seeds needed |", "|---|---|---|---|---|"]
    for result in results:
        who = result.failed.checker if result.failed else "**not caught**"
        seeds = str(result.seeds) if result.failed else f"more than {result.seeds}"
        lines.append(f"| {result.mutation.name} | {result.mutation.rule} | {result.mutation.profile} | {who} | {seeds} |")
    if walked:
        lines += ["", "The same and others, in walks that drive the production machine alone through denser faults:", ""]
        lines += ["| broken on purpose | rule | walks | walks needed |", "|---|---|---|---|"]
        lines += [f"| {one.name} | {one.rule} | `{one.walks}` | {one.count or '**not caught**'} |" for one in walked]
    lines += ["", "With every rule as it is:", "", *[f"- {line}" for line in totals.describe()], "", END]
    report.write_text(head + "\n".join(lines) + tail)


def _line(result: Caught) -> str:
    if result.failed is None:
        return f"MISSED  {result.mutation.name} ({result.mutation.rule}): {result.seeds} seeds"
    return f"caught  {result.mutation.name} ({result.mutation.rule}): {result.failed.checker}, seed {result.seeds - 1}"
