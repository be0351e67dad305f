"""The files of a dataset: found, opened and handed on line by line.

A dataset is a folder (`dataset.json`, a timetable, `airports.csv` or `places.csv`, `carriers.csv` or `operators.csv`,
`layouts.json`, `connections.csv`) or one timetable file with any of these beside it. Whatever ends in .xz is read through the decompressor.
CSV streams, so that memory does not follow the file's size; JSON is read whole, up to 256 MB.
"""

from __future__ import annotations

import csv
import lzma
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

from client import json_rows
from client.descriptions import Header, OperatorName, connecting_of, header_of, operator_of, place_of
from client.json_rows import Document, Item
from client.layouts import aircraft_layouts, layout_from
from client.timetables import TimetableReader, column_of, from_cells, from_object
from datastore.errors import InvalidRequest, nearest
from datastore.model import ConnectingTime, LayoutSpec, Place

JSON_BYTES_MAX = 256 * 1024 * 1024
PLACES_FILES = ("places.csv", "airports.csv")
CONNECTIONS_FILES = ("connections.csv",)
OPERATORS_FILES = ("operators.csv", "carriers.csv")
_Made = TypeVar("_Made")
TIMETABLE_ENDINGS = (".csv", ".json", ".csv.xz", ".json.xz")


class Bad(NamedTuple):
    """A bad line of a file that belongs to no operator."""

    file: str
    line: int
    reason: str


def read_text(path: Path) -> str:
    """Return a file's text.

    Raises:
        InvalidRequest: It cannot be read, is not UTF-8, is damaged or over 256 MB.
    """
    with opened(path) as stream:
        try:
            text = stream.read(JSON_BYTES_MAX + 1)
        except (UnicodeDecodeError, lzma.LZMAError, EOFError, OSError) as error:
            raise _unreadable(path, 0, error) from error
    if len(text) > JSON_BYTES_MAX:
        raise InvalidRequest(f"{path}: over {JSON_BYTES_MAX} characters", file=str(path))
    return text


def opened(path: Path) -> IO[str]:
    """Return the file open for reading as text, decompressed where its name ends in .xz.

    Raises:
        InvalidRequest: There is no such file, or it may not be read; the nearest name beside it is given.
    """
    try:
        if path.suffix == ".xz":
            return lzma.open(path, "rt", encoding="utf-8-sig", newline="")
        return path.open("r", encoding="utf-8-sig", newline="")
    except FileNotFoundError as error:
        raise InvalidRequest(f"{path}: no such file{_near(path)}", file=str(path)) from error
    except OSError as error:
        raise _unreadable(path, 0, error) from error


def csv_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, cells) of a CSV file, its header first; empty lines are passed over.

    Raises:
        InvalidRequest: It cannot be read on; nothing of it may be imported, as its end is not known.
    """
    with opened(path) as stream:
        reader = csv.reader(stream, strict=True)
        try:
            for cells in reader:
                if cells:
                    yield reader.line_num, cells
        except (csv.Error, UnicodeDecodeError, lzma.LZMAError, EOFError, OSError) as error:
            raise _unreadable(path, reader.line_num, error) from error


def csv_mappings(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line, column -> cell) of a reference file; columns that nobody knows are simply there."""
    lines = csv_lines(path)
    header = [cell.strip() for cell in next(lines, (0, []))[1]]
    for line, cells in lines:
        yield line, dict(zip(header, cells, strict=False))


class DatasetFiles:
    """Where the parts of one dataset are, and its header. Opened lazily, line by line."""

    def __init__(self, path: Path, name: str, today: date, days: int) -> None:
        """Find the files and read the header.

        Raises:
            InvalidRequest: There is no such path, no timetable in it, or its header is wrong.
        """
        self.folder = path if path.is_dir() else path.parent
        self.timetable = _timetable_in(path) if path.is_dir() else path
        self.bad: list[Bad] = []
        document: dict[str, Any] = {}
        header_path = self.folder / "dataset.json"
        if header_path.is_file():
            document = dict(_parsed(header_path).header)
        self._json: Document | None = None
        if ".json" in self.timetable.suffixes:
            self._json = _parsed(self.timetable)
            document.update(self._json.header)
            header_path = self.timetable
        else:
            opened(self.timetable).close()  # Raises at once where it is missing.
        if name:
            document["name"] = name
        try:
            self.header: Header = header_of(document, _name_of(path), today, days)
        except InvalidRequest as error:
            raise InvalidRequest(f"{header_path}: {error.detail}", file=str(header_path)) from error
        self.aircraft_reference: str = str(document.get("aircraft", ""))

    def rows(self) -> int:
        """Return how many rows the timetable has: read once more, as only the file knows.

        Raises:
            InvalidRequest: It cannot be read to its end.
        """
        if self._json is not None:
            return len(self._items("timetable"))
        return max(0, sum(1 for _ in csv_lines(self.timetable)) - 1)

    def read_into(self, reader: TimetableReader, tell: Callable[[int], None], every: int = 500) -> None:
        """Hand every row of the timetable to the reader; `tell(rows)` is called after each `every` rows and at the end.

        Raises:
            InvalidRequest: The header has an unknown column, or the file cannot be read to its end.
        """
        file, rows = str(self.timetable), 0
        for line, row in self._json_rows(reader) if self._json is not None else self._csv_rows(reader):
            reader.take(file, line, row)
            rows += 1
            if rows % every == 0:
                tell(rows)
        tell(rows)

    def _json_rows(self, reader: TimetableReader) -> Iterator[tuple[int, dict[str, Any]]]:
        for line, value in self._items("timetable"):
            try:
                row = from_object(value)
            except InvalidRequest as error:
                reader.refuse_row(str(self.timetable), line, error)
                continue
            yield line, row

    def _csv_rows(self, reader: TimetableReader) -> Iterator[tuple[int, dict[str, Any]]]:
        lines = csv_lines(self.timetable)
        line, header = next(lines, (1, []))
        try:
            columns = [column_of(cell) for cell in header]
            named = [column for column in columns if column]
            if len(set(named)) != len(named):
                raise InvalidRequest("a column stands twice")
            if "operator" not in named:
                raise InvalidRequest("the first line must name the columns, operator (or carrier) among them")
        except InvalidRequest as error:
            raise InvalidRequest(f"{self.timetable}:{line}: {error.detail}", file=str(self.timetable), line=line) from error
        for line, cells in lines:
            try:
                row = from_cells(columns, cells)
            except InvalidRequest as error:
                reader.refuse_row(str(self.timetable), line, error)
                continue
            yield line, row

    def places(self) -> dict[str, Place]:
        """Return the places by code; a bad line is kept in `bad` and its place left out."""
        return {place.code: place for place in self._reference("places", PLACES_FILES, place_of)}

    def connections(self, places: Mapping[str, Place]) -> list[ConnectingTime]:
        """Return the minimum connecting times; a bad line is kept in `bad` and left out."""
        return list(self._reference("connections", CONNECTIONS_FILES, lambda row: self._known_place(connecting_of(row), places)))

    @staticmethod
    def _known_place(line: ConnectingTime, places: Mapping[str, Place]) -> ConnectingTime:
        if line.place and line.place not in places:
            near = nearest(line.place, places, 1)
            raise InvalidRequest(f"place: no place {line.place}" + (f"; did you mean {near[0]}?" if near else ""))
        return line

    def operators(self) -> dict[str, OperatorName]:
        """Return the operators by code; empty where the dataset has no list of them."""
        return {operator.code: operator for operator in self._reference("operators", OPERATORS_FILES, operator_of)}

    def layouts(self) -> dict[str, LayoutSpec]:
        """Return the dataset's own layouts by id; a bad one is kept in `bad` and left out."""
        found: dict[str, LayoutSpec] = {}
        path = self.folder / "layouts.json"
        sources = [(str(self.timetable), self._items("layouts"))]
        if path.is_file():
            document = _parsed(path)
            sources.append((str(path), document.lists.get("layouts") or document.lists.get("timetable") or []))
        for file, items in sources:
            for line, value in items:
                try:
                    if not isinstance(value, Mapping):
                        raise InvalidRequest("a layout is an object")
                    spec = layout_from(value)
                    if spec.layout_id in found:
                        raise InvalidRequest(f"layout {spec.layout_id} stands twice")
                    found[spec.layout_id] = spec
                except InvalidRequest as error:
                    self.bad.append(Bad(file, line, error.detail))
        return found

    def _items(self, name: str) -> list[Item]:
        return self._json.lists.get(name, []) if self._json is not None else []

    def _reference(self, name: str, files: tuple[str, ...], made: Callable[[Mapping[str, Any]], _Made]) -> Iterator[_Made]:
        rows: list[tuple[str, int, Any]] = [(str(self.timetable), line, value) for line, value in self._items(name)]
        path = next((self.folder / file for file in files if (self.folder / file).is_file()), None)
        if path is not None:
            rows += [(str(path), line, row) for line, row in csv_mappings(path)]
        for file, line, row in rows:
            try:
                if not isinstance(row, Mapping):
                    raise InvalidRequest("an object is expected")
                yield made(row)
            except InvalidRequest as error:
                self.bad.append(Bad(file, line, error.detail))


def read_aircraft(folder: Path) -> dict[str, LayoutSpec]:
    """Return type code -> layout of a folder with `aircraft_types.csv` and `cabins.csv`.

    Raises:
        InvalidRequest: A file is missing or a line of it is wrong.
    """
    try:
        types = [row for _, row in csv_mappings(folder / "aircraft_types.csv")]
        return aircraft_layouts(types, (row for _, row in csv_mappings(folder / "cabins.csv")))
    except InvalidRequest as error:
        raise InvalidRequest(f"{folder}: {error.detail}", file=str(folder)) from error


def _timetable_in(folder: Path) -> Path:
    exact = [folder / f"timetable{ending}" for ending in TIMETABLE_ENDINGS]
    found = [path for path in exact if path.is_file()]
    if not found:
        found = sorted(path for path in folder.iterdir() if "timetable" in path.name and path.name.endswith(TIMETABLE_ENDINGS))
    if len(found) != 1:
        why = f"several timetables: {', '.join(path.name for path in found)}" if found else "no timetable.csv, .json or .xz of these"
        raise InvalidRequest(f"{folder}: {why}", file=str(folder))
    return found[0]


def _name_of(path: Path) -> str:
    word = re.sub(r"(\.csv|\.json|\.xz)+$", "", path.resolve().name.lower())
    return re.sub(r"[^a-z0-9]+", "-", word).strip("-")[:32].strip("-")


def _parsed(path: Path) -> Document:
    try:
        return json_rows.parse(read_text(path))
    except InvalidRequest as error:
        line = error.fields.get("line", 0)
        raise InvalidRequest(f"{path}:{line}: {error.detail}", file=str(path), line=line) from error


def _unreadable(path: Path, line: int, error: Exception) -> InvalidRequest:
    where = f"{path}:{line}" if line else str(path)
    reason = getattr(error, "strerror", None) or str(error)
    return InvalidRequest(f"{where}: cannot be read on: {reason}", file=str(path), line=line)


def _near(path: Path) -> str:
    try:
        names = [entry.name for entry in path.parent.iterdir()]
    except OSError:
        return ""
    found = nearest(path.name, names, 1)
    return f"; did you mean {found[0]}?" if found else ""
