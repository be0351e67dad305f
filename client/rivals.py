"""Buyers who compete with whoever looks: they hold seats of one service before one's eyes, book some and give some back.

A process of its own (`python -m client.rivals`), so that their work never delays a screen; it ends with its stdin, so that nobody
can forget it. They buy as anybody does: whole seats, through the balancers, refused where somebody was faster.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import subprocess
import sys
import threading
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from client import api
from client.cards import cards_of
from datastore.errors import HoldfastError
from datastore.model import Passenger

BUYERS = 3
PAUSE_S = (0.4, 1.6)  # Between two purchases of one buyer.
THINK_S = (0.3, 2.0)  # Between holding and booking, or giving back.
PARTY_MAX = 3
BOOK_CHANCE = 0.6
NAMES = ("Hopper", "Hamilton", "Lamport", "Liskov", "Gray", "Codd", "Knuth", "Perlman")
END_S = 5.0


class Rivals:
    """The process, started and ended from a screen. At most one at a time."""

    def __init__(self, config: Path) -> None:
        """`config`: the resolved cluster.toml, with the balancers' addresses."""
        self._config = config
        self._process: subprocess.Popen[bytes] | None = None
        self.service_id = ""

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self, service_id: str) -> None:
        """Let them buy seats of a service."""
        self.stop()
        command = [sys.executable, "-m", "client.rivals", "--config", str(self._config), "--service", service_id]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        self.service_id = service_id

    def stop(self) -> None:
        """End them; what they hold ends in its time, what they booked stays."""
        process, self._process = self._process, None
        if process is None or process.stdin is None:
            return
        process.stdin.close()
        try:
            process.wait(END_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wanted_seats(free: Sequence[tuple[str, int, int]], party: int, draw: random.Random) -> list[str]:
    """Return free seats for a party, beside each other where some are.

    Args:
        free: (seat, row, place in the row) of the free seats, front to back.
    """
    if not free:
        return []
    first = draw.randrange(len(free))
    run = [free[first]]
    for one in free[first + 1 :]:
        if len(run) == party or one[1] != run[-1][1] or one[2] - run[-1][2] > 1:
            break
        run.append(one)
    return [seat for seat, _, _ in run]


def card_for(mapping: Mapping[str, Any]) -> str:
    """Return the card that buyers pay with: the first that the sandbox knows, which pays; "" where it takes no payments."""
    return next((card for _, card in cards_of(mapping)), "")


def buy(config: Path, service_id: str, card: str, ended: threading.Event, draw: random.Random) -> None:
    """Be one buyer after the other until told to end."""
    while not ended.is_set():
        with api.connect(config) as client, contextlib.suppress(HoldfastError):
            free = [(seat.seat_id, seat.y, seat.x) for seat in client.seat_map(service_id).seats if seat.state == "available"]
            seats = wanted_seats(free, draw.randint(1, PARTY_MAX), draw)
            if seats:
                hold = client.hold(service_id, seats, ttl_ms=60_000)
                ended.wait(draw.uniform(*THINK_S))
                if draw.random() < BOOK_CHANCE:
                    client.confirm(hold.hold_id, [Passenger(draw.choice(NAMES), "R.") for _ in seats], payment_method=card)
                else:
                    client.release(hold.hold_id)
        ended.wait(draw.uniform(*PAUSE_S))


def main(arguments: Sequence[str] | None = None) -> None:
    """Let buyers buy until stdin ends."""
    parser = argparse.ArgumentParser(prog="python -m client.rivals", description="Buy seats of one service until stdin ends.")
    parser.add_argument("--config", type=Path, required=True, help="a cluster.toml with the load balancers")
    parser.add_argument("--service", required=True)
    options = parser.parse_args(arguments)
    ended, card = threading.Event(), card_for(tomllib.loads(options.config.read_text(encoding="utf-8")))
    threads = [threading.Thread(target=buy, args=(options.config, options.service, card, ended, random.Random())) for _ in range(BUYERS)]
    for thread in threads:
        thread.start()
    sys.stdin.buffer.read()
    ended.set()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
