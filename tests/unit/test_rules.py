"""docs/replication.md states every rule of replication, and says of each which test notices when it is broken: that must be so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.simulation.faults import all_mutations

TOP = Path(__file__).resolve().parents[2]
TEXT = (TOP / "docs" / "replication.md").read_text(encoding="utf-8")
RULES = [f"R{number}" for number in range(1, 18)]
# Rules of other documents of which the table tells too.
OTHERS = {"Z1"}


def rows() -> dict[str, str]:
    """Return rule -> what the table says notices it."""
    table = TEXT.partition("| rule | broken on purpose | noticed by |")[2].partition("\n\n")[0]
    found: dict[str, str] = {}
    for line in table.splitlines()[2:]:
        rules, _, noticed = (cell.strip() for cell in line.strip("|").split("|"))
        for rule in rules.split(", "):
            assert rule not in found, f"{rule} stands twice"
            found[rule] = noticed
    return found


def test_every_rule_is_stated_once_and_has_a_row() -> None:
    """R1 to R17: a sentence that says it, and a line that says who notices when it is broken."""
    stated = re.findall(r"^- \*\*(R\d+) ", TEXT, re.MULTILINE)
    assert RULES == sorted(set(stated), key=lambda rule: int(rule[1:]))
    assert {*RULES, *OTHERS} == rows().keys()


@pytest.mark.parametrize("rule", RULES)
def test_what_notices_a_broken_rule_is_there(rule: str) -> None:
    """Files that are named exist and name the rule; where the simulator is named, it has a variant that breaks just this rule."""
    noticed = rows()[rule]
    files = re.findall(r"`((?:tests/[\w/]+|test_\w+)\.py)`", noticed)
    assert files or "simulator" in noticed or "walks" in noticed, noticed
    for file in files:
        path = TOP / (file if "/" in file else f"tests/simulation/{file}")
        assert re.search(rf"\b{rule}\b", path.read_text(encoding="utf-8")), f"{file} does not speak of {rule}"
    broken = [one.name for one in all_mutations() if rule in one.rule.split(", ")]
    # What the simulator breaks and catches too rarely to be named is told in docs/proof.md.
    assert broken or "simulator" not in noticed, f"{rule}: {noticed}, and the simulator has no variant that breaks it"
