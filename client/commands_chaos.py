"""The command that hurts a cluster of its own and judges what its callers were told; it comes with the source, not with the package."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from client import exit_codes
from client.commands_looking import Json
from datastore.errors import ConfigInvalid

CHECKOUT = Path(__file__).resolve().parent.parent
NEEDED = ("PIL", "tomlkit")
SCENARIOS = "kill, freeze, partition, links, clocks, locks, full, damage, payments, hosts, storm, or all."


def register(app: typer.Typer) -> None:
    """Add the command to the application."""
    app.command(rich_help_panel="Run a cluster")(chaos)


def chaos(
    scenario: Annotated[str, typer.Argument(help=SCENARIOS)],
    minutes: Annotated[float, typer.Option("--minutes", min=0.05, help="How long each scenario goes on.")] = 1.0,
    seed: Annotated[int | None, typer.Option("--seed", help="What decides who is hurt, how and when; drawn by default, and told.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Where history, report and chart are written.")] = Path("chaos"),
    report: Annotated[Path | None, typer.Option("--report", help="A page whose table of figures is written anew.")] = None,
    figures: Annotated[Path | None, typer.Option("--figures", help="A page whose list of figures is written anew.")] = None,
    json: Json = False,
) -> int:
    """Break a cluster of real processes while people buy, and see whether every promise is kept; from a source checkout.

    A cluster of its own is started, hurt and ended; yours is not touched. The exit code is 0 when every promise was kept, 9 when one
    was broken, 8 when that cannot be decided.
    """
    if not (CHECKOUT / "tests" / "faults" / "chaos" / "__main__.py").exists():
        reason = "chaos comes with the source: clone the repository and run ./start-cluster, then .venv/bin/holdfast chaos there"
        raise ConfigInvalid(f"{CHECKOUT}: {reason}", file=str(CHECKOUT), key="-", reason=reason)
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        reason = f"chaos needs {', '.join(missing)}: pip install -e '{CHECKOUT}'"
        raise ConfigInvalid(reason, file=str(CHECKOUT), key="-", reason=reason)
    told = [scenario, "--minutes", str(minutes), "--out", str(out.resolve())]
    told += ["--seed", str(seed)] if seed is not None else []
    told += ["--report", str(report.resolve())] if report is not None else []
    told += ["--figures", str(figures.resolve())] if figures is not None else []
    told += ["--json"] if json else []
    code = subprocess.run([sys.executable, "-m", "tests.faults.chaos", *told], cwd=CHECKOUT, check=False).returncode
    return code if code >= 0 else exit_codes.NO_ANSWER
