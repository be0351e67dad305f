"""The page of `holdfast --help`: commands under the headings of their panels, as plain text.

Plain, because the pretty form costs a quarter of a second of imports at every look, and reads worse aloud and in a pipe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from typer.core import TyperGroup

# In the order of a first acquaintance; a heading that is not here comes behind them.
HEADINGS = ("Look", "Travel", "Operate", "Run a cluster")


class SectionedGroup(TyperGroup):
    """A group whose commands are listed by `rich_help_panel`."""

    if not TYPE_CHECKING:  # The base class takes its context and formatter from a click of its own, which has no public name.

        def format_commands(self, ctx: Any, formatter: Any) -> None:
            """Write a section for each heading."""
            sections: dict[str, list[tuple[str, str]]] = {heading: [] for heading in HEADINGS}
            limit = formatter.width - 6 - max((len(name) for name in self.list_commands(ctx)), default=0)
            for name in self.list_commands(ctx):
                command = self.get_command(ctx, name)
                if command is None or command.hidden:
                    continue
                heading = getattr(command, "rich_help_panel", None)
                heading = heading if isinstance(heading, str) else "Commands"
                sections.setdefault(heading, []).append((name, command.get_short_help_str(limit)))
            for heading, rows in sections.items():
                if rows:
                    with formatter.section(heading):
                        formatter.write_dl(rows)
