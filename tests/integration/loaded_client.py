"""The whole `holdfast` command, loaded: imported by the process from which `typed` forks, by nothing else."""

from __future__ import annotations

import contextlib
import gc
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
gc.freeze()  # What is loaded stays: no collection in a fork walks it, or copies its pages for that.
