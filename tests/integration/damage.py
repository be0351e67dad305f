"""Damage to one copy of a ledger on a stopped node: any bit of its files, any value of its tables, any row."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apsw

from datastore.verification import verify_copy

TABLES = ("meta", "log", "epoch", "config", "row", "request", "side", "segment")
Damage = tuple[str, str, Sequence[Any]]  # what is done, the statement, its values


def found_in(data: Path, node: str, operator: str) -> list[str]:
    """Return what `holdfast verify` says of one copy: the file and the sentence of each finding."""
    proof = verify_copy(data, node, operator, data / node / "partitions" / f"{operator}.sqlite")
    assert all(one.file and one.what for one in proof.damage), proof.damage
    return [f"{one.file}: {one.what}" for one in proof.damage] + proof.violations


def settled(store: Path) -> None:
    """Take what a stopped node left in SQLite's own log into the file."""
    database = apsw.Connection(str(store))
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    database.close()


def files_of(data: Path, node: str, operator: str) -> list[Path]:
    """Return all files of a copy: the store, its segments, what the node wrote down beside it."""
    partitions = data / node / "partitions"
    segments = sorted((partitions / f"{operator}.segments").glob("*.segment"))
    return [partitions / f"{operator}.sqlite", *segments, data / node / "identities" / f"{operator}.json"]


def readable(store: Path) -> list[Any]:
    """Return everything that SQL can read of a store."""
    database = apsw.Connection(str(store), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        found: list[Any] = [database.execute(f"PRAGMA {name}").fetchall() for name in ("user_version", "application_id", "encoding")]
        found += [sorted(map(repr, database.execute(f"SELECT * FROM {table}"))) for table in ("sqlite_schema", *TABLES)]
        return found
    finally:
        database.close()


def flipped(content: bytes, chance: random.Random) -> tuple[int, bytes]:
    """Return (place, the bytes with one bit of that place flipped)."""
    at = chance.randrange(len(content))
    changed = bytearray(content)
    changed[at] ^= 1 << chance.randrange(8)
    return at, bytes(changed)


def other_values(store: Path, chance: random.Random) -> Iterator[Damage]:
    """Yield statements: for each table each column of some row with another value, some row gone, and some row twice.

    Of `meta`, whose rows each mean another thing, every row's value.
    """
    database = apsw.Connection(str(store), flags=apsw.SQLITE_OPEN_READONLY)
    tables = {}
    for table in TABLES:
        columns = [str(row[1]) for row in database.execute(f"PRAGMA table_info({table})")]
        tables[table] = columns, database.execute(f"SELECT * FROM {table}").fetchall()
    database.close()
    for table, (columns, rows) in tables.items():
        assert rows, f"no row in {table}: nothing would be shown"
        where = " AND ".join(f"{column} IS ?" for column in columns)
        for number, column in enumerate(columns):
            for row in rows if table == "meta" and column == "value" else [chance.choice(rows)]:
                other = _other(row[number], far=number == 0)
                what = f"{table}.{column} {row[0]!r:.40}: {row[number]!r:.40} is {other!r:.40}"
                yield what, f"UPDATE {table} SET {column} = ? WHERE {where}", (other, *row)
        # What a founding gave stands at lsn 0 and, once there are entries, in the first of them: only stores that were founded have it.
        row = chance.choice([row for row in rows if (table, row[0]) != ("config", 0)])
        yield f"{table} without {row[0]!r:.40}", f"DELETE FROM {table} WHERE {where}", row
        # Keys are the first column or the first two.
        twice = (row[0], _other(row[1]), *row[2:]) if table == "row" else (_other(row[0], far=True), *row[1:])
        yield f"{table} with {twice[0]!r:.40} too", f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", twice


def _other(value: Any, *, far: bool = False) -> Any:
    """Return another value that looks like one; `far`: which no row beside it has for its key."""
    if isinstance(value, int):
        return value + (10_000 if far else 1)
    if isinstance(value, bytes):
        return value[:-1] + bytes([value[-1] ^ 1]) if value else b"\x00"
    return f"{value[:-1]}{'y' if value[-1:] == 'x' else 'x'}"
