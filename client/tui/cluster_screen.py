"""The cluster as a balancer sees it: every process, and where each operator is."""

from __future__ import annotations

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.widgets import DataTable, Static

from client.inputs import duration_text
from client.show import VERDICT_STYLES
from client.tui.page import Page

Row = tuple[str, list[str | Text]]


class ClusterScreen(Page[object]):
    """Two tables, kept up to date in place."""

    heading = "Cluster"
    HELP = "# The cluster\nEvery process with what it says of itself, and where each operator's copies are. It renews itself."

    def content(self) -> ComposeResult:
        yield Static("", id="said")
        with Vertical():
            processes: DataTable[str | Text] = DataTable(id="processes", cursor_type="row", zebra_stripes=True)
            yield processes
            partitions: DataTable[str | Text] = DataTable(id="partitions", cursor_type="row", zebra_stripes=True)
            yield partitions

    def on_mount(self) -> None:
        for name in ("Name", "Kind", "Address", "State", "Verdict", "Up", "Detail"):
            self.query_one("#processes", DataTable).add_column(name, key=name)
        for name in ("Operator", "Primary", "Epoch", "Entries", "Replicas (lag)", "Verdict"):
            self.query_one("#partitions", DataTable).add_column(name, key=name)
        self._draw()

    def on_news(self) -> None:
        super().on_news()
        if self.is_current:
            self._draw()

    def on_screen_resume(self) -> None:
        self.query_one("#processes").focus()
        self._draw()

    def _draw(self) -> None:
        status = self.holdfast.cluster
        if status is None:
            self.query_one("#said", Static).update("not heard yet")
            return
        age = f" (old: {self.holdfast.trouble})" if self.holdfast.trouble else ""
        self.query_one("#said", Static).update(Text(f"the cluster is {status.verdict}{age}", VERDICT_STYLES.get(status.verdict, "")))
        processes: list[Row] = []
        for one in status.processes:
            up = duration_text(one.uptime_ms) if one.uptime_ms else "-"
            processes.append((one.name, [one.name, one.kind, one.address, one.state, _verdict(one.verdict), up, one.detail]))
        partitions: list[Row] = []
        for line in status.partitions:
            replicas = ", ".join(f"{node} ({lag})" for node, lag in sorted(line.replicas.items()))
            words: list[str | Text] = [line.operator, line.primary or "-", str(line.epoch), str(line.lsn), replicas]
            partitions.append((line.operator, [*words, _verdict(line.verdict)]))
        _update(self.query_one("#processes", DataTable), processes)
        _update(self.query_one("#partitions", DataTable), partitions)


def _verdict(word: str) -> Text:
    return Text(word, VERDICT_STYLES.get(word, ""))


def _update(table: DataTable[str | Text], rows: list[Row]) -> None:
    """Bring a table up to date in place: only cells that changed are drawn, and the cursor stays."""
    wanted = {key for key, _ in rows}
    for known in [str(key.value) for key in table.rows if key.value not in wanted]:
        table.remove_row(known)
    for key, cells in rows:
        if key not in table.rows:
            table.add_row(*cells, key=key)
            continue
        for column, cell in zip(table.columns, cells, strict=True):
            if table.get_cell(key, column.value or "") != cell:
                table.update_cell(key, column.value or "", cell)
