"""Changed bytes and words: from valid ones, as a broken disk, a bad line, another version or an ill-willed caller would have them.

The examples are the same in every run (a test that fails today failed yesterday); HOLDFAST_FUZZ_EXAMPLES asks for more of them, and
then for fresh ones.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

EXAMPLES = int(os.environ.get("HOLDFAST_FUZZ_EXAMPLES", "0"))
# What readers of lengths, counts, text and numbers stumble over.
PIECES = (
    b"", b"\x00", b"\xff" * 8, b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\x91" * 2_000,
    b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", b"\xd3\x80" + bytes(7), b"\xcb\x7f\xf8" + bytes(6), "é😀\u202e".encode(), b"\xed\xa0\x80",
    b"\x1b[2J", b"../../etc/passwd", b"'; DROP TABLE seat; --", b"%s%n", b"9" * 400, b"-1", b"1e999", b"nan", b"A" * 70_000,
)  # fmt: skip


def fuzzed(examples: int) -> Callable[[Any], Any]:
    """Return the settings of a test that tries so many examples, or as many as were asked for."""
    wanted = EXAMPLES or examples
    return settings(max_examples=wanted, deadline=None, derandomize=not EXAMPLES, suppress_health_check=list(HealthCheck), database=None)


@st.composite
def changed(draw: st.DrawFn, valid: bytes) -> bytes:
    """Draw a changed version of valid bytes: flipped, cut, repeated, moved about, with something put in."""
    data = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(len(data) - 1, 0)))
        match draw(st.sampled_from(["flip", "flip", "cut", "drop", "put", "repeat", "byte", "swap"])):
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "byte" if data:
                data[at] = draw(st.integers(0, 255))
            case "cut":
                del data[at:]
            case "drop":
                del data[at : at + draw(st.integers(1, 40))]
            case "put":
                data[at:at] = draw(st.one_of(st.sampled_from(PIECES), st.binary(max_size=12)))
            case "repeat":
                data[at:at] = data[at : at + draw(st.integers(1, 200))]
            case "swap":
                other = draw(st.integers(0, max(len(data) - 1, 0)))
                size = draw(st.integers(1, 16))
                data[at : at + size], data[other : other + size] = data[other : other + size], data[at : at + size]
    return bytes(data)
