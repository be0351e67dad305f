"""Any command of `holdfast` without leaving the application: typed with suggestions, run as a process, its lines shown as they come.

What has no screen of its own (import, node add, recover, verify, record, ...) is thereby done here just as in a shell.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from typing import ClassVar

from rich.text import Text
from textual import on, work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.suggester import Suggester
from textual.widgets import Input, Static

from client.tui.lines import Lines
from client.tui.page import Page
from client.tui.question import Question

LINES_MAX = 5_000
LINE_BYTES_MAX = 1024 * 1024
OWN_TERMINAL = ("tui", "demo", "console")
ASKS = "add --yes"  # How a command that nobody can answer says what it would have asked.
GOOD, WRONG = "#009E73", "#D55E00"


class CommandNames(Suggester):
    """Completes the command that is being typed."""

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._names = sorted(names)

    async def get_suggestion(self, value: str) -> str | None:
        return next((name for name in self._names if value and name.startswith(value) and name != value), None)


class CommandScreen(Page[object]):
    """A line to type in, and what the commands said."""

    heading = "Command"
    HELP = """
    # A command
    Type what you would type behind `holdfast`: `import FOLDER --dry-run`, `node add node-4`, `recover node-3`, `order REF`; **→** takes
    what is suggested, **↑** brings back the last one, `COMMAND --help` explains it. What a command would ask is asked here.
    **Esc** stops a command that runs, and leaves when none does.
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "recall(-1)", "Last one", id="command.recall"),
        Binding("down", "recall(1)", "Next one", show=False, id="command.next"),
        Binding("escape", "stop", "Stop/back", id="command.stop"),
    ]

    def __init__(self, text: str = "") -> None:
        super().__init__()
        self._text = text
        self._process: asyncio.subprocess.Process | None = None
        self._place = 0

    def content(self) -> ComposeResult:
        yield Static("holdfast …   --help lists everything", id="said")
        yield Input(self._text, placeholder="a command", suggester=CommandNames(self.holdfast.command_names), id="filter", max_length=2000)
        yield Lines(id="lines", max_lines=LINES_MAX)

    def on_mount(self) -> None:
        self._place = len(self.holdfast.commands_typed)
        self.query_one("#filter", Input).focus()

    def on_unmount(self) -> None:
        self._interrupt(signal.SIGTERM)

    @on(Input.Submitted)
    def _submitted(self, event: Input.Submitted) -> None:
        text = event.value.strip().removeprefix("holdfast ").strip()
        if not text:
            return
        if self._process is not None:
            self.notify("a command runs; Esc stops it", severity="warning")
            return
        try:
            words = shlex.split(text)
        except ValueError as error:
            self._say(str(error), WRONG)
            return
        if words[0] in OWN_TERMINAL:
            self._say(f"{words[0]} needs a terminal of its own", WRONG)
            return
        self.holdfast.commands_typed.append(text)
        self._place = len(self.holdfast.commands_typed)
        event.input.value = ""
        self._run(words)

    def _say(self, text: str, colour: str = "") -> None:
        self.query_one("#said", Static).update(Text(text, colour))

    @work(group="command", exclusive=True)
    async def _run(self, words: list[str]) -> None:
        """Run a command; where it would have asked something, ask that and run it as agreed."""
        code, last = await self._ran(words)
        if code and ASKS in last and "--yes" not in words:
            question = last.removeprefix("error: ").removesuffix(f": {ASKS}")
            if await self.app.push_screen_wait(Question(f"{shlex.join(words)}\n\n{question}", "Do it", "Leave it")):
                code, last = await self._ran([*words, "--yes"])
        self._say(f"{shlex.join(words)}: {f'ended with {code}' if code else 'done'}", WRONG if code else GOOD)

    async def _ran(self, words: list[str]) -> tuple[int, str]:
        """Return the exit code and the last line of a command that has ended."""
        log, last = self.query_one("#lines", Lines), ""
        log.tell(Text(f"> holdfast {shlex.join(words)}", "bold"))
        self._say(f"{shlex.join(words)} runs …   Esc stops it")
        colour = {"NO_COLOR": "1"} if "NO_COLOR" in os.environ else {"FORCE_COLOR": "1"}
        environment = {**os.environ, **colour, "COLUMNS": str(max(40, self.size.width - 4))}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "client", *self.holdfast.command_options, *words,
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env=environment, limit=LINE_BYTES_MAX, start_new_session=True,
        )  # fmt: skip
        self._process = process
        try:
            assert process.stdout is not None, "it was made with a pipe"
            while line := await process.stdout.readline():
                text = Text.from_ansi(line.decode(errors="replace").rstrip("\n"))
                last = text.plain.strip() or last
                log.tell(text)
            return await process.wait(), last
        finally:
            self._interrupt(signal.SIGTERM)  # Only where the screen went while it ran.
            self._process = None

    def _interrupt(self, number: signal.Signals) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    def action_recall(self, step: int) -> None:
        """Bring back what was typed before."""
        typed, field = self.holdfast.commands_typed, self.query_one("#filter", Input)
        self._place = min(max(0, self._place + step), len(typed))
        field.value = typed[self._place] if self._place < len(typed) else ""
        field.cursor_position = len(field.value)

    def action_stop(self) -> None:
        """Stop what runs as Ctrl+C would; else leave."""
        if self._process is not None:
            self._interrupt(signal.SIGINT)
        else:
            self.app.pop_screen()
