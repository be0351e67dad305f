"""What all messages between a client and a load balancer are made of: their bases, and texts and numbers with limits. Pure."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

RequestId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9._:-]{8,64}\Z")]  # Not "$", which a line feed at the end passes.
Secret = Annotated[str, Meta(min_length=16, max_length=128)]
OperatorCode = Annotated[str, Meta(max_length=8)]
NodeNames = Annotated[list[Annotated[str, Meta(max_length=64)]], Meta(max_length=5)]
OperatorCodes = Annotated[list[OperatorCode], Meta(max_length=1000)]
LsnOfOperator = Annotated[dict[str, int], Meta(max_length=1000)]
Word = Annotated[str, Meta(max_length=64)]
Text = Annotated[str, Meta(max_length=200)]
SeatWords = Annotated[list[Annotated[str, Meta(min_length=1, max_length=16)]], Meta(max_length=400)]
Milliseconds = Annotated[int, Meta(ge=0, le=86_400_000)]
Limit = Annotated[int, Meta(ge=1, le=1000)]


class Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of all questions. `deadline_ms`: how long the caller waits; the answer comes before that or is an error."""

    deadline_ms: Annotated[int, Meta(ge=10, le=120_000)] = 10_000


class Write(Request, frozen=True, kw_only=True):
    request_id: RequestId


class Answer(msgspec.Struct, kw_only=True, omit_defaults=False):
    """Base of all answers. `partial`: operators whose part is missing or old, with the reason."""

    partial: dict[str, str] = {}
