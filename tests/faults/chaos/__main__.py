"""`python -m tests.faults.chaos SCENARIO`: what `holdfast chaos` runs."""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from client.exit_codes import DAMAGED, DONE, INVALID, PARTIAL
from datastore.errors import nearest
from tests.faults.chaos import figures, report
from tests.faults.chaos.run import NothingToDo, Outcome, run
from tests.faults.chaos.scenarios import SCENARIOS

EVERY = "all"
SIMULATOR_PAGE = Path(__file__).resolve().parents[3] / "docs" / "proof.md"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run scenarios and write what they came to; return the exit code: 0 kept, 9 broken, 8 not decided, 2 not a scenario."""
    parser = argparse.ArgumentParser(prog="holdfast chaos")
    parser.add_argument("scenario")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--out", type=Path, default=Path("chaos"))
    parser.add_argument("--report", type=Path, default=None)
    parser.add_argument("--figures", type=Path, default=None)
    parser.add_argument("--json", action="store_true")
    told = parser.parse_args(arguments)
    if told.scenario not in (*SCENARIOS, EVERY):
        near = nearest(told.scenario, [*SCENARIOS, EVERY])
        hint = f"; did you mean {near[0]}?" if near else ""
        print(f"error: no scenario {told.scenario[:60]!r}; there are {', '.join(SCENARIOS)}, {EVERY}{hint}", file=sys.stderr)
        return INVALID
    told.out.mkdir(parents=True, exist_ok=True)
    seed = random.SystemRandom().randrange(1_000_000) if told.seed is None else told.seed
    outcomes = []
    for name in SCENARIOS if told.scenario == EVERY else [told.scenario]:
        outcome = _one(name, 60 * told.minutes, seed, told.out, as_json=told.json)
        if outcome is not None:
            outcomes.append(outcome)
    command = f"holdfast chaos {told.scenario} --minutes {told.minutes:g} --seed {seed}"
    if outcomes and told.report is not None:
        _write(told.report, figures.CHAOS, f"{command} --report", [figures.table(outcomes), figures.figures(outcomes, SIMULATOR_PAGE)])
    if outcomes and told.figures is not None:
        _write(told.figures, figures.FIGURES, f"{command} --figures", [figures.figures(outcomes, SIMULATOR_PAGE)])
    verdicts = {outcome.verdict for outcome in outcomes}
    if "broken" in verdicts:
        return DAMAGED
    return DONE if verdicts == {"kept"} else PARTIAL


def _write(page: Path, marks: tuple[str, str], command: str, parts: Sequence[str]) -> None:
    figures.write_section(page, marks, "\n\n".join([figures.origin(f"{command} {page.name}"), *parts]))


def _one(name: str, seconds: float, seed: int, out: Path, *, as_json: bool) -> Outcome | None:
    """Run one scenario in a folder of its own; write its history, report and picture to `out`."""
    began = time.monotonic()

    def say(words: str) -> None:
        print(f"{time.monotonic() - began:7.1f} s  {words}", file=sys.stderr, flush=True)

    stem = out / f"{name}-{seed}"
    say(f"scenario {name}, seed {seed}: {SCENARIOS[name].what}")
    with tempfile.TemporaryDirectory(prefix="holdfast-chaos-") as folder:
        try:
            outcome = run(name, seconds, seed, Path(folder), say, stem.with_suffix(".jsonl"))
        except NothingToDo as reason:
            say(f"left out: {reason}")
            return None
        if outcome.verdict == "broken":
            _keep_logs(Path(folder), stem.with_suffix(".logs"))
    words = report.text(outcome)
    stem.with_suffix(".txt").write_text(words + "\n", encoding="utf-8")
    report.chart(outcome, stem.with_suffix(".png"))
    if as_json:
        print(json.dumps(report.document(outcome)))
    else:
        print(words)
        print(f"\nhistory {stem}.jsonl (judge it again: holdfast verify --history {stem}.jsonl)\nchart   {stem}.png")
    return outcome


def _keep_logs(folder: Path, to: Path) -> None:
    """Keep the logs of a run that went wrong beside its history: the cluster's folder goes."""
    to.mkdir(exist_ok=True)
    for path in folder.rglob("*.log"):
        (to / path.name).write_bytes(path.read_bytes())


if __name__ == "__main__":
    sys.exit(main())
