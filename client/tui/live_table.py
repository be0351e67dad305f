"""A table that is brought up to date in place: only cells that changed are drawn, and the cursor stays on its row."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.widgets import DataTable

Cell = str | Text
Row = tuple[str, Sequence[Cell]]


class LiveTable(DataTable[Cell]):
    """Rows with keys; `bring` shows exactly those given."""

    def __init__(self, *columns: str, id: str, nothing: str = "") -> None:
        """Make the table. `nothing`: what stands in it while there are no rows, so that empty does not look like broken."""
        super().__init__(id=id, cursor_type="row", zebra_stripes=True)
        self._nothing = nothing
        self._columns_wanted = columns
        self._early: Sequence[Row] = ()

    def on_mount(self) -> None:
        for name in self._columns_wanted:
            self.add_column(name, key=name)
        self.bring(self._early)

    def bring(self, rows: Sequence[Row]) -> None:
        """Show these rows, new ones behind the known; before there are columns, as soon as there are."""
        if not self.columns:
            self._early = rows
            return
        if not rows and self._nothing:
            rows = [("", [Text(self._nothing, "dim"), *[""] * (len(self._columns_wanted) - 1)])]
        wanted = {key for key, _ in rows}
        for known in [str(key.value) for key in self.rows if key.value not in wanted]:
            self.remove_row(known)
        for key, cells in rows:
            if key not in self.rows:
                self.add_row(*cells, key=key)
                continue
            for column, cell in zip(self._columns_wanted, cells, strict=True):
                if self.get_cell(key, column) != cell:
                    self.update_cell(key, column, cell, update_width=True)

    @property
    def marked(self) -> str:
        """Return the key of the row at the cursor, "" without rows."""
        if not self.row_count:
            return ""
        return str(self.coordinate_to_cell_key(self.cursor_coordinate).row_key.value)
