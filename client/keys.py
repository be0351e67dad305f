"""The keys of a cluster's administrator and of its operators: files that only their owner may read.

A key is never sent anywhere but to the cluster that it belongs to; what the cluster keeps is its digest.
"""

from __future__ import annotations

import os
import secrets
from hashlib import blake2b
from pathlib import Path

from client.folders import Folders
from datastore.errors import ConfigInvalid, nearest, shown

KEY_BYTES = 32
PERSON = b"holdfast-key"


def digest(key: str) -> bytes:
    """Return the 32 bytes by which the cluster knows a key."""
    return blake2b(key.encode(), digest_size=32, person=PERSON).digest()


def read_secret(path: Path) -> str:
    """Return the secret in a file that only its owner may read.

    Raises:
        ConfigInvalid: The file is missing, open to others, or empty.
    """
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="ascii").strip()
    except OSError as error:
        reason = f"cannot be read as a key: {(error.strerror or str(error)).lower()}"
        raise ConfigInvalid(f"{path}: {reason}", file=str(path), reason=reason) from error
    except ValueError as error:
        reason = "is no key: one is plain text"
        raise ConfigInvalid(f"{path}: {reason}", file=str(path), reason=reason) from error
    if mode & 0o077:
        reason = f"others may read it (mode {mode & 0o777:03o}); chmod 600 it, and replace it if others may have"
        raise ConfigInvalid(f"{path}: {reason}", file=str(path), reason=reason)
    if not text:
        raise ConfigInvalid(f"{path}: is empty", file=str(path), reason="is empty")
    return text


def ensure_secret(path: Path) -> tuple[str, bool]:
    """Return the secret of a file and whether it was made just now.

    Raises:
        ConfigInvalid: The file is there but cannot be used (see `read_secret`).
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_urlsafe(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(file.fileno())
        # A link appears whole and never replaces: of two that make it at once, one wins and both read that one.
        os.link(draft, path)
        made = True
    except FileExistsError:
        made = False
    finally:
        draft.unlink(missing_ok=True)
    return read_secret(path), made


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all, on the disk before this returns."""
    content = text.encode()  # First: a text that cannot be written must leave no draft behind.
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def ensure_admin(folders: Folders) -> str:
    """Return the administrator's key, made with its digest beside it where there is none."""
    key, _ = ensure_secret(folders.secrets / "admin.key")
    expected = digest(key).hex()
    beside = folders.secrets / "admin.digest"
    if not beside.exists() or beside.read_text(encoding="ascii").strip() != expected:
        write_private(beside, expected + "\n")
    return key


def admin_key(folders: Folders) -> str:
    """Return the administrator's key that is kept here.

    Raises:
        ConfigInvalid: There is none, or it cannot be read.
    """
    return read_secret(folders.secrets / "admin.key")


def operator_or_admin_key(folders: Folders, code: str) -> str:
    """Return the operator's key where one is kept here, else the administrator's, for what either may ask.

    Raises:
        ConfigInvalid: Neither is kept here.
    """
    path = folders.operator_key(code)
    return read_secret(path) if path.exists() else admin_key(folders)


def operator_key(folders: Folders, service_id: str) -> str:
    """Return the key kept here of the operator that a service (or the code itself) belongs to.

    The longest code with a key wins, as in service ids themselves: `AA1` of operator AA is not operator AA1's.

    Raises:
        ConfigInvalid: No key is kept here for it.
    """
    head = service_id.partition("-")[0].upper()
    for length in range(min(8, len(head)), 1, -1):
        path = folders.operator_key(head[:length])
        if path.exists():
            return read_secret(path)
    near = nearest(head, [path.stem for path in sorted(folders.keys.glob("*.key"))])
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    reason = f"no operator's key for {shown(service_id)} is kept in {folders.keys}{hint}; name the file with --key"
    raise ConfigInvalid(reason, file=str(folders.keys), reason=reason, nearest=near)
