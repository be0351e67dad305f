"""`python -m tests.simulation`: run seeds of the simulator, replay one, prove that broken rules are caught.

python -m tests.simulation --seed 7                 one run: what it did, or the story of its failure, made smaller
python -m tests.simulation --seed 7 --replay        the same run, told line by line
python -m tests.simulation --seeds 200 --seed 1000  two hundred runs from seed 1000 on
python -m tests.simulation --hours 8                fresh seeds for eight hours of wall time
python -m tests.simulation --mutations --report docs/proof.md
"""

from __future__ import annotations

import argparse
import itertools
import logging
import platform
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from tests.simulation import proof
from tests.simulation.faults import all_mutations, broken
from tests.simulation.plans import PLANS
from tests.simulation.runs import STEPS_MAX, Failed, Totals, minimised, run_many, run_one
from tests.simulation.scenario import PROFILES, Scenario, draw

FAILED = 1
SAVE_S = 60  # So often the page gets the figures of a long run, which may be stopped at any time.
ALL = (*PROFILES, *PLANS)


def main(arguments: list[str]) -> int:
    """Run what the arguments ask for; return the exit code: 0 all well, 1 something was violated, 2 bad arguments."""
    logging.disable(logging.CRITICAL)  # What managers and nodes log is told by the story, in simulated time.
    options = _parser().parse_args(arguments)
    if options.mutations:
        report, results = (Path(name) if name else None for name in (options.report, options.results))
        right_seeds = options.seeds if options.seeds > 1 else proof.RIGHT_SEEDS
        return proof.run(options.seeds_max, report, results, only=options.mutation, quick=options.quick, right_seeds=right_seeds)
    if options.mutation:
        names = [mutation.name for mutation in all_mutations()]
        if options.mutation not in names:
            print(f"no mutation is called {options.mutation!r}; there are:\n  " + "\n  ".join(names), file=sys.stderr)
            return 2
        with broken(options.mutation) as parts:
            return _judge(run_one(draw(options.seed, options.profile), parts, options.steps), options)
    if options.hours:
        return _run_for(options)
    if options.seeds > 1:
        return _run_seeds(options)
    scenario = draw(options.seed, options.profile)
    if options.replay:
        print("\n".join(scenario.describe()))
    return _judge(run_one(scenario, None, options.steps, print if options.replay else None), options)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="holdfast simulate", description="Run the deterministic simulator.")
    parser.add_argument("--seed", type=int, default=0, help="the seed of the run, or the first of many")
    parser.add_argument("--seeds", type=int, default=1, help="how many runs; with --mutations: how many must hold with every rule as it is")
    parser.add_argument("--steps", type=int, default=STEPS_MAX, help="end a run after so many protocol steps")
    parser.add_argument("--hours", type=float, default=0.0, help="go on with fresh seeds for so long")
    parser.add_argument("--profile", default="", choices=["", *ALL], help="what the runs are about; drawn from the seed by default")
    parser.add_argument("--replay", action="store_true", help="tell what happens, line by line")
    parser.add_argument("--keep", action="store_true", help="do not make a failing run smaller")
    parser.add_argument("--mutations", action="store_true", help="break every rule on purpose and see that it is noticed")
    parser.add_argument("--quick", action="store_true", help="with --mutations: only those that continuous integration runs")
    parser.add_argument("--mutation", default="", help="run under one broken rule, by its name")
    parser.add_argument("--seeds-max", type=int, default=400, help="within how many seeds a broken rule must be caught")
    parser.add_argument("--report", default="", help="with --mutations or --hours: the page to write")
    parser.add_argument("--results", default="", help="with --mutations: a file that keeps each row; what it has is not run again")
    return parser


def _judge(result: object, options: argparse.Namespace) -> int:
    if isinstance(result, Failed):
        _tell(result, keep=options.keep or options.replay)
        return FAILED
    print(result)
    return 0


def _run_seeds(options: argparse.Namespace) -> int:
    totals = Totals()
    scenarios = (draw(seed, options.profile) for seed in range(options.seed, options.seed + options.seeds))
    failed = run_many(scenarios, totals, steps_max=options.steps)
    print("\n".join(totals.describe()))
    if failed is not None:
        _tell(failed, keep=options.keep)
        return FAILED
    return 0


def _run_for(options: argparse.Namespace) -> int:
    """Run fresh seeds until the time is over; the first is drawn from the date unless it is given."""
    totals = Totals()
    until = time.monotonic() + options.hours * 3600
    first = options.seed or int(time.time())
    began = saved = time.monotonic()
    report = Path(options.report) if options.report else None
    if report is not None:
        proof.write_long_run(report, totals, first, 0.0, None)  # A page without its place is found out now, and not in eight hours.
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("starting", total=options.hours * 3600)

        def scenarios() -> Iterator[Scenario]:
            nonlocal saved
            for seed in itertools.count(first):
                if report is not None and time.monotonic() > saved + SAVE_S:
                    saved = time.monotonic()
                    proof.write_long_run(report, totals, first, saved - began, None)
                if time.monotonic() >= until:
                    return
                text = f"seed {seed}: {totals.runs} runs, {totals.steps:,} steps, {totals.operations:,} operations"
                progress.update(task, completed=time.monotonic() - began, description=text)
                yield draw(seed, options.profile or ALL[seed % len(ALL)])

        failed = run_many(scenarios(), totals, steps_max=options.steps)
    print("\n".join(totals.describe()))
    if report is not None:
        proof.write_long_run(report, totals, first, time.monotonic() - began, failed)
    print(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {platform.machine()}, Python {platform.python_version()}, first seed {first}")
    if failed is not None:
        _tell(failed, keep=options.keep)
        return FAILED
    return 0


def _tell(failed: Failed, *, keep: bool) -> None:
    """Print the failure, as small as it can be made, and how to see it again."""
    seed, profile = failed.scenario.seed, failed.scenario.profile
    print(f"seed {seed} violates: {failed.checker}\n  {failed.detail}")
    print(f"again: holdfast simulate --seed {seed} --profile {profile} --replay")
    if not keep:
        smaller = minimised(failed)
        print(f"the smallest run found that violates the same ({len(smaller.scenario.faults)} of {len(failed.scenario.faults)} faults):")
        failed = smaller
    print("\n".join(f"  {line}" for line in failed.scenario.describe()))
    print(f"  {failed.detail}\nthe story's end, by time, who and what:")
    print("\n".join(f"  {line}" for line in failed.story))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
