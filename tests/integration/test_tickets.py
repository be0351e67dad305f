"""Tickets by command over real processes: written, proved with no cluster, altered, forged, and asked about after they changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from client import api
from client.exit_codes import DAMAGED, DECLINED, DONE, INVALID, NO_ANSWER
from datastore.errors import InvalidRequest
from datastore.ticket_codes import facts_of, signed
from tests.integration.commands import Outcome, run, unsold
from tests.integration.harness import ClusterUnderTest


@pytest.mark.timeout(420)  # A dozen commands, each a process that imports a PDF library, on a machine that does other things.
def test_a_ticket_is_proved_offline_and_asked_about_online(tmp_path: Path) -> None:
    """One party's tickets from the sale to the cancellation: what was signed stands, what was altered, forged or given up is told apart."""
    with ClusterUnderTest(tmp_path / "cluster", datasets=("brief",)) as cluster:
        client, data = cluster.client(), cluster.folders.data
        buyer = tmp_path / "buyer"
        service = unsold(client)[0]
        seats = client.free_seats(service)[:2]
        code, held, said = run(buyer, "hold", service, *seats, data=data)
        assert DONE == code, said
        party = ("--passenger", "Анна Достоевская", "--passenger", "ADT Taro 山田")
        code, order, said = run(buyer, "confirm", held["hold_id"], *party, data=data)
        assert DONE == code, said
        reference = order["reference"]
        code, made, said = run(buyer, "ticket", "pdf", reference, "-o", "tickets.pdf", data=data)
        assert DONE == code and [one["number"] for one in order["tickets"]] == made["tickets"], said
        file = buyer / "tickets.pdf"
        assert 0 == file.stat().st_mode & 0o077, "it names people"
        assert INVALID == run(buyer, "ticket", "pdf", "last", "-o", "tickets.pdf", data=data)[0], "no file is replaced"
        _online_as_sold(buyer, data)
        stranger = _elsewhere(tmp_path, data, file)
        _forged(client, stranger, made["codes"][0])

        token = order["manage_token"]
        client.cancel(reference, token, quote=client.quote_cancel(reference, token, passengers=[1]).quote)
        code, document, _ = run(stranger, "ticket", "verify", str(file), "--online", data=data)
        assert (DECLINED, "outdated") == (code, document["verdict"])
        assert all(made["tickets"][0] in line for line in document["wrong"]) and "refunded" in document["wrong"][0], document["wrong"]
        assert [] == client.check_ticket(made["codes"][1]).wrong, "the other passenger still travels"
        code, left, _ = run(buyer, "ticket", "pdf", reference, data=data)
        assert (DONE, made["tickets"][1:], f"{reference}.pdf") == (code, left["tickets"], left["file"])
        client.cancel(reference, token)
        code, document, _ = run(stranger, "ticket", "verify", made["codes"][1], "--online", data=data)
        assert (DECLINED, "cancelled") == (code, document["tickets"][0]["state"])
        assert DECLINED == run(buyer, "ticket", "pdf", reference, data=data)[0], "nothing of it stands"

        cluster.stop_all()
        assert (DONE, "genuine") == _verdict(run(stranger, "ticket", "verify", str(file))), "offline it is what was signed"
        assert NO_ANSWER == run(stranger, "--timeout", "2", "ticket", "verify", str(file), "--online", data=data)[0]


def _verdict(outcome: Outcome) -> tuple[int, str]:
    return outcome[0], outcome[1]["verdict"]


def _online_as_sold(buyer: Path, data: Path) -> None:
    code, document, said = run(buyer, "ticket", "verify", "tickets.pdf", "--online", data=data)
    assert (DONE, "valid", []) == (code, document["verdict"], document["wrong"]), said
    assert ["Достоевская", "山田"] == [one["surname"] for one in document["tickets"]]


def _forged(client: api.Holdfast, door: Path, code: str) -> None:
    """Signed with another key than this cluster's: refused at the door, and the cluster does not say whether there is such a booking."""
    forged = signed(facts_of(code), Ed25519PrivateKey.generate())
    outcome = run(door, "ticket", "verify", forged)
    assert (DAMAGED, "altered") == _verdict(outcome) and "AR" in outcome[1]["wrong"][0]
    with pytest.raises(InvalidRequest, match="forged"):
        client.check_ticket(forged)


def _elsewhere(tmp_path: Path, data: Path, file: Path) -> Path:
    """Somebody at a door, without the cluster and without its key; then with the key, from a file or kept."""
    door = tmp_path / "door"
    code, error, _ = run(door, "ticket", "verify", str(file))
    assert INVALID == code and "holdfast ticket key AR" in error["detail"]
    assert DONE == run(door, "ticket", "key", "ar", "-o", "AR.pem", data=data)[0]
    assert (DONE, "genuine") == _verdict(run(door, "ticket", "verify", str(file)))
    (tmp_path / "gate").mkdir()
    assert (DONE, "genuine") == _verdict(run(tmp_path / "gate", "ticket", "verify", str(file), "--key", str(door / "AR.pem")))
    return door
