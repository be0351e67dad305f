"""A partition's events come one at a time, and after the last one nothing does."""

from __future__ import annotations

import pytest

from datastore.actor import Actor
from datastore.errors import OutcomeUnknown


class Stage:
    """An actor whose events and settling write down that they were."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.fatal: list[BaseException] = []
        self.actor = Actor(self._settle, self.fatal.append)

    def _settle(self) -> bool:
        self.seen.append("settled")
        return False

    def post(self, word: str) -> None:
        self.actor.post(lambda: self.seen.append(word))


def test_nothing_comes_after_the_last_event() -> None:
    """What is queued before the end is done; what is queued behind it is not, and what is open then is not settled: the store is closed."""
    stage = Stage()

    def first() -> None:
        stage.post("before")
        assert not stage.actor.finish(lambda: stage.seen.append("end"), 0), "its turn has not come yet"
        stage.post("behind")

    stage.actor.post(first)
    assert ["before", "end"] == stage.seen
    stage.post("later")
    with pytest.raises(OutcomeUnknown):
        stage.actor.call(lambda: stage.seen.append("called"), 0)
    assert (["before", "end"], []) == (stage.seen, stage.fatal)


def test_the_end_of_an_idle_actor_is_at_once() -> None:
    """It has run when `finish` returns, and says so; a second end does not run."""
    stage = Stage()
    stage.post("one")
    assert stage.actor.finish(lambda: stage.seen.append("end"), 0)
    assert not stage.actor.finish(lambda: stage.seen.append("again"), 0)
    assert ["one", "settled", "end"] == stage.seen


def test_an_event_that_fails_is_fatal() -> None:
    """Nothing goes on after it, and the failure is told."""
    stage = Stage()

    def fails() -> None:
        raise AssertionError("a fault")

    with pytest.raises(AssertionError):
        stage.actor.post(fails)
    stage.post("later")
    assert ([], ["a fault"]) == (stage.seen, [str(error) for error in stage.fatal])
