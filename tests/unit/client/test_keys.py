"""Keys of operators and the administrator: private files, digests for the cluster."""

import stat
from pathlib import Path

import pytest

from client import keys
from client.folders import Folders
from datastore.errors import ConfigInvalid


def test_a_secret_is_made_once(tmp_path: Path) -> None:
    """A second start must not lock operators out."""
    first, made = keys.ensure_secret(tmp_path / "keys" / "AA.key")
    again, made_again = keys.ensure_secret(tmp_path / "keys" / "AA.key")
    assert (True, False, first) == (made, made_again, again)
    assert 0o600 == stat.S_IMODE((tmp_path / "keys" / "AA.key").stat().st_mode)
    assert ["AA.key"] == [path.name for path in (tmp_path / "keys").iterdir()]


def test_the_administrators_digest_follows_the_key(tmp_path: Path) -> None:
    """The balancers read the digest, never the key."""
    folders = Folders(tmp_path)
    key = keys.ensure_admin(folders)
    assert keys.digest(key).hex() == (tmp_path / "secrets" / "admin.digest").read_text().strip()
    (tmp_path / "secrets" / "admin.digest").write_text("stale")
    keys.ensure_admin(folders)
    assert keys.digest(key).hex() == (tmp_path / "secrets" / "admin.digest").read_text().strip()


def test_the_longest_code_owns_a_service(tmp_path: Path) -> None:
    """AA1140 is AA's unless there is an operator AA1."""
    folders = Folders(tmp_path)
    short, _ = keys.ensure_secret(folders.operator_key("AA"))
    assert short == keys.operator_key(folders, "AA1140-EZE-2026-12-01")
    long, _ = keys.ensure_secret(folders.operator_key("AA1"))
    assert long == keys.operator_key(folders, "aa1140-EZE-2026-12-01")
    with pytest.raises(ConfigInvalid, match="--key"):
        keys.operator_key(folders, "QR1-DOH-2026-12-01")


@pytest.mark.parametrize("content", ["", "\n", "é"])
def test_a_key_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    """An empty key would be everybody's."""
    (tmp_path / "k").write_text(content)
    (tmp_path / "k").chmod(0o600)
    with pytest.raises(ConfigInvalid):
        keys.read_secret(tmp_path / "k")
