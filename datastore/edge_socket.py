"""Calls of the system that cannot wait, made without giving Python's lock away.

Python gives its lock away around every call on a socket, also where the socket never waits. In a process whose threads have work, the
lock is another's by the time the call is back, a microsecond later, and getting it again costs more than the call: a balancer
that sent the answers of a batch was interrupted at each. Here the lock is kept, as the calls say `MSG_DONTWAIT`.

For plain sockets; a TLS connection's bytes go through OpenSSL. Where the C library cannot be called in this way, Python's own calls do.
"""

from __future__ import annotations

import ctypes
import os
import socket
from collections.abc import Callable

# What is larger takes the system long enough for others to use the lock meanwhile.
KEEPS_LOCK_BYTES = 65_536


def _library_call(name: str) -> Callable[[int, bytes | ctypes.Array[ctypes.c_char], int, int], int] | None:
    """Return send(2) or recv(2) of the C library, called with Python's lock held; None where there is none."""
    try:
        found = getattr(ctypes.PyDLL(None, use_errno=True), name)
    except (OSError, AttributeError, TypeError):
        return None
    found.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int)
    found.restype = ctypes.c_ssize_t
    call: Callable[[int, bytes | ctypes.Array[ctypes.c_char], int, int], int] = found
    return call


_send = _library_call("send")
_receive = _library_call("recv")
_NOW = getattr(socket, "MSG_DONTWAIT", 0)
_SEND_FLAGS = _NOW | getattr(socket, "MSG_NOSIGNAL", 0)


def send_now(sock: socket.socket, data: bytes | memoryview) -> int:
    """Give the system what it takes of `data` at once; return how many bytes.

    Raises:
        BlockingIOError: It takes nothing now.
        OSError: The connection is broken, or closed here.
    """
    if _send is None or not _NOW or len(data) > KEEPS_LOCK_BYTES or type(data) is not bytes:
        return sock.send(data)
    done = _send(sock.fileno(), data, len(data), _SEND_FLAGS)
    if done < 0:
        raise _error()
    return done


class Receiver:
    """Reads what has come, into one buffer for all that a thread reads. One thread at a time uses it."""

    def __init__(self, size: int) -> None:
        """Take up to `size` bytes at a time."""
        self._size = size
        self._buffer = ctypes.create_string_buffer(size)
        self._view = memoryview(self._buffer)

    def receive_now(self, sock: socket.socket) -> bytes:
        """Return the bytes that are there, none at the connection's end.

        Raises:
            BlockingIOError: Nothing is there.
            OSError: The connection is broken, or closed here.
        """
        if _receive is None or not _NOW:
            return sock.recv(self._size)
        count = _receive(sock.fileno(), self._buffer, self._size, _NOW)
        if count < 0:
            raise _error()
        return bytes(self._view[:count])


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
