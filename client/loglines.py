"""Lines of the processes' logs as data: when, how grave, who, what; and which belong to one request. Pure.

A line is "STAMP LEVEL PROCESS message name=value …", its stamp in UTC, "Z"; programs before this one wrote local times
without. Lines without a stamp (a traceback, another program's words) belong to the line above them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

LINE = re.compile(r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:[.,](\d{1,6}))?(Z|\+00:00)? +([A-Z]+) +(\S+) +(.*)", re.DOTALL)
FIELD = re.compile(r"(\w+)=(\S+)")
LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")


class LogLine(NamedTuple):
    """One line. `stamp`: "2026-12-01 10:00:00.123Z"; "" where none was read yet."""

    stamp: str
    level: str
    process: str
    text: str

    @property
    def fields(self) -> dict[str, str]:
        return dict(FIELD.findall(self.text))


def parse(text: str, process: str) -> list[LogLine]:
    """Return the lines of a piece of one process's log; what stands before its first stamp is its own, without one."""
    found: list[LogLine] = []
    for line in text.splitlines():
        match = LINE.fullmatch(line)
        if match is not None:
            day, clock, fraction, zone, level, name, rest = match.groups()
            found.append(LogLine(f"{day} {clock}.{(fraction or '')[:3]:0<3}{'Z' if zone else ''}", level, name, rest))
        elif line.strip() and found:
            last = found[-1]
            found[-1] = last._replace(text=f"{last.text}\n    {line}")
        elif line.strip():
            found.append(LogLine("", "INFO", process, line))
    return found


def merged(parts: Iterable[Sequence[LogLine]]) -> list[LogLine]:
    """Return the lines of all processes by time; lines of one process keep their order."""
    return sorted((line for part in parts for line in part), key=lambda line: line.stamp)


def matching(lines: Iterable[LogLine], wanted: str, level: str = "DEBUG") -> list[LogLine]:
    """Return the lines that hold every word of `wanted` and are at least as grave as `level`.

    A word "name=value" asks for that very field, any other for the characters anywhere in the line, in any case.
    """
    words = wanted.casefold().split()
    least = LEVELS.index(level) if level in LEVELS else 0
    return [line for line in lines if _grave(line) >= least and all(_has(line, word) for word in words)]


def _has(line: LogLine, word: str) -> bool:
    return word in f"{line.stamp} {line.level} {line.process} {line.text}".casefold()


def _grave(line: LogLine) -> int:
    return LEVELS.index(line.level) if line.level in LEVELS else 1
