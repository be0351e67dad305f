"""A live map: news about one service's seats, when there is any."""

from __future__ import annotations

import threading
import time

from datastore import messages
from tests.unit.loadbalancer.scenery import FLIGHT, OTHER, OWNER, Scene, scene


def watch(here: Scene, seen: int = 0, wait_ms: int = 0, owner: str = OWNER) -> messages.SeatStatesAnswer:
    request = messages.WatchSeats(service_id=FLIGHT, owner_key=owner, seen=seen, wait_ms=wait_ms, deadline_ms=20_000)
    answer = here.ask("watch_seats", request)
    assert isinstance(answer, messages.SeatStatesAnswer)
    return answer


def test_the_first_question_is_answered_at_once() -> None:
    """With nothing seen the taken seats come as they are, the caller's own marked."""
    with scene() as here:
        assert [] == watch(here).taken
        hold = here.hold("3A")
        assert here.server.balancer.follower.wait_for("AR", hold.lsn, 5_000)
        assert [("3A", "held", True, "")] == watch(here).taken
        assert [("3A", "held", False, "")] == watch(here, owner=OTHER).taken


def test_news_comes_when_it_happens_and_silence_is_an_answer() -> None:
    """Who has seen all waits; another's hold ends the wait long before its time, and without one nothing is told."""
    with scene() as here:
        seen = watch(here).seen
        quiet = watch(here, seen, wait_ms=60)
        assert (None, seen) == (quiet.taken, quiet.seen)
        found: list[messages.SeatStatesAnswer] = []
        waiting = threading.Thread(target=lambda: found.append(watch(here, seen, wait_ms=9_000)), daemon=True)
        started = time.monotonic()
        waiting.start()
        hold = here.hold("5B", owner=OTHER)
        waiting.join(9)
        assert time.monotonic() - started < 8
        assert [("5B", "held", False, "")] == found[0].taken and found[0].lsn >= hold.lsn
        here.ask("release", messages.ReleaseHold(request_id=here.request_id(), owner_key=OTHER, hold_id=hold.hold_id))
        back = watch(here, found[0].seen, wait_ms=9_000)
        assert ([], seen) == (back.taken, back.seen)
