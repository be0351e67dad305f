"""Words on the command line, in any order: an exit code of the table each time, never a traceback."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from inspect import Parameter, signature
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
import tomlkit
from hypothesis import given
from hypothesis import strategies as st
from typer.models import ArgumentInfo, OptionInfo

from client import cli, exit_codes, processes
from client.cluster import read_config
from client.plan import plan_of, with_ports
from tests.fuzzing.mutations import fuzzed
from tests.fuzzing.shapes import WORDS

TOP = Path(__file__).resolve().parents[2]
# What starts, paints or runs for long has tests of its own.
LEFT_OUT = {"cluster up", "cluster restart", "tui", "console", "chaos", "simulate"}
COMMANDS = sorted(name for name in cli.command_names() if name not in LEFT_OUT)
OPTIONS = (
    "--json", "--seats", "--any", "--for", "--passenger", "--date", "--from", "--to", "--operator", "--key", "--out", "--history",
    "--receipt", "--all", "--limit",
    "--pax", "--together", "--cabin", "--offer", "--dry-run", "--deep", "--no-such-option", "-", "--", "-h",
)  # fmt: skip
VALUES = (*WORDS[:-3], "last", "tomorrow", "1", "-1", "999999999999", "10m", "Ada Byron", "/nonexistent", "/dev/null", "a=b", "\udcff")
KNOWN = {exit_codes.DONE, exit_codes.PARTIAL, exit_codes.DAMAGED, cli.INTERRUPTED, *exit_codes.EXIT_CODES.values()}


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the options that mean a cluster of which nothing runs."""
    folder = tmp_path_factory.mktemp("command-line")
    mapping = read_config(TOP / "cluster.toml", "default")
    names = [process.name for process in plan_of(mapping).processes]
    mapping = with_ports(mapping, dict(zip(names, processes.free_ports(len(names)), strict=True)))
    mapping["client"]["call_ms"] = 100
    (folder / "cluster.toml").write_text(tomlkit.dumps(mapping), encoding="utf-8")
    return ["--config", str(folder / "cluster.toml"), "--data", str(folder / "data")]


@contextmanager
def somewhere_else() -> Iterator[None]:
    """Be in an empty folder, with an empty wallet: the caller's own are not for this."""
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        before = os.environ.get("HOLDFAST_HOME")
        os.environ["HOLDFAST_HOME"] = folder
        try:
            yield
        finally:
            del os.environ["HOLDFAST_HOME"]
            if before is not None:
                os.environ["HOLDFAST_HOME"] = before


def test_words_in_any_order(session: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever is typed: one of the exit codes of the table, no traceback, and with --json at most one document."""

    @fuzzed(60)
    @given(st.sampled_from(COMMANDS), st.lists(st.one_of(st.sampled_from(OPTIONS), st.sampled_from(VALUES)), max_size=5))
    def type_it(command: str, words: list[str]) -> None:
        with somewhere_else():
            code = cli.run([*session, *command.split(), *words])
        shown = capfd.readouterr()
        assert isinstance(code, int) and code in KNOWN, (code, command, words)
        assert "Traceback" not in shown.err + shown.out, (command, words, shown.err[-2_000:])

    type_it()


def number_options() -> list[tuple[str, list[str], str]]:
    """Return (command, a value for each of its arguments, option) for each option that takes a number, by the commands' signatures."""
    found = []
    groups = [
        ("", cli.app),
        *((str(one.typer_instance.info.name), one.typer_instance) for one in cli.app.registered_groups if one.typer_instance),
    ]
    for group, commands in groups:
        for command in commands.registered_commands:
            callback = command.callback
            assert callback is not None
            name = f"{group} {command.name or callback.__name__.replace('_', '-')}".strip()
            if name not in COMMANDS:
                continue
            hints, defaults = get_type_hints(callback, include_extras=True), signature(callback).parameters
            numbers, arguments = [], []
            for parameter, hint in hints.items():
                kind, *rest = get_args(hint) or (hint,)
                for info in rest:
                    if isinstance(info, ArgumentInfo) and defaults[parameter].default is Parameter.empty:
                        arguments.append("AR1140-EZE-2026-12-01")
                    if isinstance(info, OptionInfo) and {int, float} & {kind, *get_args(kind)}:
                        # In an annotation the first name stands where a default would.
                        names = [str(one) for one in (info.default, *(info.param_decls or ())) if str(one).startswith("--")]
                        numbers.append(names[0])
            found += [(name, arguments, option) for option in numbers]
    return found


def test_numbers_without_end(session: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    """A number that no machine word holds is refused or never sent, wherever a number is taken: no traceback."""
    options = number_options()
    assert {("hold", "--any"), ("search", "--pax")} <= {(command, option) for command, _, option in options}
    for command, arguments, option in options:
        for number in ("9" * 30, f"-{'9' * 30}"):
            with somewhere_else():
                code = cli.run([*session, *command.split(), *arguments, option, number])
            shown = capfd.readouterr()
            assert code in KNOWN and code != exit_codes.DONE, (command, option, number, code)
            assert "Traceback" not in shown.err + shown.out, (command, option, shown.err[-2_000:])
