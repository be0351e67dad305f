"""A decoder's complaints as sentences for people."""

import msgspec
import pytest

from datastore import messages, wording
from datastore.errors import InvalidRequest

GOOD = {"owner_key": "k" * 20, "request_id": "r" * 10, "service_id": "AR1140-EZE-2026-12-01"}


@pytest.mark.parametrize(
    ("change", "sentence", "field"),
    [
        ({"seats": ["12A", "A" * 17]}, "seats, entry 2 is too long, at most 16 characters", "seats"),
        ({"seats": [""]}, "seats, entry 1 is empty", "seats"),
        ({"seats": ["1A"] * 401}, "seats is too long, at most 400 entries", "seats"),
        ({"seats": 3}, "seats is not a list", "seats"),
        ({"count": 401}, "count is too large, at most 400", "count"),
        ({"count": -1}, "count is too small, at least 0", "count"),
        ({"request_id": "a b"}, "request_id is not of its form: 8 to 64 of the characters A-Z a-z 0-9 . _ : -", "request_id"),
        ({"owner_key": "k"}, "owner_key is too short, at least 16 characters", "owner_key"),
        ({"together": "yes"}, "together is not yes or no", "together"),
        ({"colour": "red"}, "there is no field colour", "colour"),
    ],
)
def test_a_refused_question_is_told_in_words(change: dict[str, object], sentence: str, field: str) -> None:
    """The sentence names the field and the bound, and neither a pattern nor a path."""
    with pytest.raises(InvalidRequest) as caught:
        messages.decode_request("hold", msgspec.msgpack.encode({**GOOD, **change}))
    assert (f"hold: {sentence}", field) == (caught.value.detail, caught.value.fields["field"])


@pytest.mark.parametrize(
    ("text", "sentence", "field"),
    [
        (
            "Expected `str` of length <= 16 - at `$.holds[0].seats[1]`",
            "holds, entry 1: seats, entry 2 is too long, at most 16 characters",
            "seats",
        ),
        ("Expected `array` of length 2, got 1 - at `$.tokens[0]`", "tokens, entry 1 has 1 entry, expected 2", "tokens"),
        ("Object missing required field `key`", "key is missing", "key"),
        ("Expected `object`, got `array`", "the message is not a record", "payload"),
        ("Expected `int`, got `str` - at `$.holds[...].count`", "holds, an entry: count is not a whole number", "count"),
        ("Input data was truncated", "the message cannot be read: Input data was truncated", "payload"),
        ("", "the message cannot be read: ", "payload"),
    ],
)
def test_what_the_decoder_may_say(text: str, sentence: str, field: str) -> None:
    """Entries are counted from one; what is not understood is passed on."""
    assert (sentence, field) == wording.wording(text)


def test_one_is_singular() -> None:
    """1 seat, 0 seats, 2 seats; 2 entries."""
    assert ["1 seat", "0 seats", "2 seats", "2 entries"] == [
        *(wording.counted(count, "seat") for count in (1, 0, 2)),
        wording.counted(2, "entry"),
    ]
