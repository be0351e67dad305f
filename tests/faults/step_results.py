"""What came of stopping one step after the other: a line for each traveller, and the table of them for the documentation.

    HOLDFAST_CRASHES=3/10 HOLDFAST_CRASH_RESULTS=build/crashes.jsonl python -m pytest tests/faults/test_step_crashes.py
    python -m tests.faults.step_results build/crashes.jsonl            prints the table
    python -m tests.faults.step_results build/crashes.jsonl --write    and puts it into docs/baskets.md

Every run adds its lines, so that all pairs can be met in parts, on any day and on several machines.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tests.faults.steps import POINTS, VICTIMS, WORDS, Point
from tests.integration.harness import TOP

BEGIN, END = "<!-- crash results: begin -->\n", "<!-- crash results: end -->"


class Result(NamedTuple):
    """What came of one traveller. `faults`: what contradicts what; `tries`: travellers until one came to the point."""

    point: str
    victim: str
    tries: int
    asked_again: bool
    heard: list[str]
    ended: str  # "booked", "nothing", or what the order's state is
    faults: list[str]


def name_of(point: Point) -> str:
    return f"{point.name} ({point.what} {point.side})"


def add(path: Path, results: Sequence[Result]) -> None:
    """Add results to a file, one JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(one._asdict()) + "\n" for one in results)


def read(paths: Sequence[Path]) -> list[Result]:
    """Return the results of all files.

    Raises:
        ValueError: A line names a point or a victim that there is not.
    """
    points = {name_of(point) for point in POINTS}
    found = [Result(**json.loads(line)) for path in paths for line in path.read_text(encoding="utf-8").splitlines() if line]
    strange = [one for one in found if one.point not in points or one.victim not in VICTIMS]
    if strange:
        raise ValueError(f"there is no point {strange[0].point!r} with victim {strange[0].victim!r}: is the file of an older version?")
    return found


def table(results: Sequence[Result]) -> list[str]:
    """Return how many points of each flow were met with each victim, and what was wrong afterwards."""
    lines = [f"| what is done | points | {' | '.join(VICTIMS)} | wrong afterwards |", "|---|---|" + "---|" * (len(VICTIMS) + 1)]
    met = {(one.point, one.victim) for one in results}
    sums = [0] * len(VICTIMS)
    for flow, word in WORDS.items():
        names = {name_of(point) for point in POINTS if point.flow == flow}
        counts = [sum((name, victim) in met for name in names) for victim in VICTIMS]
        sums = [before + count for before, count in zip(sums, counts, strict=True)]
        wrong = sum(bool(one.faults) for one in results if one.point in names)
        lines.append(f"| {word} | {len(names)} | {' | '.join(map(str, counts))} | {wrong or 'nothing'} |")
    wrong = sum(bool(one.faults) for one in results)
    every = f"all: {sum(sums)} of {len(POINTS) * len(VICTIMS)} pairs"
    lines.append(f"| {every} | {len(POINTS)} | {' | '.join(map(str, sums))} | {wrong or 'nothing'} |")
    ended = {how: sum(one.ended == how for one in results) for how in sorted({one.ended for one in results})}
    heard = sum(bool(one.heard) and not one.heard[-1] for one in results)
    lines.append("")
    lines.append(
        f"{len(results)} travellers: {', '.join(f'{count} {how}' for how, count in ended.items())} in the end; "
        f"the last call of {heard} was answered, the others' refused, or left open."
    )
    return lines


def missing(results: Sequence[Result]) -> list[tuple[str, str]]:
    """Return the pairs that nobody has met yet."""
    met = {(one.point, one.victim) for one in results}
    return [(name_of(point), victim) for point in POINTS for victim in VICTIMS if (name_of(point), victim) not in met]


def main(arguments: Sequence[str]) -> int:
    """Print the table; with `--write` put it into docs/baskets.md. 1: something was wrong, or a pair was not met."""
    paths = [Path(word) for word in arguments if word != "--write"]
    if not paths:
        print("say which files of results: python -m tests.faults.step_results FILE... [--write]", file=sys.stderr)
        return 2
    results = read(paths)
    lines = table(results)
    print("\n".join(lines))
    if "--write" in arguments:
        page = TOP / "docs" / "baskets.md"
        before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
        page.write_text(before + BEGIN + "\n".join(lines) + "\n" + END + rest.partition(END)[2], encoding="utf-8")
    left = missing(results)
    for point, victim in left[:20]:
        print(f"not met yet: {point}, kill -9 of the {victim}", file=sys.stderr)
    for one in results:
        for fault in one.faults:
            print(f"WRONG: {fault}", file=sys.stderr)
    return 1 if left or any(one.faults for one in results) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
