"""The names of all commands, as the program that was called has them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import typer


def names_of(context: typer.Context) -> list[str]:
    """Return the names of all commands of the program that was called, those of groups with their group: "node add"."""
    return names_in(context.find_root().command)


def names_in(group: Any) -> list[str]:
    """Return the names of a group's commands and of the groups in it."""
    commands: Mapping[str, Any] = getattr(group, "commands", {})
    names = []
    for name, command in commands.items():
        inner = names_in(command)
        names += [f"{name} {one}" for one in inner] if inner else [name]
    return names
