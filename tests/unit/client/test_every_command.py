"""What holds for every command: one form for scripts, and a slip of the fingers is met with the right name."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from client import exit_codes
from client.cli import app, run

ROOT: Any = typer.main.get_command(app)
README = Path(__file__).resolve().parents[3] / "README.md"
# For a person at a terminal, or of the source checkout; README.md says so.
WITHOUT_JSON = {"console", "demo", "simulate"}


def commands(group: Any = ROOT, before: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command with the words that name it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, (*before, name))
        else:
            yield (*before, name), command


ALL = list(commands())


def options_of(command: Any) -> list[str]:
    return sorted(option for parameter in command.params for option in parameter.opts if option.startswith("--"))


def test_every_command_answers_scripts() -> None:
    """Reads and writes alike have --json, but for the few that README.md names."""
    assert WITHOUT_JSON == {" ".join(words) for words, command in ALL if "--json" not in options_of(command)}
    named = re.search(r"Every command but ([^:]+) has `--json`", README.read_text(encoding="utf-8"))
    assert named and WITHOUT_JSON == set(re.findall(r"`(\w+)`", named[1]))


@pytest.mark.parametrize(("words", "command"), ALL, ids=[" ".join(words) for words, _ in ALL])
def test_slips_are_met_with_the_right_name(words: tuple[str, ...], command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """A letter too many in a command or an option is refused as invalid, with the nearest name; nothing is begun."""
    assert exit_codes.INVALID == run([*words[:-1], f"{words[-1]}x"])
    said = capsys.readouterr()
    assert "" == said.out and f"'{words[-1]}'" in said.err
    for option in options_of(command)[:1]:
        assert exit_codes.INVALID == run([*words, f"{option}{option[-1]}"])
        said = capsys.readouterr()
        assert "" == said.out and option in said.err


def test_slips_are_documents_for_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json the refusal is one too."""
    slips = (["ordr", "last"], "'order'"), (["ticket", "verfy", "x"], "'verify'"), (["order", "last", "--surnam", "x"], "--surname")
    for words, near in slips:
        assert exit_codes.INVALID == run([*words, "--json"])
        document = json.loads(capsys.readouterr().out)
        assert "invalid_request" == document["code"] and near in document["detail"]
