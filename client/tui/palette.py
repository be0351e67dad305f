"""What Ctrl+P finds: every part of the application and every action, by their names and by what else people call them."""

from __future__ import annotations

from typing import NamedTuple

from textual.command import DiscoveryHit, Hit, Hits, Provider


class Command(NamedTuple):
    """`action`: what runs, in the application's own notation."""

    name: str
    aliases: tuple[str, ...]
    help: str
    action: str


COMMANDS = (
    Command("Travel", ("search", "flights", "trips", "find", "book"), "Trips over all operators (1)", "app.go('travel')"),
    Command("Bookings", ("orders", "tickets", "my trips"), "My bookings (2)", "app.go('bookings')"),
    Command("Holds", ("reservations", "held seats", "cart", "basket"), "My open holds (3)", "app.go('holds')"),
    Command("Cluster", ("nodes", "status", "primaries", "replicas"), "Every process and operator (4)", "app.go('cluster')"),
    Command(
        "Services", ("operator", "load factor", "manifest", "flights of an operator"), "An operator's services (5)", "app.go('services')"
    ),
    Command("Locks and hot seats", ("contention", "redlock", "redis", "lock servers"), "Who votes, what is wanted (6)", "app.go('locks')"),
    Command("Log", ("logs", "trace", "messages"), "The logs of this machine's processes (7)", "app.go('log')"),
    Command("Figures", ("metrics", "sparklines", "curves", "latency", "lag"), "How the cluster works over time (8)", "app.go('figures')"),
    Command("Payments", ("accounts", "audit", "cases", "money"), "What was paid against what is booked (9)", "app.go('payments')"),
    Command("Run a command", ("command line", "shell", "import", "node remove", "verify"), "Any of `holdfast` (:)", "app.command"),
    Command("Add a node", ("node", "grow"), "Before and after, then it takes its share of the operators", "app.add_node"),
    Command("Recover a node", ("repair", "lost disk"), "r on the cluster's screen takes its copies from peers", "app.go('cluster')"),
    Command("Close a payment's case", ("case", "by hand"), "c on the payments' screen: a person saw to it", "app.go('payments')"),
    Command("Import a timetable", ("load", "dry run", "diff"), "Says what would change first", "app.command('import --dry-run ')"),
    Command("Record an incident", ("ledger", "copy entries"), "A stretch of a ledger to a file", "app.command('record ')"),
    Command("Replay a recording", ("incident", "step through", "time"), "The seat map over time", "app.replay"),
    Command("Extend hold", ("more time", "keep longer"), "Let the hold that ends first last longer (Ctrl+E)", "app.extend"),
    Command("Rival customers", ("competition", "buyers"), "In a demonstration: buyers on the map that is open (F12)", "app.rivals"),
    Command("Help", ("keys", "explain"), "What is focused, and its keys (F1)", "app.explain"),
    Command("Theme", ("colours", "colors", "dark", "light"), "Choose a theme", "app.change_theme"),
    Command("Screenshot", ("picture", "svg"), "Save the screen as an SVG picture", "app.screenshot"),
    Command("Quit", ("exit", "leave", "bye"), "Leave; holds last until their time is over (Ctrl+Q)", "app.quit"),
)


class HoldfastCommands(Provider):
    """The palette's source."""

    async def discover(self) -> Hits:
        for command in COMMANDS:
            yield DiscoveryHit(command.name, lambda action=command.action: self._run(action), help=command.help)

    async def search(self, query: str) -> Hits:
        matcher = self.matcher(query)
        for command in COMMANDS:
            best = max((command.name, *command.aliases), key=matcher.match)
            score = matcher.match(best)
            if score > 0:
                shown = matcher.highlight(command.name if best == command.name else f"{command.name}: {best}")
                yield Hit(score, shown, lambda action=command.action: self._run(action), text=command.name, help=command.help)

    async def _run(self, action: str) -> None:
        await self.app.run_action(action)
