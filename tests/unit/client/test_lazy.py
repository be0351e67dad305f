"""`--help` answers at once: what it imports is counted, not how long it takes on a busy machine."""

from __future__ import annotations

import subprocess
import sys

import pytest

# What costs most at import, and what no page of help needs.
HEAVY = (
    "rpyc",
    "redis",
    "textual",
    "apsw",
    "stripe",
    "requests",
    "tomlkit",
    "rich.markdown",
    "rich.console",
    "PIL",
    "datastore.messages",
    "client.api",
)
PAGES = (["--help"], ["hold", "--help"], ["cluster", "--help"], ["tui", "--help"], ["demo", "--help"], ["doctor", "--help"])


@pytest.mark.parametrize("words", PAGES, ids=" ".join)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    """Neither RPyC nor the screens nor pretty printing is loaded to print a page of text."""
    program = (
        f"import sys; from client import cli; cli.run({words!r}); print([one for one in {HEAVY!r} if one in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert "[]" == done.stderr.strip()
    assert "Usage: holdfast" in done.stdout


def test_every_command_stands_under_a_heading() -> None:
    """The page lists each command once, under the heading of its panel."""
    from client import cli

    done = subprocess.run([sys.executable, "-m", "client", "--help"], capture_output=True, text=True, timeout=120, check=True)
    lines = [line.split()[0] for line in done.stdout.splitlines() if line.startswith("  ") and line.strip()]
    assert "\nCommands:" not in done.stdout
    for name in {word.split()[0] for word in cli.command_names()}:
        assert 1 == lines.count(name), name
