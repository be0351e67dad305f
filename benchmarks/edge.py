"""Compare a call through the edge with a plain RPyC bound call, in one run, as ratios.

Run from the source checkout: `python -m benchmarks.edge [--seconds S]`. Client threads and both servers share this machine;
each server is a process of its own, as in a cluster. Plain RPyC gets TCP_NODELAY, which it does not set by itself.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import rpyc
from rpyc.utils.server import ThreadedServer

from datastore.edge import Address, EdgeClient, EdgeServer

SIZES_BYTES = (200, 20_000, 200_000)
THREADS = (1, 8)
TIMEOUT_MS = 30_000

Call = Callable[[bytes], bytes]


class EchoService(rpyc.Service):  # type: ignore[misc]
    def exposed_call(self, method: str, payload: bytes) -> bytes:
        return payload


class NoDelayServer(ThreadedServer):  # type: ignore[misc]
    def _authenticate_and_serve_client(self, sock: Any) -> None:
        sock.setsockopt(6, 1, 1)  # IPPROTO_TCP, TCP_NODELAY
        super()._authenticate_and_serve_client(sock)


def _serve_plain(ready: Connection) -> None:
    server = NoDelayServer(EchoService, hostname="127.0.0.1", port=0)
    ready.send(server.port)
    server.start()


def _serve_edge(ready: Connection) -> None:
    server = EdgeServer(Address("127.0.0.1", 0), lambda _method, payload, _peer: payload, methods=["echo"])
    server.start()
    ready.send(server.address.port)
    threading.Event().wait()


def _plain_call(port: int) -> Call:
    """Return a bound call on a connection of its own, as RPyC's documentation advises for threads."""
    connection = rpyc.utils.factory.connect_stream(rpyc.core.stream.SocketStream.connect("127.0.0.1", port, nodelay=True))
    bound = connection.root.call
    return lambda payload: bound("echo", payload)


def _rate(calls: list[Call], payload: bytes, seconds: float) -> tuple[float, float]:
    """Return calls a second over all threads, and the median of one call in microseconds."""
    samples: list[list[float]] = [[] for _ in calls]
    go = threading.Barrier(len(calls) + 1)

    def run(call: Call, taken: list[float]) -> None:
        assert call(payload) == payload
        go.wait()
        end = time.perf_counter() + seconds
        now = time.perf_counter()
        while now < end:
            call(payload)
            before, now = now, time.perf_counter()
            taken.append(now - before)

    threads = [threading.Thread(target=run, args=pair, daemon=True) for pair in zip(calls, samples, strict=True)]
    for thread in threads:
        thread.start()
    go.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    together = [one for taken in samples for one in taken]
    return len(together) / (time.perf_counter() - began), statistics.median(together) * 1e6


def compare(plain_port: int, edge_port: int, seconds: float) -> None:
    """Print one line for each size and number of threads."""
    client = EdgeClient(Address("127.0.0.1", edge_port), connect_ms=5000)
    print(f"{'bytes':>8} {'threads':>7} {'plain/s':>9} {'p50 us':>8} {'edge/s':>9} {'p50 us':>8} {'edge:plain':>10}")
    for size in SIZES_BYTES:
        payload = bytes(range(256)) * (size // 256 + 1)
        payload = payload[:size]
        for count in THREADS:
            plain = [_plain_call(plain_port) for _ in range(count)]
            edge: list[Call] = [lambda sent: client.call("echo", sent, TIMEOUT_MS)] * count
            # Twice each, in turn: another load on the machine then falls on both.
            rates = [(_rate(plain, payload, seconds / 2), _rate(edge, payload, seconds / 2)) for _ in range(2)]
            plain_s, edge_s = (statistics.mean(pair[side][0] for pair in rates) for side in (0, 1))
            plain_us, edge_us = (statistics.mean(pair[side][1] for pair in rates) for side in (0, 1))
            print(f"{size:>8} {count:>7} {plain_s:>9.0f} {plain_us:>8.0f} {edge_s:>9.0f} {edge_us:>8.0f} {edge_s / plain_s:>10.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2.0, help="for each figure")
    seconds = parser.parse_args().seconds
    context = multiprocessing.get_context("spawn")
    ports, processes = [], []
    for serve in (_serve_plain, _serve_edge):
        here, there = context.Pipe()
        process = context.Process(target=serve, args=(there,), daemon=True)
        process.start()
        processes.append(process)
        ports.append(here.recv())
    try:
        compare(ports[0], ports[1], seconds)
    finally:
        for process in processes:
            process.terminate()


if __name__ == "__main__":
    main()
