"""`--watch`: the same picture again and again in place, until Ctrl+C."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

from client.terminal import Session, tell
from datastore.errors import HoldfastError

EVERY_S = 1.0


def watch(session: Session, draw: Callable[[], object], *, json: bool, every_s: float = EVERY_S) -> None:
    """Draw again and again; a cluster that does not answer may come back while somebody watches.

    With JSON, or where nobody sees a screen, one picture follows the other instead of replacing it.
    """
    pause = threading.Event()
    in_place = sys.stdout.isatty() and not json
    while True:
        if in_place:
            session.console().clear()
        try:
            draw()
        except HoldfastError as error:
            if not error.retryable and error.code != "node_unreachable":
                raise
            tell(error.detail)
        sys.stdout.flush()
        pause.wait(every_s)
