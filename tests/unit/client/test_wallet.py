"""The wallet: keys only for their owner, tokens kept for each cluster, a lost answer found again."""

import stat
import threading
from pathlib import Path

import pytest

from client import wallet
from client.wallet import KeptOrder, Wallet
from datastore.errors import ConfigInvalid

ORDER = KeptOrder("K7Q2MX", "t" * 32, "AA", "AA1-JFK-2026-12-01")


def test_the_owners_key_is_made_once_and_is_private(tmp_path: Path) -> None:
    """Another key would be another owner, who has none of the holds."""
    kept = Wallet(tmp_path / "home", "c1")
    key = kept.owner_key()
    assert key == Wallet(tmp_path / "home", "c2").owner_key()
    assert 0o600 == stat.S_IMODE((tmp_path / "home" / "owner.key").stat().st_mode)
    assert 0o700 == stat.S_IMODE((tmp_path / "home").stat().st_mode)


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    """It may be known to others by now; going on would hide that."""
    kept = Wallet(tmp_path, "c1")
    kept.owner_key()
    (tmp_path / "owner.key").chmod(0o644)
    with pytest.raises(ConfigInvalid, match="others may read it"):
        kept.owner_key()


def test_tokens_are_kept_for_each_cluster(tmp_path: Path) -> None:
    """The demo's bookings are not the theatre's."""
    Wallet(tmp_path, "c1").keep(ORDER)
    assert ORDER.token == Wallet(tmp_path, "c1").token("k7q2mx")
    assert "" == Wallet(tmp_path, "c2").token("K7Q2MX")
    assert 0o600 == stat.S_IMODE((tmp_path / "orders-c1.json").stat().st_mode)


def test_a_begun_confirm_keeps_its_request_id_until_it_is_settled(tmp_path: Path) -> None:
    """The second try after a lost answer must be the same request."""
    kept = Wallet(tmp_path, "c1")
    assert "first-id" == kept.pending("confirm H", "first-id")
    assert "first-id" == kept.pending("confirm H", "second-id")
    kept.keep(ORDER, "confirm H")
    assert "third-id" == kept.pending("confirm H", "third-id")
    kept.settle("confirm H")
    assert "fourth-id" == kept.pending("confirm H", "fourth-id")


def test_a_damaged_wallet_is_not_written_over(tmp_path: Path) -> None:
    """Its tokens may still be read by a person."""
    (tmp_path / "orders-c1.json").write_text("{")
    with pytest.raises(ConfigInvalid, match="cannot be read as a wallet"):
        Wallet(tmp_path, "c1").keep(ORDER)
    assert "{" == (tmp_path / "orders-c1.json").read_text()


def test_two_terminals_lose_nothing(tmp_path: Path) -> None:
    """Each change is read, made and written under the wallet's lock."""

    def keep(start: int) -> None:
        for number in range(start, start + 10):
            Wallet(tmp_path, "c1").keep(KeptOrder(f"R{number:05}", "t" * 32, "AA", "S"))

    threads = [threading.Thread(target=keep, args=(start,)) for start in (0, 10, 20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 30 == len(Wallet(tmp_path, "c1").orders())


def test_a_cluster_without_a_name_is_known_by_its_addresses() -> None:
    """In any order."""
    assert wallet.cluster_name("", ["b:2", "a:1"]) == wallet.cluster_name("", ["a:1", "b:2"])
    assert "mine" == wallet.cluster_name("mine", ["a:1"])


def test_where_the_wallet_is() -> None:
    """HOLDFAST_HOME, then the desktop's rule."""
    assert Path("/w") == wallet.home({"HOLDFAST_HOME": "/w", "XDG_CONFIG_HOME": "/x"})
    assert Path("/x/holdfast") == wallet.home({"XDG_CONFIG_HOME": "/x"})
    assert Path.home() / ".config" / "holdfast" == wallet.home({})


def test_what_was_written_is_known_to_the_next_command(tmp_path: Path) -> None:
    """For a while, for each cluster, the newest of each service; a damaged file, or one of long ago, is as good as none."""
    kept = Wallet(tmp_path, "c1")
    assert {} == kept.written()
    kept.note_written("AA1", 7)
    kept.note_written("AA2", 8)
    kept.note_written("AA1", 9)
    assert ({"AA1": 9, "AA2": 8}, {}) == (Wallet(tmp_path, "c1").written(), Wallet(tmp_path, "c2").written())
    file = tmp_path / "written-c1.json"
    for content in ('{"AA1": [9, 1.0]}', "[]", '{"AA1": 9}', "{"):
        file.write_text(content)
        assert {} == kept.written()
