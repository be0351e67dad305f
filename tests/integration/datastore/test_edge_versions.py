"""Peers of different versions of the wire: one major version speaks with itself, another is refused by name."""

from __future__ import annotations

import logging

import pytest

from datastore.edge import Address, EdgeClient, EdgeServer
from datastore.errors import NodeUnreachable
from tests.waiting import wait_until


@pytest.mark.parametrize(("theirs", "ours"), [(100, 100), (100, 103), (103, 100), (207, 200)])
def test_minor_versions_speak_with_each_other(theirs: int, ours: int) -> None:
    """In a rolling restart either side may be the older one."""
    server = EdgeServer(Address("127.0.0.1", 0), lambda _method, payload, _peer: payload + b"!", methods=["echo"], version=theirs)
    server.start()
    client = EdgeClient(server.address, version=ours)
    try:
        assert b"hello!" == client.call("echo", b"hello", 2000)
    finally:
        client.close()
        server.close()


@pytest.mark.parametrize(("theirs", "ours"), [(100, 200), (200, 100), (301, 205)])
def test_another_major_version_is_refused_and_both_are_named(theirs: int, ours: int, caplog: pytest.LogCaptureFixture) -> None:
    """Nothing was handed over, the caller reads both versions, and the server's log does too."""
    handled: list[str] = []

    def handle(method: str, payload: bytes, _peer: object) -> bytes:
        handled.append(method)
        return payload

    caplog.set_level(logging.INFO)
    server = EdgeServer(Address("127.0.0.1", 0), handle, methods=["echo"], version=theirs)
    server.start()
    client = EdgeClient(server.address, version=ours)
    theirs_text, ours_text = f"{theirs // 100}.{theirs % 100}", f"{ours // 100}.{ours % 100}"
    try:
        with pytest.raises(NodeUnreachable, match=f"it speaks version {theirs_text} of the wire, this program {ours_text}"):
            client.call("echo", b"hello", 2000)
        assert [] == handled
        said = f"it speaks version {ours_text} of the wire, this program {theirs_text}"
        wait_until(lambda: said in caplog.text, "the server's log to name both", 5)
    finally:
        client.close()
        server.close()
