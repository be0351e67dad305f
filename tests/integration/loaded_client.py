"""The whole `holdfast` command, loaded: imported by the nursery from which `typed` has its processes, by nothing else."""

from __future__ import annotations

import contextlib
import importlib
import pkgutil

import client
from client.cli import command

for _found in pkgutil.iter_modules(client.__path__):
    if _found.name != "__main__":
        importlib.import_module(f"client.{_found.name}")
with contextlib.suppress(ImportError):
    importlib.import_module("typer._adapters")  # What typer checks values with; it loads this late, where it has it.

command()
