"""The mutation proof: every rule broken on purpose, who noticed, and after how many seeds; written into docs/proof.md."""

from __future__ import annotations

import platform
from datetime import UTC, datetime
from pathlib import Path

from tests.simulation.faults import all_mutations
from tests.simulation.runs import Caught, Totals, catch, run_many
from tests.simulation.scenario import draw

BEGIN, END = "<!-- mutations: begin -->", "<!-- mutations: end -->"
RIGHT_SEEDS = 300
RIGHT_SEEDS_QUICK = 40


def run(seeds_max: int, report: Path | None, only: str = "", *, quick: bool = False) -> int:
    """Break every rule in turn, or those that are quickly caught; return 0 if each was caught, and the right rules held."""
    results = []
    for mutation in all_mutations():
        if (only and only != mutation.name) or (quick and not mutation.quick):
            continue
        result = catch(mutation, seeds_max)
        results.append(result)
        print(_line(result), flush=True)
    missed = [result for result in results if result.failed is None]
    totals = Totals()
    failed = run_many((draw(seed) for seed in range(RIGHT_SEEDS_QUICK if quick else RIGHT_SEEDS)), totals)
    print("\n".join(totals.describe()))
    if report is not None and failed is None:
        write(report, results, totals, quick=quick)
    if failed is not None:
        print(f"the right rules are caught too: seed {failed.scenario.seed}: {failed.checker}: {failed.detail}")
    for result in missed:
        print(f"not caught: {result.mutation.name}")
    return 1 if missed or failed is not None else 0


def write(report: Path, results: list[Caught], totals: Totals, *, quick: bool) -> None:
    """Put the table between the page's two marks."""
    text = report.read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    machine = f"{datetime.now(UTC):%Y-%m-%d}, {platform.machine()}, Python {platform.python_version()}"
    command = f"python -m tests.simulation --mutations{' --quick' if quick else ''} --report docs/proof.md"
    lines = [BEGIN, "", f"Written by `{command}` ({machine}).", ""]
    lines += ["| broken on purpose | rule | caught by | seeds needed |", "|---|---|---|---|"]
    for result in results:
        who = result.failed.checker if result.failed else "**not caught**"
        seeds = str(result.seeds) if result.failed else f"more than {result.seeds}"
        lines.append(f"| {result.mutation.name} | {result.mutation.rule} | {who} | {seeds} |")
    lines += ["", "With every rule as it is:", "", *[f"- {line}" for line in totals.describe()], "", END]
    report.write_text(head + "\n".join(lines) + tail)


def _line(result: Caught) -> str:
    if result.failed is None:
        return f"MISSED  {result.mutation.name} ({result.mutation.rule}): {result.seeds} seeds"
    return f"caught  {result.mutation.name} ({result.mutation.rule}): {result.failed.checker}, seed {result.seeds - 1}"
