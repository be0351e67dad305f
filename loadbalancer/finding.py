"""One balancer's search index, kept current with its views, and the searches over it: one at a time, in slices.

A search is computing and nothing else, and holds of this balancer need the same interpreter. So one runs at a time, others wait for
it within their deadlines, and every slice of about a millisecond ends with a moment in which whoever waits may go first.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from datastore.errors import OperatorUnavailable
from loadbalancer.availability import Availability
from loadbalancer.offers import Scene
from loadbalancer.places import PlaceBook
from loadbalancer.search import Found, Query, Search
from loadbalancer.search_index import Network, SearchIndex
from loadbalancer.view import Catalogue

# Long enough for a thread that waits for the interpreter to take it, short beside a slice.
PAUSE_S = 0.000_05
_NEVER = threading.Event()


Worded = TypeVar("Worded")


class Finder:
    """Searches the network; any number of threads may ask."""

    def __init__(self, catalogue: Catalogue, offer_ttl_ms: int) -> None:
        self._catalogue = catalogue
        self._offer_ttl_ms = offer_ttl_ms
        self._mutex = threading.Lock()
        self._index = SearchIndex()
        self._availability = Availability(self._index)
        self._book = PlaceBook({})
        self._book_of = self._index.network

    def network(self, deadline_ms: int) -> Network:
        """Return the network as the views have it now (`deadline_ms`: monotonic)."""
        with self._turn(deadline_ms):
            return self._index.network

    def places(self, deadline_ms: int) -> PlaceBook:
        """Return the names of all places that one may travel between."""
        network = self.network(deadline_ms)
        if self._book_of is not network:
            self._book = PlaceBook({code: place for code, place in network.places.items() if code not in network.halls})
            self._book_of = network
        return self._book

    def scene(self, wall_ms: int, deadline_ms: int) -> Scene:
        """Return what offers are made and judged from; a hold does not wait for searches, but for the very first index."""
        if self._index.network.places and self._mutex.acquire(blocking=False):
            try:
                self._index.refresh(self._catalogue.operators.copy())
            finally:
                self._mutex.release()
        network = self._index.network if self._index.network.places else self.network(deadline_ms)
        return Scene(self._catalogue, network, wall_ms, self._offer_ttl_ms)

    def search(
        self, queries: Sequence[Query], wall_ms: int, deadline_ms: int, worded: Callable[[Scene, Query, list[Found]], Worded]
    ) -> list[Worded]:
        """Return what each query finds, over one state of the timetables, in the words of the answer.

        Args:
            worded: Makes the words: it takes as long as searching, so it has its turn with it.
        """
        answers: list[Worded] = []
        with self._turn(deadline_ms):
            scene = Scene(self._catalogue, self._index.network, wall_ms, self._offer_ttl_ms)
            for query in queries:
                answers.append(worded(scene, query, Search(self._availability, query, wall_ms, self.pause).run()))
                self.pause()
        return answers

    @staticmethod
    def pause() -> None:
        """Let others have the interpreter for a moment."""
        _NEVER.wait(PAUSE_S)  # Not time.sleep: it fails where a process's wall clock is shifted by libfaketime, as tests do.

    @contextmanager
    def _turn(self, deadline_ms: int) -> Iterator[None]:
        """Have the index alone, refreshed.

        Raises:
            OperatorUnavailable: Other searches took until the deadline; another balancer may be free.
        """
        left_s = max(0.0, (deadline_ms - time.monotonic_ns() // 1_000_000) / 1000)
        if not self._mutex.acquire(timeout=left_s):
            raise OperatorUnavailable("this balancer is busy with other searches")
        try:
            self._index.refresh(self._catalogue.operators.copy())
            yield
        finally:
            self._mutex.release()
