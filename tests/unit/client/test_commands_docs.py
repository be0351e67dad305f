"""Commands and exit codes that the documents name exist: a reader types them word for word."""

import re
import shlex
from pathlib import Path
from typing import Any

import typer

from client import exit_codes
from client.cli import app

TOP = Path(__file__).resolve().parents[3]
ROOT: Any = typer.main.get_command(app)


# Options that stand before a command, with a value each.
GLOBAL = {option for parameter in ROOT.params for option in parameter.opts if option not in ("--version", "-h", "--help")}


def commands(text: str) -> list[list[str]]:
    """Return the words of every `holdfast ...` line of an indented block."""
    lines = re.findall(r"^ {4}(?:[A-Z_]+=\S+ )*holdfast ([^\n&]+)", text, re.MULTILINE)
    return [shlex.split(line) for line in lines]


def complaint(words: list[str]) -> str:
    """Return what is wrong with a command, or ""."""
    command = ROOT
    while len(words) > 1 and words[0] in GLOBAL:
        words = words[2:]
    while hasattr(command, "commands"):
        if not words or words[0] not in command.commands:
            return f"no command {words[:1]} in {command.name}"
        command, words = command.commands[words[0]], words[1:]
    known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
    wrong = [word for word in words if word.startswith("-") and word not in known]
    return f"{command.name} has no {wrong}" if wrong else ""


def test_every_command_of_the_readme_exists() -> None:
    """The five-minute tour, with every option."""
    found = commands((TOP / "README.md").read_text(encoding="utf-8"))
    assert len(found) >= 9
    assert [] == [(words, complaint(words)) for words in found if complaint(words)]


def test_every_mentioned_command_exists() -> None:
    """In running text too, in every document for users."""
    for page in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/configuration.md", "docs/operations.md"):
        path = TOP / page
        for words in re.findall(r"`holdfast ([a-z][^`]*)`", path.read_text(encoding="utf-8")):
            for name in words.split(", "):
                assert "" == complaint(shlex.split(name)), f"{path.name}: holdfast {name}"


def test_every_command_shown_with_its_output_exists() -> None:
    """The operations page shows what was typed and what was said."""
    found = re.findall(r"^ {4}\$ holdfast ([^\n]+)", (TOP / "docs" / "operations.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(found) >= 8
    assert [] == [(words, complaint(shlex.split(words))) for words in found if complaint(shlex.split(words))]


def test_every_command_and_key_of_the_deployment_page_exists() -> None:
    """Whoever sets up several hosts types it word for word."""
    text = (TOP / "docs" / "deployment.md").read_text(encoding="utf-8")
    found = commands(text) + [shlex.split(words) for words in re.findall(r"`holdfast ([a-z-][^`]*)`", text)]
    assert len(found) >= 8
    assert [] == [(words, complaint(words)) for words in found if complaint(words)]
    settings = (TOP / "docs" / "configuration.md").read_text(encoding="utf-8")
    for table, key in re.findall(r"`(client|datastore|lockstore)\.(\w+)`", text):
        section = re.search(rf"^## `\[{table}\]`.*?(?=^## |\Z)", settings, re.MULTILINE | re.DOTALL)
        assert section is not None
        assert key in ("pem", "key", "server") or f"`{key}`" in section[0], f"{table}.{key}"


def test_the_readme_lists_every_exit_code() -> None:
    """A script's author reads the table, not the code."""
    listed = {int(number) for number in re.findall(r"^\| (\d) \|", (TOP / "README.md").read_text(encoding="utf-8"), re.MULTILINE)}
    assert {exit_codes.DONE, exit_codes.PARTIAL, exit_codes.DAMAGED, *exit_codes.EXIT_CODES.values()} == listed
