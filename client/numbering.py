"""Telling repeated service numbers apart, so that (number, origin, date) means one service of an operator.

A timetable may have one number twice from one place on one day: inferred returns, two halls showing one film, a second
file of the same airline. A service id would then have two meanings. The rules, in this order:

1. Within a dataset, rows of one (number, origin) that share a day are sorted by departure, then destination: the first
   keeps its number, the next becomes "1140.2", the next "1140.3". Rows that share no day keep one number: they are one
   flight whose times differ over the week.
2. Between datasets of one operator, a (number, origin) that another dataset has gives the newcomer's the suffix ".TAG",
   TAG being the newcomer's name in capitals. Who was there first keeps its numbers: they may be sold already.

Both depend on the rows alone and never on their order in a file, so importing again gives the same numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from msgspec.structs import replace

from datastore.model import Schedule

TAG_LENGTH_MAX = 8
NATURAL_LENGTH_MAX = 11  # with ".999" and "." and a tag of 8 it fits the 24 characters of `model.NUMBER_PATTERN`


def share_a_day(one: Schedule, two: Schedule) -> bool:
    """Return whether both rows run on some weekday within some common span of dates."""
    if one.valid_from > two.valid_to or two.valid_from > one.valid_to:
        return False
    return any(a != "-" and b != "-" for a, b in zip(one.days, two.days, strict=True))


def numbered(rows: Sequence[Schedule]) -> list[Schedule]:
    """Return one operator's rows of one dataset, in the order given, with rule 1 applied."""
    groups: dict[tuple[str, str], list[int]] = {}
    for index, row in enumerate(rows):
        groups.setdefault((row.number, row.origin), []).append(index)
    result = list(rows)
    for (number, origin), indexes in groups.items():
        if len(indexes) < 2:
            continue
        # What has the number "1140.2" by its own right keeps it: that suffix is passed over.
        taken = {suffix for suffix in range(2, len(indexes) + 2) if (f"{number}.{suffix}", origin) in groups}
        shelves: dict[int, list[Schedule]] = {1: []}
        for index in sorted(indexes, key=lambda place: _order(rows[place])):
            suffix = 1
            while suffix in taken or any(share_a_day(rows[index], other) for other in shelves.get(suffix, ())):
                suffix += 1
            shelves.setdefault(suffix, []).append(rows[index])
            if suffix > 1:
                result[index] = replace(rows[index], number=f"{number}.{suffix}")
    return result


def _order(row: Schedule) -> tuple[str | int, ...]:
    # Departure, then destination, as promised; the rest only makes the order total whatever the file's.
    rest = (row.arrives_day, row.arrives_min, row.days, row.valid_from, row.valid_to, row.layout_id, row.title)
    return (row.departs_min, row.destination, *rest)


def tag_of(dataset: str) -> str:
    """Return the suffix of a dataset: its letters and digits in capitals, at most eight."""
    return "".join(letter for letter in dataset.upper() if letter.isalnum())[:TAG_LENGTH_MAX]


def apart_from(rows: Iterable[Schedule], taken: Collection[tuple[str, str]], dataset: str) -> list[Schedule]:
    """Return the rows with rule 2 applied.

    Args:
        rows: One operator's rows of `dataset`, numbered by rule 1.
        taken: (number, origin) of the operator's other datasets.
        dataset: The newcomer's name.
    """
    taken = frozenset(taken)
    if not taken:
        return list(rows)
    rows = list(rows)
    own = {(row.number, row.origin) for row in rows}
    renamed: dict[tuple[str, str], str] = {}
    for number, origin in sorted(own & taken):
        tag, count = tag_of(dataset), 1
        # Two datasets may shorten to one tag ("us-2008", "us2008"): count on inside the tag's length.
        while (f"{number}.{tag}", origin) in taken or (f"{number}.{tag}", origin) in own:
            count += 1
            tag = f"{tag_of(dataset)[: TAG_LENGTH_MAX - len(str(count))]}{count}"
        renamed[number, origin] = f"{number}.{tag}"
    return [replace(row, number=renamed[row.number, row.origin]) if (row.number, row.origin) in renamed else row for row in rows]
