"""The command that runs the deterministic simulator, which comes with the source and not with the package."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from client import exit_codes
from datastore.errors import ConfigInvalid

CHECKOUT = Path(__file__).resolve().parent.parent
NEEDED = ("greenlet", "lupa")


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(rich_help_panel="Run a cluster")(simulate)


def simulate(
    seed: Annotated[int, typer.Option("--seed", help="The seed of the run, or the first of many.")] = 0,
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="How many runs.")] = 1,
    steps: Annotated[int, typer.Option("--steps", min=1, help="End a run after so many protocol steps.")] = 10_000_000,
    hours: Annotated[float, typer.Option("--hours", min=0.0, help="Go on with fresh seeds for so long.")] = 0.0,
    profile: Annotated[str, typer.Option("--profile", help="About what: mixed, duel, locks, reshape, trips ... (docs/proof.md).")] = "",
    replay: Annotated[bool, typer.Option("--replay", help="Tell what happens, line by line.")] = False,
    report: Annotated[str, typer.Option("--report", help="With --hours or --mutations: the page that gets the figures.")] = "",
    mutations: Annotated[bool, typer.Option("--mutations", help="Break every rule on purpose and see that it is noticed.")] = False,
) -> int:
    """Run the protocol through faults under one seed; from a source checkout.

    Every tier's own decisions run on simulated clocks, disks and a network that loses, repeats and delays. The exit code is 0
    when every invariant held, 1 when one did not: then the run is made smaller and its story is told.
    """
    if not (CHECKOUT / "tests" / "simulation" / "__main__.py").exists():
        reason = "the simulator comes with the source: clone the repository and run ./run-tests, then .venv/bin/holdfast simulate there"
        raise ConfigInvalid(f"{CHECKOUT}: {reason}", file=str(CHECKOUT), key="-", reason=reason)
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        reason = f"the simulator needs {', '.join(missing)}: pip install -e '{CHECKOUT}[tests]'"
        raise ConfigInvalid(reason, file=str(CHECKOUT), key="-", reason=reason)
    told = ["--seed", str(seed), "--seeds", str(seeds), "--steps", str(steps), "--hours", str(hours), "--profile", profile]
    told += ["--report", str(Path(report).absolute())] if report else []
    told += [word for word, wanted in (("--replay", replay), ("--mutations", mutations)) if wanted]
    code = subprocess.run([sys.executable, "-m", "tests.simulation", *told], cwd=CHECKOUT, check=False).returncode
    return code if code >= 0 else exit_codes.NO_ANSWER
