"""Every question of the client gets its deadline in one place, every write a request id."""

from __future__ import annotations

import msgspec

from client.asking import Asking
from datastore import messages


class Kept(Asking):
    """Keeps what it is asked, as the stub would get it."""

    deadline_ms = 5_000

    def __init__(self) -> None:
        self.asked: list[messages.Request] = []

    def call(self, method: str, request: messages.Request) -> messages.Answer:
        messages.decode_request(method, messages.encode(request))
        self.asked.append(request)
        return messages.HoldsAnswer(holds=[])

    def release(self, request_id: str, deadline_ms: int = 0) -> messages.ReleaseHold:
        """Ask with a write; return what was sent."""
        request = messages.ReleaseHold(request_id=request_id, owner_key="k" * 20, hold_id="AR.x")
        self._ask("release", request, messages.HoldsAnswer, deadline_ms)
        sent = self.asked[-1]
        assert isinstance(sent, messages.ReleaseHold)
        return sent


def test_a_write_without_a_request_id_gets_one_of_its_own() -> None:
    """Two writes never share one that nobody gave; one that was given stays."""
    client = Kept()
    first, second = client.release(""), client.release("")
    assert first.request_id != second.request_id
    assert "asked-again" == client.release("asked-again").request_id
    assert msgspec.structs.replace(first, request_id="same") == msgspec.structs.replace(second, request_id="same")


def test_the_deadline_is_the_clients_unless_told() -> None:
    """For reads and writes alike."""
    client = Kept()
    assert (5_000, 70) == (client.release("").deadline_ms, client.release("", 70).deadline_ms)
    client._ask("my_holds", messages.MyHolds(owner_key="k" * 20), messages.HoldsAnswer)
    assert 5_000 == client.asked[-1].deadline_ms
