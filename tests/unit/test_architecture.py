"""The house keeps its shape: who imports whom, what is pure, how large a file may grow."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("lockstore", "datastore", "manager", "loadbalancer", "client")
# What decides is given everything: no I/O, no clock, no randomness, no threads, directly or through others.
IMPURE = {"apsw", "plumbum", "random", "redis", "redlock", "rpyc", "secrets", "socket", "sqlite3", "subprocess", "threading", "time"}
PURE = {
    "datastore.administration",
    "datastore.cluster_record",
    "datastore.reporting",
    "datastore.shipping",
    "client.comparing",
    "client.descriptions",
    "client.exit_codes",
    "client.history",
    "client.json_rows",
    "client.judging",
    "client.judging_seats",
    "client.judging_witness",
    "client.layouts",
    "client.numbering",
    "client.production",
    "client.profiles",
    "client.recording",
    "client.routemap",
    "client.seasons",
    "client.seatmap",
    "client.timetables",
    "client.tui.amends",
    "client.tui.cabin",
    "client.tui.clock",
    "client.tui.happenings",
    "client.tui.legs",
    "client.loglines",
    "client.tui.swaps",
    "client.tui.timeline",
    "client.tui.trip",
    "datastore.affecting",
    "datastore.amending",
    "datastore.anchors",
    "datastore.audit",
    "datastore.charges",
    "datastore.commands",
    "datastore.conditions",
    "datastore.config",
    "datastore.configuration",
    "datastore.digest",
    "datastore.engine",
    "datastore.errors",
    "datastore.exporting",
    "datastore.events",
    "datastore.feed",
    "datastore.import_changes",
    "datastore.importing",
    "datastore.ledger",
    "datastore.legs",
    "datastore.memory",
    "datastore.messages",
    "datastore.messages_base",
    "datastore.messages_changing",
    "datastore.messages_looking",
    "datastore.messages_operating",
    "datastore.messages_payments",
    "datastore.messages_searching",
    "datastore.messages_selling",
    "datastore.messages_tickets",
    "datastore.model",
    "datastore.bulk",
    "datastore.open_holds",
    "datastore.operating",
    "datastore.outcomes",
    "datastore.overview",
    "datastore.overlay",
    "datastore.passengers",
    "datastore.proving",
    "datastore.reading",
    "datastore.receipts",
    "datastore.recent",
    "datastore.recovery",
    "datastore.remembered",
    "datastore.replicated_log",
    "datastore.replication",
    "datastore.replication_steps",
    "datastore.rows",
    "datastore.sealing",
    "datastore.special_requests",
    "datastore.settings",
    "datastore.staging",
    "datastore.state",
    "datastore.store_port",
    "datastore.taking",
    "datastore.ticket_codes",
    "datastore.tickets",
    "datastore.timetable",
    "datastore.wal",
    "datastore.wire",
    "datastore.wire_ledger",
    "datastore.wire_recovery",
    "datastore.wire_types",
    "datastore.wording",
    "loadbalancer.answers",
    "loadbalancer.availability",
    "loadbalancer.basket",
    "loadbalancer.books",
    "loadbalancer.charging",
    "loadbalancer.clocks",
    "loadbalancer.config",
    "loadbalancer.contention",
    "loadbalancer.connecting",
    "loadbalancer.exploring",
    "loadbalancer.fares",
    "loadbalancer.identity",
    "loadbalancer.itinerary",
    "loadbalancer.limits",
    "loadbalancer.names",
    "loadbalancer.nearby",
    "loadbalancer.offers",
    "loadbalancer.ordering",
    "loadbalancer.pareto",
    "loadbalancer.parties",
    "loadbalancer.party",
    "loadbalancer.payments_config",
    "loadbalancer.places",
    "loadbalancer.quotes",
    "loadbalancer.reconciling",
    "loadbalancer.reference",
    "loadbalancer.sandbox_intents",
    "loadbalancer.search",
    "loadbalancer.search_index",
    "loadbalancer.seatchoice",
    "loadbalancer.trips",
    "loadbalancer.travellers",
    "loadbalancer.view",
    "lockstore.config",
    "lockstore.errors",
    "lockstore.recovery",
    "lockstore.redlock",
    "lockstore.scripts",
    "manager.choice",
    "manager.config",
    "manager.failover",
    "manager.failover_steps",
    "manager.goals",
    "manager.membership",
    "manager.placement",
    "manager.routing",
    "manager.spreading",
}
# Across a package's border only its vocabulary and its caller's half are imported.
OPEN = {
    "datastore": {
        "administration",
        "certificates",
        "cluster_record",
        "commands",
        "conditions",
        "config",
        "configuration",
        "edge",
        "errors",
        "events",
        "import_changes",
        "ledger",
        "proving",
        "messages",
        "model",
        "overview",
        "passengers",
        "process",
        "receipts",
        "rows",
        "settings",
        "special_requests",
        "stub",
        "exporting",
        "ticket_codes",
        "tickets",
        "timetable",
        "wire",
        "wire_ledger",
        "wire_recovery",
        "wording",
    },
    "lockstore": {"config", "errors", "probing", "seatlocks", "servers", "standing"},
    "manager": {"config", "errors", "stub"},
    "loadbalancer": {"config", "errors", "payments_config", "stub"},
    "client": set[str](),
}
LINES_MAX = 500


@pytest.fixture(scope="module")
def graph() -> grimp.ImportGraph:
    return grimp.build_graph(*PACKAGES, include_external_packages=True, cache_dir=None)


@pytest.mark.parametrize("module", sorted(PURE))
def test_pure_modules_reach_nothing_impure(graph: grimp.ImportGraph, module: str) -> None:
    """A module that decides imports no I/O, clock or randomness, not even through another of ours."""
    reached = graph.find_upstream_modules(module)
    assert reached & IMPURE == set(), {impure: graph.find_shortest_chain(module, impure) for impure in reached & IMPURE}


def test_only_vocabulary_crosses_borders(graph: grimp.ImportGraph) -> None:
    """What one package uses of another is what the other shows."""
    wrong = []
    for module in sorted(graph.modules):
        for imported in sorted(graph.find_modules_directly_imported_by(module)):
            package, _, inner = imported.partition(".")
            if package in PACKAGES and package != module.partition(".")[0] and inner and inner not in OPEN[package]:
                wrong.append(f"{module} imports {imported}")
    assert wrong == []


def test_import_contracts_hold() -> None:
    """The layers of setup.cfg: client, loadbalancer, manager, datastore; lockstore alone."""
    # In a process of its own: it sets up logging, which would silence the loggers of all tests after this one.
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(config_filename='setup.cfg', no_cache=True))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_file_outgrows_a_sitting() -> None:
    """Files stay below 500 lines: what outgrows that is split by decision."""
    files = [path for package in (*PACKAGES, "tests", "benchmarks") for path in (ROOT / package).rglob("*.py")]
    long = {str(path.relative_to(ROOT)): lines for path in files if (lines := len(path.read_text().splitlines())) > LINES_MAX}
    assert {} == long


def test_package_roots_hold_a_docstring_only() -> None:
    """Importing any module runs its package's root: it must cost nothing."""
    for package in PACKAGES:
        assert len((ROOT / package / "__init__.py").read_text().strip().splitlines()) == 1


def test_no_module_imports_itself_through_others(graph: grimp.ImportGraph) -> None:
    """Imports form no circle, those for types alone included: whoever reads a module can read what it stands on first."""
    left = {
        module: {one for one in graph.find_modules_directly_imported_by(module) if one.partition(".")[0] in PACKAGES}
        for module in graph.modules
        if module.partition(".")[0] in PACKAGES
    }
    while done := [module for module, imported in left.items() if not imported & left.keys()]:
        for module in done:
            del left[module]
    # What is left is in a circle, or stands on one.
    circles = [chain for module in sorted(left) for one in left[module] & left.keys() if (chain := graph.find_shortest_chain(one, module))]
    assert circles == [], min(circles, key=len)
