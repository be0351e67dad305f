"""TCP lines between the processes of a cluster that can be cut, slowed and made to lose; one way or both.

Every process reaches every other one at a port of ours. What passes is never changed: TCP would mend it. A lost segment is what TCP
makes of it, a pause until it is sent again; a line that loses too much is reset. Bytes of different connections overtake
each other when each has its own delay. What was sent into a cut line arrives when it is mended, however late, as TCP sends it again.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any

CHUNK_BYTES = 65_536
CONNECT_S = 2.0
CLOSE_S = 10.0
RETRANSMIT_S = (0.2, 0.9)  # What one lost segment costs: TCP waits at least 200 ms before it sends again.


@dataclass(frozen=True)
class Weather:
    """What one direction is like. Delays are seconds for each piece of up to 64 kB; chances are for each piece."""

    cut: bool = False
    delay_s: tuple[float, float] = (0.0, 0.0)
    lost: float = 0.0
    reset: float = 0.0


FAIR = Weather()
CUT = Weather(cut=True)


class Links:
    """All lines of one cluster, carried by a thread of their own. Any thread may call."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)
        self._weather: dict[tuple[str, str], Weather] = {}
        self._ports: dict[tuple[str, str], int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._changed = asyncio.Event()
        self._thread = threading.Thread(target=self._loop.run_forever, name="links", daemon=True)
        self._thread.start()

    def port(self, source: str, target: str, address: tuple[str, int]) -> int:
        """Return the port at which `source` finds `target`, which listens at `address`."""
        if (source, target) not in self._ports:
            self._ports[source, target] = self._run(self._listen(source, target, address))
        return self._ports[source, target]

    def set(self, directions: Iterable[tuple[str, str]], weather: Weather) -> None:
        """Let the directions (from, to) be like that from now on."""
        wanted = list(directions)

        async def change() -> None:
            for direction in wanted:
                self._weather[direction] = weather
            # Whoever waits at a cut looks again.
            self._changed.set()
            self._changed = asyncio.Event()

        self._run(change())

    def close(self) -> None:
        async def end() -> None:
            for task in list(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

        self._run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(CLOSE_S)
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(CLOSE_S)

    # --- on the loop ----------------------------------------------------------------------------------------------

    async def _listen(self, source: str, target: str, address: tuple[str, int]) -> int:
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        server = await asyncio.start_server(lambda *near: self._serve((source, target), address, *near), sock=listener)
        task = asyncio.create_task(self._keep(server))
        self._tasks.add(task)
        port: int = listener.getsockname()[1]
        return port

    async def _keep(self, server: asyncio.Server) -> None:
        async with server:
            await server.serve_forever()

    async def _serve(
        self, pair: tuple[str, str], address: tuple[str, int], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Carry one connection to its end."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        far: asyncio.StreamWriter | None = None
        try:
            # The first packet and its answer: neither direction may be cut.
            await self._passable(pair)
            await self._passable(pair[::-1])
            async with asyncio.timeout(CONNECT_S):
                far_reader, far = await asyncio.open_connection(*address)
            ends = (writer, far)
            await asyncio.gather(self._carry(pair, reader, far, ends), self._carry(pair[::-1], far_reader, writer, ends))
        except (OSError, TimeoutError, asyncio.CancelledError):
            reset(writer)
        finally:
            for end in (writer, far):
                if end is not None:
                    end.close()
            self._tasks.discard(task)

    async def _passable(self, direction: tuple[str, str]) -> None:
        while self._weather.get(direction, FAIR).cut:
            await self._changed.wait()

    async def _carry(
        self,
        direction: tuple[str, str],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        ends: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
    ) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(CHUNK_BYTES):
                await self._passable(direction)
                weather = self._weather.get(direction, FAIR)
                if weather is not FAIR:
                    if self._dice.random() < weather.reset:
                        for end in ends:
                            reset(end)
                        return
                    lost = self._dice.uniform(*RETRANSMIT_S) if self._dice.random() < weather.lost else 0.0
                    await asyncio.sleep(self._dice.uniform(*weather.delay_s) + lost)
                    await self._passable(direction)
                writer.write(data)
                await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            await self._passable(direction)
            if writer.can_write_eof():
                writer.write_eof()


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection at once, with whatever it still had to say lost."""
    sock = writer.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def both_ways(ones: Iterable[str], others: Iterable[str]) -> list[tuple[str, str]]:
    """Return all directions between two groups."""
    pairs = [(one, other) for one in ones for other in others if one != other]
    return [*pairs, *[(other, one) for one, other in pairs]]


def one_way(sources: Iterable[str], targets: Iterable[str]) -> list[tuple[str, str]]:
    """Return the directions from one group to the other."""
    return [(source, target) for source in sources for target in targets if source != target]


Heal = Callable[[], None]
