"""How the Python client asks: each question gets its deadline here, each write its request id. `client.api.Holdfast` has the questions."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import TypeVar, cast

import msgspec

from datastore import messages
from datastore.errors import InvalidRequest

Given = TypeVar("Given", bound=messages.Answer)


def new_request_id() -> str:
    """Return a request id that nobody else draws."""
    return secrets.token_urlsafe(18)


class Asking:
    """What every group of questions is made on; `Holdfast` is one.

    Attributes:
        deadline_ms: How long a call may take that is not told otherwise.
    """

    deadline_ms: int

    def call(self, method: str, request: messages.Request) -> messages.Answer:
        """Return the answer to any question."""
        raise NotImplementedError

    @staticmethod
    def listed(seats: Sequence[str]) -> list[str]:
        """Return the seats as a list: one seat's id alone means that seat, not its letters.

        Raises:
            InvalidRequest: They are no seats.
        """
        if isinstance(seats, str):
            return [seats]
        if not isinstance(seats, Iterable):
            raise InvalidRequest(f"seats are a list of seat ids, not {type(seats).__name__}", field="seats")
        return list(seats)

    def _ask(self, method: str, request: messages.Request, kind: type[Given], deadline_ms: int = 0) -> Given:
        """Return the answer to a question, which is of this kind.

        Args:
            request: Its deadline is set here; a write without a request id gets one.
            deadline_ms: 0 is the client's own.
        """
        told: dict[str, object] = {"deadline_ms": deadline_ms or self.deadline_ms}
        if isinstance(request, messages.Write) and not request.request_id:
            told["request_id"] = new_request_id()
        return cast(Given, self.call(method, msgspec.structs.replace(request, **told)))
