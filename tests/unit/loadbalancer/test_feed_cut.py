"""A node's answer to a feed that was cut for its size says nothing of the operators that are left out, however few its events are."""

from __future__ import annotations

from types import SimpleNamespace

from datastore import wire
from datastore.feed import part_of
from datastore.ledger import BATCH, Entry, SealedEntry, genesis, seal
from datastore.model import Epoch
from datastore.rows import BulkRow, Kind, encode_row
from datastore.server import NodeServer
from loadbalancer.following import Follower
from loadbalancer.view import Catalogue

COUNT = 2_048
OPERATORS = ("AA", "AB", "AC", "AD", "AE", "AF")


def entries(operator: str) -> list[SealedEntry]:
    found: list[SealedEntry] = []
    digest = genesis(operator).hash
    numbers, seats = tuple(range(1, COUNT + 1)), tuple((f"{number}A",) for number in range(COUNT))
    for lsn in range(1, 60):
        row = BulkRow(f"{operator}.{lsn}", "o", f"{operator}1-EZE-2026-12-01", lsn, 1, 2, "USD", numbers, seats, ((10_000,),) * COUNT,
                      (50,) * COUNT, 1, lsn, "n")  # fmt: skip
        found.append(seal(Entry(Epoch(1, "m"), lsn, 1, BATCH, events=[(int(Kind.BULK), row.bulk_id, encode_row(row))]), digest))
        digest = found[-1].hash
    return found


def test_an_operator_that_is_left_out_for_the_answers_size_is_not_heard_of() -> None:
    ledgers = {operator: entries(operator) for operator in OPERATORS}
    copies = {
        operator: SimpleNamespace(feed=lambda lsn, _digest, _timeout, operator=operator: part_of(operator, ledgers[operator][lsn:]))
        for operator in OPERATORS
    }
    node = SimpleNamespace(_node=SimpleNamespace(find=copies.get))
    answered: list[str] = []

    def feed(request: wire.FeedRequest) -> list[wire.FeedPart]:
        parts: list[wire.FeedPart] = NodeServer._parts(node, request)  # type: ignore[arg-type]
        answered.extend(part.operator for part in parts)
        return parts

    catalogue = Catalogue()
    follower = Follower(catalogue, SimpleNamespace(feed=feed), wait_ms=1)  # type: ignore[arg-type]
    for operator in OPERATORS:
        catalogue.put(catalogue.new_view(operator))
    follower._follow_once("n1", OPERATORS)
    left_out = set(OPERATORS) - set(answered)
    assert left_out
    assert [operator for operator in sorted(left_out) if catalogue.operators[operator].heard_ms] == []
