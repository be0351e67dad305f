"""docs/configuration.md names every setting with its default, and no other."""

import re
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any

import pytest

from client import config as client_config
from client import plan, terminal
from client.cluster import read_config
from datastore import config as datastore_config
from loadbalancer import config as loadbalancer_config
from loadbalancer import payments_config
from lockstore import config as lockstore_config
from manager import config as manager_config

TOP = Path(__file__).resolve().parents[3]
TEXT = (TOP / "docs" / "configuration.md").read_text(encoding="utf-8")
TABLES: dict[str, Any] = {
    "client": client_config.ClientConfig,
    "loadbalancer": loadbalancer_config.LoadBalancerConfig,
    "payments": payments_config.PaymentsConfig,
    "manager": manager_config.ManagerConfig,
    "datastore": datastore_config.DatastoreConfig,
    "lockstore": lockstore_config.LockStoreConfig,
}
LISTS = {"balancers", "sandboxes", "managers", "nodes", "operators", "servers", "file"}


def documented(table: str) -> dict[str, str]:
    """Return key -> default as the documentation has them."""
    section = re.search(rf"^## `\[{table}\]`.*?(?=^## |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert section is not None, f"no section for [{table}]"
    return dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| `([^`]*)` \|", section[0], re.MULTILINE))


@pytest.mark.parametrize("table", TABLES)
def test_every_setting_is_documented_with_its_default(table: str) -> None:
    """What is not written down cannot be set by anybody; a wrong default misleads."""
    expected = {}
    for field in fields(TABLES[table]):
        if field.name not in LISTS:
            assert field.default is not MISSING, f"[{table}] {field.name} has no default: say so in the documentation"
            value = list(field.default) if isinstance(field.default, tuple) else field.default
            expected[field.name] = f'"{value}"' if isinstance(value, str) else str(value).lower()
    assert expected == documented(table)


def test_the_shipped_file_is_valid_under_every_profile() -> None:
    """The first thing that a new user runs."""
    shipped = TOP / "cluster.toml"
    expected = {
        "default": [3, 3, 2, 0, 2],
        "several-hosts": [3, 3, 3, 0, 3],
        "production": [3, 3, 2, 0, 2],
        "payments": [3, 3, 2, 1, 2],
    }
    for profile, numbers in expected.items():
        found = plan.plan_of(read_config(shipped, profile), "cluster.toml")
        assert numbers == [len(found.of(role.kind)) for role in plan.ROLES]


def test_every_variable_of_the_environment_is_documented() -> None:
    """The ones that the code reads."""
    code = "".join(path.read_text(encoding="utf-8") for path in (TOP / "client").glob("*.py"))
    read = set(re.findall(r"\bHOLDFAST_[A-Z]+\b", code))
    assert set() == read - set(re.findall(r"HOLDFAST_[A-Z]+", TEXT))
    assert terminal.Session().profile == "default"
