"""A booking's tickets as a file, and the keys that prove tickets, kept beside the wallet. For the commands and the terminal application."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from datastore.errors import ConfigInvalid, InvalidRequest
from datastore.model import OPERATOR_PATTERN

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from datastore import messages

KEYS_FOLDER = "ticket-keys"
NAMES_TRIED = 1_000


class Ticketing(Protocol):
    """What is asked of the client."""

    def tickets(self, reference: str, token: str) -> messages.TicketsAnswer: ...


def write_pdf(
    client: Ticketing, home: Path, reference: str, token: str, file: Path | None = None
) -> tuple[Path, messages.TicketsAnswer]:
    """Write a booking's tickets to a PDF that only its owner may read: it names people. Its operator's key is kept.

    Args:
        home: The wallet's folder (`Wallet.folder`).
        file: Where; None is REF.pdf here, or REF-2.pdf and so on: no file is ever replaced.

    Raises:
        ConfigInvalid: The file is there already, or another key of the operator is kept here.
        OrderNotPayable: The booking has no ticket that stands.
    """
    from client.ticket_pages import pages

    if file is not None and file.exists():
        raise _there(file)
    answer = client.tickets(reference, token)
    keep_key(home, answer.operator, answer.public_key)
    content = pages([one.code for one in answer.tickets])
    names = (
        [file] if file is not None else [Path(f"{reference}{f'-{number}' if number > 1 else ''}.pdf") for number in range(1, NAMES_TRIED)]
    )
    for name in names:
        try:
            descriptor = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            continue
        with os.fdopen(descriptor, "wb") as made:
            made.write(content)
        return name, answer
    raise _there(names[-1])


def _there(file: Path) -> ConfigInvalid:
    return ConfigInvalid(f"{file}: is there already; name another with -o", file=str(file), key="-", reason="exists")


def key_file(home: Path, operator: str) -> Path:
    """Return where an operator's public key is kept in a wallet's folder."""
    return home / KEYS_FOLDER / f"{operator}.pem"


def keep_key(home: Path, operator: str, pem: str) -> Path:
    """Keep an operator's public key; return its file.

    A key that is kept is not replaced by another: whoever can answer for the cluster could then pass any ticket.

    Raises:
        ConfigInvalid: Another one is kept.
    """
    path = key_file(home, operator)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    if path.exists():
        if path.read_text(encoding="ascii", errors="replace") != pem:
            reason = f"another key of {operator} is kept in {path}; if {operator} has really changed it, remove that file first"
            raise ConfigInvalid(reason, file=str(path), key="-", reason="another key")
        return path
    path.write_text(pem, encoding="ascii")
    return path


def public_key(home: Path, operator: str, file: Path | None = None) -> Ed25519PublicKey:
    """Return an operator's public key, from a file or from those kept in a wallet's folder.

    Raises:
        ConfigInvalid: There is none, or it cannot be read as one.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    if not OPERATOR_PATTERN.fullmatch(operator):
        raise InvalidRequest("the code names no operator", field="code")
    path = file or key_file(home, operator)
    try:
        made = load_pem_public_key(path.read_bytes())
    except FileNotFoundError as error:
        get = f"get it once, from a cluster that you trust, with: holdfast ticket key {operator}"
        reason = f"{path}: no such file" if file else f"no key of {operator} is kept here: {get}; or name one with --key FILE"
        raise ConfigInvalid(reason, file=str(path), key="-", reason="not found") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigInvalid(f"{path}: is no public key in PEM: {error}", file=str(path), key="-", reason=str(error)) from error
    if not isinstance(made, Ed25519PublicKey):
        raise ConfigInvalid(f"{path}: is no Ed25519 key", file=str(path), key="-", reason="another kind of key")
    return made
