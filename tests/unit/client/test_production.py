"""The production profile: what stands against real sales is named, all of it, before anything is made."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import tomlkit

from client import certificates, exit_codes, plan, production
from client.cli import run
from client.cluster import read_config
from datastore.certificates import Wanted, make
from datastore.errors import ConfigInvalid

SHIPPED = read_config(Path(__file__).resolve().parents[3] / "cluster.toml", "production")


def test_the_shipped_profile_has_no_fault() -> None:
    """And no operator and no timetable of the demonstration."""
    assert [] == production.faults(SHIPPED)
    found = plan.plan_of(SHIPPED)
    assert ((), (), True) == (found.operators, found.client.timetables, found.client.production)


@pytest.mark.parametrize(
    ("table", "key", "value"),
    [
        ("datastore", "tls", False),
        ("lockstore", "tls", False),
        ("lockstore", "appendfsync", "everysec"),
        ("datastore", "copies", 1),
        ("client", "timetables", ["data/brief"]),
    ],
)
def test_what_is_fit_for_a_demonstration_only_is_named(table: str, key: str, value: object) -> None:
    """One reason a key, in the one message; without `production` the same file will do."""
    mapping: dict[str, Any] = copy.deepcopy(SHIPPED)
    mapping[table][key] = value
    with pytest.raises(ConfigInvalid, match=f"client.production: is true, and {table}.{key} must"):
        plan.plan_of(mapping)
    mapping["client"]["production"] = False
    assert not plan.plan_of(mapping).client.production


def test_a_start_without_certificates_names_the_first_and_the_command(tmp_path: Path) -> None:
    """Before a process starts: missing, for another address, or of another role."""
    found = plan.plan_of(SHIPPED)
    node = [process for process in found.processes if process.name == "node-1"]
    with pytest.raises(ConfigInvalid, match="holdfast certificates make"):
        certificates.check(found, node, tmp_path, "my.toml")
    folder = tmp_path / "certificates"
    make(folder, certificates.wanted(found))
    assert [] == certificates.check(found, node, tmp_path, "my.toml")
    make(folder, [Wanted("node-1", "node/node-1", ("10.0.0.9",))])
    with pytest.raises(ConfigInvalid, match=r"is not for 127\.0\.0\.1, where node-1 listens, but for 10\.0\.0\.9"):
        certificates.check(found, node, tmp_path, "my.toml")
    make(folder, [Wanted("node-1", "manager/node-1", ("127.0.0.1",))])
    with pytest.raises(ConfigInvalid, match="says manager/node-1, not node/node-1"):
        certificates.check(found, node, tmp_path, "my.toml")
    make(folder, [Wanted("node-1", "node/node-1", ("127.0.0.1",))], days=3)
    assert ["expires in 2 days" in line for line in certificates.check(found, node, tmp_path, "my.toml")] == [True]


def test_the_command_makes_shows_and_renews(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Keys are their owner's only, the authority stays, and a lost authority's key is said and not replaced."""
    config = tmp_path / "cluster.toml"
    config.write_text(tomlkit.dumps(SHIPPED))
    words = ["--config", str(config), "--data", str(tmp_path / "data"), "certificates"]
    assert exit_codes.DONE == run([*words, "make", "--hosts", "booking.example"])
    folder = tmp_path / "data" / "certificates"
    assert {0o600} == {path.stat().st_mode & 0o777 for path in folder.glob("*.key")}
    authority, node = (folder / "authority.pem").read_bytes(), (folder / "node-1.pem").read_bytes()
    capsys.readouterr()
    assert exit_codes.DONE == run([*words, "show", "--json"])
    shown = {one["name"]: one for one in json.loads(capsys.readouterr().out)["certificates"]}
    assert ("node/node-1", ["localhost", "booking.example", "127.0.0.1"]) == (shown["node-1"]["role"], shown["node-1"]["hosts"])
    assert (89, []) == (shown["client"]["days_left"], shown["client"]["hosts"])
    assert exit_codes.DONE == run([*words, "make"])
    assert authority == (folder / "authority.pem").read_bytes()
    assert node != (folder / "node-1.pem").read_bytes()
    (folder / "authority.key").unlink()
    assert exit_codes.INVALID == run([*words, "make"])
    assert "authority.key is missing" in capsys.readouterr().err
    assert exit_codes.INVALID == run([*words, "make", "--hosts", "two words"])
