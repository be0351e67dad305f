"""cluster.toml is changed by commands as a careful person would: nothing else in it moves."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from client import cluster_file, profiles
from client.plan import plan_of
from datastore.errors import ConfigInvalid

SHIPPED = (Path(__file__).resolve().parents[3] / "cluster.toml").read_text(encoding="utf-8")


def nodes(text: str, profile: str = "default") -> list[str]:
    return [row["name"] for row in profiles.resolve(tomllib.loads(text), profile)["datastore"]["node"]]


def test_a_node_more_and_comments_stay() -> None:
    """Only lines are added; the file still makes a plan; asked again it changes nothing."""
    after = cluster_file.with_node(SHIPPED, "default", "node-4", "127.0.0.1", 7204)
    assert nodes(after) == ["node-1", "node-2", "node-3", "node-4"]
    plan_of(profiles.resolve(tomllib.loads(after)))
    difference = cluster_file.difference(Path("cluster.toml"), SHIPPED, after).splitlines()[2:]
    assert not [line for line in difference if line.startswith("-")], difference
    assert cluster_file.with_node(after, "default", "node-4", "127.0.0.1", 7204) == after


def test_a_node_less_and_nobody_prefers_it() -> None:
    """Operators that preferred it prefer who leads them now; taken out again, the file is as it was but for these."""
    grown = cluster_file.with_node(SHIPPED, "default", "node-4", "127.0.0.1", 7204)
    shrunk = cluster_file.without_node(grown, "default", "node-3", {"AS": "node-4"})
    assert nodes(shrunk) == ["node-1", "node-2", "node-4"]
    primaries = {row["code"]: row["primary"] for row in tomllib.loads(shrunk)["datastore"]["operator"]}
    assert primaries["AS"] == "node-4" and "node-3" not in primaries.values()
    plan_of(profiles.resolve(tomllib.loads(shrunk)))
    assert [line for line in SHIPPED.splitlines() if line.startswith("#")] == [line for line in shrunk.splitlines() if line.startswith("#")]
    back = cluster_file.without_node(grown, "default", "node-4", {})
    assert tomllib.loads(back) == tomllib.loads(SHIPPED)


def test_the_profiles_own_list_is_what_changes() -> None:
    """Where a profile lists nodes of its own, the file's list is left alone."""
    own = SHIPPED + '\n[[profile.far.datastore.node]]\nname = "far-1"\nhost = "10.0.0.1"\nport = 7201\n'
    after = cluster_file.with_node(own, "far", "far-2", "10.0.0.2", 7201)
    assert nodes(after, "far") == ["far-1", "far-2"] and nodes(after) == nodes(SHIPPED)


def test_the_source_is_named_by_the_resolved_file(tmp_path: Path) -> None:
    """A running cluster knows which file it came from, whatever lies in the working directory."""
    source = tmp_path / "mine.toml"
    heading = f"# Written at every start from {source}, profile far: change that file, not this one.\n\n"
    assert cluster_file.source_of(heading) == (None, "far")
    source.write_text("", encoding="utf-8")
    assert cluster_file.source_of(heading) == (source, "far")
    assert cluster_file.source_of("[client]\n") == (None, "default")


def test_nobodys_change_is_overwritten(tmp_path: Path) -> None:
    """A file that changed since it was read is left alone."""
    path = tmp_path / "cluster.toml"
    path.write_text("a = 2\n", encoding="utf-8")
    with pytest.raises(ConfigInvalid, match="changed by somebody else"):
        cluster_file.rewrite(path, "a = 1\n", "a = 3\n")
    assert path.read_text(encoding="utf-8") == "a = 2\n" and cluster_file.rewrite(path, "a = 2\n", "a = 3\n")
