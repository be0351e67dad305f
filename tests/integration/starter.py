"""A cluster that is started, asked and stopped by commands, as a person does it, with a cluster.toml and a data folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Self

import tomlkit

from client import api, cluster, exit_codes, processes, profiles
from client.folders import Folders
from tests.integration.harness import FAULT_MARKS, SMALL, TOP
from tests.integration.typed import typed

SERVICE = f"AR1140-EZE-{(date.today() + timedelta(days=2)).isoformat()}"

# A busy machine takes its time to start ten processes, and to answer.
PATIENT = {"start_ms": 120_000, "call_ms": 30_000}


class Starter:
    """The commands of one cluster.toml and one data folder; as a context it ends with nothing left running."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "cluster.toml"
        self.folders = Folders(folder / "data")
        timetables = [str(TOP / "data" / "brief"), "data/venues"]
        mapping = profiles.merge(SMALL, {"client": {"timetables": timetables, "restart_pause_ms": 50, **PATIENT}})
        self.config.write_text(tomlkit.dumps(mapping))
        self.environment = {**os.environ, "HOLDFAST_HOME": str(folder / "home"), "PYTHONPATH": str(TOP), "COLUMNS": "200"}
        self.environment.pop("HOLDFAST_CONFIG", None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        cluster.down(self.folders)
        assert {} == self.pids()

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "client", "--config", str(self.config), "--data", str(self.folders.data), *words]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a command; those of the cluster itself in a Python of their own, as they start and end what runs here."""
        if words[0] != "cluster":
            located = ["--config", str(self.config), "--data", str(self.folders.data)]
            return typed(*located, *words, environment=self.environment, folder=TOP)
        return subprocess.run(self.command(*words), env=self.environment, cwd=TOP, capture_output=True, text=True, timeout=240, check=False)

    def up(self, *words: str) -> subprocess.CompletedProcess[str]:
        done = self.run("cluster", "up", "--detach", "--free-ports", *words)
        assert exit_codes.DONE == done.returncode, done.stdout + done.stderr
        return done

    def client(self) -> api.Holdfast:
        return api.connect(self.folders.config, owner_key="an-owner-of-the-tests")

    def pids(self) -> dict[str, int]:
        """Return name -> process id of everything that runs here."""
        found = {path.stem: processes.running(path) for path in self.folders.run.glob("*.pid")}
        return {name: process.pid for name, process in found.items() if process is not None}

    def check_logs(self) -> None:
        for path in self.folders.logs.glob("*.log"):
            text = path.read_text(encoding="utf-8", errors="replace")
            assert not [mark for mark in FAULT_MARKS if mark in text], f"{path.name}: {text[-3000:]}"
