"""`holdfast record` and `holdfast replay`: an incident from the ledger, to look at again step by step."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from client import exit_codes
from client.commands_looking import Json
from client.terminal import Session, tell
from datastore.errors import ConfigInvalid, HoldfastError, InvalidRequest

if TYPE_CHECKING:
    from client.api import Holdfast
    from client.recording import Recorder
    from datastore.messages import SeatMapAnswer

READ_MS = 30_000
MAPS_MAX = 50  # Services whose maps go into a recording: those that the stretch touches.


def register(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command("record", rich_help_panel="Run a cluster")(record)
    app.command("replay", rich_help_panel="Run a cluster")(replay)


def record(
    context: typer.Context,
    operator: Annotated[str, typer.Argument(metavar="OPERATOR", help="Whose ledger.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write; it must not exist.")],
    first: Annotated[int, typer.Option("--from", min=1, help="The first entry.")] = 1,
    last: Annotated[int, typer.Option("--to", min=0, help="The last entry; 0 for all that there are.")] = 0,
    since: Annotated[str, typer.Option("--last", help="Only what was decided lately: 10m, 2h.")] = "",
    json: Json = False,
) -> int:
    """Copy a stretch of an operator's ledger to a file, with the seat maps that it touches, for `holdfast replay`. No names are in it."""
    from client import auditing, keys, recording
    from client.inputs import duration_ms

    session: Session = context.obj
    code = operator.upper()
    if out.exists():
        raise ConfigInvalid(f"{out}: exists already; name another file", file=str(out), reason="exists")
    if last and last < first:
        raise InvalidRequest(f"--to {last} is before --from {first}", field="to")
    secret = keys.operator_or_admin_key(session.folders, code)
    now_ms = time.time_ns() // 1_000_000
    recorder = recording.Recorder(code, first, last, now_ms - duration_ms(since) if since else 0)
    with session.connect(deadline_ms=READ_MS) as client:
        for page in auditing.ledger_pages(client.call, secret, code):
            if not recorder.take(page):
                break
        if not recorder.kept:
            raise InvalidRequest(f"nothing of {code} was decided in that stretch: nothing was written", field="from")
        head = recorder.head(_maps(client, recorder), now_ms)
    draft = out.with_name(out.name + ".new")
    try:
        with draft.open("wb") as file:
            file.writelines(recording.pieces(head, recorder.kept))
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)
    start = head.position[0] + 1
    document = {"operator": code, "file": str(out), "from": start, "to": start + len(recorder.kept) - 1, "services": sorted(head.maps)}
    if json:
        session.print_json(document)
    else:
        session.console().print(f"{out}: entries {start} to {document['to']} of {code}, {len(head.maps)} seat maps", soft_wrap=True)
        tell(f"look at it with: holdfast replay {out}, or in holdfast tui with: replay")
    return exit_codes.DONE


def _maps(client: Holdfast, recorder: Recorder) -> dict[str, SeatMapAnswer]:
    """Return the maps of the services that a stretch touches; of one that is not known any more there is none."""
    found = {}
    for service_id in sorted(recorder.touched)[:MAPS_MAX]:
        with contextlib.suppress(HoldfastError):
            found[service_id] = client.seat_map(service_id)
    if len(found) < len(recorder.touched):
        tell(f"{len(recorder.touched) - len(found)} of {len(recorder.touched)} services touched are recorded without their maps")
    return found


def replay(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `holdfast record` wrote.")],
    service: Annotated[str, typer.Option("--service", help="Only this service.")] = "",
    at: Annotated[int, typer.Option("--at", min=0, help="Draw the seat map as it was after this entry; --service names the service.")] = 0,
    json: Json = False,
) -> int:
    """Say what was decided, entry by entry, from a recording, or draw a seat map as it was. No cluster is needed."""
    session: Session = context.obj
    from client.recordings import opened

    found = opened(file)
    if at:
        found.go_to_lsn(at)
        answer = found.map_of(service or next(iter(found.services()), ""))
        if json:
            session.print_json(answer)
            return exit_codes.DONE
        from client import show

        show.seat_map(session.console(), answer)
        return exit_codes.DONE
    steps = [step for step in found.steps if not service or any(key.startswith(f"{service}/") for key in step.seats)]
    if json:
        rows = [{"lsn": one.lsn, "stamp_ms": one.stamp_ms, "words": one.words, "seats": _changes(one.seats)} for one in steps]
        session.print_json({"operator": found.head.operator, "services": found.services(), "steps": rows})
        return exit_codes.DONE
    from client.show import clock
    from client.tables import Rows

    rows_ = Rows("ENTRY", "TIME", "WHAT", right=("ENTRY",), fold=("WHAT",))
    for one in steps:
        rows_.add_row(str(one.lsn), clock(one.stamp_ms), one.words)
    rows_.print(session.console())
    return exit_codes.DONE


def _changes(seats: dict[str, tuple[tuple[str, str], tuple[str, str]]]) -> dict[str, str]:
    return {key: f"{was[0]} to {now[0]}" for key, (was, now) in seats.items()}
