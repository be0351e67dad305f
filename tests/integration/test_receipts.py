"""Receipts and the proof of whole ledgers by command: live, after a failover, stopped, and with bytes flipped on the disk."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path
from typing import Any

import apsw

from client import api
from client.exit_codes import DAMAGED, DONE, INVALID
from datastore.errors import HoldfastError
from datastore.model import Passenger
from datastore.receipts import parse
from tests.integration import commands, damage
from tests.integration.harness import ClusterUnderTest
from tests.waiting import wait_until

SETTINGS = {"datastore": {"segment_entries": 16, "tail_entries": 16}}
FLIPS = 12
BITS = int(os.environ.get("HOLDFAST_DAMAGED_BITS", "160"))


def run(cluster: ClusterUnderTest, *words: str) -> commands.Outcome:
    """Return the exit code, the document and the messages of a command at the cluster."""
    return commands.run(cluster.folders.data / "wallet", *words, data=cluster.folders.data)


def primary_of(client: api.Holdfast, operator: str) -> str:
    """Return the node that leads; "" while nobody can say."""
    try:
        return next(line.primary for line in client.status().partitions if line.operator == operator)
    except HoldfastError:
        return ""


def test_receipts_and_ledgers_prove_themselves(tmp_path: Path) -> None:
    """One cluster's life: sold, failed over, stopped, damaged; what was acknowledged is proved, what was forged or flipped is found."""
    with ClusterUnderTest(tmp_path, SETTINGS, datasets=("brief",)) as cluster:
        client = cluster.client()
        service = commands.unsold(client)[0]
        seats = client.free_seats(service)
        code, held, _ = run(cluster, "hold", service, *seats[:2])
        assert DONE == code
        code, order, messages = run(cluster, "confirm", held["hold_id"], "--passenger", "Ada Byron", "--passenger", "Bo Babbage")
        assert DONE == code, messages
        receipt = parse(order["receipt"])
        assert ("AR", order["reference"]) == (receipt.operator, receipt.reference)
        for number in range(2, 32):  # So that the entry is sealed into a segment, and the receipt found there.
            client.release(client.hold(service, [seats[number]]).hold_id)
        trip = client.confirm(client.hold_trip([(commands.unsold(client)[1], 1), (service, 1)]).hold_id, [Passenger("Two", "Legs")])
        assert parse(trip.receipt).reference == trip.reference
        again = client.order(trip.reference, token=trip.manage_token)
        assert trip.receipt == again.receipt, "asked later, the same receipt"

        _live_and_failed_over(cluster, client, order)
        cluster.stop_all()
        _stopped(cluster, tmp_path, order)
        _flipped(cluster)
        _every_value(cluster)
        _any_bit(cluster)


def _live_and_failed_over(cluster: ClusterUnderTest, client: api.Holdfast, order: dict[str, Any]) -> None:
    """Against the live primary, by booking reference; a forged one is refused and located; another node leads, it still holds."""
    text, reference = order["receipt"], order["reference"]
    code, document, messages = run(cluster, "verify", "--live", "--receipt", reference)
    assert (DONE, {text: "proved"}) == (code, document["receipts"]), messages
    forged = text[:-4] + ("0000" if text[-4:] != "0000" else "1111")
    code, document, _ = run(cluster, "verify", "--live", "--receipt", forged)
    assert (DAMAGED, True) == (code, "the receipt says" in document["receipts"][forged]), document
    other = text.replace(reference, "ZZZZZZ")
    code, document, _ = run(cluster, "verify", "--live", "--receipt", other)
    assert (DAMAGED, True) == (code, "made no booking ZZZZZZ" in document["receipts"][other])
    assert INVALID == run(cluster, "verify", "--receipt", text[:-4])[0]
    code, document, messages = run(cluster, "verify", "--live", "--operator", "AR")
    assert (DONE, 1) == (code, len(document["copies"])), messages
    led = primary_of(client, "AR")
    cluster.kill(led)
    wait_until(lambda: primary_of(client, "AR") not in ("", led), "another node to lead AR", 60)
    code, document, messages = run(cluster, "verify", "--live", "--receipt", reference)
    assert (DONE, {text: "proved"}) == (code, document["receipts"]), messages
    assert client.check_receipt(text).differences == []


def _stopped(cluster: ClusterUnderTest, folder: Path, order: dict[str, Any]) -> None:
    """With nothing running: every copy of every operator, and the receipt from a file."""
    code, document, messages = run(cluster, "verify")
    assert (DONE, "proved", []) == (code, document["state"], document["findings"]), messages
    assert 12 == len(document["copies"]) and all(copy["entries"] for copy in document["copies"])
    assert 4 == max(copy["counts"]["seats_booked"] for copy in document["copies"] if copy["operator"] == "AR")
    file = folder / "order.json"
    file.write_text(json.dumps(order), encoding="utf-8")
    code, document, messages = run(cluster, "verify", "--receipt", str(file))
    assert (DONE, {order["receipt"]: "proved"}, {"AR"}) == (code, document["receipts"], {one["operator"] for one in document["copies"]})


def _flipped(cluster: ClusterUnderTest) -> None:
    """A flipped byte in an entry, in a sealed segment or anywhere in a page that is in use: found, and the file named."""
    chance = random.Random(4)
    partitions = cluster.folders.data / "node-3" / "partitions"
    store = partitions / "AR.sqlite"
    segment = sorted((partitions / "AR.segments").iterdir())[0]
    database = apsw.Connection(str(store))
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    database.close()
    for path, places in ((segment, FLIPS // 2), (store, FLIPS // 2)):
        content = path.read_bytes()
        for _ in range(places):
            at = _place_in_use(store, content, chance) if path == store else chance.randrange(len(content))
            changed = bytearray(content)
            changed[at] ^= 1 << chance.randrange(8)
            path.write_bytes(bytes(changed))
            code, document, _ = run(cluster, "verify", "--operator", "AR")
            assert DAMAGED == code, f"byte {at} of {path.name} was flipped and not found: {document}"
            assert any("node-3" in finding for finding in document["findings"]), document["findings"]
        path.write_bytes(content)
    assert DONE == run(cluster, "verify", "--operator", "AR")[0]


def _place_in_use(store: Path, content: bytes, chance: random.Random) -> int:
    """Return a place inside some entry's, row's or side record's bytes."""
    database = apsw.Connection(str(store), flags=apsw.SQLITE_OPEN_READONLY)
    columns = {"log": "body", "row": "value", "side": "value"}
    values = [bytes(value) for table, column in columns.items() for (value,) in database.execute(f"SELECT {column} FROM {table}")]
    database.close()
    while True:
        value = chance.choice(values)
        part = value[: min(len(value), 200)]
        found = content.find(part)
        # What stands twice may be in a page that is in use no more: nobody reads it there.
        if found >= 0 and content.count(part) == 1:
            return found + chance.randrange(len(part))


def _every_value(cluster: ClusterUnderTest) -> None:
    """Every column of every table, every number that the file keeps of itself, a row gone or too many: found, and the file named."""
    data, node = cluster.folders.data, "node-3"
    store = data / node / "partitions" / "AR.sqlite"
    content = store.read_bytes()
    tried: set[str] = set()
    for what, statement, values in damage.other_values(store, random.Random(5)):
        database = apsw.Connection(str(store))
        database.execute(statement, tuple(values)).fetchall()
        assert database.changes() == 1, what
        database.close()
        found = damage.found_in(data, node, "AR")
        assert found and (found[0].startswith(("AR.sqlite: ", "0")) or "entry" in found[0]), f"{what}: {found}"
        tried.add(what.partition(" ")[0].partition(".")[0])
        store.write_bytes(content)
    assert set(damage.TABLES) == tried
    assert [] == damage.found_in(data, node, "AR")


def _any_bit(cluster: ClusterUnderTest) -> None:
    """Any bit of any file of a copy: it is found, or it is in no record at all, and everything that can be read is as it was."""
    data, node, chance = cluster.folders.data, "node-3", random.Random(6)
    files = damage.files_of(data, node, "AR")
    assert len(files) > 2
    before = damage.readable(files[0])
    caught: set[str] = set()
    for number in range(BITS):
        path = files[number % len(files)]
        content = path.read_bytes()
        at, changed = damage.flipped(content, chance)
        path.write_bytes(changed)
        if damage.found_in(data, node, "AR"):
            caught.add(path.suffix)
        else:
            # Room between the cells of a page, pages that are free, fields of SQLite's header that nobody reads.
            assert path == files[0] and before == damage.readable(path), f"byte {at} of {path.name} was flipped and not found"
        path.write_bytes(content)
    assert {".sqlite", ".segment", ".json"} == caught
    assert [] == damage.found_in(data, node, "AR")
