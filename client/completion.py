"""What the shell may complete besides commands and options: places, services, operators, nodes, one's own holds and bookings.

Whoever presses Tab waits, so nothing here takes long: names of the configuration are read from its file; what only the cluster knows is
asked for with a short deadline and kept for some minutes; and where nobody answers nothing is completed, without a word.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from datetime import date, timedelta
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from client.terminal import Session
from datastore.errors import HoldfastError

if TYPE_CHECKING:
    from client.api import Holdfast

DEADLINE_MS = 400
FRESH_S = 600.0
SERVICES_MAX = 1_000


def places(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return places by code, with their cities."""
    found = _known(context, "places", lambda client: [[place.code, place.city or place.name] for place in client.places()])
    return _beginning(found, incomplete)


def operators(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the configuration's operators."""
    return _beginning(_configured(context, "datastore", "operator", "code"), incomplete)


def nodes(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the configuration's data nodes."""
    return _beginning(_configured(context, "datastore", "node", "name"), incomplete)


def processes(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the names of the configuration's processes, as their log lines have them."""
    tables = (("loadbalancer", "balancer"), ("manager", "manager"), ("datastore", "node"), ("lockstore", "server"))
    return _beginning([one for table, row in tables for one in _configured(context, table, row, "name")], incomplete)


def services(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return the services of tomorrow; their date is written as the word, which every command understands."""
    tomorrow = (date.today() + timedelta(days=1)).isoformat()

    # The first letters say whose they are; all services of a day are too many for one answer.
    codes = [code for code, _ in _configured(context, "datastore", "operator", "code") if incomplete.upper().startswith(code)]
    operator = max(codes, key=len, default="")

    def ask(client: Holdfast) -> list[list[str]]:
        found = client.services(tomorrow, operator=operator, limit=SERVICES_MAX).services
        return [[f"{one.service_id.removesuffix(tomorrow)}tomorrow", f"{one.origin} {one.destination}"] for one in found]

    return _beginning(_known(context, f"services-{operator}-{tomorrow}", ask), incomplete)


def holds(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return "last" and the open holds."""
    found = _asked(_session(context), lambda client: [[one.hold_id, ", ".join(one.seats)] for one in client.my_holds().holds])
    return _beginning([["last", "the newest"], *found], incomplete)


def references(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Return "last" and the bookings kept here, the newest first."""
    kept: list[list[str]] = []
    with contextlib.suppress(HoldfastError, OSError):
        kept = [[one.reference, one.service_id] for one in reversed(_session(context).wallet.orders())]
    return _beginning([["last", "the newest"], *kept], incomplete)


def _beginning(found: list[list[str]], incomplete: str) -> list[tuple[str, str]]:
    wanted = incomplete.casefold()
    return [(word, about) for word, about in found if word.casefold().startswith(wanted)]


def _session(context: typer.Context) -> Session:
    """Return what the line so far says about the cluster; the command itself does not run here."""
    told = context.find_root().params
    config, data = told.get("config"), told.get("data")
    return Session(Path(config) if config else None, str(told.get("profile") or "default"), Path(data) if data else None)


def _configured(context: typer.Context, table: str, row: str, key: str) -> list[list[str]]:
    try:
        rows = _session(context).mapping.get(table, {}).get(row, [])
    except HoldfastError:
        return []
    return [[str(one[key]), str(one.get("name", ""))] for one in rows if key in one]


def _asked(session: Session, ask: Callable[[Holdfast], list[list[str]]]) -> list[list[str]]:
    try:
        with session.connect(deadline_ms=DEADLINE_MS) as client:
            return ask(client)
    except (HoldfastError, OSError):
        return []


def _known(context: typer.Context, name: str, ask: Callable[[Holdfast], list[list[str]]]) -> list[list[str]]:
    """Return what was learnt some minutes ago, else what the cluster says now."""
    from client import wallet

    session = _session(context)
    try:
        cluster = blake2b(str(session.folders.config.resolve()).encode(), digest_size=8).hexdigest()
    except HoldfastError:
        return []
    file = wallet.home(os.environ) / "completion" / f"{cluster}-{name}.json"
    with contextlib.suppress(OSError, ValueError):
        if 0 <= time.time() - file.stat().st_mtime < FRESH_S:
            return [[str(word), str(about)] for word, about in json.loads(file.read_text(encoding="utf-8"))]
    found = _asked(session, ask)
    if found:
        with contextlib.suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft = file.with_suffix(f".{os.getpid()}")
            draft.write_text(json.dumps(found), encoding="utf-8")
            draft.replace(file)
    return found
