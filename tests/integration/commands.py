"""Holdfast's own commands as a person types them, and what a test looks for before it types one."""

from __future__ import annotations

import json
import os
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from client import api
from tests.integration.typed import typed

DAYS_AHEAD = 20
Outcome = tuple[int, Any, str]


def run(home: Path, *words: str, data: Path | None = None) -> Outcome:
    """Return the exit code, the JSON document and the messages of a command, run in the folder of its wallet, which is made."""
    home.mkdir(exist_ok=True)
    located = ["--data", str(data)] if data else []
    done = typed(*located, *words, "--json", environment={**os.environ, "HOLDFAST_HOME": str(home)}, folder=home)
    try:
        return done.returncode, json.loads(done.stdout or "null"), done.stderr
    except ValueError:
        raise AssertionError(f"{words}: {done.returncode}\n{done.stdout}\n{done.stderr}") from None


def unsold(client: api.Holdfast) -> list[str]:
    """Return AR's services, three weeks ahead, of which every seat is free."""
    day = (date.today() + timedelta(days=DAYS_AHEAD)).isoformat()
    return [one.service_id for one in client.services(day, operator="AR").services if one.free == one.capacity]
