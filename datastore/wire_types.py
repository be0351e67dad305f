"""What msgspec works out of a message type, worked out while a module is imported. Pure.

It does so when a type is first decoded. Nodes whose threads first decode while others do have ended with a segmentation
fault inside msgspec 0.22 (Python 3.11); that two threads work out one type at the same time is the likely cause, and threads
that ask several peers at once do just that.
"""

from __future__ import annotations

from typing import Any

import msgspec


def prepare(namespace: dict[str, Any]) -> None:
    """Work out every message type of a module; called with its `globals()` at its end."""
    for kind in list(namespace.values()):
        if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            msgspec.msgpack.Decoder(kind)
