"""`holdfast hold --each`: a hold of its own for each seat, in one request."""

from __future__ import annotations

from collections.abc import Sequence

from client import exit_codes
from client.terminal import Session, tell
from datastore.errors import error_from_data


def hold_each(session: Session, service_id: str, seats: Sequence[str], ttl_ms: int, request_id: str, *, json: bool) -> int:
    """Hold each seat alone and show what came of it.

    Returns:
        0 where all are held, 8 where some are, else the code of the first refusal.
    """
    with session.connect() as client:
        results = client.hold_each(service_id, seats, ttl_ms=ttl_ms, request_id=request_id)
    held = [result.hold for result in results if result.hold is not None]
    refused = [(seat, error_from_data(result.error)) for seat, result in zip(seats, results, strict=True) if result.hold is None]
    if held:
        session.wallet.keep_hold(held[0].hold_id)  # As "last" is the first of those that are as new.
    if json:
        from datastore.messages import HoldManyAnswer

        session.print_json(HoldManyAnswer(results=results))
    elif held:
        from client import show

        show.holds(session.console(), held)
    for seat, error in refused:
        tell(f"not held: {seat}: {error.detail.removeprefix(f'{service_id}: ')}")
    if held and not json:
        tell(f'next: holdfast confirm {held[0].hold_id} --passenger "Given Surname"')
        tell("      holdfast holds")
    if not refused:
        return exit_codes.DONE
    return exit_codes.PARTIAL if held else exit_codes.EXIT_CODES.get(refused[0][1].code, exit_codes.NO_ANSWER)
