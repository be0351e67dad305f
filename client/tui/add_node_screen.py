"""A node more: its name and address, what that changes, and the way into the cluster until the managers know it."""

from __future__ import annotations

from client.members import THIS_MACHINE, Newcomer
from client.tui.form import Asked, Form
from datastore.administration import NodeReport
from datastore.errors import InvalidRequest, shown

PORTS = 65_536


class AddNodeScreen(Form[tuple[Newcomer, NodeReport]]):
    """Dismissed when the managers have heard of it: then its copies learn, and vote one after the other."""

    heading = "Add a node"
    yes = "Add it"
    HELP = """
    # Add a node
    **Enter** in a field says what will be. The node is written into cluster.toml (comments stay), started where its host is this machine,
    and takes its share of the operators: each copy learns first and votes later, sales go on. **Esc** while it is under way leaves it to
    go on; the same name again waits on.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self._proposed = name
        self._new: Newcomer | None = None

    def asked(self) -> list[Asked]:
        return [
            Asked("name", "Name", self._proposed),
            Asked("host", "Host", THIS_MACHINE, THIS_MACHINE),
            Asked("port", "Port", "", "a free one of this machine"),
        ]

    async def check(self) -> str:
        name, host, desk = self.value("name"), self.value("host") or THIS_MACHINE, self.desk
        new = await self.host.ask(lambda _: desk.newcomer(name, host, _port(self.value("port"))))
        self._new, status = new, self.host.cluster
        operators = f"{len(status.partitions)} operators" if status is not None else "all operators"
        others = [one for one in new.before if one != name]
        known = f" ({name} is written down already, and is waited for)" if name in new.before else ""
        return (
            f"before: {len(others)} nodes keep the copies of {operators}: {', '.join(others)}{known}\n"
            f"after: {len(others) + 1} nodes do: {name} at {new.host}:{new.port} takes its share, learning first and voting later; "
            "cluster.toml names it"
        )

    async def act(self) -> tuple[Newcomer, NodeReport]:
        new, desk, app = self._new, self.desk, self.app
        assert new is not None, "it is done only after it was checked"
        self.hint(f"{new.name} is written down and started …   Esc leaves it to go on")

        def tell(words: str) -> None:
            app.call_from_thread(self._tell, words)

        return new, await self.host.ask(lambda _: desk.join(new, tell))

    def _tell(self, words: str) -> None:
        if self.is_mounted:
            self.hint(words)


def _port(word: str) -> int:
    """Return the port that was written, 0 for none.

    Raises:
        InvalidRequest: It is no port.
    """
    if word and not (word.isascii() and word.isdecimal() and 0 < int(word[:6]) < PORTS):
        raise InvalidRequest(f"{shown(word)} is no port: write a number from 1 to {PORTS - 1}, or nothing for a free one", field="port")
    return int(word or 0)
