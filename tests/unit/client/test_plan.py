"""cluster.toml as a whole: what only shows when all tables are seen together."""

import copy
from pathlib import Path
from typing import Any

import pytest

from client import plan
from client.cluster import read_config
from datastore.errors import ConfigInvalid

SHIPPED = read_config(Path(__file__).resolve().parents[3] / "cluster.toml")


def changed(change: Any) -> dict[str, Any]:
    mapping = copy.deepcopy(SHIPPED)
    change(mapping)
    return mapping


def test_the_processes_in_the_order_of_starting() -> None:
    """Lower tiers first, and each is told its name by its own flag."""
    found = plan.plan_of(SHIPPED)
    assert ["lock-1", "node-1", "manager-1", "balancer-1"] == [found.of(role.kind)[0].name for role in plan.ROLES if found.of(role.kind)]
    assert ["--name", "--node", "--manager", "--sandbox", "--balancer"] == [role.flag for role in plan.ROLES]
    assert 21 == len(found.operators)
    assert 7301 == found.process("manager-1").port


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.update({"lockstor": {}}), ("lockstor", 'did you mean lockstore')),
        (lambda m: m["lockstore"]["server"].pop(), ("lockstore.server", "even number")),
        (lambda m: m["lockstore"].update({"tll_ms": 1}), ("lockstore.tll_ms", "ttl_ms")),
        (lambda m: m["manager"]["manager"][0].update({"port": 7201}), ("manager.manager.port", "7201", "node-1")),
        (lambda m: m["loadbalancer"]["balancer"][0].update({"name": "node-2"}), ("loadbalancer.balancer.name", "node-2")),
        (lambda m: m["datastore"]["operator"][0].pop("primary"), ("datastore.operator", "primary")),
        (lambda m: m["datastore"]["operator"][0].update({"primary": "node-9"}), ("datastore.operator", "node-9")),
        (lambda m: m["client"].update({"timetable": []}), ("client.timetable", "timetables")),
    ],
)
def test_what_cannot_work_is_named(change: Any, words: tuple[str, ...]) -> None:
    """File, key, reason and the nearest known key stand in the message, and nothing is started."""
    with pytest.raises(ConfigInvalid) as caught:
        plan.plan_of(changed(change), "my.toml")
    for word in ("my.toml", *words):
        assert word in caught.value.detail


def test_an_unknown_process_names_the_nearest() -> None:
    """A slip in a name is not a missing process."""
    with pytest.raises(ConfigInvalid, match="balancer-1"):
        plan.plan_of(SHIPPED).process("balancer1")


def test_ports_are_replaced_by_name() -> None:
    """The others stay, and so does the rest of every row."""
    found = plan.plan_of(plan.with_ports(SHIPPED, {"node-2": 40_000, "lock-1": 40_001}))
    assert (40_000, 40_001, 7201) == tuple(found.process(name).port for name in ("node-2", "lock-1", "node-1"))
    assert [process.name for process in plan.plan_of(SHIPPED).processes] == [process.name for process in found.processes]
