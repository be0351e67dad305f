"""Minimum connecting times in timetable files: read, checked, and given to the operators that they concern."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import jsonschema
import pytest

from client.importing import body_of, load_dataset
from client.timetables import Dataset
from datastore.model import ConnectingTime
from tests.unit.client.test_timetables import GOOD, HEADER, PLACES, SCHEMA

ROWS = f"{HEADER}\n{GOOD}\n{GOOD.replace('AR', 'LA')}\n"
COLUMNS = "place,arriving,departing,domestic_min,international_min"


def loaded(folder: Path, *lines: str) -> Dataset:
    (folder / "timetable.csv").write_text(ROWS, "utf-8")
    (folder / "places.csv").write_text(PLACES, "utf-8")
    (folder / "connections.csv").write_text("\n".join([COLUMNS, *lines, ""]), "utf-8")
    return load_dataset(folder, valid_from=date(2026, 11, 21), dataset="test")


def test_each_operator_gets_the_lines_that_concern_it(tmp_path: Path) -> None:
    """A line that names operators is theirs, one that names none is everybody's."""
    dataset = loaded(tmp_path, "MIA,,,60,105", "MIA,LA,AR,40,", ",LA,,,0")
    assert dataset.problems == []
    general, pair, own = ConnectingTime("MIA", "", "", 60, 105), ConnectingTime("MIA", "LA", "AR", 40), ConnectingTime("", "LA", "", -1, 0)
    assert dataset.operators["AR"].connecting == [general, pair]
    assert dataset.operators["LA"].connecting == [own, general, pair]
    bodies = {body_of(dataset, part) for part in dataset.operators.values()}
    again = loaded(tmp_path, ",LA,,,0", "MIA,LA,AR,40,", "MIA,,,60,105")
    assert bodies == {body_of(again, part) for part in again.operators.values()}, "the order of the file's lines changed the import"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("MIB,,,60,", "place: no place MIB; did you mean MIA?"),
        ("MIA,la,,60,", "arriving: la is not an operator's code"),
        ("MIA,,A,60,", "departing: A is not an operator's code"),
        ("MIA,,,,", "neither is given"),
        ("MIA,,,-5,", "domestic_min: -5 is not 0 to 1440 minutes"),
        ("MIA,,,60,1441", "international_min: 1441 is not 0 to 1440"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, reason: str) -> None:
    """File, line and reason, with the nearest right value where there is one; the good lines stay."""
    dataset = loaded(tmp_path, "MIA,,,60,105", line)
    (problem,) = dataset.problems
    assert (Path(problem.file).name, problem.line) == ("connections.csv", 3)
    assert reason in problem.reason
    assert dataset.operators["AR"].connecting == [ConnectingTime("MIA", "", "", 60, 105)]


def test_json_has_them_too(tmp_path: Path) -> None:
    """The list `connections` of a JSON timetable means the same, and the schema knows it."""
    document = {
        "name": "test",
        "places": [{"code": "EZE", "zone": "UTC", "lat": 1, "lon": 1}, {"code": "MIA", "zone": "UTC", "lat": 2, "lon": 2}],
        "connections": [{"place": "MIA", "arriving": "AR", "domestic_min": 40}],
        "timetable": [
            {"operator": "AR", "number": "1", "from": "EZE", "to": "MIA", "departs": "10:00", "block_min": 60, "aircraft": "332"},
        ],
    }
    jsonschema.validate(document, SCHEMA)
    path = tmp_path / "test.json"
    path.write_text(json.dumps(document), "utf-8")
    dataset = load_dataset(path, valid_from=date(2026, 11, 21))
    assert dataset.problems == []
    assert dataset.operators["AR"].connecting == [ConnectingTime("MIA", "AR", "", 40)]
