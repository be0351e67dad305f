"""Surnames as they are compared: without case, accents, hyphens, spaces and apostrophes. Pure."""

from __future__ import annotations

import hmac
import unicodedata
from collections.abc import Iterable

# Letters that do not fall apart into a base letter and a mark.
_LETTERS = str.maketrans({"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ð": "d", "þ": "th", "ł": "l", "ı": "i"})


def normalised(name: str) -> str:
    """Return the letters and digits of a name, folded: "García-Núñez" and "GARCIA NUNEZ" are the same."""
    apart = unicodedata.normalize("NFKD", name.casefold().translate(_LETTERS))
    return "".join(character for character in apart if character.isalnum())


def is_among(name: str, names: Iterable[str]) -> bool:
    """Return whether `name` is one of `names`, looking at all of them whatever is found first."""
    wanted = normalised(name).encode()
    found = [hmac.compare_digest(wanted, normalised(other).encode()) for other in names]
    return bool(wanted) and any(found)
