"""Ctrl+C, SIGTERM and a closed terminal as one exception, for commands that end well when they are told to end."""

from __future__ import annotations

import signal


class Interrupted(KeyboardInterrupt):
    """Somebody wants the command to end.

    A class of its own, as Python remembers a plain KeyboardInterrupt that passes through an `exec` (what makes a dataclass runs one) and
    kills itself with SIGINT when it ends, though it was caught: whoever waits for the command would be told of a failure.
    """


def interrupt_on(*numbers: signal.Signals) -> None:
    """Have each of these signals raise Interrupted, but those that are ignored: nohup asked for just that."""
    for number in numbers:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _interrupt)


def _interrupt(_number: int, _frame: object) -> None:
    raise Interrupted
