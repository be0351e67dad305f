"""A reply that is begun on one thread and given by another."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Later:
    """A reply that another thread will give: the connection's own thread is free to listen meanwhile.

    The thread that gives it makes and sends it too. A thread for each caller that only waits has to be woken for every reply.
    """

    __slots__ = ("_make", "_meeting", "_send", "_wrap")

    def __init__(self) -> None:
        # Who has the reply and who knows the way meet here; the second one to come sends.
        self._meeting = [True, False]
        self._make: Callable[[], bytes] | None = None
        self._wrap: Callable[[Callable[[], bytes]], bytes] | None = None
        self._send: Callable[[bytes], None] | None = None

    def give(self, make: Callable[[], bytes]) -> None:
        """Reply with what `make` returns or raises; once, from any thread."""
        self._make = make
        if self._meeting.pop():
            self._pass_on()

    def wrapped(self, wrap: Callable[[Callable[[], bytes]], bytes]) -> Later:
        """Have `wrap` turn what is given into the reply's bytes."""
        self._wrap = wrap
        return self

    def when_given(self, send: Callable[[bytes], None]) -> None:
        """Have `send` called with the reply, once, on whichever thread; after `wrapped`."""
        self._send = send
        if self._meeting.pop():
            self._pass_on()

    def wait(self) -> bytes:
        """Return the reply when it is there; instead of `when_given`. Who began it sees to it that it comes."""
        given = threading.Event()
        replies: list[bytes] = []

        def keep(reply: bytes) -> None:
            replies.append(reply)
            given.set()

        self.when_given(keep)
        given.wait()
        return replies[0]

    def _pass_on(self) -> None:
        make, wrap, send = self._make, self._wrap, self._send
        self._make = self._wrap = self._send = None  # They may know this object: kept, it would be garbage in a circle.
        assert make is not None and wrap is not None and send is not None
        send(wrap(make))
