"""A cluster's own data folder: made and marked, named, deleted as a whole, and never another's."""

from __future__ import annotations

import shutil

from client import keys
from client.folders import Folders
from datastore.errors import ConfigInvalid

LOG_BYTES_MAX = 16 * 1024 * 1024
CERTIFICATES = "certificates"


def wipe(folders: Folders) -> None:
    """Delete a cluster's data folder.

    Raises:
        ConfigInvalid: The folder holds something and is not marked as a cluster's: nothing is deleted.
    """
    if not folders.data.exists():
        return
    if any(folders.data.iterdir()) and not folders.mark.exists():
        reason = f"{folders.data} holds files and is no cluster's data folder; nothing was deleted"
        raise ConfigInvalid(reason, file=str(folders.data), reason="not a data folder")
    for path in folders.data.iterdir():
        # Certificates are no data: other hosts and callers have their counterparts.
        if path.name == CERTIFICATES:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path != folders.mark:
            path.unlink()
    if (folders.data / CERTIFICATES).exists():
        return
    folders.mark.unlink(missing_ok=True)
    folders.data.rmdir()


def claim(folders: Folders) -> None:
    """Make the data folder and mark it as ours.

    Raises:
        ConfigInvalid: It holds something else, or cannot be made.
    """
    try:
        folders.data.mkdir(parents=True, exist_ok=True)
        if not folders.mark.exists() and any(folders.data.iterdir()):
            reason = f"{folders.data} holds files and is no cluster's data folder; name another with --data"
            raise ConfigInvalid(reason, file=str(folders.data), reason="not a data folder")
        folders.mark.write_text("The data of a Holdfast cluster. Deleted as a whole by: holdfast cluster up --fresh\n", encoding="utf-8")
        for folder in (folders.run, folders.logs):
            folder.mkdir(exist_ok=True)
    except OSError as error:
        raise ConfigInvalid(f"{folders.data}: {error.strerror}", file=str(folders.data), reason=str(error.strerror)) from error


def cluster_name(folders: Folders) -> str:
    """Return the name under which wallets know this data folder's cluster, drawn at the first start."""
    return keys.ensure_secret(folders.secrets / "cluster.name")[0][:16].replace("_", "x").replace("-", "y")


def rotate_logs(folders: Folders) -> None:
    """Put a log that has grown large aside, the older one with it: a start is the moment when nobody writes."""
    for path in folders.logs.glob("*.log"):
        if path.stat().st_size > LOG_BYTES_MAX:
            path.replace(path.with_suffix(".log.1"))
