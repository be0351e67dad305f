"""The parts of a timetable in one JSON file, each item with the line it begins on. Pure: given the text.

The standard decoder forgets lines, and a person who is told "row 1,204 is bad" has to count. So the outermost object is
walked here, its lists item by item, and the decoder reads one item at a time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from datastore.errors import InvalidRequest

LISTS = ("operators", "places", "layouts", "connections", "timetable")
_SPACE = re.compile(r"[ \t\r\n]*")


class Item(NamedTuple):
    line: int
    value: Any


class Document(NamedTuple):
    """`header`: the keys that are not lists of items. `lists`: "timetable" and the like -> items; absent ones are absent."""

    header: dict[str, Any]
    lists: dict[str, list[Item]]


class _Walker:
    def __init__(self, text: str) -> None:
        self._text = text
        self._decode = json.JSONDecoder(object_pairs_hook=_without_repeats).raw_decode
        self._at = 0
        self._line, self._counted_to = 1, 0

    def line(self) -> int:
        self._line += self._text.count("\n", self._counted_to, self._at)
        self._counted_to = self._at
        return self._line

    def peek(self) -> str:
        match = _SPACE.match(self._text, self._at)
        self._at = match.end() if match else self._at
        return self._text[self._at : self._at + 1]

    def expect(self, letters: str) -> str:
        found = self.peek()
        if not found or found not in letters:
            raise InvalidRequest(f"{' or '.join(letters)} is expected, not {found or 'the end of the file'}", line=self.line())
        self._at += 1
        return found

    def value(self) -> Item:
        self.peek()
        line = self.line()
        try:
            value, self._at = self._decode(self._text, self._at)
        except json.JSONDecodeError as error:
            raise InvalidRequest(f"not JSON: {error.msg}", line=error.lineno) from error
        except RecursionError as error:
            raise InvalidRequest("nested too deeply", line=line) from error
        except InvalidRequest as error:
            raise InvalidRequest(error.detail, line=line) from error
        return Item(line, value)

    def items(self) -> Iterator[Item]:
        self.expect("[")
        if self.peek() == "]":
            self.expect("]")
            return
        while True:
            yield self.value()
            if self.expect(",]") == "]":
                return


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise InvalidRequest(f"{repeated[:40]!a} stands twice in one object")
    return found


def parse(text: str) -> Document:
    """Return the parts of a timetable: an object with a header and lists, or a list of rows alone.

    Raises:
        InvalidRequest: It is not JSON, or something stands twice; `fields["line"]` says where.
    """
    walker = _Walker(text)
    document = Document({}, {})
    if walker.peek() == "[":
        document.lists["timetable"] = list(walker.items())
    else:
        walker.expect("{")
        while walker.peek() != "}":
            name = walker.value()
            if not isinstance(name.value, str) or name.value in document.header or name.value in document.lists:
                raise InvalidRequest(f"{ascii(name.value)[:60]} is no key, or stands twice", line=name.line)
            walker.expect(":")
            if name.value in LISTS and walker.peek() == "[":
                document.lists[name.value] = list(walker.items())
            else:
                document.header[name.value] = walker.value().value
            if walker.peek() != "}":
                walker.expect(",")
        walker.expect("}")
    if walker.peek():
        raise InvalidRequest("something follows the end", line=walker.line())
    return document
